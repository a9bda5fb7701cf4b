"""What the division by √d_head does: attention at the start of training, with and without it, as heads grow wider.

Vaswani et al. 2017 (section 3.2.1) suspect that without it "the dot products grow large in magnitude, pushing the
softmax function into regions where it has extremely small gradients". Measured are, for one head with fresh weights
over random inputs of variance 1:

- the entropy of its attention weights: 1 where it attends to all positions alike, 0 where it attends to one;
- the gradient of the softmax itself: how far its weights move when its scores do;
- the gradient that arrives at the input of the layer when one of size 1 enters at its output.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

import torch
from torch import Tensor

from transformer_core.config import ModelConfig, StackConfig
from transformer_core.layers.attention import SelfAttention

__all__ = ["HEAD_WIDTHS", "NUM_POSITIONS", "NUM_SEEDS", "AttentionFigures", "ScalePoint", "measure_scale"]

HEAD_WIDTHS = (8, 16, 32, 64, 128, 256, 512)
NUM_POSITIONS = 64  # of the sequence that is attended to
NUM_SEEDS = 10  # whose figures are averaged


@dataclass(frozen=True, kw_only=True)
class AttentionFigures:
    """Means over seeds."""

    entropy: float  # of the weights of a query, as a share of that of uniform weights
    softmax_gradient: float  # Frobenius norm of ∂weights / ∂scores, the median query's
    input_gradient: float  # root mean square of ∂loss / ∂input where that of ∂loss / ∂output is 1


@dataclass(frozen=True, kw_only=True)
class ScalePoint:
    """One width of head."""

    d_head: int
    scaled: AttentionFigures  # softmax(q kᵀ / √d_head)
    unscaled: AttentionFigures  # softmax(q kᵀ)


def measure_scale(seed: int, head_widths: Sequence[int] = HEAD_WIDTHS) -> list[ScalePoint]:
    """Measure every width."""
    seeds = range(seed, seed + NUM_SEEDS)
    return [
        ScalePoint(
            d_head=d_head,
            scaled=_mean([_measure(d_head, one, is_scaled=True) for one in seeds]),
            unscaled=_mean([_measure(d_head, one, is_scaled=False) for one in seeds]),
        )
        for d_head in head_widths
    ]


def _measure(d_head: int, seed: int, *, is_scaled: bool) -> AttentionFigures:
    """Measure one head; weights and inputs are the same with and without the scale."""
    torch.manual_seed(seed)
    attention = _one_head(d_head, is_scaled=is_scaled)
    inputs = torch.randn(1, NUM_POSITIONS, d_head, requires_grad=True)
    output_gradient = torch.randn(1, NUM_POSITIONS, d_head)
    (input_gradient,) = torch.autograd.grad(attention(inputs, None, causal=False), inputs, output_gradient)
    weights = attention.weights(inputs.detach(), None, causal=False).detach()[0, 0]  # (queries, keys)
    return AttentionFigures(
        entropy=_entropy(weights).mean().item() / math.log(NUM_POSITIONS),
        softmax_gradient=_softmax_gradient(weights).median().item(),
        input_gradient=input_gradient.square().mean().sqrt().item(),
    )


def _one_head(d_head: int, *, is_scaled: bool) -> SelfAttention:
    stack = StackConfig(num_layers=1, d_model=d_head, num_heads=1, d_ff=1)
    config = ModelConfig(
        source_vocabulary_size=8,
        target_vocabulary_size=8,
        pad_id=0,
        bos_id=1,
        eos_id=2,
        encoder=stack,
        decoder=stack,
        scale_attention=is_scaled,
    )
    return SelfAttention(stack, config).eval()


def _entropy(weights: Tensor) -> Tensor:
    """(queries, keys) -> (queries,), in nats."""
    entropies: Tensor = torch.special.entr(weights).sum(dim=1)
    return entropies


def _softmax_gradient(weights: Tensor) -> Tensor:
    """Frobenius norm of diag(p) - p pᵀ, the Jacobian of the softmax, for each row p: (queries, keys) -> (queries,)."""
    squares = weights.square().sum(dim=1)
    return (squares - 2 * weights.pow(3).sum(dim=1) + squares.square()).clamp(min=0).sqrt()


def _mean(figures: Sequence[AttentionFigures]) -> AttentionFigures:
    return AttentionFigures(
        entropy=fmean(one.entropy for one in figures),
        softmax_gradient=fmean(one.softmax_gradient for one in figures),
        input_gradient=fmean(one.input_gradient for one in figures),
    )
