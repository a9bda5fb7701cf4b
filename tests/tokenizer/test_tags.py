"""Tags: entries at the end of a vocabulary that no text reaches, and that change nothing else."""

from pathlib import Path

import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.tokenizer.examples import LINES, ODD_LINES, lines_of_text, trained
from tokenizer import KINDS, Kind, Tokenizer, TokenizerConfig, TokenizerConfigError, train_tokenizer
from tokenizer.tags import tag_names, tag_piece
from tokenizer.word_edges import Edge

TAGS = ("de", "pt-BR", "zh_Hans")


@pytest.mark.parametrize("kind", KINDS)
def test_tags_come_last_and_all_else_keeps_its_id(kind: Kind) -> None:
    plain = trained(kind)
    size = plain.vocabulary_size
    tokenizer = plain.with_tags(TAGS)
    assert tokenizer.tags == {"de": size, "pt-BR": size + 1, "zh_Hans": size + 2}
    assert tokenizer.vocabulary_size == size + 3
    assert tokenizer.tokens(tokenizer.tags.values()) == ["<2de>", "<2pt-BR>", "<2zh_Hans>"]  # type: ignore[arg-type]
    assert tokenizer.encode_batch([*LINES, *ODD_LINES]) == plain.encode_batch([*LINES, *ODD_LINES])
    assert tokenizer.tokens(range(size)) == plain.tokens(range(size))
    assert plain.tags == {}


@pytest.mark.parametrize("kind", KINDS)
def test_a_tag_stands_before_every_line_that_holds_something(kind: Kind) -> None:
    tokenizer = trained(kind).with_tags(TAGS)
    tagged = tokenizer.tagged("pt-BR")
    rows = tagged.encode_batch(LINES)
    assert rows == [[tokenizer.tags["pt-BR"], *ids] if ids else [] for ids in tokenizer.encode_batch(LINES)]
    assert tagged.encode("") == []
    assert tagged.encode(LINES[0]) == rows[0]
    assert tagged.decode(rows[0]) == tokenizer.decode(rows[0][1:])  # a tag is no text
    assert tagged.tagged("de").encode("a")[0] == tokenizer.tags["de"]
    assert tagged.tagged(None).encode(LINES[0]) == tokenizer.encode(LINES[0])
    assert (tagged.to_json(), tagged.sha256) == (tokenizer.to_json(), tokenizer.sha256)


@pytest.mark.parametrize("kind", KINDS)
@given(line=st.one_of(lines_of_text, st.sampled_from(["<2de>", " <2de> ", "x<2pt-BR>y", "<2zh_Hans><2de>"])))
@settings(max_examples=100, deadline=None)
def test_no_line_reaches_one(kind: Kind, line: str) -> None:
    tokenizer = trained(kind).with_tags(TAGS)
    assert not set(tokenizer.tags.values()).intersection(tokenizer.encode(line))
    library = tokenizers.Tokenizer.from_str(tokenizer.to_json())
    assert not set(tokenizer.tags.values()).intersection(library.encode(line).ids)


@pytest.mark.parametrize("kind", KINDS)
def test_a_text_of_tags_is_learned_as_text(kind: Kind) -> None:
    lines = ["<2de>", "<2de> <2de>", "x<2de><2de>y"] * 200
    tokenizer = train_tokenizer(lines, TokenizerConfig(kind=kind, vocabulary_size=400)).with_tags(["de"])
    for line in lines[:3]:
        ids = tokenizer.encode(line)
        assert tokenizer.tags["de"] not in ids
        assert tokenizer.decode(ids) == line


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_with_tags_comes_back(kind: Kind, tmp_path: Path) -> None:
    tokenizer = trained(kind).with_tags(["de"]).with_tags(["fr", "de"])
    tokenizer.save(tmp_path / "joint.json")
    loaded = Tokenizer.load(tmp_path / "joint.json")
    assert list(loaded.tags) == ["de", "fr"]
    assert loaded.sha256 == tokenizer.sha256
    assert loaded.with_tags(["fr"]) is loaded


def test_without_tags_a_file_is_what_it_was(tmp_path: Path) -> None:
    assert trained("bpe").with_tags([]) is trained("bpe")
    assert "<2" not in trained("bpe").to_json().partition('"model"')[0]


@pytest.mark.parametrize("kind", KINDS)
def test_a_tag_is_a_word_of_its_own(kind: Kind) -> None:
    edges = trained(kind).with_tags(["de"]).word_edges
    assert (edges.left[-1], edges.right[-1]) == (Edge.SPACE, Edge.CLOSED)


@pytest.mark.parametrize("name", ["", "a b", "<de>", "-x", "ä", "x" * 33, "de\n"])
def test_what_cannot_be_a_tag_is_said_so(name: str) -> None:
    with pytest.raises(TokenizerConfigError, match="cannot be a tag"):
        trained("bpe").with_tags([name])


def test_a_tag_that_is_not_there_is_named_with_those_that_are() -> None:
    with pytest.raises(TokenizerConfigError, match=r"no tag <2it> \(it\); its tags are de, fr"):
        trained("bpe").with_tags(["de", "fr"]).tagged("it")
    with pytest.raises(TokenizerConfigError, match="it has none"):
        trained("bpe").tagged("it")


def test_only_the_end_of_a_vocabulary_is_looked_at() -> None:
    assert tag_names(["<2de>", "a", tag_piece("fr"), "<2x>"]) == ["fr", "x"]
    assert tag_names([]) == []
