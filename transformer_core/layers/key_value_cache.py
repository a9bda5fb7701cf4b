"""The step state of attention: keys and values of the positions decoded so far."""

import torch
from torch import Tensor

from transformer_core.layers.ancestry import Ancestry
from transformer_core.layers.mixer import MixerState

__all__ = ["KeyValueCache"]

FIRST_CAPACITY = 32  # cells that a cache has room for before it first grows; it doubles from there


class KeyValueCache(MixerState):
    """Keys and values in buffers that are allocated ahead and grow by doubling.

    Args:
        ancestry: of the rows, which says where they write and what each may attend to.
        num_heads: that have keys and values of their own.
        d_head: width of each.
        like: gives dtype and device.
    """

    def __init__(self, ancestry: Ancestry, num_heads: int, d_head: int, like: Tensor) -> None:
        self.ancestry = ancestry
        # (key or value, capacity, sentences, num_heads, d_head): the cells in front, so that what is in use is one
        # block for each
        self._buffer = like.new_empty(2, FIRST_CAPACITY, ancestry.num_sentences, num_heads, d_head)
        self._num_cells = 0  # that hold something

    def append(self, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Write the position of every row, (rows, num_heads, d_head), and give what all cells hold.

        Returns:
            Keys and values, each (sentences, num_heads, cells, d_head), views of the buffers.
        """
        num_cells, cells = self.ancestry.num_cells, self.ancestry.cells
        capacity = self._buffer.size(1)
        if num_cells > capacity:
            grown = self._buffer.new_empty(2, max(2 * capacity, num_cells), *self._buffer.shape[2:])
            grown[:, : self._num_cells] = self._held()
            self._buffer = grown
        if isinstance(cells, int):
            self._buffer[0, cells], self._buffer[1, cells] = key, value
        else:
            self._buffer[:, self._num_cells : num_cells] = 0  # some stay free, and what is masked must be a number
            keys, values = self._buffer.flatten(1, 2).unbind()
            keys.index_copy_(0, cells, key)
            values.index_copy_(0, cells, value)
        self._num_cells = num_cells
        keys, values = self._held().permute(0, 2, 3, 1, 4).unbind()
        return keys, values

    def select(self, row_indices: Tensor) -> None:
        """Do nothing: whose past a cell is, the ancestry knows."""

    def keep_sentences(self, sentence_indices: Tensor, row_indices: Tensor) -> None:
        """Drop all sentences but these."""
        _, capacity, _, *heads = self._buffer.shape
        buffer = self._buffer.new_empty(2, capacity, sentence_indices.size(0), *heads)
        torch.index_select(self._held(), 2, sentence_indices, out=buffer[:, : self._num_cells])
        self._buffer = buffer

    def merge(self, other: MixerState) -> None:
        """Put the sentences of another cache after these."""
        assert isinstance(other, KeyValueCache)
        caches = (self, other)
        capacity = max(cache._buffer.size(1) for cache in caches)
        num_sentences = sum(cache._buffer.size(2) for cache in caches)
        num_cells = max(cache._num_cells for cache in caches)
        merged = self._buffer.new_empty(2, capacity, num_sentences, *self._buffer.shape[3:])
        first = 0
        for cache in caches:
            held = cache._held()
            end = first + held.size(2)
            merged[:, : cache._num_cells, first:end] = held
            merged[:, cache._num_cells : num_cells, first:end] = 0
            first = end
        self._buffer, self._num_cells = merged, num_cells

    def _held(self) -> Tensor:
        """Give what is in use, (key or value, cells, sentences, num_heads, d_head)."""
        return self._buffer[:, : self._num_cells]
