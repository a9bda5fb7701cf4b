import hashlib
import json
import time
import unicodedata
from pathlib import Path

import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.tokenizer.examples import LINES, ODD_LINES, SENTENCES, lines_of_text, trained
from tokenizer import KINDS, Kind, Normalization, Tokenizer, TokenizerDataError

EXACT: list[Kind] = ["bpe", "byte-bpe"]
WITH_UNKNOWN: list[Kind] = ["unigram", "wordpiece", "char"]


# --- There and back


@pytest.mark.parametrize("kind", EXACT)
def test_every_odd_line_comes_back_exactly(kind: Kind) -> None:
    tokenizer = trained(kind)
    for line in ODD_LINES:
        assert tokenizer.decode(tokenizer.encode(line)) == tokenizer.normalize(line), line


@pytest.mark.parametrize("kind", EXACT)
@given(line=lines_of_text)
@settings(max_examples=300, deadline=None)
def test_every_line_comes_back_exactly(kind: Kind, line: str) -> None:
    tokenizer = trained(kind)
    assert tokenizer.decode(tokenizer.encode(line)) == unicodedata.normalize("NFC", line)


@pytest.mark.parametrize("kind", EXACT)
@pytest.mark.parametrize("normalization", ["nfc", "nfd", "nfkc", "none"])
@pytest.mark.parametrize("lowercase", [False, True])
@given(line=lines_of_text)
@settings(max_examples=50, deadline=None)
def test_every_line_comes_back_as_it_was_normalised(
    kind: Kind, normalization: Normalization, lowercase: bool, line: str
) -> None:
    tokenizer = trained(kind, normalization=normalization, lowercase=lowercase)
    normalized = tokenizer.normalize(line)
    assert tokenizer.decode(tokenizer.encode(line)) == normalized
    assert tokenizer.normalize(normalized) == normalized
    if normalization == "none" and not lowercase:
        assert normalized == line


def test_korean_syllables_fall_into_their_letters() -> None:
    tokenizer = trained("char", normalization="nfd")
    assert tokenizer.normalize("\ud55c") == "\u1112\u1161\u11ab"
    assert trained("char").normalize("\u1112\u1161\u11ab") == "\ud55c"


@pytest.mark.parametrize("kind", WITH_UNKNOWN)
@given(line=lines_of_text)
@settings(max_examples=200, deadline=None)
def test_a_line_without_unknowns_comes_back_exactly(kind: Kind, line: str) -> None:
    tokenizer = trained(kind)
    ids = tokenizer.encode(line)
    if tokenizer.unk_id not in ids:
        assert tokenizer.decode(ids) == tokenizer.normalize(line)


@pytest.mark.parametrize("kind", [*EXACT, *WITH_UNKNOWN])
def test_what_was_learned_from_comes_back_exactly(kind: Kind) -> None:
    tokenizer = trained(kind)
    assert tokenizer.decode_batch(tokenizer.encode_batch(LINES)) == [tokenizer.normalize(line) for line in LINES]


@given(line=lines_of_text)
@settings(max_examples=200, deadline=None)
def test_words_come_back_with_single_spaces(line: str) -> None:
    tokenizer = trained("word")
    ids = tokenizer.encode(line)
    if tokenizer.unk_id not in ids:
        assert tokenizer.decode(ids).split(" ") == (tokenizer.normalize(line).split() or [""])


@pytest.mark.parametrize(
    ("kind", "decoded"),
    [
        ("bpe", "a ¤lot ¤ on"),
        ("byte-bpe", "a ¤lot ¤ on"),
        ("unigram", "a ⁇lot ⁇ on"),
        ("wordpiece", "a ⁇lot ⁇ on"),
        ("char", "a ⁇lot ⁇ on"),
        ("word", "a ⁇ ⁇ on"),
    ],
)
def test_what_was_never_seen_is_spelled_in_bytes_or_shows_as_unknown(kind: Kind, decoded: str) -> None:
    tokenizer = trained(kind)
    assert tokenizer.decode(tokenizer.encode("a ¤lot ¤ on")) == decoded


# --- Any ids


@pytest.mark.parametrize("kind", KINDS)
@given(ids=st.lists(st.one_of(st.integers(0, 1000), st.integers(5, 260), st.integers(-(2**70), 2**70)), max_size=30))
@settings(max_examples=100, deadline=None)
def test_any_ids_decode(kind: Kind, ids: list[int]) -> None:
    tokenizer = trained(kind)
    text = tokenizer.decode(ids)
    assert text.encode("utf-8").decode("utf-8") == text
    assert tokenizer.decode_batch([ids, []]) == [text, ""]


@pytest.mark.parametrize("kind", KINDS)
def test_special_tokens_vanish_but_for_the_unknown(kind: Kind) -> None:
    tokenizer = trained(kind)
    ids = tokenizer.encode("A man")
    framed = [tokenizer.bos_id, *ids, tokenizer.mask_id, tokenizer.eos_id, tokenizer.pad_id, tokenizer.pad_id]
    assert tokenizer.decode(framed) == "A man"
    assert tokenizer.decode([tokenizer.unk_id]) == "⁇"


@pytest.mark.parametrize("kind", EXACT)
def test_bytes_that_are_no_character_show_as_replacements(kind: Kind) -> None:
    tokenizer = trained(kind)
    half = tokenizer.encode("¤")[-1]  # the second of its two bytes
    assert tokenizer.decode([half]) == "\ufffd"


# --- Batches, files, the library


@pytest.mark.parametrize("kind", KINDS)
def test_a_batch_is_the_same_as_one_by_one(kind: Kind) -> None:
    tokenizer = trained(kind)
    rows = tokenizer.encode_batch(ODD_LINES)
    assert rows == [tokenizer.encode(line) for line in ODD_LINES]
    assert tokenizer.decode_batch(rows) == [tokenizer.decode(row) for row in rows]
    assert all(type(index) is int for row in rows for index in row)
    assert tokenizer.encode_batch([]) == []
    assert tokenizer.decode_batch([]) == []


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("normalization", ["nfc", "nfd", "nfkc", "none"])
@pytest.mark.parametrize("lowercase", [False, True])
def test_saved_and_loaded_it_is_the_same(
    kind: Kind, normalization: Normalization, lowercase: bool, tmp_path: Path
) -> None:
    tokenizer = trained(kind, normalization=normalization, lowercase=lowercase)
    path = tmp_path / "tokenizer.json"
    tokenizer.save(path)
    loaded = Tokenizer.load(path)
    assert loaded.config == tokenizer.config
    assert (
        loaded.config.vocabulary_size == loaded.vocabulary_size == len(json.loads(path.read_bytes())["model"]["vocab"])
    )
    assert loaded.to_json() == tokenizer.to_json() == path.read_text(encoding="utf-8")
    assert loaded.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert loaded.encode_batch(ODD_LINES) == tokenizer.encode_batch(ODD_LINES)


@pytest.mark.parametrize("kind", KINDS)
def test_the_library_by_itself_does_the_same(kind: Kind, tmp_path: Path) -> None:
    tokenizer = trained(kind)
    tokenizer.save(tmp_path / "tokenizer.json")
    library = tokenizers.Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    assert library.get_vocab_size() == tokenizer.vocabulary_size
    for line in (*LINES[::20], *ODD_LINES):
        ids = tokenizer.encode(line)
        assert library.encode(line).ids == ids
        assert library.decode([1, *ids, 2]) == tokenizer.decode(ids)
        assert library.decode([1, *ids, 2], skip_special_tokens=False) == tokenizer.decode(ids)


# --- Tokens as they are shown


def test_tokens_show_spaces_and_tell_them_from_the_character_that_shows_them() -> None:
    tokenizer = trained("bpe")
    assert tokenizer.tokens(tokenizer.encode("A man  ▁")) == ["▁A", "▁man", "▁", "▁\\▁"]
    assert trained("char").tokens(trained("char").encode("A ▁")) == ["A", "▁", "\\▁"]


@pytest.mark.parametrize("kind", KINDS)
def test_tokens_hold_no_space_and_lead_back_to_their_ids(kind: Kind) -> None:
    tokenizer = trained(kind)
    ids = list(range(tokenizer.vocabulary_size))
    tokens = tokenizer.tokens(ids)
    assert not any(" " in token or token == "" for token in tokens)
    assert tokenizer.token_ids(tokens) == ids


def test_a_stranger_among_tokens_or_ids_is_named() -> None:
    tokenizer = trained("bpe")
    with pytest.raises(TokenizerDataError, match="'zzz' is no token"):
        tokenizer.token_ids(["▁A", "zzz"])
    for wrong in (-1, tokenizer.vocabulary_size):
        with pytest.raises(TokenizerDataError, match=f"{wrong} is no id of this vocabulary, whose ids go from 0 to"):
            tokenizer.tokens([5, wrong])


# --- Limits


@pytest.mark.parametrize("kind", KINDS)
def test_half_a_surrogate_pair_is_refused_in_a_sentence(kind: Kind) -> None:
    tokenizer = trained(kind)
    for call in (tokenizer.encode, tokenizer.normalize):
        with pytest.raises(TokenizerDataError, match=r"surrogate pair \(U\+D83D\)"):
            call("a\ud83d")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("unit", ["a", "ab", " ", "€", "\u0301\u0316", "👩‍", "a b", "<eos>"])
def test_time_is_linear_in_the_length_of_a_line(kind: Kind, unit: str) -> None:
    tokenizer = trained(kind)
    line = unit * (100_000 // len(unit))
    started_at = time.process_time()
    ids = tokenizer.encode(line)
    decoded = tokenizer.decode(ids)
    assert time.process_time() - started_at < 5  # a second at most; a quadratic algorithm would need many minutes
    if kind in EXACT:
        assert decoded == tokenizer.normalize(line)


def test_a_blank_line_of_words_has_no_tokens() -> None:
    assert trained("word").encode_batch(["", "  ", "\t"]) == [[], [], []]
    assert trained("bpe").encode("") == []


@pytest.mark.parametrize("kind", KINDS)
def test_sentences_take_fewer_tokens_than_characters(kind: Kind) -> None:
    if kind != "char":
        tokenizer = trained(kind)
        assert all(len(tokenizer.encode(line)) < len(line) / 1.5 for line in SENTENCES)
