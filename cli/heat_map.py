"""A heat map in a terminal: a cell per number, in colours or, where there are none, in shades.

As wide a cell as fits is taken: one with the label of its column above it and the number inside; one with the number
and the label written downwards; one with its colour alone. Where even those do not fit, the columns are broken into
bands that follow one another.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from cli.terminal_text import align_left, align_right, cut, paint, stacked, width_of

__all__ = ["HeatMap"]

# Nine of the 256 colours, from dark to bright as in matplotlib's viridis, and one to write on each.
COLORS = (53, 55, 61, 25, 31, 36, 77, 148, 220)
INKS = (255, 255, 255, 255, 255, 255, 16, 16, 16)
SHADES = " ░▒▓█"
NUMBER_WIDTH = 3  # "100"
NARROW = 2  # cells, as wide as a wide character
MAX_ROW_LABEL = 16
MAX_COLUMN_LABEL = 12  # beside each other, and downwards


@dataclass(frozen=True, kw_only=True)
class HeatMap:
    """Numbers from 0 to 1 with a label for every row and column."""

    rows: Sequence[str]
    columns: Sequence[str]
    values: Sequence[Sequence[float]]
    exponent: float  # of the share of the highest number, which says how strong a colour is
    has_color: bool

    def lines(self, width: int) -> list[str]:
        """Draw the map for a terminal of so many cells."""
        label_width = min(max(map(width_of, self.rows)), MAX_ROW_LABEL)
        room = width - label_width - 1
        cell_width = self._cell_width(room)
        in_band = max(1, room // cell_width)
        lines: list[str] = []
        for first in range(0, len(self.columns), in_band):
            band = range(first, min(first + in_band, len(self.columns)))
            lines += [""] * bool(lines)
            lines += [" " * (label_width + 1) + line for line in self._header(band, cell_width)]
            for label, values in zip(self.rows, self.values, strict=True):
                cells = "".join(self._cell(values[column], cell_width) for column in band)
                lines.append(f"{align_right(label, label_width)} {cells}".rstrip(" "))
        return lines

    def legend(self) -> str:
        """Show in one line which numbers the colours or shades stand for."""
        levels = range(len(COLORS) if self.has_color else len(SHADES))
        numbers = [f"{self._highest * (level / levels[-1]) ** (1 / self.exponent):.0%}"[:-1] for level in levels]
        if self.has_color:
            return "".join(
                paint(f"{number:>3} ", background=COLORS[level], foreground=INKS[level])
                for level, number in zip(levels, numbers, strict=True)
            )
        return "  ".join(f"{SHADES[level]} {number}" for level, number in zip(levels, numbers, strict=True)).strip()

    @cached_property
    def _highest(self) -> float:
        return max((value for values in self.values for value in values), default=0.0)

    def _cell_width(self, room: int) -> int:
        """Choose the widest kind of cell of which all columns fit into the room; else the narrowest."""
        longest = min(max(map(width_of, self.columns)), MAX_COLUMN_LABEL)
        with_number = NUMBER_WIDTH + (not self.has_color)  # a shade beside the number
        choices = [max(longest, with_number) + 1, with_number + 1, with_number, NARROW]
        fitting = [cell_width for cell_width in choices if cell_width * len(self.columns) <= room]
        return fitting[0] if fitting else NARROW

    def _header(self, band: Sequence[int], cell_width: int) -> list[str]:
        """The labels of the columns: in one line if they fit, else downwards."""
        labels = [cut(self.columns[column], MAX_COLUMN_LABEL) for column in band]
        if all(width_of(label) < cell_width for label in labels):
            return ["".join(align_right(label, cell_width) for label in labels).rstrip(" ")]
        stacks = [stacked(label) for label in labels]
        height = max(map(len, stacks))
        filled = [[""] * (height - len(stack)) + stack for stack in stacks]  # they end at the map
        return [
            "".join(align_right(place, cell_width) for place in line).rstrip(" ") for line in zip(*filled, strict=True)
        ]

    def _cell(self, value: float, cell_width: int) -> str:
        share = (value / (self._highest or 1.0)) ** self.exponent
        number = f"{value:.0%}".removesuffix("%") if cell_width >= NUMBER_WIDTH and value >= 0.005 else ""
        if self.has_color:
            level = round(share * (len(COLORS) - 1))
            return paint(align_right(number, cell_width), background=COLORS[level], foreground=INKS[level])
        shade = SHADES[min(len(SHADES) - 1, round(share * (len(SHADES) - 1)))]
        if cell_width == NARROW:
            return shade * cell_width
        return align_left("", cell_width - NUMBER_WIDTH - 1) + shade + number.rjust(NUMBER_WIDTH)
