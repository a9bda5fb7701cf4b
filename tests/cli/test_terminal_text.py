import pytest

from cli.terminal_text import align_left, align_right, cut, paint, stacked, width_of

MARK = "\u200e"


@pytest.mark.parametrize(
    ("text", "width"), [("abc", 3), ("größer", 6), ("北京", 4), ("👩", 2), ("e\u0301", 1), ("שלום", 4), ("", 0)]
)
def test_a_text_is_as_wide_as_it_looks(text: str, width: int) -> None:
    assert width_of(text) == width
    for room in (width, width + 3):
        assert width_of(align_left(text, room)) == width_of(align_right(text, room)) == room


@pytest.mark.parametrize(
    ("text", "width", "shown"), [("abcdef", 4, "abc…"), ("abcd", 4, "abcd"), ("北京北", 4, "北…"), ("北京", 4, "北京")]
)
def test_what_does_not_fit_is_cut(text: str, width: int, shown: str) -> None:
    assert cut(text, width) == shown
    assert width_of(align_right(text, width)) == width


def test_right_to_left_script_is_kept_from_turning_its_neighbours() -> None:
    assert align_right("שלום", 6) == f"  {MARK}שלום{MARK}"
    assert align_left("سلام", 6) == f"{MARK}سلام{MARK}  "
    assert align_left("abc", 5) == "abc  "


def test_marks_stand_on_their_character() -> None:
    assert stacked("ae\u0301北") == ["a", "e\u0301", "北"]
    assert stacked("") == []


def test_colours_are_two_codes_and_an_end() -> None:
    assert paint("x", background=3, foreground=200) == "\x1b[48;5;3;38;5;200mx\x1b[0m"
    assert paint("x") == "x"
