"""The moving average of the weights over training (Polyak and Juditsky 1992): validated and kept in their place.

Every update pulls the mean a little towards the weights, so that it is made of about the last 1 / (1 - decay) of them.
Unlike the mean of snapshots at the end of training it is there at any time.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from transformer_core.training.sharding import laid_out_like

__all__ = ["MovingAverage"]


class MovingAverage:
    """The mean of each of some weights."""

    def __init__(self, weights: Mapping[str, nn.Parameter], decay: float) -> None:
        """Start with the weights as they are.

        Args:
            weights: by name; followed as they change in place.
            decay: share of the mean that stays with an update; in the first ones less, or the mean would be made of
                fresh weights for long.
        """
        self.decay = decay
        self._weights = weights
        self._means = {name: weight.detach().clone() for name, weight in weights.items()}
        self._num_updates = 0

    @torch.no_grad()
    def follow(self, is_finite: Tensor) -> None:
        """Take in the weights after an update; is_finite: scalar bool, False where it was left out."""
        decay = min(self.decay, (1 + self._num_updates) / (10 + self._num_updates))
        self._num_updates += 1
        share = is_finite.float() * (1 - decay)
        for name, weight in self._weights.items():
            self._means[name].lerp_(weight, share)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Let the model have the means for its weights, as long as this lasts."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    @torch.no_grad()
    def _swap(self) -> None:
        for name, weight in self._weights.items():
            mean = self._means[name].clone()
            self._means[name].copy_(weight)
            weight.copy_(mean)

    def state(self) -> dict[str, Tensor]:
        """Name what a resumed run needs."""
        means = {f"{name}/moving_average": mean for name, mean in self._means.items()}
        return {**means, "moving_average/num_updates": torch.tensor(float(self._num_updates))}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Put back what `state` gave; tensors take the device of their weight."""
        self._means = {
            name: laid_out_like(weight, state[f"{name}/moving_average"]) for name, weight in self._weights.items()
        }
        self._num_updates = int(state["moving_average/num_updates"])
