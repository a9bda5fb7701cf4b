"""Beam search: the best few hypotheses of every sentence go on side by side (Graves 2012; rules as in CTranslate2).

Each step ranks the 2K best continuations of a sentence's K live hypotheses by their log-probability. Those among the
first K that end are finished; the K best that do not end live on. Finished hypotheses are ranked by their score, in
which the length penalty has its say.

A sentence is done once K hypotheses have finished and no live one would beat the best of them if it ended at once, for
certain. CTranslate2 does not ask the second question (`early_stopping`). Then K bad early ends are enough to lose the
good hypothesis that is still being written: where a model is sure of all but one hypothesis, the other K - 1 places of
the beam fill with ends of almost no probability.
"""

from collections.abc import Iterable, Sequence
from itertools import repeat

import torch
from torch import Tensor
from torch.nn import functional

from transformer_core.decoding.config import SearchConfig
from transformer_core.decoding.search import Candidates, Hypothesis, Move, Totals, should_compact

__all__ = ["BeamSearch"]


class BeamSearch:
    """Keep `config.beam_size` live hypotheses per sentence.

    Where two candidates have the same log-probability, that of the better hypothesis goes first, and then that with the
    lower id.

    Args:
        config: beam size, how many to give, lengths and length penalty.
        bos_id: the first token fed.
        eos_id: the end token.
        length_limits: per sentence, how many tokens may stand before the end token.
    """

    def __init__(self, config: SearchConfig, bos_id: int, eos_id: int, length_limits: Sequence[int]) -> None:
        self._config = config
        self._bos_id = bos_id
        self._eos_id = eos_id
        self._length = 0  # tokens decoded so far, the same for every row
        num_sentences = len(length_limits)
        self._length_limits = torch.tensor(length_limits)  # (batch,)
        self._sentences = torch.arange(num_sentences)  # (batch,), their places at the start
        self._is_live = torch.ones(num_sentences, dtype=torch.bool)  # (batch,)
        self._num_finished = torch.zeros(num_sentences, dtype=torch.int64)  # (batch,)
        self._best_scores = torch.full((num_sentences,), -torch.inf, dtype=torch.float64)  # (batch,), of the finished
        # One hypothesis per sentence at first, beam of them after the first step. A place that no hypothesis holds,
        # because the vocabulary gave too few, has log-probability -inf.
        self._log_probabilities = torch.zeros(num_sentences, 1, dtype=torch.float64)  # (batch, beam)
        self._token_ids = torch.zeros(num_sentences, 1, 0, dtype=torch.int64)  # (batch, beam, length)
        # What the log-probability was after each token, (batch, beam, length), if it is asked for.
        self._past_totals = torch.zeros(num_sentences, 1, 0, dtype=torch.float64) if config.per_token else None
        self._hypotheses: list[list[Hypothesis]] = [[] for _ in length_limits]

    @property
    def num_candidates(self) -> int | None:
        """Twice the beam: even if every live hypothesis could end, as many could go on."""
        return 2 * self._config.beam_size

    @property
    def totals(self) -> Totals:
        """The log-probabilities of all live hypotheses: those of a sentence compete."""
        return self._log_probabilities.flatten()

    def start(self) -> Tensor:
        """Give the first token of every sentence, (sentences,) int64."""
        return torch.full_like(self._sentences, self._bos_id)

    def advance(self, candidates: Candidates) -> Move:
        """Finish, extend and reorder the hypotheses of every sentence."""
        token_ids, parents, totals = self._rank(candidates)
        is_at_limit = self._length_limits == self._length
        is_end = token_ids == self._eos_id

        has_ended = is_end & totals.isfinite() & (self._is_live & ~is_at_limit)[:, None]
        has_ended[:, self._config.beam_size :] = False
        self._record(has_ended, parents, totals, torch.zeros_like(is_end))
        if is_at_limit.any():
            self._end_all(is_at_limit & self._is_live, candidates)

        # The K best that do not end, in their order.
        survivors = is_end.to(torch.int8).argsort(dim=1, stable=True)[:, : self._config.beam_size]  # (batch, beam)
        parents = parents.gather(1, survivors)
        num_rows_before = self._log_probabilities.size(1)
        self._log_probabilities = totals.masked_fill(is_end, -torch.inf).gather(1, survivors)
        # (batch, beam before, length) -> (batch, beam, length + 1)
        places = parents[:, :, None].expand(-1, -1, self._length)
        self._token_ids = torch.cat(
            (self._token_ids.gather(1, places), token_ids.gather(1, survivors)[:, :, None]), dim=2
        )
        if self._past_totals is not None:
            self._past_totals = torch.cat(
                (self._past_totals.gather(1, places), self._log_probabilities[:, :, None]), dim=2
            )
        self._length += 1

        is_done = self._num_finished >= self._config.beam_size
        if not self._config.early_stopping:
            is_done &= self._log_probabilities.amax(dim=1) / self._config.penalty(self._length + 1) <= self._best_scores
        is_done |= is_at_limit
        self._is_live &= ~is_done & self._log_probabilities.isfinite().any(dim=1)
        kept = None
        if should_compact(self._is_live):
            kept = self._is_live.nonzero().squeeze(1)
            self._keep(kept)
            parents = parents[kept]
        first_rows = torch.arange(parents.size(0))[:, None] * num_rows_before
        return Move(kept, (first_rows + parents).flatten(), self._token_ids[:, :, -1].flatten())

    def hypotheses(self) -> list[list[Hypothesis]]:
        """Give the best `config.n_best` hypotheses of every sentence; of equals, that which was finished first."""
        return [
            sorted(found, key=lambda hypothesis: -hypothesis.score)[: self._config.n_best] for found in self._hypotheses
        ]

    def _rank(self, candidates: Candidates) -> tuple[Tensor, Tensor, Tensor]:
        """Order all continuations of each sentence, best first.

        Returns:
            Of the best 2 · beam: their tokens, the hypotheses (places in the beam) that they continue, and their
            log-probabilities; each (batch, 2 * beam). Where there are fewer, log-probability -inf.
        """
        token_ids, parents, totals = self._continuations(candidates)
        if self._length < self._config.min_length:
            totals = totals.masked_fill(token_ids == self._eos_id, -torch.inf)
        if (missing := 2 * self._config.beam_size - totals.size(1)) > 0:
            token_ids = functional.pad(token_ids, (0, missing), value=self._bos_id)
            parents = functional.pad(parents, (0, missing))
            totals = functional.pad(totals, (0, missing), value=-torch.inf)
        order = self._order(token_ids, totals)
        return token_ids.gather(1, order), parents.gather(1, order), totals.gather(1, order)

    def _continuations(self, candidates: Candidates) -> tuple[Tensor, Tensor, Tensor]:
        """Give tokens, hypotheses that they continue and log-probabilities; (batch, n), hypothesis after hypothesis."""
        assert candidates.parents is not None
        totals = self._log_probabilities.gather(1, candidates.parents) + candidates.log_probabilities
        return candidates.token_ids, candidates.parents, totals

    def _order(self, token_ids: Tensor, totals: Tensor) -> Tensor:
        """Give the places of the best 2 · beam continuations, best first, (batch, 2 * beam).

        Args:
            token_ids: (batch, n) int64.
            totals: (batch, n) float64, their log-probabilities; of equals the first is better.
        """
        return totals.sort(dim=1, descending=True, stable=True).indices[:, : 2 * self._config.beam_size]

    def _would_end(self, candidates: Candidates) -> Tensor:
        """Tell of which hypotheses the end token is the best continuation, (rows,) bool."""
        assert candidates.would_end is not None
        return candidates.would_end

    def _end_all(self, is_at_limit: Tensor, candidates: Candidates) -> None:
        """End every hypothesis of the sentences at their limit, at the price the model asks for the end token.

        Args:
            is_at_limit: (batch,) bool.
            candidates: the continuations of this step.
        """
        batch, beam = self._log_probabilities.shape
        totals = self._log_probabilities + candidates.end_log_probabilities.view(batch, beam)
        has_ended = totals.isfinite() & is_at_limit[:, None]
        would_go_on = ~self._would_end(candidates).view(batch, beam)
        self._record(has_ended, torch.arange(beam).expand(batch, beam), totals, would_go_on)

    def _record(self, has_ended: Tensor, parents: Tensor, totals: Tensor, is_truncated: Tensor) -> None:
        """Store finished hypotheses.

        Args:
            has_ended: (batch, n) bool, which of n candidates of a sentence are finished.
            parents: (batch, n) int64, the hypotheses that they end.
            totals: (batch, n) float64, their log-probabilities.
            is_truncated: (batch, n) bool.
        """
        places = has_ended.nonzero()
        if not len(places):
            return
        batch_indices = places[:, 0]
        self._num_finished += has_ended.sum(dim=1)
        scores = totals / self._config.penalty(self._length + 1)
        self._best_scores = self._best_scores.maximum(scores.masked_fill(~has_ended, -torch.inf).amax(dim=1))
        each: Iterable[tuple[float, ...]] = repeat(())
        if self._past_totals is not None:
            past = self._past_totals[batch_indices, parents[has_ended]]  # (finished, length)
            start = torch.zeros(len(places), 1, dtype=torch.float64)
            each = map(tuple, torch.cat((start, past, totals[has_ended][:, None]), dim=1).diff(dim=1).tolist())
        for sentence, *hypothesis in zip(
            self._sentences[batch_indices].tolist(),
            self._token_ids[batch_indices, parents[has_ended]].tolist(),
            totals[has_ended].tolist(),
            scores[has_ended].tolist(),
            is_truncated[has_ended].tolist(),
            each,
            strict=False,  # the last one may be endless
        ):
            self._hypotheses[sentence].append(Hypothesis(*hypothesis))

    def _keep(self, indices: Tensor) -> None:
        """Drop all sentences but those at `indices`, (sentences that stay,) int64."""
        self._sentences = self._sentences[indices]
        self._length_limits = self._length_limits[indices]
        self._is_live = self._is_live[indices]
        self._num_finished = self._num_finished[indices]
        self._best_scores = self._best_scores[indices]
        self._log_probabilities = self._log_probabilities[indices]
        self._token_ids = self._token_ids[indices]
        if self._past_totals is not None:
            self._past_totals = self._past_totals[indices]
