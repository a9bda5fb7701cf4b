import math
import re
from collections.abc import Sequence

import pytest

from cli.line_plot import Line, LinePlot, short_number, ticks
from cli.terminal_text import width_of


def line(x: Sequence[float], y: Sequence[float], letter: str = "a", color: int | None = None) -> Line:
    return Line(letter=letter, name=f"run {letter}", color=color, x=x, y=y)


def plot(*lines: Line) -> LinePlot:
    return LinePlot(lines, title="loss", x_label="step")


def test_a_line_goes_from_corner_to_corner() -> None:
    assert [drawn.rstrip(" ") for drawn in plot(line([0, 100], [0, 10])).draw(30, 5)] == [
        "    loss",
        "10 ┤                     ⣀⡠⠔⠒⠉",
        "   │               ⢀⣀⠤⠔⠊⠉",
        " 5 ┤          ⢀⡠⠤⠒⠊⠁",
        "   │     ⣀⡠⠔⠒⠉⠁",
        " 0 ┤⣀⠤⠔⠊⠉",
        "   └┬───────────┬────────────┬",
        "    0          50          100",
        "                          step",
        "  a run a  10",
    ]


def test_a_line_is_broken_where_there_is_no_number_and_a_point_alone_is_its_letter() -> None:
    broken = plot(line([0, 1, 2, 3], [1, math.nan, 2, 3])).draw(30, 5)
    assert all(drawn[5:20].strip(" ┤│") == "" for drawn in broken[1:6])
    point = plot(line([5], [3.0])).draw(30, 5)
    assert [drawn.count("a") for drawn in point[1:6]] == [0, 0, 1, 0, 0]
    beside = plot(line([0, 5], [1, 2]), line([5], [1.5], "b")).draw(30, 5)
    assert [drawn.count("b") for drawn in beside[1:6]].count(1) == 1


def test_a_run_that_diverged_is_drawn_as_far_as_there_are_numbers() -> None:
    drawn = plot(line([0, 1, 2, 3], [2, 1, math.inf, 1e308])).draw(30, 5)
    assert drawn[:6] == plot(line([0, 1, 2, 3], [2, 1, math.nan, math.nan])).draw(30, 5)[:6]
    assert drawn[-1].split() == ["a", "run", "a", "1.00e+308"]


def test_lines_have_letters_and_colours_of_their_own() -> None:
    drawn = plot(line([0, 9], [0, 9], "a", 33), line([0, 9], [9, 0], "B", 208)).draw(60, 8)
    text = "\n".join(drawn[1:9])
    assert "\x1b[38;5;33ma\x1b[0m" in text and "\x1b[38;5;208mB\x1b[0m" in text
    assert set(re.findall("38;5;([0-9]+)", text)) == {"33", "208"}
    assert [re.sub("\x1b\\[[0-9;]*m", "", row).strip() for row in drawn[-2:]] == ["a run a  9", "B run B  0"]


@pytest.mark.parametrize("width", [24, 30, 80, 140])
@pytest.mark.parametrize(
    "y",
    [
        [1e-6, 3e-5],
        [1e6, 9e6],
        [2.0, 2.0],
        [-5, 5],
        [0.0, 0.0],
        [1e7, 1e7 + 1],
        [1.0, math.exp(700)],
        [-1e307, 1e307],
        [1e307, 1.0],
        [1e308, -1e308],
        [math.inf, 1.0],
        [math.inf, -math.inf],
        [5e-324, 1e-320],
    ],
)
def test_every_row_is_as_wide_as_was_asked_for(width: int, y: list[float]) -> None:
    drawn = plot(line([1, 1000], y), line([500], y[:1], "b")).draw(width, 7)
    assert {width_of(row) for row in drawn} == {width}


@pytest.mark.parametrize(
    ("low", "high", "count", "texts"),
    [
        (0, 10, 3, ["0", "5", "10"]),
        (0.2, 8.7, 3, ["5"]),
        (0, 0.0035, 4, ["0.000", "0.001", "0.002", "0.003"]),
        (50, 3000, 6, ["500", "1,000", "1,500", "2,000", "2,500", "3,000"]),
        (0, 60000, 3, ["0", "20k", "40k", "60k"]),
        (0, 3e-5, 3, ["0.0e+00", "1.0e-05", "2.0e-05", "3.0e-05"]),
        (-1, 1, 2, ["-1", "0", "1"]),
        (0, 9e6, 3, ["0", "5,000k"]),
        (0, 2e7, 2, ["0", "1.00e+07", "2.00e+07"]),
        (1, math.exp(700), 2, ["0", "1.00e+304"]),
    ],
)
def test_ticks_are_round(low: float, high: float, count: int, texts: list[str]) -> None:
    assert [text for _, text in ticks(low, high, count)] == texts


@pytest.mark.parametrize(("low", "high"), [(0.2, 8.7), (2100, 5800), (0, 1), (1e-6, 3e-5), (-3.2, -1.1)])
def test_ticks_outside_take_in_everything(low: float, high: float) -> None:
    for count in range(1, 9):
        values = [value for value, _ in ticks(low, high, count, is_outside=True)]
        assert values[0] <= low and values[-1] >= high
        assert values == sorted(set(values))
        assert len(values) <= 2 * count + 2


@pytest.mark.parametrize(
    ("value", "text"), [(0.0, "0"), (0.09044, "0.09044"), (12345.6, "12.35k"), (7.24e-4, "7.24e-04"), (-3.5, "-3.5")]
)
def test_numbers_are_short(value: float, text: str) -> None:
    assert short_number(value) == text
