"""What the hypotheses of a sentence share: one set of cells, and which of them are whose past.

After every step of a beam search each hypothesis takes the place of another of its sentence, so most of what they have
written is the same. Each position that is written gets a cell of its sentence; the hypotheses that descend from it all
look at that cell, and one that none descends from is written anew. So nothing is copied when hypotheses move, and what
is attended to stays small: after 40 positions of newstest2014 a beam of 5 looks at 54 cells of a sentence (a Tiny
model, the mean), where a row of its own for each hypothesis would have 200.
"""

import torch
from torch import Tensor
from torch.nn import functional

__all__ = ["Ancestry"]

CELLS_AT_ONCE = 8  # their number grows to a multiple of it: products of such a size are faster


class Ancestry:
    """Knows, through all moves, which cells of its sentence each hypothesis has written or descends from.

    The rows of a sentence, its hypotheses, stand together: row = sentence * beam + place in the beam.

    Args:
        num_sentences: at the start, each with one hypothesis that has written nothing.
        like: gives dtype and device of the mask.

    Attributes:
        num_sentences: sentences, batch.
        num_rows: hypotheses, batch * beam.
        place: of the position that is written now, or was last, in its sequence: one number for all rows, or (rows,)
            int64 where they differ after a merge; -1 before the first.
        furthest: no place is beyond it; rows that are gone may have been there. Known without waiting for the device.
        num_cells: of each sentence, in use or free.
        cells: where the rows write now: one cell for all, or (rows,) int64, cell * num_sentences + sentence.
        mask: (rows, num_cells), added to the scores of attention: 0 where a row may attend to, -inf elsewhere; None
            where all may attend to all.
    """

    def __init__(self, num_sentences: int, like: Tensor) -> None:
        self.num_sentences = num_sentences
        self.num_rows = num_sentences
        self.place: int | Tensor = -1
        self.furthest = -1
        self.num_cells = 0
        self.cells: int | Tensor = 0
        self.mask: Tensor | None = None
        self._like = like.new_empty(0)

    @property
    def beam(self) -> int:
        """Rows of a sentence."""
        return self.num_rows // self.num_sentences

    def begin_position(self) -> None:
        """Give each row a cell for its next position, which all rows now write."""
        self.place = self.place + 1
        self.furthest += 1
        if self.beam == 1:
            self.cells = self.num_cells
            self._add_cells(1, 0.0)
            return
        if self.mask is None:
            self.mask = self._like.new_zeros(self.num_rows, self.num_cells)
        cells = self._free_cells()
        if cells is None:
            self._add_cells(-(self.num_cells + self.beam) % CELLS_AT_ONCE + self.beam, -torch.inf)
            cells = self._free_cells()
            assert cells is not None
        self.mask.scatter_(1, cells.view(-1, 1), 0.0)
        self.cells = (
            cells * self.num_sentences + torch.arange(self.num_sentences, device=cells.device)[:, None]
        ).flatten()

    def select(self, row_indices: Tensor) -> None:
        """Reorder, repeat or drop rows within their sentences; row_indices: (batch * new_beam,) int64."""
        if self.mask is not None:
            self.mask = self.mask.index_select(0, row_indices)
        if isinstance(self.place, Tensor):
            self.place = self.place.index_select(0, row_indices)
        self.num_rows = row_indices.size(0)

    def rows_of(self, sentence_indices: Tensor) -> Tensor:
        """(sentences,) int64 -> (sentences * beam,) int64, all rows of each."""
        beam = torch.arange(self.beam, device=sentence_indices.device)
        return (sentence_indices[:, None] * self.beam + beam).flatten()

    def keep_sentences(self, sentence_indices: Tensor) -> None:
        """Drop all sentences but these, (sentences that stay,) int64, with all their rows."""
        self.select(self.rows_of(sentence_indices))
        self.num_sentences = sentence_indices.size(0)

    def merge(self, other: "Ancestry") -> None:
        """Put the sentences of another after these; they may be ahead or behind, but have as wide a beam."""
        parts = (self, other)
        num_cells = max(part.num_cells for part in parts)
        if any(part.mask is not None or part.num_cells < num_cells for part in parts):
            self.mask = torch.cat([part._mask_over(num_cells) for part in parts])
        places = [torch.as_tensor(part.place, device=self._like.device).expand(part.num_rows) for part in parts]
        joined = torch.cat(places)
        self.place = int(joined[0]) if bool((joined == joined[0]).all()) else joined
        self.furthest = max(part.furthest for part in parts)
        self.num_cells = num_cells
        self.num_rows += other.num_rows
        self.num_sentences += other.num_sentences

    def _mask_over(self, num_cells: int) -> Tensor:
        """(rows, num_cells), with cells that this one does not have."""
        mask = self._like.new_zeros(self.num_rows, self.num_cells) if self.mask is None else self.mask
        return functional.pad(mask, (0, num_cells - self.num_cells), value=-torch.inf)

    def _add_cells(self, count: int, value: float) -> None:
        """Make more cells, which all rows may attend to (0) or none (-inf)."""
        if self.mask is not None:
            self.mask = functional.pad(self.mask, (0, count), value=value)
        self.num_cells += count

    def _free_cells(self) -> Tensor | None:
        """Find cells that no hypothesis descends from, (sentences, beam) int64; None where they are too few."""
        assert self.mask is not None
        if self.num_cells < self.beam:
            return None
        best = self.mask.view(self.num_sentences, self.beam, -1).amax(dim=1)  # 0 where some hypothesis looks
        least, cells = best.topk(self.beam, dim=1, largest=False)
        return None if bool((least == 0).any()) else cells
