"""Norms: they bring every position's vector to one size, so that deep stacks can be trained."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from transformer_core.config import NormKind

__all__ = ["new_norm"]

EPSILON = 1e-5  # keeps a vector of zeros from being divided by zero


class LayerNorm(nn.LayerNorm):
    """torch's own, called without its detour: for a single position that takes longer than the norm itself."""

    def forward(self, inputs: Tensor) -> Tensor:
        """(…, width) -> the same shape."""
        return torch.layer_norm(inputs, self.normalized_shape, self.weight, self.bias, self.eps)


class RMSNorm(nn.RMSNorm):
    """torch's own, but for training on a CPU, where torch makes it of many operations and takes twice as long."""

    def forward(self, inputs: Tensor) -> Tensor:
        """(…, width) -> the same shape."""
        if inputs.requires_grad and inputs.device.type == "cpu" and inputs.dtype == self.weight.dtype == torch.float32:
            return _RootMeanSquare.apply(inputs, self.weight, self.eps)  # type: ignore[no-any-return, no-untyped-call]
        return torch.rms_norm(inputs, self.normalized_shape, self.weight, self.eps)


class _RootMeanSquare(Function):
    """y = w x / r, where r is the root of the mean square of x."""

    @staticmethod
    def forward(ctx: Any, inputs: Tensor, weight: Tensor, epsilon: float) -> Tensor:  # noqa: ANN401 - torch gives no type
        """(…, width), (width,) -> (…, width)."""
        length = torch.linalg.vector_norm(inputs, dim=-1, keepdim=True)
        inverse = length.square_().div_(inputs.size(-1)).add_(epsilon).rsqrt_()  # 1 / r, (…, 1)
        ctx.save_for_backward(inputs, weight, inverse)
        return torch.mul(inputs, inverse).mul_(weight)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor, None]:  # noqa: ANN401
        """With n = x / r and g the gradient by y: by w it is g n, and by x it is (w g - n mean(w g n)) / r."""
        inputs, weight, inverse = ctx.saved_tensors
        product = torch.mul(inputs, inverse).mul_(gradient)  # g n
        mean = (product @ weight)[..., None].div_(weight.numel())
        by_inputs = torch.mul(gradient, weight).addcmul_(inputs, mean.mul_(inverse), value=-1).mul_(inverse)
        return by_inputs, product.flatten(0, -2).sum(dim=0), None


def new_norm(width: int, kind: NormKind) -> nn.Module:
    """Make a norm over vectors of `width`.

    - layer: LayerNorm (Ba et al. 2016): minus the mean, by the standard deviation; gain and bias are learned;
    - rms: RMSNorm (Zhang and Sennrich 2019): by the root mean square alone, without mean and bias: fewer operations.
    """
    match kind:
        case "layer":
            return LayerNorm(width, eps=EPSILON)
        case "rms":
            return RMSNorm(width, eps=EPSILON)
