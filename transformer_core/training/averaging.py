"""The mean of several sets of weights: smoother than any one of them.

Polyak and Juditsky 1992; of checkpoints, Vaswani et al. 2017, section 6.1.
"""

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from transformer_core.errors import ModelError

__all__ = ["mean_weights"]


def mean_weights(sets: Iterable[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """Average sets of weights, one in memory at a time; sums are kept in float64, so that order does not matter.

    Raises:
        ModelError: there is no set, or two sets differ in names or shapes.
    """
    sums: dict[str, Tensor] = {}
    num_sets = 0
    for weights in sets:
        if not num_sets:
            sums = {name: torch.zeros_like(weight, dtype=torch.float64) for name, weight in weights.items()}
        if sums.keys() != weights.keys() or any(sums[name].shape != weights[name].shape for name in sums):
            raise ModelError("the weights to average are not of one architecture")
        for name, weight in weights.items():
            sums[name] += weight
        num_sets += 1
    if not num_sets:
        raise ModelError("there are no weights to average")
    return {name: (total / num_sets).float() for name, total in sums.items()}
