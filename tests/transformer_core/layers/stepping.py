"""A mixer alone, taken through a sequence step by step, as a decoder takes its layers."""

import torch
from torch import Tensor

from transformer_core.layers.ancestry import Ancestry
from transformer_core.layers.mixer import SequenceMixer

__all__ = ["Stepping", "step_through"]


class Stepping:
    """A mixer with its state.

    Args:
        mixer: of a decoder.
        num_sentences: rows at the start.
        like: gives dtype and device.
    """

    def __init__(self, mixer: SequenceMixer, num_sentences: int, like: Tensor) -> None:
        self._mixer = mixer
        self._ancestry = Ancestry(num_sentences, like)
        self._state = mixer.start(self._ancestry, like)

    def step(self, position: Tensor) -> Tensor:
        """Mix one new position, (rows, d_model) -> the same shape."""
        self._ancestry.begin_position()
        return self._mixer.step(position, self._state)

    def select(self, row_indices: list[int]) -> None:
        """Put other rows of their sentences in the place of these."""
        self._state.select(torch.tensor(row_indices))
        self._ancestry.select(torch.tensor(row_indices))

    def keep_sentences(self, sentence_indices: list[int]) -> None:
        """Drop the other sentences."""
        indices = torch.tensor(sentence_indices)
        self._state.keep_sentences(indices, self._ancestry.rows_of(indices))
        self._ancestry.keep_sentences(indices)

    def merge(self, other: "Stepping") -> None:
        """Put the other's sentences after these."""
        self._state.merge(other._state)
        self._ancestry.merge(other._ancestry)


def step_through(mixer: SequenceMixer, sequence: Tensor) -> Tensor:
    """(rows, length, d_model) -> what every step gives, the same shape."""
    stepping = Stepping(mixer, sequence.size(0), sequence)
    return torch.stack([stepping.step(position) for position in sequence.unbind(1)], dim=1)
