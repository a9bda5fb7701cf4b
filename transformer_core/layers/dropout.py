"""Dropout (Srivastava et al. 2014), with a mask that is cheap to draw on a CPU."""

import torch
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["Dropout"]

VALUES = 2**16  # of a random 16-bit number; a share is met to within half of 1 / VALUES


class Dropout(nn.Module):
    """Zero a share of the values in training, and scale the others up so that their mean stays.

    torch draws one random number for each value, and a CPU spends a tenth of a training step of a small model on it.
    Here 64 random bits decide about four values.
    """

    def __init__(self, share: float) -> None:
        super().__init__()
        self.share = share  # at least 0 and below 1

    def forward(self, values: Tensor) -> Tensor:
        """Drop from values of any shape."""
        num_dropped = min(round(self.share * VALUES), VALUES - 1)
        if not self.training or not num_dropped:
            return values
        if values.device.type != "cpu":
            return functional.dropout(values, self.share)
        return values * self._mask(values, num_dropped)

    def _mask(self, values: Tensor, num_dropped: int) -> Tensor:
        """Draw zeros, and the factor of what stays, in the shape and type of `values`."""
        words = torch.empty((values.numel() + 3) // 4, dtype=torch.int64).random_(-(2**63), None)
        numbers = words.view(torch.int16)[: values.numel()].view(values.shape)
        mask = torch.ge(numbers, num_dropped - VALUES // 2, out=torch.empty_like(values))
        return mask.mul_(VALUES / (VALUES - num_dropped))

    def extra_repr(self) -> str:
        """Show the share."""
        return f"share={self.share}"
