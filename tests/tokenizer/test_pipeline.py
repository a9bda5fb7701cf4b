import pytest
from hypothesis import given, settings

from tests.tokenizer.examples import LINES, ODD_LINES, TRAPS, lines_of_text
from tokenizer import KINDS, Kind, TokenizerConfig
from tokenizer.pipeline import MAX_WORD_LENGTH, build_normalizer, build_pre_tokenizer
from tokenizer.special_tokens import BYTE_TOKENS, SPECIAL_TOKENS

SUBWORD_KINDS: list[Kind] = ["bpe", "unigram", "wordpiece"]


def words_of(line: str, kind: Kind = "bpe") -> list[str]:
    text = build_normalizer(TokenizerConfig(kind=kind, vocabulary_size=8000)).normalize_str(line)
    pre_tokenizer = build_pre_tokenizer(kind)
    assert pre_tokenizer is not None
    words = [word for word, _ in pre_tokenizer.pre_tokenize_str(text)]
    assert "".join(words) == text or kind == "byte-bpe"
    return words


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("The dog's 2 tails.", [" The", " dog", "'", "s", " 2", " tails", "."]),
        ("  a   b ", ["  ", " a", "  ", " b", " "]),
        ("<eos>", [" <", "eos", ">"]),
        ("<0x41>", [" <", "0", "x", "41", ">"]),
        ("क्\u200cष क्\u200dष", [" क्\u200cष", " क्\u200dष"]),
        ("e\u0301a\u0323", [" é\u1ea1"]),
        ("\t\u00a0x", [" \t\u00a0", "x"]),
        ("", []),
    ],
)
def test_a_word_is_one_class_of_characters_and_the_space_before_it(line: str, words: list[str]) -> None:
    assert words_of(line) == words


@given(line=lines_of_text)
@settings(max_examples=300, deadline=None)
def test_words_hold_all_text_are_short_and_spell_no_special_token(line: str) -> None:
    words = words_of(line)  # checks that together they are the line
    assert all(len(word) <= MAX_WORD_LENGTH for word in words)
    assert not any(token in word for word in words for token in (*SPECIAL_TOKENS, *BYTE_TOKENS))


@pytest.mark.parametrize("kind", SUBWORD_KINDS)
def test_no_word_of_a_trap_spells_it(kind: Kind) -> None:
    for line in (*LINES, *ODD_LINES, *TRAPS):
        assert not any(token in word for word in words_of(line, kind) for token in (*SPECIAL_TOKENS, *BYTE_TOKENS))


def test_words_of_the_word_kind_stand_between_white_space() -> None:
    assert words_of(" a \t b,\u00a0c  ", "word") == [" a", " b,", " c"]
    assert words_of(" \t ", "word") == []


@pytest.mark.parametrize("kind", KINDS)
def test_a_long_run_is_cut_in_the_same_way_wherever_it_is(kind: Kind) -> None:
    if kind in ("char", "word"):
        return
    assert len(words_of("x" * 640, kind)) == 10
    assert len(words_of("x" * 640 + " y", kind)) == 11
