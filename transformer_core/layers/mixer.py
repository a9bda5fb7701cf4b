"""The contract of a sequence mixer: the part of a layer in which positions speak to one another.

A sequence-to-sequence model needs a layer that turns a sequence into a sequence. Recurrence, convolution and
self-attention all do; everything else in a layer works on each position alone. So a mixer is the one interchangeable
part, and it has three faces:

- `forward` over a whole sequence with a padding mask (the encoder);
- the same under causality, where position t sees nothing after t (the decoder in training);
- `step` on one new position with an explicit state that holds what the positions before it left behind (decoding).

Stepping through a sequence gives what the causal forward gives at once; a test holds every mixer to that.
"""

from abc import ABC, abstractmethod
from typing import Protocol

from torch import Tensor, nn

from transformer_core.layers.ancestry import Ancestry

__all__ = ["MixerState", "SequenceMixer"]


class MixerState(Protocol):
    """What a mixer remembers of the positions decoded so far, of every hypothesis."""

    def select(self, row_indices: Tensor) -> None:
        """Drop, repeat or reorder rows within their sentences; row_indices: (next rows,) int64."""

    def keep_sentences(self, sentence_indices: Tensor, row_indices: Tensor) -> None:
        """Drop all sentences but these, (sentences that stay,) int64; row_indices, (next rows,) int64, are theirs."""

    def merge(self, other: "MixerState") -> None:
        """Put the rows of a state of the same mixer after these, however many positions they are ahead or behind."""


class SequenceMixer(nn.Module, ABC):
    """A sequence in, a sequence of the same shape out."""

    @abstractmethod
    def forward(self, sequence: Tensor, mask: Tensor | None, *, causal: bool) -> Tensor:
        """Mix a whole sequence.

        Args:
            sequence: (batch, length, d_model).
            mask: (batch, length) bool, True = a real token; None where every position is real, or where padding
                stands only at the end of a causal sequence (no real position sees it).
            causal: position t may see nothing after t.

        Returns:
            (batch, length, d_model); what stands at padding has no meaning.
        """

    @abstractmethod
    def start(self, ancestry: Ancestry, like: Tensor) -> MixerState:
        """Make the state before the first position of the rows of `ancestry`; `like` gives dtype and device."""

    @abstractmethod
    def step(self, position: Tensor, state: MixerState) -> Tensor:
        """Mix one new position and append it to the state.

        Args:
            position: (rows, d_model); the ancestry of the state has begun it.
            state: made by `start`, one row per row of `position`.

        Returns:
            (rows, d_model).
        """
