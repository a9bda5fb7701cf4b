import math

import pytest
import torch
from torch import Tensor

from tests.transformer_core.small_config import small_config, small_stack
from transformer_core.layers.feed_forward import FeedForward


def apply(name: str, value: Tensor) -> Tensor:
    """The nonlinearities by their definitions."""
    match name:
        case "relu":
            return torch.where(value > 0, value, 0.0)
        case "gelu":
            return value * 0.5 * (1 + torch.erf(value / math.sqrt(2)))
        case "glu":
            return 1 / (1 + torch.exp(-value))
        case _:
            return value / (1 + torch.exp(-value))


def explicit_feed_forward(layer: FeedForward, name: str, sequence: Tensor) -> Tensor:
    """A position at a time, an inner unit at a time; (batch, length, d_model)."""
    d_ff = layer.output_projection.in_features
    rows: list[Tensor] = []
    for position in sequence.flatten(0, 1):
        total: Tensor = layer.output_projection.bias
        for unit in range(d_ff):
            inner = layer.inner_projection.weight @ position + layer.inner_projection.bias
            active = apply(name, inner[unit])
            if layer.is_gated:
                active = active * inner[unit + d_ff]
            total = total + active * layer.output_projection.weight[:, unit]
        rows.append(total)
    return torch.stack(rows).view_as(sequence)


def feed_forward(name: str, dropout: float = 0.0) -> FeedForward:
    torch.manual_seed(0)
    values: dict[str, object] = {"activation": name} if name in ("relu", "gelu") else {"feed_forward": name}
    return FeedForward(small_stack(), small_config(small_stack(), activation_dropout=dropout, **values))


@pytest.mark.parametrize("name", ["relu", "gelu", "glu", "swiglu"])
def test_it_is_its_definition_in_value_and_gradient(name: str) -> None:
    layer = feed_forward(name, dropout=0.5).double().eval()
    for projection in (layer.inner_projection, layer.output_projection):
        torch.nn.init.normal_(projection.bias)
    sequence = torch.randn(2, 3, 12, dtype=torch.float64, requires_grad=True)
    results = []
    for hidden in (layer(sequence), explicit_feed_forward(layer, name, sequence)):
        inputs = (sequence, *layer.parameters())
        results.append((hidden, *torch.autograd.grad(hidden.square().sum(), inputs)))
    for fast, explicit in zip(*results, strict=True):
        torch.testing.assert_close(fast, explicit)


def test_positions_do_not_see_each_other() -> None:
    layer = feed_forward("relu")
    sequence = torch.randn(1, 4, 12)
    with torch.no_grad():
        before = layer(sequence)
        sequence[0, 2] += 1
        changed = (layer(sequence) != before).any(-1)
    assert changed.tolist() == [[False, False, True, False]]
