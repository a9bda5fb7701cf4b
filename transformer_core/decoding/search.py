"""The contract between a search and what it searches, and the loop that all searches share.

A search is given a step function, not a model. One step feeds the last token of every row and gives back the best few
continuations of each, or of all rows of a sentence together; the search picks among them and says which rows go on.
Whole rows of logits stay inside the step, beside the output projection, so that they can be sliced, restricted or
computed in another precision; and a table of probabilities is enough to test a search.

Dimensions: rows = sentences · hypotheses per sentence, those of a sentence side by side; width = candidates per row, or
per sentence.
All bookkeeping of a search happens on the CPU, in float64: it is a few numbers per row.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol, TypeVar

import torch
from torch import Tensor

__all__ = [
    "Candidates",
    "Hypothesis",
    "Move",
    "SearchState",
    "Step",
    "Strategy",
    "Totals",
    "go_on",
    "search",
    "should_compact",
]

# Dropping finished sentences copies the state of all others, so it waits until this share of them has finished.
COMPACTION_SHARE = 0.125


class Candidates(NamedTuple):
    """The best continuations, on the CPU: of every row, or of all rows of a sentence, which compete.

    Those of a row are in the order of their probability, the lower id first where two are equal; those of a sentence in
    the order of its rows, and of the ids within one.
    """

    token_ids: Tensor  # (rows, width) or (sentences, width) int64
    log_probabilities: Tensor  # the same, float32, natural logarithm; -inf for a token that may not be produced
    end_log_probabilities: Tensor  # (rows,) float32, of the end token, whether or not it is among the candidates
    # Where the rows of a sentence compete:
    parents: Tensor | None = None  # (sentences, width) int64, which of the rows of its sentence each continues
    would_end: Tensor | None = None  # (rows,) bool, whether the end token is the best continuation of a row

    def split(self, num_rows: Sequence[int]) -> list["Candidates"]:
        """Give each of several searches side by side those of its rows, all together those of all rows."""
        total = self.end_log_probabilities.size(0)
        shares: list[Sequence[Tensor | None]] = []
        for tensor in self:
            if tensor is None:
                shares.append([None] * len(num_rows))
            else:
                rows_of_one = total // tensor.size(0)  # one for those of rows
                shares.append(torch.split(tensor, [rows // rows_of_one for rows in num_rows]))
        return [Candidates(*share) for share in zip(*shares, strict=True)]

    @classmethod
    def joined(cls, parts: Sequence["Candidates"]) -> "Candidates":
        """Put those of several parts of the rows one after the other."""
        tensors = zip(*parts, strict=True)
        return cls(*(None if of_parts[0] is None else torch.cat(of_parts) for of_parts in tensors))  # type: ignore[arg-type]


@dataclass(frozen=True)
class Hypothesis:
    """A finished target sequence."""

    token_ids: list[int]  # without the end token
    log_probability: float  # natural logarithm of the whole hypothesis, end token included
    score: float  # what ranks: the log-probability after the length penalty
    is_truncated: bool  # the length limit put the end token where the model would have gone on
    token_log_probabilities: tuple[float, ...] = ()  # with per_token: of each token, the end token last


class Move(NamedTuple):
    """What a search wants after a step; applied from top to bottom."""

    sentence_indices: Tensor | None  # (sentences that stay,) int64; None where all do
    row_indices: Tensor | None  # (next rows,) int64, the row that each next row continues; None where each its own
    token_ids: Tensor  # (next rows,) int64, what is fed next; empty when the search has ended


class SearchState(Protocol):
    """What a step remembers between calls."""

    def select(self, row_indices: Tensor) -> None:
        """Reorder or repeat rows within their sentences; row_indices: (next rows,) int64."""

    def keep_sentences(self, sentence_indices: Tensor) -> None:
        """Drop all sentences but these, (sentences that stay,) int64, with all their rows."""


State = TypeVar("State", bound=SearchState)
# The log-probabilities of the hypotheses so far, (rows,) float64, where those of a sentence compete; else None.
Totals = Tensor | None
Step = Callable[[Tensor, State, Totals], tuple[Candidates, State]]


class Strategy(Protocol):
    """Greedy search, beam search or sampling."""

    @property
    def num_candidates(self) -> int | None:
        """The width that a step must give; None for all tokens, ordered by id."""

    @property
    def totals(self) -> Totals:
        """The log-probabilities of the hypotheses whose continuations are asked for next, if they compete."""

    def start(self) -> Tensor:
        """Give the first token of every sentence, (sentences,) int64."""

    def advance(self, candidates: Candidates) -> Move:
        """Choose among the continuations of the rows asked for last."""

    def hypotheses(self) -> list[list[Hypothesis]]:
        """Give for every sentence, in the order of the start, what was found, best first."""


def search(step: Step[State], state: State, strategy: Strategy, device: torch.device) -> list[list[Hypothesis]]:
    """Step until the strategy has all it wants.

    Args:
        step: feeds one token per row, (rows,) int64 on `device`, and gives `strategy.num_candidates` continuations of
            each; of each sentence, if it is told totals.
        state: of the step, before the first token, one row per sentence.
        strategy: chooses.
        device: where the step computes.

    Returns:
        The hypotheses of every sentence, best first.
    """
    go_on(step, state, strategy, strategy.start(), device)
    return strategy.hypotheses()


def go_on(
    step: Step[State],
    state: State,
    strategy: Strategy,
    token_ids: Tensor,
    device: torch.device,
    until: int = 0,
) -> Tensor:
    """Step at least once, and until no more than `until` rows are left.

    Args:
        step: as in `search`.
        state: of the step, at any point.
        strategy: at the same point.
        token_ids: (rows,) int64, what is fed next.
        device: where the step computes.
        until: rows.

    Returns:
        What is to be fed next, (rows,) int64; empty when the search has ended.
    """
    while True:
        candidates, state = step(token_ids.to(device), state, strategy.totals)
        move = strategy.advance(candidates)
        token_ids = move.token_ids
        if not token_ids.numel():
            return token_ids
        if move.sentence_indices is not None:
            state.keep_sentences(move.sentence_indices.to(device))
        if move.row_indices is not None:
            state.select(move.row_indices.to(device))
        if token_ids.numel() <= until:
            return token_ids


def should_compact(is_live: Tensor) -> bool:
    """Tell whether enough sentences have finished to drop them; is_live: (sentences,) bool."""
    num_finished = is_live.numel() - int(is_live.count_nonzero())
    return num_finished > COMPACTION_SHARE * is_live.numel()
