"""Scaled dot-product attention and its multi-head form (Vaswani et al. 2017, sections 3.2.1 and 3.2.2).

Every position asks with a query, every position answers with a key and a value, and all of it happens at once: any two
positions are one step apart, however far they stand from each other.

Dimensions: batch, length (source_length, target_length), d_model, num_heads, d_head = d_model / num_heads.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from transformer_core.layers.mixer import MixerState, SequenceMixer

__all__ = ["CrossAttention", "CrossMemory", "KeyValueCache", "SelfAttention", "scaled_dot_product_attention"]

FIRST_CAPACITY = 32  # positions a cache has room for before it first grows; it doubles from there


def scaled_dot_product_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None = None,
    *,
    causal: bool = False,
    dropout: float = 0.0,
) -> Tensor:
    """Average the values, weighted by how well each key answers the query: softmax(query keyᵀ / √d_head) value.

    Why √d_head: with independent components of mean 0 and variance 1, the dot product of a query and a key is a sum of
    d_head such products, so its variance is d_head. Without the scale the scores grow with the width of the head, one
    of them wins, softmax saturates, and where softmax is saturated its gradient is almost zero. Dividing by √d_head
    brings the variance of the score back to 1 whatever the width.

    Args:
        query: (batch, num_heads, target_length, d_head).
        key: (batch, num_heads, source_length, d_head).
        value: (batch, num_heads, source_length, d_head).
        mask: broadcast to (batch, num_heads, target_length, source_length), bool, True = may be attended to.
        causal: query t may attend to keys 0..t only; goes with no mask.
        dropout: share of the attention weights zeroed.

    Returns:
        (batch, num_heads, target_length, d_head).
    """
    dtype = query.dtype
    if query.requires_grad and query.device.type == "cpu":
        # torch's backward kernel for bf16 on a CPU takes 20 times as long as the one for fp32 (torch 2.13)
        query, key, value = query.float(), key.float(), value.float()
    with torch.autocast(query.device.type, enabled=False):
        attended = functional.scaled_dot_product_attention(
            query, key, value, attn_mask=mask, dropout_p=dropout, is_causal=causal
        )
    return attended.to(dtype)


class KeyValueCache(MixerState):
    """Keys and values of the positions decoded so far, in buffers that are allocated ahead and grow by doubling.

    Attributes:
        length: positions held.
    """

    def __init__(self, num_rows: int, num_heads: int, d_head: int, like: Tensor) -> None:
        self.length = 0
        # (key or value, rows, num_heads, capacity, d_head): one block, so that reordering by beam is one copy, into
        # the spare one, which then takes its place
        self._buffer = like.new_empty(2, num_rows, num_heads, FIRST_CAPACITY, d_head)
        self._spare = self._buffer.new_empty(0)

    def append(self, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Add one position and give all of them.

        Args:
            key: (rows, num_heads, 1, d_head).
            value: (rows, num_heads, 1, d_head).

        Returns:
            Keys and values, each (rows, num_heads, length, d_head), views of the buffers.
        """
        capacity = self._buffer.size(3)
        if self.length == capacity:
            grown = self._buffer.new_empty(*self._buffer.shape[:3], 2 * capacity, self._buffer.size(4))
            grown[:, :, :, :capacity] = self._buffer
            self._buffer = grown
        self._buffer[0, :, :, self.length : self.length + 1] = key
        self._buffer[1, :, :, self.length : self.length + 1] = value
        self.length += 1
        return self._buffer[0, :, :, : self.length], self._buffer[1, :, :, : self.length]

    def select(self, row_indices: Tensor) -> None:
        """Replace the rows by those at `row_indices`, (new_rows,) int64."""
        shape = (2, row_indices.size(0), *self._buffer.shape[2:])
        if self._spare.shape != shape:
            self._spare = self._buffer.new_empty(shape)
        held = slice(0, self.length)
        torch.index_select(self._buffer[:, :, :, held], 1, row_indices, out=self._spare[:, :, :, held])
        self._buffer, self._spare = self._spare, self._buffer


class _MultiHead(nn.Module):
    """What self- and cross-attention share: projections into heads and out of them."""

    def __init__(self, d_model: int, d_memory: int, num_heads: int, dropout: float) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.dropout = dropout
        self.query_projection = nn.Linear(d_model, d_model)
        self.key_value_projection = nn.Linear(d_memory, 2 * d_model)  # keys, then values: one product for both
        self.output_projection = nn.Linear(d_model, d_model)
        nn.init.xavier_uniform_(self.query_projection.weight)
        for block in self.key_value_projection.weight.chunk(2):
            nn.init.xavier_uniform_(block)
        nn.init.xavier_uniform_(self.output_projection.weight)
        for projection in (self.query_projection, self.key_value_projection, self.output_projection):
            nn.init.zeros_(projection.bias)

    def _query(self, sequence: Tensor) -> Tensor:
        """(batch, length, d_model) -> (batch, num_heads, length, d_head)."""
        return self._split(self.query_projection(sequence))

    def _key_value(self, memory: Tensor) -> tuple[Tensor, Tensor]:
        """(batch, length, d_memory) -> keys and values, each (batch, num_heads, length, d_head)."""
        key, value = self.key_value_projection(memory).chunk(2, dim=-1)
        return self._split(key), self._split(value)

    def _split(self, projected: Tensor) -> Tensor:
        """(batch, length, d_model) -> (batch, num_heads, length, d_head)."""
        batch, length, _ = projected.shape
        return projected.view(batch, length, self.num_heads, -1).transpose(1, 2)

    def _merge(self, heads: Tensor) -> Tensor:
        """(batch, num_heads, length, d_head) -> (batch, length, d_model), through the last projection."""
        return self.output_projection(heads.transpose(1, 2).flatten(-2))  # type: ignore[no-any-return]

    def _dropout(self) -> float:
        return self.dropout if self.training else 0.0


class SelfAttention(_MultiHead, SequenceMixer):
    """Multi-head attention of a sequence to itself: the mixer that took the place of recurrence."""

    def __init__(self, d_model: int, num_heads: int, dropout: float) -> None:
        super().__init__(d_model, d_model, num_heads, dropout)

    def forward(self, sequence: Tensor, mask: Tensor | None, *, causal: bool) -> Tensor:
        """Let every position attend to every real position, or under causality to those up to itself.

        Shapes as in `SequenceMixer.forward`.
        """
        if mask is not None:
            mask = mask[:, None, None, :]  # (batch, length) -> (batch, num_heads, query length, length), broadcast
            if causal:
                length = sequence.size(1)
                mask = mask & torch.ones(length, length, dtype=torch.bool, device=mask.device).tril()
        key, value = self._key_value(sequence)
        heads = scaled_dot_product_attention(
            self._query(sequence), key, value, mask, causal=causal and mask is None, dropout=self._dropout()
        )
        return self._merge(heads)

    def start(self, num_rows: int, like: Tensor) -> KeyValueCache:
        """Make an empty cache of keys and values."""
        return KeyValueCache(num_rows, self.num_heads, self.query_projection.out_features // self.num_heads, like)

    def step(self, position: Tensor, state: MixerState) -> Tensor:
        """Attend from one new position to itself and all before it; shapes as in `SequenceMixer.step`."""
        assert isinstance(state, KeyValueCache)
        key, value = state.append(*self._key_value(position))
        return self._merge(scaled_dot_product_attention(self._query(position), key, value))


class CrossMemory:
    """Keys and values of the encoder's output, computed once per sentence; all its beams attend to the same row.

    Attributes:
        key: (batch, num_heads, source_length, d_head).
        value: (batch, num_heads, source_length, d_head).
    """

    def __init__(self, key: Tensor, value: Tensor) -> None:
        self.key = key
        self.value = value

    def select(self, sentence_indices: Tensor) -> None:
        """Replace the sentences by those at `sentence_indices`, (new_batch,) int64."""
        self.key = self.key.index_select(0, sentence_indices)
        self.value = self.value.index_select(0, sentence_indices)


class CrossAttention(_MultiHead):
    """Multi-head attention of the decoder to the encoder's output."""

    def __init__(self, d_model: int, d_memory: int, num_heads: int, dropout: float) -> None:
        super().__init__(d_model, d_memory, num_heads, dropout)

    def forward(self, sequence: Tensor, memory: Tensor, memory_mask: Tensor | None) -> Tensor:
        """Let every target position attend to every real source position.

        Args:
            sequence: (batch, target_length, d_model).
            memory: (batch, source_length, d_memory).
            memory_mask: (batch, source_length) bool, True = a real token; None where all are.

        Returns:
            (batch, target_length, d_model).
        """
        key, value = self._key_value(memory)
        mask = None if memory_mask is None else memory_mask[:, None, None, :]
        return self._merge(
            scaled_dot_product_attention(self._query(sequence), key, value, mask, dropout=self._dropout())
        )

    def prepare(self, memory: Tensor) -> CrossMemory:
        """Compute keys and values of `memory`, (batch, source_length, d_memory), for all steps to come."""
        key, value = self._key_value(memory)
        return CrossMemory(key.contiguous(), value.contiguous())

    def step(self, position: Tensor, memory: CrossMemory, mask: Tensor | None) -> Tensor:
        """Attend from one new position of each row.

        Args:
            position: (batch * beam, 1, d_model); the beams of a sentence stand together.
            memory: made by `prepare`, one row per sentence.
            mask: (batch, 1, 1, source_length) bool, True = may be attended to; None where all may.

        Returns:
            (batch * beam, 1, d_model).
        """
        # the beams of a sentence are queries side by side: (batch * beam, 1, d_model) -> (batch, beam, d_model)
        beams = position.view(memory.key.size(0), -1, position.size(-1))
        heads = scaled_dot_product_attention(self._query(beams), memory.key, memory.value, mask)
        return self._merge(heads).view_as(position)
