"""Tables for the eye: drawn by Rich on a terminal, plain columns elsewhere."""

import shutil
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from io import StringIO

from cli import console

__all__ = ["TextTable", "columns", "draw", "plain"]

PLAIN_WIDTH = 100  # characters of a line of words where no terminal says how wide it is


@dataclass(frozen=True, kw_only=True)
class TextTable:
    """A table with what it is about above it and what must be known of its numbers below."""

    title: str
    header: Sequence[str]  # a line break in a cell makes a second line
    rows: Sequence[Sequence[str]]
    num_left: int = 1  # the first columns, of words, stand to the left; the others to the right
    notes: Sequence[str] = ()


def plain(tables: Sequence[TextTable]) -> str:
    """Write tables as columns, with an empty line between two."""
    return "\n".join("".join(f"{line}\n" for line in _plain_lines(table)) for table in tables)


def draw(tables: Sequence[TextTable]) -> str:
    """Draw tables for a terminal."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    file = StringIO()
    width = shutil.get_terminal_size().columns
    rich = Console(file=file, force_terminal=True, no_color=not console.has_color(), width=width, highlight=False)
    for table in tables:
        rich.print(table.title, markup=False, style="bold")
        drawn = Table(box=box.SIMPLE, pad_edge=False)
        for index, name in enumerate(table.header):
            drawn.add_column(name, justify="left" if index < table.num_left else "right", vertical="bottom")
        for row in table.rows:
            drawn.add_row(*row)
        rich.print(drawn)
        for note in table.notes:
            rich.print(note, markup=False, style="dim")
        rich.print()
    return file.getvalue()


def columns(rows: Sequence[Sequence[str]], *, num_left: int | None = None) -> list[str]:
    """Set cells below each other; those after the first `num_left` (None: none) stand to the right of their column."""
    from rich.cells import cell_len

    widths = [max(map(cell_len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        cells = []
        for index, (cell, width) in enumerate(zip(row, widths, strict=True)):
            space = " " * (width - cell_len(cell))
            cells.append(cell + space if num_left is None or index < num_left else space + cell)
        lines.append("  ".join(cells).rstrip())
    return lines


def _plain_lines(table: TextTable) -> Iterator[str]:
    yield table.title
    yield ""
    yield from columns([*_header_rows(table.header), *table.rows], num_left=table.num_left)
    if table.notes:
        yield ""
        yield from (line for note in table.notes for line in textwrap.wrap(note, PLAIN_WIDTH))


def _header_rows(header: Sequence[str]) -> list[list[str]]:
    """Cut the cells of a header into lines; a cell of fewer lines stands at the bottom."""
    cells = [cell.split("\n") for cell in header]
    height = max(map(len, cells))
    return [list(row) for row in zip(*([""] * (height - len(cell)) + cell for cell in cells), strict=True)]
