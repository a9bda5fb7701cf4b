"""The factor that keeps gradients within the narrow range of fp16 (Micikevicius et al. 2018).

The smallest gradients would be 0 in fp16, so the loss, and with it every gradient on the way back, is multiplied by a
factor that is taken out again before the update. Too large a factor makes a gradient infinite: that update is left out
and the factor halved. After many good updates it is doubled.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

__all__ = ["LossScale"]

FIRST_FACTOR = 2.0**16
GOOD_UPDATES = 2000  # in a row, after which the factor is doubled


class LossScale:
    """The factor, on the device: to follow it, nothing waits for one."""

    def __init__(self, device: torch.device) -> None:
        self.factor = torch.full((), FIRST_FACTOR, device=device)
        self._num_good = torch.zeros((), device=device)  # updates in a row

    def follow(self, is_finite: Tensor) -> None:
        """Note whether the gradients of an update were finite; is_finite: scalar bool."""
        num_good = self._num_good + 1
        is_time = num_good >= GOOD_UPDATES
        good_factor = torch.where(is_time, self.factor * 2, self.factor)
        self.factor = torch.where(is_finite, good_factor, self.factor / 2)
        self._num_good = torch.where(is_finite & ~is_time, num_good, 0.0)

    def state(self) -> dict[str, Tensor]:
        """Name what a resumed run needs."""
        return {"loss_scale/factor": self.factor, "loss_scale/num_good": self._num_good}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Put back what `state` gave."""
        self.factor = state["loss_scale/factor"].to(self.factor.device)
        self._num_good = state["loss_scale/num_good"].to(self.factor.device)
