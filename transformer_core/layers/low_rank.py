"""Low-rank adaptation of a linear projection (LoRA, Hu et al. 2022): what it learns fits into two thin matrices."""

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["LowRankLinear", "low_rank_layers"]


class LowRankLinear(nn.Module):
    """W x + b + (alpha / rank) · B A x, of which A and B alone are trained.

    B begins at zero, so that the layer begins as the one that it adapts; A is drawn with variance 1 / in_features.

    Args:
        linear: the projection to adapt; its weight W and bias b become this layer's own and are not trained any more.
        rank: rows of A and columns of B.
        alpha: how much B A counts; with Adam about what the learning rate is.
        random: draws A.
    """

    def __init__(self, linear: nn.Linear, rank: int, alpha: float, random: torch.Generator) -> None:
        super().__init__()
        self.weight = linear.weight.requires_grad_(False)
        self.bias = None if linear.bias is None else linear.bias.requires_grad_(False)
        self.out_features, self.in_features = linear.weight.shape
        self.scale = alpha / rank
        down = torch.empty(rank, self.in_features).normal_(std=self.in_features**-0.5, generator=random)
        self.adapter_down = nn.Parameter(down)  # A
        self.adapter_up = nn.Parameter(torch.zeros(self.out_features, rank))  # B

    def forward(self, inputs: Tensor) -> Tensor:
        """(…, in_features) -> (…, out_features)."""
        adapted = functional.linear(functional.linear(inputs, self.adapter_down), self.adapter_up)
        return functional.linear(inputs, self.weight, self.bias) + self.scale * adapted

    def merged_weight(self) -> Tensor:
        """W + (alpha / rank) · B A, (out_features, in_features): a plain projection with this weight does the same."""
        with torch.no_grad(), torch.autocast(self.weight.device.type, enabled=False):
            return self.weight + self.scale * (self.adapter_up @ self.adapter_down)

    def forget(self) -> None:
        """Be the plain projection again, W x + b."""
        nn.init.zeros_(self.adapter_up)


def low_rank_layers(model: nn.Module) -> Iterator[tuple[str, LowRankLinear]]:
    """Give the adapted projections of a model by name."""
    for name, module in model.named_modules():
        if isinstance(module, LowRankLinear):
            yield name, module
