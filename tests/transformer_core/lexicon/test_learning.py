from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.transformer_core.lexicon.test_ibm_model_1 import reference
from tokenizer import Tokenizer, TokenizerConfig, train_tokenizer
from transformer_core.data.encoding import RowEncoder
from transformer_core.data.shards import Corpus, Part, write_corpus
from transformer_core.errors import ConfigError, DataError
from transformer_core.lexicon import learning
from transformer_core.lexicon.config import ShortlistConfig
from transformer_core.lexicon.learning import learn_shortlist
from transformer_core.lexicon.shortlist import Shortlist

ROWS = [("das Haus", "the house"), ("das Buch", "the book"), ("ein Buch", "a book"), ("Anna", "Anna")] * 5


def words(*lines: str) -> Tokenizer:
    return train_tokenizer(lines, TokenizerConfig(kind="word", vocabulary_size=100))


SOURCE = words("das Haus Buch ein Anna Otto")
TARGET = words("the house book a Anna Otto tree rose")


def corpus_of(folder: Path, rows: Sequence[tuple[str, str]] = ROWS) -> Corpus:
    return write_corpus(folder / "corpus", [Part(rows)], RowEncoder((SOURCE, TARGET), 20))


def pieces(shortlist: Shortlist, line: str) -> set[str]:
    """What a line may become, specials aside."""
    _, token_ids = shortlist.of_lines([SOURCE.encode(line)])
    return {TARGET.raw_pieces[token_id].strip() for token_id in token_ids.tolist() if token_id >= 5}


def test_the_candidates_of_a_token_are_its_likeliest_translations(tmp_path: Path) -> None:
    shortlist = learn_shortlist(corpus_of(tmp_path), (SOURCE, TARGET), ShortlistConfig(best=1, frequent=0))
    assert pieces(shortlist, "das") == {"the"}
    assert pieces(shortlist, "Buch") == {"book"}
    assert pieces(shortlist, "das Buch") == {"the", "book"}


def test_what_looks_the_same_on_both_sides_is_a_candidate_though_no_pair_has_it(tmp_path: Path) -> None:
    shortlist = learn_shortlist(corpus_of(tmp_path), (SOURCE, TARGET), ShortlistConfig(best=0, frequent=0))
    assert pieces(shortlist, "das Otto") == {"Otto"}


def test_special_tokens_and_frequent_ones_are_candidates_of_every_line(tmp_path: Path) -> None:
    rows = [*ROWS, ("ein", "tree"), *[("ein", "rose rose rose rose")] * 9]
    shortlist = learn_shortlist(corpus_of(tmp_path, rows), (SOURCE, TARGET), ShortlistConfig(best=0, frequent=1))
    assert {0, 1, 2, 3, 4} <= set(shortlist.always.tolist())
    assert pieces(shortlist, "das") == {"rose"}


@pytest.mark.parametrize("links_at_once", [1, 11, 1 << 20])
def test_links_of_shards_are_those_of_the_pairs(
    tmp_path: Path, links_at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(learning, "LINKS_AT_ONCE", links_at_once)
    monkeypatch.setattr(learning, "NUM_ITERATIONS", 3)
    read: list[int] = []
    shortlist = learn_shortlist(
        corpus_of(tmp_path), (SOURCE, TARGET), ShortlistConfig(best=2, frequent=0), advance=read.append
    )
    assert sum(read) == 3 * len(ROWS)
    pairs = [(SOURCE.encode(source), TARGET.encode(target)) for source, target in ROWS]
    table = reference(pairs, 3, null=SOURCE.vocabulary_size)
    for word in ("das", "Haus", "Buch", "ein"):
        (token_id,) = SOURCE.encode(word)
        found = {target: share for (source, target), share in table.items() if source == token_id}
        best = sorted(found, key=lambda target: (-round(found[target], 9), target))[:2]
        assert pieces(shortlist, word) == {TARGET.raw_pieces[target].strip() for target in best}


def test_of_a_large_corpus_pairs_are_left_out_evenly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(learning, "MAX_LINKS", 32)  # of the 65 that these pairs have
    read: list[int] = []
    learn_shortlist(corpus_of(tmp_path), (SOURCE, TARGET), advance=read.append)
    assert sum(read) == learning.NUM_ITERATIONS * 9


def test_a_corpus_of_another_vocabulary_is_refused(tmp_path: Path) -> None:
    corpus = corpus_of(tmp_path)
    small = words("a b")
    with pytest.raises(DataError, match=r"corpus: holds the id 10, but the vocabulary has 7"):
        learn_shortlist(corpus, (small, small))


def test_the_config_says_what_cannot_be() -> None:
    with pytest.raises(ConfigError, match=r"best \(-1\) must be between 0 and 65536"):
        ShortlistConfig(best=-1)
