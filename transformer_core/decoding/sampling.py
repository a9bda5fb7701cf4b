"""Sampling: every token is drawn from the model's distribution, sharpened or cut as asked.

Temperature divides the log-probabilities, top-k (Fan et al. 2018) keeps the k most probable tokens, top-p (Holtzman et
al. 2020) the fewest that hold the share p of what is left. The log-probability of a sample is the model's own, before
any of this.
"""

import random
from collections.abc import Sequence

import torch
from torch import Tensor

from transformer_core.decoding.config import SearchConfig
from transformer_core.decoding.greedy import GreedySearch

__all__ = ["Sampling", "random_source"]

NUCLEUS_TOKENS = 256


def random_source(seed: int, line_number: int, piece: int, sample: int) -> random.Random:
    """Make the random numbers of one sample: they depend on its place in the input and on nothing beside it.

    Args:
        seed: of the run.
        line_number: of the input line.
        piece: which part of a line that was split.
        sample: which of several samples of the line.
    """
    return random.Random(f"{seed} {line_number} {piece} {sample}")


class Sampling(GreedySearch):
    """Greedy search with a drawn token in place of the most probable one.

    Args:
        config: temperature, top_k, top_p, lengths and length penalty.
        bos_id: the first token fed.
        eos_id: the end token.
        length_limits: per row, how many tokens may stand before the end token.
        random_sources: per row, where its random numbers come from; one is used per position, so that a row's sample
            does not depend on the rows beside it.
    """

    def __init__(
        self,
        config: SearchConfig,
        bos_id: int,
        eos_id: int,
        length_limits: Sequence[int],
        random_sources: Sequence[random.Random],
    ) -> None:
        super().__init__(config, bos_id, eos_id, length_limits)
        self._random_sources = list(random_sources)

    @property
    def num_candidates(self) -> int | None:
        """The k of top-k, one more where an end token may come too early; None, all tokens, without top-k."""
        if self._config.top_k == 0:
            return None
        return self._config.top_k + (1 if self._config.min_length else 0)

    def _choose(self, log_probabilities: Tensor) -> Tensor:
        """Draw one candidate per row: (rows, width) float64 -> (rows,) int64."""
        top_k, top_p = self._config.top_k, self._config.top_p
        probabilities = (log_probabilities / self._config.temperature).softmax(dim=1)
        order = None  # (rows, width) int64, the candidates by probability; None where their order does not matter
        if top_k > 0:
            probabilities, order = probabilities.sort(dim=1, descending=True, stable=True)
            probabilities = probabilities[:, :top_k]
        share = probabilities.sum(dim=1, keepdim=True)  # (rows, 1), the probability from which is drawn
        if top_p < 1 and order is None:
            probabilities, order = _sort_nucleus(probabilities, top_p)
        cumulative = probabilities.cumsum(dim=1)
        last_place = cumulative.size(1) - 1
        if top_p < 1:
            # the fewest tokens that reach top_p, so the first that reaches it is still in
            last = (cumulative < top_p * share).sum(dim=1, keepdim=True).clamp(max=last_place)
            share = cumulative.gather(1, last)
        uniform = torch.tensor([source.random() for source in self._random_sources], dtype=torch.float64)
        # The inverse of the cumulative distribution: the first place whose cumulative probability exceeds the number.
        drawn = torch.searchsorted(cumulative, uniform[:, None] * share, right=True).clamp(max=last_place)
        return (drawn if order is None else order.gather(1, drawn)).squeeze(1)

    def _keep(self, rows: Tensor) -> None:
        super()._keep(rows)
        self._random_sources = [self._random_sources[row] for row in rows.tolist()]


def _sort_nucleus(probabilities: Tensor, top_p: float) -> tuple[Tensor, Tensor]:
    """Sort as many of the most probable tokens as hold the share top_p in every row.

    Most of the time a few hundred do, and finding them takes a tenth of the time of sorting them all.

    Args:
        probabilities: (rows, vocabulary) float64.
        top_p: below 1.

    Returns:
        Probabilities, highest first, and their tokens; each (rows, some).
    """
    best, order = probabilities.topk(min(NUCLEUS_TOKENS, probabilities.size(1)), dim=1)
    if bool((best.sum(dim=1) >= top_p).all()):
        return best, order
    return probabilities.sort(dim=1, descending=True, stable=True)
