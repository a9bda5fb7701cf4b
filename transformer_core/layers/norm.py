"""Norms: they bring every position's vector to one size, so that deep stacks can be trained."""

import torch
from torch import Tensor, nn

from transformer_core.config import NormKind

__all__ = ["new_norm"]

EPSILON = 1e-5  # keeps a vector of zeros from being divided by zero


class LayerNorm(nn.LayerNorm):
    """torch's own, called without its detour: for a single position that takes longer than the norm itself."""

    def forward(self, inputs: Tensor) -> Tensor:
        """(…, width) -> the same shape."""
        return torch.layer_norm(inputs, self.normalized_shape, self.weight, self.bias, self.eps)


def new_norm(width: int, kind: NormKind) -> nn.Module:
    """Make a norm over vectors of `width`.

    - layer: LayerNorm (Ba et al. 2016): minus the mean, by the standard deviation; gain and bias are learned;
    - rms: RMSNorm (Zhang and Sennrich 2019): by the root mean square alone, without mean and bias: fewer operations.
    """
    match kind:
        case "layer":
            return LayerNorm(width, eps=EPSILON)
        case "rms":
            return nn.RMSNorm(width, eps=EPSILON)
