r"""Rows of TSV: cells with a tab between them, and no quoting, as `cut` and `paste` have it.

A tab or a line break inside a text has no place in a cell; it is written as a space.
"""

from collections.abc import Iterable, Sequence

from transformer_core.errors import ConfigError

__all__ = ["RowParser", "join_row"]


class RowParser:
    """Cuts the rows of one file, all of which must have as many columns as the first.

    A line without a character is a row of blank cells, as a blank line of text is one.

    Args:
        columns: the numbers of the columns that hold text, from 1.

    Raises:
        ConfigError: one of them is no number.
    """

    def __init__(self, columns: Sequence[str]) -> None:
        self.indices = [_index(column) for column in columns]
        self._width: int | None = None  # columns of the first row

    def parse(self, line: str) -> tuple[str, ...]:
        """Cut a row.

        Raises:
            ValueError: it has not the columns that it should have; the message goes on after "file:line: ".
        """
        cells = tuple(line.split("\t"))
        if not line:
            return ("",) * (self._width or 1 + max(self.indices))
        if self._width is None:
            if len(cells) <= max(self.indices):
                raise ValueError(
                    f"has {_counted(len(cells))}, but column {1 + max(self.indices)} is wanted; "
                    "columns have tabs between them, and --columns says which hold text"
                )
            self._width = len(cells)
        if len(cells) != self._width:
            raise ValueError(
                f"has {_counted(len(cells))}, but the rows before have {self._width}; "
                "a tab inside a text must be written as a space"
            )
        return cells


def join_row(cells: Iterable[str]) -> str:
    """Write cells as one line, without its end."""
    return "\t".join(cell.replace("\t", " ").replace("\n", " ") for cell in cells)


def _index(column: str) -> int:
    if not (column.isascii() and column.isdecimal() and len(column) < 10 and int(column)):
        raise ConfigError(f"--columns {column}: is no column of TSV; columns are numbers, from 1")
    return int(column) - 1


def _counted(count: int) -> str:
    return f"{count} column" + ("" if count == 1 else "s")
