import pytest
import torch
from torch import Tensor, nn

from transformer_core.training.muon import Muon, orthogonalized


@pytest.mark.parametrize("shape", [(8, 8), (4, 12), (12, 4)])
def test_directions_stay_and_their_lengths_become_one(shape: tuple[int, int]) -> None:
    torch.manual_seed(0)
    matrices = torch.randn(3, *shape, dtype=torch.float64) * torch.tensor([1e-3, 1.0, 1e3])[:, None, None]
    for matrix, result in zip(matrices, orthogonalized(matrices), strict=True):
        left, _, right = torch.linalg.svd(matrix, full_matrices=False)
        lengths = left.T @ result @ right.T  # diagonal where the singular vectors are the same
        torch.testing.assert_close(lengths, torch.diag(lengths.diagonal()), rtol=0, atol=1e-9)
        assert ((lengths.diagonal() > 0.6) & (lengths.diagonal() < 1.3)).all()


def test_zeros_stay_zeros() -> None:
    assert not orthogonalized(torch.zeros(2, 3, 4)).any()


def slow_step(weight: Tensor, gradients: list[Tensor], lr: float, momentum: float, decay: float) -> Tensor:
    """Make Muon's steps with one matrix, by its definition."""
    mean = torch.zeros_like(weight)
    for gradient in gradients:
        mean = momentum * mean + (1 - momentum) * gradient
        direction = (1 - momentum) * gradient + momentum * mean
        (step,) = orthogonalized(direction.flatten(1)[None])
        size = 0.2 * max(step.shape) ** 0.5
        weight = weight * (1 - lr * decay) - lr * size * step.view_as(weight)
    return weight


def test_steps_of_many_matrices_are_those_of_each_alone() -> None:
    torch.manual_seed(0)
    shapes = [(4, 6), (6, 4), (4, 6), (4, 2, 3), (5, 5)]
    weights = [nn.Parameter(torch.randn(shape, dtype=torch.float64)) for shape in shapes]
    unused = nn.Parameter(torch.randn(4, 6, dtype=torch.float64))
    gradients = [[torch.randn(shape, dtype=torch.float64) for shape in shapes] for _ in range(3)]
    expected = [
        slow_step(weight.detach(), [step[number] for step in gradients], 0.1, 0.9, 0.5)
        for number, weight in enumerate(weights)
    ]
    before = unused.detach().clone()
    optimizer = Muon([*weights, unused], lr=0.1, momentum=0.9, weight_decay=0.5, dtype=torch.float64)
    for step in gradients:
        for weight, gradient in zip(weights, step, strict=True):
            weight.grad = gradient
        optimizer.step()
    for weight, result in zip(weights, expected, strict=True):
        torch.testing.assert_close(weight.detach(), result)
    assert torch.equal(unused.detach(), before)
