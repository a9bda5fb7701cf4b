"""The step state of attention: keys and values of the positions decoded so far."""

import torch
from torch import Tensor

from transformer_core.layers.mixer import MixerState

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
        # for each; both together, so that reordering by beam is one copy, into the spare one, which takes its place
        self._buffer = like.new_empty(2, FIRST_CAPACITY, num_rows, num_heads, d_head)
        self._spare = self._buffer.new_empty(0)
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

    def append(self, key_value: Tensor) -> tuple[Tensor, Tensor]:
        """Add one position and give all of them.

        Args:
            key_value: (key or value, rows, num_heads, d_head).

        Returns:
            Keys and values, each (length, rows, num_heads, d_head), views of the buffers.
        """
        capacity = self._buffer.size(1)
        if self.length == capacity:
            grown = self._buffer.new_empty(2, 2 * capacity, *self._buffer.shape[2:])
            grown[:, :capacity] = self._buffer
            self._buffer = grown
        self._buffer[:, self.length] = key_value
        self.length += 1
        key, value = self._buffer[:, : self.length].unbind()
        return key, value

    def select(self, row_indices: Tensor) -> None:
        """Replace the rows by those at `row_indices`, (new_rows,) int64."""
        shape = (*self._buffer.shape[:2], row_indices.size(0), *self._buffer.shape[3:])
        if self._spare.shape != shape:
            self._spare = self._buffer.new_empty(shape)
        held = slice(0, self.length)
        torch.index_select(self._buffer[:, held], 2, row_indices, out=self._spare[:, held])
        self._buffer, self._spare = self._spare, self._buffer
        if self._first_places is not None:
            self._first_places = self._first_places.index_select(0, row_indices)

    def merge(self, other: MixerState) -> None:
        """Put the rows of another cache after these, so that all end at the same place."""
        assert isinstance(other, KeyValueCache)
        caches = (self, other)
        length = max(cache.length for cache in caches)
        num_rows = sum(cache._buffer.size(2) for cache in caches)
        capacity = max(cache._buffer.size(1) for cache in caches)
        merged = self._buffer.new_zeros(2, capacity, num_rows, *self._buffer.shape[3:])
        first_places = torch.zeros(num_rows, dtype=torch.int64, device=self._buffer.device)
        first_row = 0
        for cache in caches:
            rows = slice(first_row, first_row + cache._buffer.size(2))
            shift = length - cache.length
            merged[:, shift:length, rows] = cache._buffer[:, : cache.length]
            first_places[rows] = shift if cache._first_places is None else shift + cache._first_places
            first_row = rows.stop
        self._buffer, self.length = merged, length
        self._first_places = first_places if bool(first_places.any()) else None
