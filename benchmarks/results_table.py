"""Figures as a table on the terminal."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

__all__ = ["Row", "keep_row", "kept_rows", "show"]

Row = dict[str, object]


def kept_rows(path: Path) -> list[Row]:
    """Read the rows that a file holds already; none, if there is no file."""
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else []


def keep_row(path: Path, row: Row, same: Sequence[str]) -> list[Row]:
    """Add a row to a file, in place of one that is alike in the columns `same`; give all rows."""
    rows = [old for old in kept_rows(path) if any(old[key] != row[key] for key in same)] + [row]
    path.write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")
    return rows


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
