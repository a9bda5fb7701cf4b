"""Figures as a table on the terminal."""

from collections.abc import Mapping, Sequence

__all__ = ["Row", "show"]

Row = dict[str, object]


def show(title: str, rows: Sequence[Mapping[str, object]], leave_out: Sequence[str] = ()) -> None:
    """Print rows, a column for each of their keys."""
    keys = [key for key in dict.fromkeys(key for row in rows for key in row) if key not in leave_out]
    cells = [keys, *([_cell(row.get(key)) for key in keys] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    print(f"\n{title}\n")
    for line in cells:
        print("  ".join(value.rjust(width) for value, width in zip(line, widths, strict=True)), flush=True)


def _cell(value: object) -> str:
    """A value for the eye."""
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:,.0f}" if value >= 1000 else f"{value:.4g}"
    return "-" if value is None else str(value)
