"""Greedy search: the most probable token at every position, one hypothesis per sentence."""

from collections.abc import Sequence

import torch
from torch import Tensor

from transformer_core.decoding.config import SearchConfig
from transformer_core.decoding.search import Candidates, Hypothesis, Move, Totals, should_compact

__all__ = ["GreedySearch"]


class GreedySearch:
    """Extend every sentence by one chosen token until its end token comes.

    Args:
        config: lengths and length penalty.
        bos_id: the first token fed.
        eos_id: the end token.
        length_limits: per sentence, how many tokens may stand before the end token.
    """

    def __init__(self, config: SearchConfig, bos_id: int, eos_id: int, length_limits: Sequence[int]) -> None:
        self._config = config
        self._bos_id = bos_id
        self._eos_id = eos_id
        self._length = 0  # tokens decoded so far, the same for every row
        self._length_limits = torch.tensor(length_limits)  # (rows,)
        self._sentences = torch.arange(len(length_limits))  # (rows,), the sentence that a row belongs to
        self._is_live = torch.ones(len(length_limits), dtype=torch.bool)  # (rows,)
        self._log_probabilities = torch.zeros(len(length_limits), dtype=torch.float64)  # (rows,)
        self._token_ids = torch.full((len(length_limits), max(length_limits) + 1), eos_id)  # (sentences, length)
        self._token_log_probabilities = None  # the same of each token, if they are asked for
        if config.per_token:
            self._token_log_probabilities = torch.zeros(self._token_ids.shape, dtype=torch.float64)
        self._hypotheses: list[list[Hypothesis]] = [[] for _ in length_limits]

    @property
    def num_candidates(self) -> int | None:
        """One, or two where the best may be an end token that comes too early."""
        return 2 if self._config.min_length else 1

    @property
    def totals(self) -> Totals:
        """None: each row is for itself."""
        return None

    def start(self) -> Tensor:
        """Give the first token of every sentence, (sentences,) int64."""
        return torch.full_like(self._sentences, self._bos_id)

    def advance(self, candidates: Candidates) -> Move:
        """Choose one token per row; rows leave once enough of them have ended."""
        log_probabilities = candidates.log_probabilities.double()
        if self._length < self._config.min_length:
            log_probabilities = log_probabilities.masked_fill(candidates.token_ids == self._eos_id, -torch.inf)
        choice = self._choose(log_probabilities)[:, None]  # (rows, 1)
        token_ids = candidates.token_ids.gather(1, choice).squeeze(1)
        chosen_log_probabilities = log_probabilities.gather(1, choice).squeeze(1)

        # At its limit a row ends whatever it wanted, at the price the model asks for the end token.
        is_forced = (self._length_limits == self._length) & (token_ids != self._eos_id)
        token_ids = token_ids.masked_fill(is_forced, self._eos_id)
        gained = torch.where(is_forced, candidates.end_log_probabilities.double(), chosen_log_probabilities)
        self._log_probabilities += gained
        live_sentences = self._sentences[self._is_live]
        self._token_ids[live_sentences, self._length] = token_ids[self._is_live]
        if self._token_log_probabilities is not None:
            self._token_log_probabilities[live_sentences, self._length] = gained[self._is_live]

        has_ended = self._is_live & (token_ids == self._eos_id)
        if has_ended.any():
            self._record(has_ended, is_forced)
            self._is_live &= ~has_ended
        self._length += 1
        if not should_compact(self._is_live):
            return Move(None, None, token_ids)
        kept = self._is_live.nonzero().squeeze(1)
        self._keep(kept)
        return Move(kept, None, token_ids[kept])

    def hypotheses(self) -> list[list[Hypothesis]]:
        """Give the hypothesis of every sentence."""
        return self._hypotheses

    def _choose(self, log_probabilities: Tensor) -> Tensor:
        """Pick one candidate per row: (rows, width) float64 -> (rows,) int64."""
        return log_probabilities.argmax(dim=1)  # the first of equals, which has the lowest id

    def _keep(self, rows: Tensor) -> None:
        """Drop all rows but those at `rows`, (rows that stay,) int64."""
        self._sentences = self._sentences[rows]
        self._length_limits = self._length_limits[rows]
        self._log_probabilities = self._log_probabilities[rows]
        self._is_live = self._is_live[rows]

    def _record(self, has_ended: Tensor, is_forced: Tensor) -> None:
        """Store the hypotheses of the rows that end now; both masks are (rows,) bool."""
        sentences = self._sentences[has_ended]
        for sentence, token_ids, log_probability, is_truncated in zip(
            sentences.tolist(),
            self._token_ids[sentences, : self._length].tolist(),
            self._log_probabilities[has_ended].tolist(),
            is_forced[has_ended].tolist(),
            strict=True,
        ):
            score = self._config.score(log_probability, self._length + 1)
            each = ()
            if self._token_log_probabilities is not None:
                each = tuple(self._token_log_probabilities[sentence, : self._length + 1].tolist())
            self._hypotheses[sentence].append(Hypothesis(token_ids, log_probability, score, is_truncated, each))
