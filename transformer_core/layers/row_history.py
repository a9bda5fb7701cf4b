"""What the rows of a decoder's state share: hypotheses of one beam search differ only from where they parted.

After every step of a beam search, each hypothesis takes the place of another of its sentence. Most of what the two have
written is the same: of the cells of a cache, a row at a position, 7 % change in the long lines of newstest2014 and
24 % in the short ones of multi30k (a Tiny model, a beam of 5). All layers move alike, so which ones do is worked out
once for them all.
"""

from functools import cached_property

import torch
from torch import Tensor
from torch.nn import functional

__all__ = ["RowHistory", "RowMove"]

# Up to so many cells it takes longer to find those that change than to copy all.
FEW_CELLS = 1_000


class RowMove:
    """Rows that take the place of others.

    Args:
        row_indices: (new_rows,) int64, what stands in each place from now on.
        before: (positions, rows), in each cell a number that says what it holds; None if that is not known.
        after: (positions, new_rows), the same when the rows have moved.
    """

    def __init__(self, row_indices: Tensor, before: Tensor | None = None, after: Tensor | None = None) -> None:
        self.row_indices = row_indices
        self._before = before
        self._after = after

    @cached_property
    def changed_cells(self) -> tuple[Tensor, Tensor] | None:
        """Cells that will hold something else, and those that hold it now, as position * rows + row, (cells,) int64.

        None where all are to be copied: where the number of rows changes, or where they are few.
        """
        before, after = self._before, self._after
        if before is None or after is None or before.shape != after.shape or before.numel() <= FEW_CELLS:
            return None
        changed = (after != before).flatten().nonzero().squeeze(1)
        rows = changed % self.row_indices.size(0)
        return changed, changed - rows + self.row_indices[rows]


class RowHistory:
    """Knows which row wrote what stands in each cell, through all moves.

    Args:
        num_rows: rows at the start.
        device: of the state.

    Attributes:
        num_positions: that have been written, by the rows that have written most; the rows in place write the next one.
    """

    def __init__(self, num_rows: int, device: torch.device) -> None:
        self.num_positions = 0
        # (positions, rows) int32; in one position, two rows with the same number hold the same; -1: nothing
        self._writers = torch.empty(0, num_rows, dtype=torch.int32, device=device)

    def move(self, row_indices: Tensor) -> RowMove:
        """Put other rows in the place of these; row_indices: (new_rows,) int64."""
        before = self._caught_up()
        self._writers = before.index_select(1, row_indices)
        return RowMove(row_indices, before, self._writers)

    def merge(self, other: "RowHistory") -> None:
        """Put the rows of another history after these, so that all end at the same position."""
        writers, others = self._caught_up(), other._caught_up()
        if writers.numel():
            others = others + (writers.max() + 1)  # no row of one history holds what a row of the other does
        self.num_positions = max(self.num_positions, other.num_positions)
        shapes = [(0, 0, self.num_positions - part.size(0), 0) for part in (writers, others)]
        parts = [functional.pad(part, shape, value=-1) for part, shape in zip((writers, others), shapes, strict=True)]
        self._writers = torch.cat(parts, dim=1)

    def _caught_up(self) -> Tensor:
        """Give the writers of all positions: since the last move, each row has written its own cells."""
        num_known, num_rows = self._writers.shape
        rows = torch.arange(num_rows, dtype=torch.int32, device=self._writers.device)
        return torch.cat((self._writers, rows.expand(self.num_positions - num_known, num_rows)))
