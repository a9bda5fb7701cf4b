"""What the formats of others take over of our decoding defaults."""

from typing import Protocol

__all__ = ["SearchDefaults"]


class SearchDefaults(Protocol):
    """The fields of `decoding.config.SearchConfig` that others know; conversion stands beside decoding."""

    @property
    def beam_size(self) -> int:
        """Live hypotheses."""

    @property
    def length_penalty(self) -> float:
        """The exponent."""

    @property
    def length_penalty_type(self) -> str:
        """Of what: avg, gnmt or none."""

    @property
    def early_stopping(self) -> bool:
        """Whether as many hypotheses as the beam is wide are enough."""

    @property
    def max_length(self) -> int | None:
        """Target tokens, the end token aside."""

    @property
    def no_repeat_ngram(self) -> int:
        """No sequence of so many tokens twice."""
