import math

import pytest
import torch
from torch import Tensor

from transformer_core.config import Activation
from transformer_core.layers.feed_forward import FeedForward


def explicit_feed_forward(layer: FeedForward, activation: Activation, sequence: Tensor) -> Tensor:
    """max(0, x W_1 + b_1) W_2 + b_2, one position and one inner unit at a time; GELU by its definition x Φ(x)."""
    rows = []
    for position in sequence.reshape(-1, sequence.size(-1)):
        total = layer.output_projection.bias.clone()
        for unit in range(layer.inner_projection.out_features):
            inner = (layer.inner_projection.weight[unit] * position).sum() + layer.inner_projection.bias[unit]
            gelu = inner * (1 + torch.erf(inner / math.sqrt(2))) / 2
            active = inner.clamp(min=0) if activation == "relu" else gelu
            total = total + active * layer.output_projection.weight[:, unit]
        rows.append(total)
    return torch.stack(rows).view_as(sequence)


@pytest.mark.parametrize("activation", ["relu", "gelu"])
def test_it_is_its_definition_in_value_and_gradient(activation: Activation) -> None:
    torch.manual_seed(0)
    layer = FeedForward(6, 10, activation, dropout=0.5).double().eval()
    for projection in (layer.inner_projection, layer.output_projection):
        torch.nn.init.normal_(projection.bias)
    sequence = torch.randn(2, 3, 6, dtype=torch.float64, requires_grad=True)
    results = []
    for hidden in (layer(sequence), explicit_feed_forward(layer, activation, sequence)):
        inputs = (sequence, *layer.parameters())
        results.append((hidden, *torch.autograd.grad(hidden.square().sum(), inputs)))
    for fast, explicit in zip(*results, strict=True):
        torch.testing.assert_close(fast, explicit)


def test_positions_do_not_see_each_other() -> None:
    layer = FeedForward(6, 10, "relu", dropout=0.0)
    sequence = torch.randn(1, 4, 6)
    with torch.no_grad():
        before = layer(sequence)
        sequence[0, 2] += 1
        changed = (layer(sequence) != before).any(-1)
    assert changed.tolist() == [[False, False, True, False]]
