"""Cohorts: sentences that are decoded side by side, and what becomes of the last few of each.

A step of a few rows takes almost as long as one of a hundred, and some sentences are always longer than the others. So
a cohort of which few sentences are left is set aside, until those of several cohorts can go on as one.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, Self, TypeVar

import torch
from torch import Tensor

from transformer_core.decoding.search import Candidates, Hypothesis, Move, SearchState, Step, Strategy, Totals, go_on
from transformer_core.out_of_memory import is_out_of_memory

__all__ = ["Cohorts", "NoRoomError", "Together"]

# A cohort is set aside when no more than this share of its rows is left.
LEFT_OVER = 0.25


class NoRoomError(Exception):
    """There was no memory for cohorts that were put together; what was begun is lost."""


class MergingState(SearchState, Protocol):
    """What a step remembers, if it can take up what another remembers."""

    def merge(self, other: Self) -> None:
        """Put the sentences of another state after these."""


State = TypeVar("State", bound=MergingState)


@dataclass
class _Cohort(Generic[State]):
    """Sentences in the middle of a search."""

    state: State  # what the step remembers of them
    strategy: Strategy  # chooses
    token_ids: Tensor  # (rows,) int64, what is fed next; empty when the search has ended


class Cohorts(Generic[State]):
    """Decodes cohorts; what is left of several goes on as one.

    Args:
        step: feeds one token per row.
        device: where it computes.
        rows_per_sentence: how many hypotheses of a sentence go on side by side.
    """

    def __init__(self, step: Step[State], device: torch.device, rows_per_sentence: int) -> None:
        self._step = step
        self._device = device
        self._rows_per_sentence = rows_per_sentence
        self._set_aside: list[_Cohort[State]] = []
        self._capacity = 0  # rows of the largest cohort so far

    def begin(self, state: State, strategy: Strategy) -> None:
        """Decode sentences until few of them are left; after `finish` the strategy gives what was found.

        Args:
            state: of the step, before the first token, one row per sentence.
            strategy: chooses.

        Raises:
            NoRoomError: there is no memory for what was left of this cohort and of others together.
        """
        cohort = _Cohort(state, strategy, strategy.start())
        num_rows = cohort.token_ids.numel() * self._rows_per_sentence
        self._go_on(cohort, int(LEFT_OVER * num_rows))
        self._capacity = max(self._capacity, num_rows)
        if sum(each.token_ids.numel() for each in self._set_aside) >= self._capacity:
            self._put_together(int(LEFT_OVER * self._capacity))

    def finish(self) -> None:
        """Decode all that was set aside to its end.

        Raises:
            NoRoomError: there is no memory for all of it together.
        """
        if self._set_aside:
            self._put_together(0)

    def _go_on(self, cohort: _Cohort[State], until: int) -> None:
        """Decode until no more than so many rows are left; set them aside if there are any."""
        cohort.token_ids = go_on(self._step, cohort.state, cohort.strategy, cohort.token_ids, self._device, until)
        if cohort.token_ids.numel():
            self._set_aside.append(cohort)

    def _put_together(self, until: int) -> None:
        cohorts, self._set_aside = self._set_aside, []
        try:
            first, *others = cohorts
            for other in others:
                first.state.merge(other.state)
            together = Together([(each.strategy, each.token_ids.numel()) for each in cohorts], self._rows_per_sentence)
            token_ids = torch.cat([each.token_ids for each in cohorts])
            self._go_on(_Cohort(first.state, together, token_ids), until)
        except (MemoryError, RuntimeError) as error:
            if is_out_of_memory(error):
                raise NoRoomError from error
            raise


class Together:
    """Strategies side by side, each with its own rows, as one.

    Args:
        parts: strategies of one kind in the middle of their search, and how many rows each has.
        rows_per_sentence: hypotheses of a sentence.
    """

    def __init__(self, parts: Sequence[tuple[Strategy, int]], rows_per_sentence: int) -> None:
        self._strategies = [strategy for strategy, _ in parts]
        self._num_rows = [num_rows for _, num_rows in parts]
        self._rows_per_sentence = rows_per_sentence

    @property
    def num_candidates(self) -> int | None:
        """The width that all of them ask for."""
        return self._strategies[0].num_candidates

    @property
    def totals(self) -> Totals:
        """Those of all of them, one after the other."""
        totals = [strategy.totals for strategy in self._strategies]
        known = [of_strategy for of_strategy in totals if of_strategy is not None]
        return torch.cat(known) if known else None

    def start(self) -> Tensor:
        """Give nothing: they have started already, each at its time."""
        raise AssertionError("strategies are put together in the middle of their search")

    def advance(self, candidates: Candidates) -> Move:
        """Let each choose among the continuations of its own rows; those whose search has ended leave."""
        shares = candidates.split(self._num_rows)
        moves = [strategy.advance(share) for strategy, share in zip(self._strategies, shares, strict=True)]
        move = self._joined(moves)
        has_rows = [each.token_ids.numel() > 0 for each in moves]
        self._strategies = [each for each, goes_on in zip(self._strategies, has_rows, strict=True) if goes_on]
        self._num_rows = [each.token_ids.numel() for each in moves if each.token_ids.numel()]
        return move

    def hypotheses(self) -> list[list[Hypothesis]]:
        """Give nothing: each is asked for its own."""
        raise AssertionError("each strategy gives its own hypotheses")

    def _joined(self, moves: Sequence[Move]) -> Move:
        """Number sentences and rows of all strategies in one."""
        sentence_indices, row_indices = [], []
        first_sentence = first_row = 0
        for move, num_rows in zip(moves, self._num_rows, strict=True):
            num_sentences = num_rows // self._rows_per_sentence
            kept = torch.arange(num_sentences) if move.sentence_indices is None else move.sentence_indices
            if not move.token_ids.numel():
                kept = kept[:0]
            rows = move.row_indices
            if rows is None:
                rows = torch.arange(move.token_ids.numel())
            sentence_indices.append(first_sentence + kept)
            row_indices.append(first_row + rows)
            first_sentence += num_sentences
            first_row += kept.numel() * self._rows_per_sentence
        drops = any(move.sentence_indices is not None or not move.token_ids.numel() for move in moves)
        reorders = any(move.row_indices is not None for move in moves)
        return Move(
            torch.cat(sentence_indices) if drops else None,
            torch.cat(row_indices) if reorders else None,
            torch.cat([move.token_ids for move in moves]),
        )
