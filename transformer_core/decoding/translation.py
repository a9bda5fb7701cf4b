"""What became of an input line: its translations as text, and what there is to say of them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Self

from transformer_core.decoding.config import LineGuide

__all__ = ["TargetText", "Translation", "find_unmet"]


@dataclass(frozen=True, kw_only=True)
class TargetText:
    """One hypothesis as text."""

    text: str
    score: float  # what ranks: the log-probability after the length penalty
    log_probability: float  # natural logarithm of the whole hypothesis, end token included
    num_tokens: int  # end tokens included; 0 for a blank line
    piece_ids: tuple[tuple[int, ...], ...]  # of each piece of the line, as they were decoded, end tokens aside
    is_truncated: bool  # the length limit ended it where the model would have gone on
    tokens: tuple[str, ...] = ()  # with per_token: as they were decoded, end tokens included
    token_log_probabilities: tuple[float, ...] = ()  # of each of them
    alignment: tuple[tuple[int, int], ...] = ()  # if it was asked for: words of the line and of the text, from 0
    unmet: tuple[str, ...] = ()  # what was asked of it and is not so: phrases that are missing, or that stand in it

    @property
    def token_ids(self) -> tuple[int, ...]:
        """Those of all pieces."""
        return tuple(token_id for piece in self.piece_ids for token_id in piece)


@dataclass(frozen=True, kw_only=True)
class Translation:
    """What became of one input line; its text and numbers are those of its first hypothesis."""

    hypotheses: tuple[TargetText, ...]  # best first, each another text; samples as they were drawn
    is_blank: bool = False  # the line held nothing but white space, and the model was not asked
    is_split: bool = False  # the line was too long: translated in pieces and joined
    is_source_cut: bool = False  # the line was too long: its end is not translated

    @property
    def text(self) -> str:
        """The translation."""
        return self.hypotheses[0].text

    @property
    def score(self) -> float:
        """What ranks: the log-probability after the length penalty."""
        return self.hypotheses[0].score

    @property
    def log_probability(self) -> float:
        """Natural logarithm of the probability, end token included."""
        return self.hypotheses[0].log_probability

    @property
    def is_truncated(self) -> bool:
        """Whether something is missing: the end of the line, or the end of its translation."""
        return self.is_source_cut or self.hypotheses[0].is_truncated

    @property
    def unmet(self) -> tuple[str, ...]:
        """What was asked of the translation and is not so: phrases that are missing, and phrases that stand in it."""
        return self.hypotheses[0].unmet

    def ordered_by(self, utilities: Sequence[float]) -> Self:
        """The same with the hypothesis of the highest utility first, and so on; of equals the first goes first."""
        order = sorted(range(len(self.hypotheses)), key=lambda rank: -utilities[rank])
        return replace(self, hypotheses=tuple(self.hypotheses[rank] for rank in order))


def find_unmet(text: str, guide: LineGuide, normalize: Callable[[str], str]) -> tuple[str, ...]:
    """Find what was asked of a translation and is not so: phrases that are missing, and phrases that stand in it.

    Args:
        text: of the translation.
        guide: what was asked.
        normalize: brings a phrase into the form of the text: its Unicode form, its capitals.

    Returns:
        The phrases as they were given.
    """
    missing = []
    start = 0
    for phrase in guide.constraints:
        normalized = normalize(phrase)
        place = text.find(normalized, start)
        if place < 0:
            missing.append(phrase)
        elif guide.is_ordered:
            start = place + len(normalized)
    return (*missing, *(phrase for phrase in guide.avoid if normalize(phrase) in text))
