"""Lines in a terminal, drawn with braille characters: each cell has two by four dots.

Every line has a letter, which stands on it here and there where there are several, so that they can be told apart
without colours.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from cli.terminal_text import align_left, align_right, paint

__all__ = ["Line", "LinePlot", "short_number", "ticks"]

LETTER_EVERY = 18  # cells
BRAILLE = 0x2800
DOTS = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))  # by row and column inside a cell
ROWS_PER_TICK = 3
CELLS_PER_TICK = 12
LARGEST = 1e307  # of what is drawn


@dataclass(frozen=True, kw_only=True)
class Line:
    """A line through points; it is broken where y is NaN, or too large to be drawn."""

    letter: str
    name: str
    color: int | None  # of the 256 that terminals have
    x: Sequence[float]
    y: Sequence[float]


class LinePlot:
    """Lines over one pair of axes.

    Args:
        lines: at least one, each with a point.
        title: what stands above.
        x_label: what stands below.
    """

    def __init__(self, lines: Sequence[Line], *, title: str, x_label: str) -> None:
        self._lines = lines
        self._title = title
        self._x_label = x_label
        self._x_range = _bounds(value for line in lines for value in line.x)
        self._y_range = _bounds(value for line in lines for value in line.y)

    def draw(self, width: int, height: int) -> list[str]:
        """Draw for so many cells a line, with so many lines between the axes; every line is as wide as the others."""
        y_ticks = ticks(*self._y_range, max(2, height // ROWS_PER_TICK), is_outside=True)
        y_range = (y_ticks[0][0], y_ticks[-1][0])
        labels = {height - 1 - round(_share(value, y_range) * (height - 1)): text for value, text in y_ticks}
        label_width = max(map(len, labels.values()))
        columns = max(CELLS_PER_TICK, width - label_width - 2)
        canvas = _Canvas(columns, height)
        for line in self._lines:
            canvas.add(self._points(line, y_range))
        under = " " * (label_width + 2)
        rows = [
            f"{labels.get(row, '').rjust(label_width)} {'┤' if row in labels else '│'}{self._row(canvas, row)}"
            for row in range(height)
        ]
        rule, numbers = self._x_axis(columns)
        drawn = [f"{under}{align_left(self._title, columns)}", *rows, f"{under[:-1]}└{rule}", f"{under}{numbers}"]
        return [*drawn, f"{under}{align_right(self._x_label, columns)}", *self._legend(width)]

    def _points(self, line: Line, y_range: tuple[float, float]) -> list[tuple[float, float] | None]:
        """The points of a line as shares of the axes; None where it is broken."""
        return [
            (_share(x, self._x_range), _share(y, y_range)) if _is_drawn(y) else None
            for x, y in zip(line.x, line.y, strict=True)
        ]

    def _row(self, canvas: "_Canvas", row: int) -> str:
        """One line of cells: dots, letters on some of them, spaces."""
        cells = []
        for column in range(canvas.columns):
            number, dots = canvas.cell(row, column)
            if number is None:
                cells.append(" ")
            elif column in self._lettered(canvas, number):
                cells.append(_painted(self._lines[number].letter, self._lines[number]))
            else:
                cells.append(_painted(chr(BRAILLE | dots), self._lines[number]))
        return "".join(cells)

    def _lettered(self, canvas: "_Canvas", number: int) -> list[int]:
        """The columns in which a line has its letter: others than the other lines; none if it is alone and a line."""
        columns = canvas.columns_of(number)
        if len(self._lines) == 1 < len(columns):
            return []
        first = LETTER_EVERY * (number + 1) // (len(self._lines) + 1)
        return [column for column in columns if column % LETTER_EVERY == first] or [max(columns)]

    def _x_axis(self, columns: int) -> tuple[str, str]:
        """The axis, and the numbers below it."""
        rule, numbers = ["─"] * columns, [" "] * columns
        for value, text in ticks(*self._x_range, max(2, columns // CELLS_PER_TICK)):
            column = round(_share(value, self._x_range) * (columns - 1))
            rule[column] = "┬"
            start = min(max(0, column - len(text) // 2), columns - len(text))
            if all(cell == " " for cell in numbers[max(0, start - 1) : start + len(text) + 1]):
                numbers[start : start + len(text)] = text
        return "".join(rule), "".join(numbers)

    def _legend(self, width: int) -> list[str]:
        """A line for each line of the plot: its letter, its name, its last number."""
        lasts = [next(y for y in reversed(line.y) if not math.isnan(y)) for line in self._lines]
        return [
            f"  {_painted(line.letter, line)} {align_left(f'{line.name}  {short_number(last)}', width - 4)}"
            for line, last in zip(self._lines, lasts, strict=True)
        ]


class _Canvas:
    """Cells of dots, each of which belongs to the line that was last drawn there."""

    def __init__(self, columns: int, rows: int) -> None:
        self.columns = columns
        self._rows = rows
        self._dots: dict[tuple[int, int], int] = {}
        self._owners: dict[tuple[int, int], int] = {}
        self._columns_of: list[set[int]] = []

    def add(self, points: Sequence[tuple[float, float] | None]) -> None:
        """Draw a line through points, which are shares of the width and of the height from the bottom."""
        number = len(self._columns_of)
        self._columns_of.append(set())
        before: tuple[int, int] | None = None
        for point in points:
            if point is None:
                before = None
                continue
            end = (round(point[0] * (2 * self.columns - 1)), round((1 - point[1]) * (4 * self._rows - 1)))
            for column, row in _segment(before or end, end):
                cell = (row // 4, column // 2)
                self._dots[cell] = self._dots.get(cell, 0) | DOTS[row % 4][column % 2]
                self._owners[cell] = number
                self._columns_of[number].add(cell[1])
            before = end

    def cell(self, row: int, column: int) -> tuple[int | None, int]:
        """Give the number of the line that a cell belongs to, None if to none, and its dots."""
        return self._owners.get((row, column)), self._dots.get((row, column), 0)

    def columns_of(self, number: int) -> set[int]:
        """Give the columns that a line passes."""
        return self._columns_of[number]


def ticks(low: float, high: float, count: int, *, is_outside: bool = False) -> list[tuple[float, str]]:
    """Choose about `count` round numbers from low to high, with their texts.

    Args:
        low: where the axis begins.
        high: where it ends; above low.
        count: how many there is room for.
        is_outside: take in one more on either side, so that all the axis lies between them.
    """
    rough = (high - low) / count
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * size for size in (1, 2, 5, 10) if power * size >= rough * 0.999)
    down, up = (math.floor, math.ceil) if is_outside else (math.ceil, math.floor)
    slack = 1e-9 if is_outside else -1e-9  # for what rounding leaves
    first, last = down(low / step + slack), up(high / step - slack)
    decimals = max(0, -math.floor(math.log10(step) + 1e-9))
    values = [round(place * step, decimals) for place in range(first, last + 1)] or [low]
    if decimals > 4:
        return [(value, f"{value:.1e}") for value in values]
    if max(map(abs, values)) >= 1e7:
        return [(value, short_number(value)) for value in values]
    if step >= 1000:
        return [(value, f"{value / 1000:,.0f}k" if value else "0") for value in values]
    return [(value, f"{value:,.{decimals}f}") for value in values]


def short_number(value: float) -> str:
    """A number in few characters: 0.0907, 12.3k, 3.00e-05."""
    if value == 0 or 1e-3 <= abs(value) < 1e4:
        return f"{value:.4g}"
    return f"{value / 1000:.4g}k" if 1e4 <= abs(value) < 1e7 else f"{value:.2e}"


def _painted(text: str, line: Line) -> str:
    return text if line.color is None else paint(text, foreground=line.color)


def _bounds(values: Iterable[float]) -> tuple[float, float]:
    """The smallest and the largest, kept apart."""
    drawn = [value for value in values if _is_drawn(value)] or [0.0]
    low, high = min(drawn), max(drawn)
    margin = 0.0 if high - low > 1e-9 * max(abs(low), abs(high)) else abs(low) / 2 or 1.0
    return low - margin, high + margin


def _is_drawn(value: float) -> bool:
    """Tell whether a value has a place on an axis: neither NaN nor infinite, nor so large that a distance would be."""
    return abs(value) <= LARGEST


def _share(value: float, bounds: tuple[float, float]) -> float:
    return (value - bounds[0]) / (bounds[1] - bounds[0])


def _segment(start: tuple[int, int], end: tuple[int, int]) -> Iterator[tuple[int, int]]:
    """The dots from one to another."""
    length = max(abs(end[0] - start[0]), abs(end[1] - start[1]), 1)
    for place in range(length + 1):
        share = place / length
        yield round(start[0] + (end[0] - start[0]) * share), round(start[1] + (end[1] - start[1]) * share)
