import re

import pytest

from cli.text_table import TextTable, columns, draw, plain

TABLE = TextTable(
    title="One",
    header=["mixer", "longest\npath"],
    rows=[["attention", "1"], ["gru", "4,096"]],
    notes=["n is the length [of the sequence]."],
)


def test_columns_stand_below_each_other_whatever_the_script() -> None:
    rows = [["date", "", "right is"], ["2024年3月6日", "✓", "2024-03-06"], ["6.3.24", "✗", ""]]
    assert columns(rows) == [
        "date             right is",
        "2024年3月6日  ✓  2024-03-06",
        "6.3.24        ✗",
    ]
    assert columns([["", "any"], ["exact", "50.0 %"]], num_left=1) == ["          any", "exact  50.0 %"]


def test_a_table_has_its_title_above_and_its_notes_below() -> None:
    assert plain([TABLE, TABLE]).split("\n\nOne\n\n") == [
        "One\n\n           longest\nmixer         path\nattention        1\ngru          4,096\n\n"
        "n is the length [of the sequence].",
        "           longest\nmixer         path\nattention        1\ngru          4,096\n\n"
        "n is the length [of the sequence].\n",
    ]


@pytest.mark.parametrize("width", ["60", "200"])
def test_on_a_terminal_every_cell_is_there_and_no_line_is_too_long(width: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", width)
    text = re.sub(r"\x1b\[[\d;]*m", "", draw([TABLE]))
    assert re.search(r"attention +1 *\n", text)
    assert re.search(r"gru +4,096 *\n", text)
    assert "n is the length [of the sequence]." in text
    assert max(map(len, text.splitlines())) <= int(width)
