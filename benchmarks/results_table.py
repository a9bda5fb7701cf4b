"""Figures as a table on the terminal, and as JSON with what they hold for."""

import json
import os
import platform
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path

__all__ = ["MACHINE", "Row", "keep_row", "kept_rows", "show", "write_figures"]

Row = dict[str, object]


def _processor() -> str:
    """The name of the processor; of its kind, where Linux does not tell."""
    facts = Path("/proc/cpuinfo")
    text = facts.read_text(encoding="utf-8") if facts.exists() else ""
    return text.partition("model name\t: ")[2].partition("\n")[0] or platform.machine()


# What figures hold for.
MACHINE: Row = {
    "processor": _processor(),
    "cores": os.cpu_count() or 1,
    "python": platform.python_version(),
    "torch": metadata.version("torch"),
}


def write_figures(path: Path, figures: object) -> None:
    """Write figures as JSON."""
    path.write_text(json.dumps(figures, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def kept_rows(path: Path) -> list[Row]:
    """Read the rows that a file holds already; none, if there is no file."""
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else []


def keep_row(path: Path, row: Row, same: Sequence[str]) -> list[Row]:
    """Add a row to a file, in place of one that is alike in the columns `same`; give all rows."""
    rows = [old for old in kept_rows(path) if any(old[key] != row[key] for key in same)] + [row]
    write_figures(path, rows)
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
