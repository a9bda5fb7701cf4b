import math

import pytest
import torch

from transformer_core.experiments import compare_scale
from transformer_core.experiments.compare_scale import HEAD_WIDTHS, measure_scale


def test_the_gradient_of_softmax_is_its_jacobian() -> None:
    scores = torch.randn(5, 7, dtype=torch.float64) * 3
    jacobians = torch.stack([torch.autograd.functional.jacobian(lambda row: row.softmax(0), row) for row in scores])  # type: ignore[no-untyped-call]
    torch.testing.assert_close(compare_scale._softmax_gradient(scores.softmax(1)), jacobians.flatten(1).norm(dim=1))


def test_entropy_is_one_of_equal_weights_and_zero_of_one() -> None:
    weights = torch.stack((torch.full((64,), 1 / 64), torch.eye(64)[3]))
    torch.testing.assert_close(compare_scale._entropy(weights), torch.tensor([math.log(64), 0.0]))


@pytest.mark.parametrize("is_scaled", [True, False])
def test_figures_are_those_of_attention_written_out(is_scaled: bool) -> None:
    d_head = 8
    torch.manual_seed(3)
    attention = compare_scale._one_head(d_head, is_scaled=is_scaled)
    inputs = torch.randn(1, 64, d_head, requires_grad=True)
    output_gradient = torch.randn(1, 64, d_head)
    query = attention.query_projection(inputs)
    key, value = attention.key_value_projection(inputs).chunk(2, dim=-1)
    weights = (query @ key.transpose(1, 2) / (math.sqrt(d_head) if is_scaled else 1.0)).softmax(-1)
    (gradient,) = torch.autograd.grad(attention.output_projection(weights @ value), inputs, output_gradient)
    figures = compare_scale._measure(d_head, 3, is_scaled=is_scaled)
    entropy = -(weights * weights.log()).sum(-1).mean() / math.log(64)
    assert figures.entropy == pytest.approx(entropy.item(), rel=1e-4)
    assert figures.input_gradient == pytest.approx(gradient.square().mean().sqrt().item(), rel=1e-4)


def test_without_the_scale_wide_heads_saturate_and_with_it_they_do_not() -> None:
    points = measure_scale(1)
    assert [point.d_head for point in points] == list(HEAD_WIDTHS)
    entropies = [point.unscaled.entropy for point in points]
    assert entropies == sorted(entropies, reverse=True)
    assert entropies[0] > 10 * entropies[-1]
    assert points[-1].unscaled.softmax_gradient < points[-1].scaled.softmax_gradient / 10
    # what arrives at the input is not small, though: queries and keys are √d_head larger
    assert points[-1].unscaled.input_gradient > points[-1].scaled.input_gradient
    for point in points:
        assert point.scaled.entropy == pytest.approx(points[0].scaled.entropy, abs=0.05)
        assert point.scaled.softmax_gradient == pytest.approx(points[0].scaled.softmax_gradient, rel=0.2)
