import pytest
import torch
from torch import nn

from transformer_core.layers.low_rank import LowRankLinear, low_rank_layers


def adapted(rank: int = 3, alpha: float = 6.0, *, has_bias: bool = True) -> tuple[nn.Linear, LowRankLinear]:
    """A projection, and the same one adapted; of other tensors."""
    torch.manual_seed(5)
    linear = nn.Linear(10, 7, bias=has_bias)
    copy = nn.Linear(10, 7, bias=has_bias)
    copy.load_state_dict(linear.state_dict())
    return linear, LowRankLinear(copy, rank, alpha, torch.Generator().manual_seed(1))


@pytest.mark.parametrize("has_bias", [True, False])
def test_it_begins_as_what_it_adapts(has_bias: bool) -> None:
    linear, layer = adapted(has_bias=has_bias)
    inputs = torch.randn(2, 4, 10)
    assert torch.equal(layer(inputs), linear(inputs))
    assert torch.equal(layer.merged_weight(), linear.weight)


def test_it_adds_a_product_of_thin_matrices() -> None:
    linear, layer = adapted(rank=3, alpha=6.0)
    nn.init.normal_(layer.adapter_up)
    inputs = torch.randn(4, 10)
    expected = linear(inputs) + 2.0 * (inputs @ layer.adapter_down.T @ layer.adapter_up.T)
    torch.testing.assert_close(layer(inputs), expected)
    assert torch.linalg.matrix_rank(layer.merged_weight() - linear.weight) == 3


@pytest.mark.parametrize("has_bias", [True, False])
def test_merged_it_does_the_same(has_bias: bool) -> None:
    _, layer = adapted(has_bias=has_bias)
    nn.init.normal_(layer.adapter_up)
    plain = nn.Linear(10, 7, bias=has_bias)
    with torch.no_grad():
        plain.weight.copy_(layer.merged_weight())
        if layer.bias is not None:
            plain.bias.copy_(layer.bias)
    inputs = torch.randn(5, 10)
    torch.testing.assert_close(plain(inputs), layer(inputs))
    with torch.autocast("cpu", torch.bfloat16):  # whoever saves must not save what was rounded
        assert torch.equal(layer.merged_weight(), plain.weight)


def test_only_the_adapter_learns() -> None:
    _, layer = adapted()
    nn.init.normal_(layer.adapter_up)
    layer(torch.randn(5, 10)).sum().backward()
    with_gradient = {name for name, parameter in layer.named_parameters() if parameter.grad is not None}
    assert with_gradient == {"adapter_down", "adapter_up"}


def test_the_first_gradient_is_not_nothing() -> None:
    _, layer = adapted()
    layer(torch.randn(5, 10)).square().sum().backward()
    assert layer.adapter_up.grad is not None
    assert layer.adapter_up.grad.abs().sum() > 0


def test_it_forgets() -> None:
    linear, layer = adapted()
    nn.init.normal_(layer.adapter_up)
    layer.forget()
    inputs = torch.randn(5, 10)
    assert torch.equal(layer(inputs), linear(inputs))


def test_they_are_found_by_name() -> None:
    _, layer = adapted()
    model = nn.Sequential(nn.Linear(3, 3), nn.ModuleDict({"projection": layer}))
    assert dict(low_rank_layers(model)) == {"1.projection": layer}
