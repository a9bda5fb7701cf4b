"""The contract between a search and what it searches, and the loop that all searches share.

A search is given a step function, not a model. One step feeds the last token of every row and gives back the best few
continuations of each; the search picks among them and says which rows go on. Whole rows of logits stay inside the
step, beside the output projection, so that they can be sliced, restricted or computed in another precision; and a
table of probabilities is enough to test a search.

Dimensions: rows = sentences · hypotheses per sentence, those of a sentence side by side; width = candidates per row.
All bookkeeping of a search happens on the CPU, in float64: it is a few numbers per row.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, Protocol, TypeVar

import torch
from torch import Tensor

__all__ = ["Candidates", "Hypothesis", "Move", "SearchState", "Step", "Strategy", "go_on", "search", "should_compact"]

# Dropping finished sentences copies the state of all others, so it waits until this share of them has finished.
COMPACTION_SHARE = 0.125


class Candidates(NamedTuple):
    """The best continuations of every row, on the CPU."""

    token_ids: Tensor  # (rows, width) int64, the most probable first, the lower id first where two are equal
    log_probabilities: Tensor  # (rows, width) float32, natural logarithm; -inf for a token that may not be produced
    end_log_probabilities: Tensor  # (rows,) float32, of the end token, whether or not it is among the candidates


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
Step = Callable[[Tensor, State], tuple[Candidates, State]]


class Strategy(Protocol):
    """Greedy search, beam search or sampling."""

    @property
    def num_candidates(self) -> int | None:
        """The width that a step must give; None for all tokens, ordered by id."""

    def start(self) -> Tensor:
        """Give the first token of every sentence, (sentences,) int64."""

    def advance(self, candidates: Candidates) -> Move:
        """Choose among the continuations of the rows asked for last."""

    def hypotheses(self) -> list[list[Hypothesis]]:
        """Give for every sentence, in the order of the start, what was found, best first."""


def search(step: Step[State], state: State, strategy: Strategy, device: torch.device) -> list[list[Hypothesis]]:
    """Step until the strategy has all it wants.

    Args:
        step: feeds one token per row, (rows,) int64 on `device`, and gives `strategy.num_candidates` continuations.
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
        candidates, state = step(token_ids.to(device), state)
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
