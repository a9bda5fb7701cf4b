"""Diverse beam search (Vijayakumar et al. 2018): parts of the beam that look for different translations.

The hypotheses of a beam mostly differ in a word. Here the beam is cut into groups, each of which is a beam search by
itself; at every step one group after the other chooses, and what an earlier group has chosen is worth less to a later
one. The penalty decides what is chosen; log-probabilities and scores stay the model's.
"""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor
from torch.nn import functional

from transformer_core.decoding.beam import BeamSearch
from transformer_core.decoding.config import SearchConfig
from transformer_core.decoding.search import Candidates, Totals

__all__ = ["DiverseBeamSearch"]

NOTHING = -1  # no token


class DiverseBeamSearch(BeamSearch):
    """Beam search in which the groups of a sentence stand side by side, each as if it were a sentence.

    Args:
        config: beam size, groups, penalty, lengths and length penalty.
        bos_id: the first token fed.
        eos_id: the end token.
        length_limits: per group (those of a sentence are neighbours), how many tokens may stand before the end token.
    """

    def __init__(self, config: SearchConfig, bos_id: int, eos_id: int, length_limits: Sequence[int]) -> None:
        self._num_groups = config.beam_groups
        self._penalty = config.diversity_penalty
        size = config.beam_size // config.beam_groups
        super().__init__(replace(config, beam_groups=1, beam_size=size, n_best=size), bos_id, eos_id, length_limits)

    @property
    def num_candidates(self) -> int:
        """Twice the beam of a group, and as many more as earlier groups can make worse."""
        size = self._config.beam_size
        return 2 * size + (self._num_groups - 1) * size

    @property
    def totals(self) -> Totals:
        """None: what a continuation is worth depends on the choices of earlier groups."""
        return None

    def _rank(self, candidates: Candidates) -> tuple[Tensor, Tensor, Tensor]:
        batch, beam = self._log_probabilities.shape
        width = candidates.token_ids.size(1)
        # (batch * beam, width) -> (batch, beam, width)
        token_ids = candidates.token_ids.view(batch, beam, width)
        totals = self._log_probabilities[:, :, None] + candidates.log_probabilities.view(batch, beam, width)
        if self._length < self._config.min_length:
            totals = totals.masked_fill(token_ids == self._eos_id, -torch.inf)
        # (batch, beam, width) -> (batch, beam * width)
        token_ids, totals = token_ids.flatten(1), totals.flatten(1)
        if (missing := 2 * self._config.beam_size - totals.size(1)) > 0:
            token_ids = functional.pad(token_ids, (0, missing), value=self._bos_id)
            totals = functional.pad(totals, (0, missing), value=-torch.inf)
        order = self._order(token_ids, totals)
        return token_ids.gather(1, order), (order // width).clamp(max=beam - 1), totals.gather(1, order)

    def _would_end(self, candidates: Candidates) -> Tensor:
        return candidates.token_ids[:, 0] == self._eos_id

    def _order(self, token_ids: Tensor, totals: Tensor) -> Tensor:
        """Give the places of the best 2 · beam continuations of each group, best first, (batch, 2 * beam).

        Args:
            token_ids: (batch, n) int64.
            totals: (batch, n) float64, their log-probabilities; of equals the first is better.
        """
        size = self._config.beam_size
        order = torch.empty(totals.size(0), 2 * size, dtype=torch.int64)
        sentences, groups = self._sentences // self._num_groups, self._sentences % self._num_groups
        chosen = torch.full((int(sentences.max()) + 1, self._num_groups * size), NOTHING)
        for group in range(self._num_groups):
            rows = (groups == group).nonzero().squeeze(1)
            # how many hypotheses of earlier groups have chosen each candidate: (rows, beam * width)
            counts = (token_ids[rows][:, :, None] == chosen[sentences[rows]][:, None, :]).sum(dim=2)
            worth = totals[rows] - self._penalty * counts
            order[rows] = worth.sort(dim=1, descending=True, stable=True).indices[:, : 2 * size]
            tokens = token_ids[rows].gather(1, order[rows])
            survivors = (tokens == self._eos_id).to(torch.int8).argsort(dim=1, stable=True)[:, :size]
            is_taken = totals[rows].gather(1, order[rows]).gather(1, survivors).isfinite() & self._is_live[rows, None]
            columns = slice(group * size, (group + 1) * size)
            chosen[sentences[rows], columns] = tokens.gather(1, survivors).masked_fill(~is_taken, NOTHING)
        return order
