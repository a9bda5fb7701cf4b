"""The step state of attention: keys and values of the positions decoded so far."""

import torch
from torch import Tensor

from transformer_core.layers.mixer import MixerState
from transformer_core.layers.row_history import RowMove

__all__ = ["KeyValueCache"]

FIRST_CAPACITY = 32  # positions a cache has room for before it first grows; it doubles from there


class KeyValueCache(MixerState):
    """Keys and values in buffers that are allocated ahead and grow by doubling.

    All rows end at the same place of the buffers. Rows that were merged in may have begun later than the others; what
    stands before their beginning is masked.

    Attributes:
        length: places in use, the positions of the longest row.
    """

    def __init__(self, num_rows: int, num_heads: int, d_head: int, like: Tensor) -> None:
        self.length = 0
        # (key or value, capacity, rows, num_heads, d_head): the positions in front, so that what is in use is one block
        # for each; both together, so that reordering by beam is one copy
        self._buffer = like.new_empty(2, FIRST_CAPACITY, num_rows, num_heads, d_head)
        self._first_places: Tensor | None = None  # (rows,) int64, where each row begins; None where all begin at 0

    @property
    def lengths(self) -> int | Tensor:
        """Positions held: one number for all rows, or (rows,) int64 where they differ."""
        return self.length if self._first_places is None else self.length - self._first_places

    def mask(self) -> Tensor | None:
        """What may be attended to, (length, rows) bool; None where all may."""
        if self._first_places is None:
            return None
        places = torch.arange(self.length, device=self._buffer.device)
        return places[:, None] >= self._first_places

    def append(self, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Add one position, (rows, num_heads, d_head), and give all of them.

        Returns:
            Keys and values, each (length, rows, num_heads, d_head), views of the buffers.
        """
        capacity = self._buffer.size(1)
        if self.length == capacity:
            grown = self._buffer.new_empty(2, 2 * capacity, *self._buffer.shape[2:])
            grown[:, :capacity] = self._buffer
            self._buffer = grown
        self._buffer[0, self.length], self._buffer[1, self.length] = key, value
        self.length += 1
        keys, values = self._buffer[:, : self.length].unbind()
        return keys, values

    def select(self, move: RowMove) -> None:
        """Put other rows in the place of these."""
        if self._first_places is not None:
            self._first_places = self._first_places.index_select(0, move.row_indices)
        _, capacity, num_rows, *heads = self._buffer.shape
        if move.changed_cells is not None:
            changed, sources = move.changed_cells
            cells = self._buffer.view(2, capacity * num_rows, -1)
            cells.index_copy_(1, changed, cells.index_select(1, sources))
            return
        buffer = self._buffer.new_empty(2, capacity, move.row_indices.size(0), *heads)
        held = slice(0, self.length)
        torch.index_select(self._buffer[:, held], 2, move.row_indices, out=buffer[:, held])
        self._buffer = buffer

    def merge(self, other: MixerState) -> None:
        """Put the rows of another cache after these, so that all end at the same place."""
        assert isinstance(other, KeyValueCache)
        caches = (self, other)
        length = max(cache.length for cache in caches)
        num_rows = sum(cache._buffer.size(2) for cache in caches)
        capacity = max(cache._buffer.size(1) for cache in caches)
        merged = self._buffer.new_empty(2, capacity, num_rows, *self._buffer.shape[3:])
        first_places = torch.zeros(num_rows, dtype=torch.int64, device=self._buffer.device)
        first_row = 0
        for cache in caches:
            rows = slice(first_row, first_row + cache._buffer.size(2))
            shift = length - cache.length
            merged[:, :shift, rows] = 0  # masked, but it must be a number
            merged[:, shift:length, rows] = cache._buffer[:, : cache.length]
            first_places[rows] = shift if cache._first_places is None else shift + cache._first_places
            first_row = rows.stop
        self._buffer, self.length = merged, length
        self._first_places = first_places if bool(first_places.any()) else None
