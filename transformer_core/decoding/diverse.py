"""Diverse beam search (Vijayakumar et al. 2018): parts of the beam that look for different translations.

The hypotheses of a beam mostly differ in a word. Here the beam is cut into groups, each of which is a beam search by
itself; at every step one group after the other chooses, and what an earlier group has chosen is worth less to a later
one. The penalty decides what is chosen; log-probabilities and scores stay the model's.
"""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

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
    def num_candidates(self) -> int | None:
        """Twice the beam of a group, and as many more as earlier groups can make worse."""
        size = self._config.beam_size
        return 2 * size + (self._num_groups - 1) * size

    @property
    def totals(self) -> Totals:
        """None: what a continuation is worth depends on the choices of earlier groups."""
        return None

    def _continuations(self, candidates: Candidates) -> tuple[Tensor, Tensor, Tensor]:
        batch, beam = self._log_probabilities.shape
        # (batch * beam, width) -> (batch, beam, width) -> (batch, beam * width)
        token_ids, log_probabilities = (tensor.view(batch, beam, -1) for tensor in candidates[:2])
        totals = self._log_probabilities[:, :, None] + log_probabilities
        parents = torch.arange(beam)[None, :, None].expand_as(totals)
        return token_ids.flatten(1), parents.flatten(1), totals.flatten(1)

    def _would_end(self, candidates: Candidates) -> Tensor:
        return candidates.token_ids[:, 0] == self._eos_id

    def _order(self, token_ids: Tensor, totals: Tensor) -> Tensor:
        size = self._config.beam_size
        order = torch.empty(totals.size(0), 2 * size, dtype=torch.int64)
        sentences, groups = self._sentences // self._num_groups, self._sentences % self._num_groups
        chosen = torch.full((int(sentences.max()) + 1, self._num_groups * size), NOTHING)
        for group in range(self._num_groups):
            rows = (groups == group).nonzero().squeeze(1)
            # how many hypotheses of earlier groups have chosen each candidate: (rows, beam * width)
            counts = (token_ids[rows][:, :, None] == chosen[sentences[rows]][:, None, :]).sum(dim=2)
            order[rows] = super()._order(token_ids[rows], totals[rows] - self._penalty * counts)
            tokens = token_ids[rows].gather(1, order[rows])
            survivors = (tokens == self._eos_id).to(torch.int8).argsort(dim=1, stable=True)[:, :size]
            is_taken = totals[rows].gather(1, order[rows]).gather(1, survivors).isfinite() & self._is_live[rows, None]
            columns = slice(group * size, (group + 1) * size)
            chosen[sentences[rows], columns] = tokens.gather(1, survivors).masked_fill(~is_taken, NOTHING)
        return order
