from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import product
from pathlib import Path
from unicodedata import normalize

import pytest

from tests.transformer_core.decoding.random_model import word_tokenizer
from tests.transformer_core.experiments.test_corpus_preparation import data_of
from tokenizer import TokenizerConfigError, TokenizerFileError
from transformer_core.experiments.progress import no_progress
from transformer_core.experiments.vocabulary_choice import choose_tokenizers


def test_a_joint_vocabulary_is_learned_from_both_sides(tmp_path: Path) -> None:
    said: list[str] = []
    counted: list[tuple[str, int]] = []

    @contextmanager
    def progress(description: str, *, total: int | None = None, unit: str) -> Iterator[Callable[[int], None]]:
        yield lambda count: counted.append((description, count))

    data = data_of(tmp_path, ["aa bb"] * 50, ["cc dd"] * 50, tokenizer_kind="word")
    source, target = choose_tokenizers(data, progress, said.append)
    assert source is target
    assert source.tokens(source.encode("aa bb cc dd")) == ["▁aa", "▁bb", "▁cc", "▁dd"]
    assert said == ["learned a joint word vocabulary of 9 entries from the training text"]
    assert sum(count for description, count in counted if description == "learning the vocabulary") == 100


def learned_from(folder: Path, source: list[str], target: list[str], **values: object) -> str:
    """Say what vocabulary such a text gets."""
    said: list[str] = []
    choose_tokenizers(data_of(folder, source, target, **values), no_progress, said.append)
    return said[0].removeprefix("learned a joint ").removesuffix(" entries from the training text")


def test_a_text_of_symbols_is_cut_at_its_spaces(tmp_path: Path) -> None:
    commands, actions = ["jump twice", "turn left"] * 10, ["I_JUMP I_JUMP", "I_TURN_LEFT"] * 10
    assert learned_from(tmp_path, commands, actions) == "word vocabulary of 11"
    assert learned_from(tmp_path, commands, actions, vocabulary_size=11) == "word vocabulary of 11"
    # one entry too few for all words, a word that is rare, words that are many, and cuts that only others have
    with pytest.raises(TokenizerConfigError, match="for bpe"):
        learned_from(tmp_path, commands, actions, vocabulary_size=10)
    assert learned_from(tmp_path, [*commands, "jump thrice"], [*actions, "I_WALK"]).startswith("bpe")
    numbers = [str(number) for number in range(257)] * 10
    assert learned_from(tmp_path, numbers, numbers).startswith("bpe")
    assert learned_from(tmp_path, numbers, numbers, tokenizer_kind="word") == "word vocabulary of 262"
    assert learned_from(tmp_path, commands, actions, bpe_dropout=0.1).startswith("bpe")
    assert learned_from(tmp_path, commands, actions, unigram_alpha=0.2).startswith("unigram")


def test_a_text_of_many_characters_gets_room_for_them(tmp_path: Path) -> None:
    # 2,000 different characters do not fit into the thousand entries that so few words would get
    lines = ["".join(chr(0x4E00 + number) for number in range(start, start + 20)) for start in range(0, 2000, 20)]
    source, _ = choose_tokenizers(data_of(tmp_path, lines, lines), no_progress, lambda text: None)
    assert source.vocabulary_size > 2261


WORDS = ["".join(pair) for pair in product("abcdefgh", repeat=4)]


def test_words_that_are_spelled_get_few_pieces(tmp_path: Path) -> None:
    spelled = data_of(tmp_path, WORDS, [word[::-1] for word in WORDS])
    source, target = choose_tokenizers(spelled, no_progress, lambda text: None)
    assert source is target
    assert 300 < source.vocabulary_size <= 300 + len("abcdefgh ")


@pytest.mark.parametrize("spelled", [0, 1])
def test_a_side_of_symbols_has_a_vocabulary_for_itself(tmp_path: Path, spelled: int) -> None:
    sides = [WORDS, [" ".join(word.upper()) for word in WORDS]]
    said: list[str] = []
    data = data_of(tmp_path, sides[spelled], sides[1 - spelled], tags=("x",))
    tokenizers = choose_tokenizers(data, no_progress, said.append)
    letters, sounds = tokenizers[spelled], tokenizers[1 - spelled]
    assert (letters.config.kind, sounds.config.kind) == ("bpe", "word")
    assert sounds.tokens(sounds.encode("A H C")) == ["▁A", "▁H", "▁C"]
    tokenizers[0].tagged("x")  # sources begin with it
    sizes = (letters.vocabulary_size, sounds.vocabulary_size)
    assert sizes == ((309, 13) if spelled == 0 else (308, 14))
    names = (f"bpe vocabulary of {sizes[0]} entries", f"word vocabulary of {sizes[1]} entries")
    source_name, target_name = names if spelled == 0 else names[::-1]
    assert said == [f"learned a {source_name} from the source text, a {target_name} from the target text"]
    # where entries are counted, or all are to be of a kind, both sides share them
    for values in ({"vocabulary_size": 400}, {"tokenizer_kind": "char"}, {"bpe_dropout": 0.1}):
        source, target = choose_tokenizers(replace(data, **values), no_progress, said.append)
        assert source is target


def test_syllables_of_a_source_are_spelled_with_their_letters(tmp_path: Path) -> None:
    syllables = [chr(0xAC00 + 28 * number) for number in range(200)]  # of 19 first letters and 21 vowels
    words = [first + second for first in syllables for second in syllables[:5]]
    spelled = ["".join(normalize("NFD", word)[:1] + "a") for word in words]
    sounds = [" ".join(text) for text in spelled]
    source, target = choose_tokenizers(data_of(tmp_path, words, sounds), no_progress, lambda text: None)
    assert (source.config.normalization, target.config.normalization) == ("nfd", "nfc")
    assert source.decode(source.encode("각")) == normalize("NFD", "각")
    # what is written is written as it was, and most accents are no other letters
    source, target = choose_tokenizers(data_of(tmp_path, sounds, words), no_progress, lambda text: None)
    assert (source.config.normalization, target.config.normalization) == ("nfc", "nfc")
    accents = [word.replace("a", "é").replace("b", "è") for word in WORDS]
    data = data_of(tmp_path, accents, [" ".join(word) for word in WORDS])
    source, _ = choose_tokenizers(data, no_progress, lambda text: None)
    assert source.config.normalization == "nfc"


def test_tokenizers_that_are_given_are_loaded(tmp_path: Path) -> None:
    word_tokenizer().save(tmp_path / "one.json")
    word_tokenizer().save(tmp_path / "other.json")
    joint = data_of(tmp_path, ["ba"], ["be"], tokenizer=tmp_path / "one.json")
    source, target = choose_tokenizers(joint, no_progress, lambda text: None)
    assert source is target
    separate = data_of(
        tmp_path, ["ba"], ["be"], source_tokenizer=tmp_path / "one.json", target_tokenizer=tmp_path / "other.json"
    )
    source, target = choose_tokenizers(separate, no_progress, lambda text: None)
    assert source is not target
    missing = data_of(tmp_path, ["ba"], ["be"], tokenizer=tmp_path / "missing.json")
    with pytest.raises(TokenizerFileError, match="no such file"):
        choose_tokenizers(missing, no_progress, lambda text: None)
