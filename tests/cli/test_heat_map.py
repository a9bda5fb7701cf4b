import re
from collections.abc import Sequence

import pytest

from cli.heat_map import COLORS, HeatMap
from cli.terminal_text import width_of

ROWS = ["▁ein", "▁北京", "<eos>"]
COLUMNS = ["▁a", "▁שלם", "▁longer", "<eos>"]
VALUES = [[0.0, 0.25, 0.75, 0.0], [0.5, 0.3, 0.2, 0.0], [1.0, 0.0, 0.0, 0.0]]


def heat_map(
    columns: Sequence[str] = COLUMNS, values: Sequence[Sequence[float]] = VALUES, *, has_color: bool = False
) -> HeatMap:
    return HeatMap(rows=ROWS, columns=columns, values=values, exponent=0.6, has_color=has_color)


def plain(line: str) -> str:
    return re.sub("\x1b\\[[0-9;]*m|\u200e", "", line)


def test_labels_stand_beside_each_other_where_there_is_room() -> None:
    # cells are as wide as the longest label and a space; a shade stands before each number
    assert [plain(line) for line in heat_map().lines(80)] == [
        "            ▁a    ▁שלם ▁longer   <eos>",
        " ▁ein             ▒ 25    ▓ 75",
        "▁北京     ▓ 50    ▒ 30    ▒ 20",
        "<eos>     █100",
    ]
    assert heat_map().legend() == "0  ░ 10  ▒ 31  ▓ 62  █ 100"  # 100 (k / 4) ** (1 / 0.6)


def test_labels_stand_downwards_where_there_is_less() -> None:
    assert [plain(line) for line in heat_map().lines(28)] == [
        "                    ▁",
        "                    l",
        "                    o    <",
        "               ▁    n    e",
        "               ש    g    o",
        "          ▁    ל    e    s",
        "          a    ם    r    >",
        " ▁ein       ▒ 25 ▓ 75",
        "▁北京  ▓ 50 ▒ 30 ▒ 20",
        "<eos>  █100",
    ]


@pytest.mark.parametrize("width", [80, 40, 28, 20, 16, 12, 8])
@pytest.mark.parametrize("has_color", [False, True])
def test_every_cell_is_in_its_column_and_nothing_is_too_wide(width: int, has_color: bool) -> None:
    lines = heat_map(has_color=has_color).lines(width)
    assert all(width_of(plain(line)) <= width for line in lines)
    bands = "\n".join(map(plain, lines)).split("\n\n")
    assert len(bands) == (1 if width >= 14 else 2 if width >= 10 else 4)
    for band in bands:
        assert [line.split()[0] for line in band.split("\n")[-3:]] == ROWS


def test_colours_are_those_of_the_values() -> None:
    columns = [f"c{number}" for number in range(9)]
    values = [[(number / 8) ** (1 / 0.6) for number in range(9)]] * 3
    row = heat_map(columns, values, has_color=True).lines(80)[-1]
    assert [int(code) for code in re.findall("48;5;([0-9]+)", row)] == list(COLORS)
    legend = heat_map(columns, values, has_color=True).legend()
    assert [int(code) for code in re.findall("48;5;([0-9]+)", legend)] == list(COLORS)
    assert plain(legend).split() == [f"{100 * value:.0f}" for value in values[0]]


def test_shades_grow_with_the_values() -> None:
    columns = [f"column{number}" for number in range(5)]
    values = [[(number / 4) ** (1 / 0.6) for number in range(5)]] * 3
    narrow = heat_map(columns, values).lines(6 + 3 * 5)
    assert narrow[-1] == "<eos>   ░░▒▒▓▓██"
