"""The position-wise feed-forward network (Vaswani et al. 2017, section 3.3) and its gated forms (Shazeer 2020)."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

from transformer_core.config import ModelConfig, StackConfig
from transformer_core.layers.dropout import Dropout

__all__ = ["FeedForward"]


class FeedForward(nn.Module):
    """Widen each position, apply a nonlinearity, narrow it again; positions do not see each other here.

    - plain: activation(x W₁ + b₁) W₂ + b₂;
    - glu: (sigmoid(x W) ⊗ x V) W₂, a gated linear unit (Dauphin et al. 2017), with biases;
    - swiglu: (silu(x W) ⊗ x V) W₂ (Shazeer 2020), silu(z) = z sigmoid(z), with biases.

    The gated forms have three matrices for two: with two thirds of d_ff they are as large as the plain one.
    """

    def __init__(self, stack: StackConfig, config: ModelConfig) -> None:
        super().__init__()
        self.is_gated = config.feed_forward != "plain"
        # the gate and what it gates are one product: W beside V
        self.inner_projection = nn.Linear(stack.d_model, (2 if self.is_gated else 1) * stack.d_ff)
        self.output_projection = nn.Linear(stack.d_ff, stack.d_model)
        self.dropout = Dropout(config.activation_dropout)
        self._activation = _activation(config)
        for block in (*torch.split(self.inner_projection.weight, stack.d_ff), self.output_projection.weight):
            nn.init.xavier_uniform_(block)
        for projection in (self.inner_projection, self.output_projection):
            nn.init.zeros_(projection.bias)

    def forward(self, sequence: Tensor) -> Tensor:
        """(batch, length, d_model) -> the same shape."""
        hidden = self.inner_projection(sequence)  # (batch, length, d_ff), twice as wide with a gate
        if self.is_gated:
            gate, gated = hidden.chunk(2, dim=-1)
            hidden = self._activation(gate) * gated
        else:
            hidden = self._activation(hidden)
        return self.output_projection(self.dropout(hidden))  # type: ignore[no-any-return]


def _activation(config: ModelConfig) -> Callable[[Tensor], Tensor]:
    match config.feed_forward:
        case "plain":
            activations: dict[str, Callable[[Tensor], Tensor]] = {
                "relu": functional.relu,
                "gelu": functional.gelu,
                "silu": functional.silu,
            }
            return activations[config.activation]
        case "glu":
            return functional.sigmoid
        case "swiglu":
            return functional.silu
