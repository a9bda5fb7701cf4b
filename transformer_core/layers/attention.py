"""Multi-head attention, of a sequence to itself and to another (Vaswani et al. 2017, section 3.2.2).

Every position asks with a query, every position answers with a key and a value, and all of it happens at once: any two
positions are one step apart, however far they stand from each other.

Dimensions: batch, length (source_length, target_length), d_model, num_heads, d_head = d_model / num_heads, and
key_heads, the heads that have keys and values of their own: num_heads, or a divisor of it.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from transformer_core.config import ModelConfig, StackConfig
from transformer_core.layers.ancestry import Ancestry
from transformer_core.layers.key_value_cache import KeyValueCache
from transformer_core.layers.mixer import MixerState, SequenceMixer
from transformer_core.layers.norm import new_norm
from transformer_core.layers.rotary import rotate
from transformer_core.layers.scaled_dot_product import attention_weights, scaled_dot_product_attention
from transformer_core.layers.step_attention import attend

__all__ = ["CrossAttention", "CrossMemory", "SelfAttention"]


class _MultiHead(nn.Module):
    """What self- and cross-attention share: projections into heads and out of them."""

    def __init__(self, stack: StackConfig, d_memory: int, config: ModelConfig) -> None:
        super().__init__()
        self.d_head = stack.d_head
        self.num_key_heads = stack.num_key_value_heads or stack.num_heads
        self.dropout = config.attention_dropout
        self.undo_scale = 1.0 if config.scale_attention else math.sqrt(self.d_head)
        self.query_projection = nn.Linear(stack.d_model, stack.d_model)
        # keys, then values: one product for both
        self.key_value_projection = nn.Linear(d_memory, 2 * self.num_key_heads * self.d_head)
        self.output_projection = nn.Linear(stack.d_model, stack.d_model)
        self.query_norm: nn.Module | None = None
        self.key_norm: nn.Module | None = None
        if config.query_key_norm:  # bounds the scores, whatever the projections grow to (Henry et al. 2020)
            self.query_norm, self.key_norm = new_norm(self.d_head, "rms"), new_norm(self.d_head, "rms")
        nn.init.xavier_uniform_(self.query_projection.weight)
        for block in self.key_value_projection.weight.chunk(2):
            nn.init.xavier_uniform_(block)
        nn.init.xavier_uniform_(self.output_projection.weight)
        for projection in (self.query_projection, self.key_value_projection, self.output_projection):
            nn.init.zeros_(projection.bias)

    def _query(self, sequence: Tensor) -> Tensor:
        """(batch, length, d_model) -> (batch, num_heads, length, d_head)."""
        return self._normed_query(self._split(self.query_projection(sequence)))

    def _normed_query(self, query: Tensor) -> Tensor:
        """(…, d_head) -> the same shape."""
        if self.query_norm is not None:
            query = self.query_norm(query)
        return query if self.undo_scale == 1.0 else query * self.undo_scale

    def _key_value(self, memory: Tensor) -> tuple[Tensor, Tensor]:
        """(batch, length, d_memory) -> keys and values, each (batch, key_heads, length, d_head)."""
        key, value = map(self._split, self.key_value_projection(memory).chunk(2, dim=-1))
        return self._normed_key(key), value

    def _normed_key(self, key: Tensor) -> Tensor:
        """(…, d_head) -> the same shape."""
        return key if self.key_norm is None else self.key_norm(key)

    def _split(self, projected: Tensor) -> Tensor:
        """(batch, length, heads * d_head) -> (batch, heads, length, d_head)."""
        batch, length, _ = projected.shape
        return projected.view(batch, length, -1, self.d_head).transpose(1, 2)

    def _attend(
        self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, *, causal: bool = False
    ) -> Tensor:
        """Heads in, (batch, length, d_model) out, through the last projection."""
        dropout = self.dropout if self.training else 0.0
        heads = scaled_dot_product_attention(query, key, value, mask, causal=causal, dropout=dropout)
        # (batch, num_heads, length, d_head) -> (batch, length, d_model)
        return self.output_projection(heads.transpose(1, 2).flatten(-2))  # type: ignore[no-any-return]


class SelfAttention(_MultiHead, SequenceMixer):
    """Multi-head attention of a sequence to itself: the mixer that took the place of recurrence.

    Attributes:
        joint_projection: queries, keys and values in one product; in the place of the two, where decoding has laid it
            out (decoding/linear.py).
    """

    def __init__(self, stack: StackConfig, config: ModelConfig) -> None:
        super().__init__(stack, stack.d_model, config)
        self.is_rotary = config.positions == "rotary"
        self.joint_projection: nn.Module | None = None

    def forward(self, sequence: Tensor, mask: Tensor | None, *, causal: bool) -> Tensor:
        """Let every position attend to every real position, or under causality to those up to itself.

        Shapes as in `SequenceMixer.forward`.
        """
        query, key, value = self._heads(sequence)
        mask = _attention_mask(sequence, mask, causal=causal)
        return self._attend(query, key, value, mask, causal=causal and mask is None)

    def weights(self, sequence: Tensor, mask: Tensor | None, *, causal: bool) -> Tensor:
        """Give the attention weights of `forward`, (batch, num_heads, length, length) float32."""
        query, key, _ = self._heads(sequence)
        mask = _attention_mask(sequence, mask, causal=causal)
        return attention_weights(query, key, mask, causal=causal and mask is None)

    def start(self, ancestry: Ancestry, like: Tensor) -> KeyValueCache:
        """Make an empty cache of keys and values."""
        return KeyValueCache(ancestry, self.num_key_heads, self.d_head, like)

    def step(self, position: Tensor, state: MixerState) -> Tensor:
        """Attend from one new position to itself and all before it; shapes as in `SequenceMixer.step`."""
        assert isinstance(state, KeyValueCache)
        query_key, value = self._one_position(position)
        if self.is_rotary:
            query_key = rotate(query_key[:, :, None], state.ancestry.place, state.ancestry.furthest).squeeze(2)
        query, key = query_key.tensor_split((-self.num_key_heads,), dim=1)
        attended = attend(query, *state.append(key, value), state.ancestry.mask)
        return self.output_projection(attended)  # type: ignore[no-any-return]

    def _one_position(self, position: Tensor) -> tuple[Tensor, Tensor]:
        """(rows, d_model) -> heads of queries and keys, side by side, and of values, each (rows, heads, d_head)."""
        if self.joint_projection is None:
            joint = torch.cat((self.query_projection(position), self.key_value_projection(position)), dim=1)
        else:
            joint = self.joint_projection(position)
        heads = joint.view(position.size(0), -1, self.d_head)
        query_key, value = heads.tensor_split((-self.num_key_heads,), dim=1)
        if self.key_norm is not None or self.undo_scale != 1.0:
            query, key = query_key.tensor_split((-self.num_key_heads,), dim=1)
            query_key = torch.cat((self._normed_query(query), self._normed_key(key)), dim=1)
        return query_key, value

    def _heads(self, sequence: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(batch, length, d_model) -> query, key and value, each (batch, heads, length, d_head)."""
        if self.joint_projection is None:
            query, (key, value) = self._query(sequence), self._key_value(sequence)
        else:
            heads = self._split(self.joint_projection(sequence))
            query, key, value = heads.tensor_split((-2 * self.num_key_heads, -self.num_key_heads), dim=1)
            query, key = self._normed_query(query), self._normed_key(key)
        if self.is_rotary:
            query, key = rotate(query), rotate(key)
        return query, key, value


def _attention_mask(sequence: Tensor, mask: Tensor | None, *, causal: bool) -> Tensor | None:
    """(batch, length) of real tokens -> (batch, 1, 1 or length, length) of what may be attended to; None: all."""
    if mask is None:
        return None
    mask = mask[:, None, None, :]
    if causal:
        length = sequence.size(1)
        mask = mask & torch.ones(length, length, dtype=torch.bool, device=mask.device).tril()
    return mask


class CrossMemory:
    """Keys and values of the encoder's output, computed once per sentence; all its beams attend to the same row.

    Attributes:
        key: (batch, key_heads, source_length, d_head).
        value: (batch, key_heads, source_length, d_head).
    """

    def __init__(self, key: Tensor, value: Tensor) -> None:
        self.key = key
        self.value = value

    def select(self, sentence_indices: Tensor) -> None:
        """Replace the sentences by those at `sentence_indices`, (new_batch,) int64."""
        self.key = self.key.index_select(0, sentence_indices)
        self.value = self.value.index_select(0, sentence_indices)

    def merge(self, other: "CrossMemory") -> None:
        """Put the sentences of another memory after these; the shorter sources are padded at their end."""
        length = max(self.key.size(2), other.key.size(2))
        self.key = torch.cat([_pad_length(key, length) for key in (self.key, other.key)])
        self.value = torch.cat([_pad_length(value, length) for value in (self.value, other.value)])


def _pad_length(heads: Tensor, length: int) -> Tensor:
    """(batch, heads, shorter, d_head) -> (batch, heads, length, d_head), zeros at the end."""
    return functional.pad(heads, (0, 0, 0, length - heads.size(2)))


class CrossAttention(_MultiHead):
    """Multi-head attention of the decoder to the encoder's output."""

    def __init__(self, stack: StackConfig, d_memory: int, config: ModelConfig) -> None:
        super().__init__(stack, d_memory, config)

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
        return self._attend(self._query(sequence), key, value, _attention_mask(memory, memory_mask, causal=False))

    def weights(self, sequence: Tensor, memory: Tensor, memory_mask: Tensor | None) -> Tensor:
        """Give the attention weights of `forward`, (batch, num_heads, target_length, source_length) float32."""
        key, _ = self._key_value(memory)
        mask = _attention_mask(memory, memory_mask, causal=False)
        return attention_weights(self._query(sequence), key, mask)

    def prepare(self, memory: Tensor) -> CrossMemory:
        """Compute keys and values of `memory`, (batch, source_length, d_memory), for all steps to come."""
        key, value = self._key_value(memory)
        return CrossMemory(key.contiguous(), value.contiguous())

    def step(self, position: Tensor, memory: CrossMemory, mask: Tensor | None) -> Tensor:
        """Attend from one new position of each row.

        Args:
            position: (batch * beam, d_model); the beams of a sentence stand together.
            memory: made by `prepare`, one row per sentence.
            mask: (batch, source_length), added to the scores: 0 or -inf; None where all may be attended to.

        Returns:
            (batch * beam, d_model).
        """
        query = self.query_projection(position)
        heads = self._normed_query(query.view(position.size(0), -1, self.d_head))
        return self.output_projection(attend(heads, memory.key, memory.value, mask))  # type: ignore[no-any-return]
