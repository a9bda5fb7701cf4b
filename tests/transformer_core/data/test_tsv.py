import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from transformer_core.data.tsv import RowParser, join_row
from transformer_core.errors import ConfigError

CELLS = st.text(st.characters(exclude_characters="\n", exclude_categories=["Cs"]))
CELLS_WITHOUT_TABS = st.text(st.characters(exclude_characters="\n\t", exclude_categories=["Cs"]))


@settings(deadline=None)
@given(st.lists(CELLS_WITHOUT_TABS, min_size=1, max_size=6))
def test_what_is_joined_is_cut_again(cells: list[str]) -> None:
    line = join_row(cells)
    assert list(RowParser(["1"]).parse(line)) == cells


@settings(deadline=None)
@given(st.lists(st.text(st.characters(exclude_categories=["Cs"])), min_size=1, max_size=6))
def test_a_row_keeps_its_columns_whatever_the_cells_hold(cells: list[str]) -> None:
    line = join_row(cells)
    assert "\n" not in line
    assert line.count("\t") == len(cells) - 1


@settings(deadline=None)
@given(st.lists(CELLS, max_size=8), st.integers(1, 4))
def test_every_row_has_as_many_columns_as_the_first_or_is_an_error(lines: list[str], column: int) -> None:
    parser, width = RowParser([str(column)]), None
    for line in lines:
        try:
            cells = parser.parse(line)
        except ValueError as error:
            assert "\n" not in str(error)
            return
        if line:
            width = width or len(cells)
            assert cells == tuple(line.split("\t"))
        assert len(cells) >= column
        assert width is None or len(cells) == width


def test_a_blank_line_is_a_row_of_blank_cells() -> None:
    parser = RowParser(["2"])
    assert parser.parse("") == ("", "")
    assert parser.parse("a\tb\tc") == ("a", "b", "c")
    assert parser.parse("") == ("", "", "")
    assert parser.parse("\t\t") == ("", "", "")


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["a"], "has 1 column, but column 2 is wanted; columns have tabs between them"),
        (["a\tb", "a\tb\tc"], "has 3 columns, but the rows before have 2; a tab inside a text must be written as"),
        (["a\tb\tc", "a\tb"], "has 2 columns, but the rows before have 3"),
    ],
)
def test_a_ragged_row_says_what_is_wrong_with_it(lines: list[str], message: str) -> None:
    parser = RowParser(["2"])
    for line in lines[:-1]:
        parser.parse(line)
    with pytest.raises(ValueError, match="column") as caught:
        parser.parse(lines[-1])
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize("column", ["0", "-1", "text", "", "1,2", "²", "٣", "9" * 5000])
def test_a_column_is_a_number_from_1(column: str) -> None:
    with pytest.raises(ConfigError, match=r"is no column of TSV; columns are numbers, from 1"):
        RowParser([column])
