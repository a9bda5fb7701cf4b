import random

import pytest

from transformer_core.decoding.long_input import split_text


def num_words(text: str) -> int:
    return len(text.split())


def rejoined(pieces: list[tuple[str, str]]) -> str:
    return "".join(separator + text for separator, text in pieces)


def test_short_text_is_one_piece() -> None:
    assert split_text("one two", 2, num_words) == [("", "one two")]


def test_sentence_ends_come_before_spaces_and_those_near_the_middle_first() -> None:
    text = "a b c d. e f g h i j k l"
    assert split_text(text, 8, num_words) == [("", "a b c d."), (" ", "e f g h i j k l")]
    text = "a. b c d e f g h i j k l"  # too far from the middle to be of use
    assert split_text(text, 8, num_words) == [("", "a. b c d e"), (" ", "f g h i j k l")]
    text = "一二三四五。六七八九十"
    assert split_text(text, 6, len) == [("", "一二三四五。"), ("", "六七八九十")]


def test_word_without_a_boundary_is_cut_anywhere() -> None:
    pieces = split_text("abcdefghij", 3, len)
    assert rejoined(pieces) == "abcdefghij"
    assert all(1 <= len(text) <= 3 and not separator for separator, text in pieces)


@pytest.mark.parametrize("seed", range(30))
def test_pieces_fit_and_nothing_is_lost(seed: int) -> None:
    source = random.Random(seed)
    text = " ".join(
        "".join(source.choice("abc.!?") for _ in range(source.randrange(1, 30))) for _ in range(source.randrange(1, 80))
    )
    limit = source.randrange(1, 40)
    pieces = split_text(text, limit, len)
    assert rejoined(pieces) == text
    assert pieces[0][0] == ""
    assert all(len(piece) <= limit for _, piece in pieces)


def test_character_of_several_tokens_is_not_cut() -> None:
    pieces = split_text("😀😀", 2, lambda text: len(text.encode()))
    assert pieces == [("", "😀"), ("", "😀")]
