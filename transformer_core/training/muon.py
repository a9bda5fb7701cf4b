"""Muon (Jordan et al. 2024): momentum, made orthogonal before it is taken as a step.

A gradient of a matrix is mostly a few directions; AdamW follows them. Muon brings all directions of the momentum to the
same length (the nearest orthogonal matrix, by a few matrix products), so that rare directions are learned as fast as
common ones. It is for the matrices inside the layers alone: embeddings, norms and biases stay with AdamW.

Not torch.optim.Muon (2.9 and later), whose scale this has: that one takes no kernels of convolutions, cannot leave a
step out without asking the device, and multiplies matrix by matrix where this multiplies all of one shape at once.
"""

import math
from collections import defaultdict
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["Muon", "orthogonalized"]

# Coefficients of the quintic a x + b x³ + c x⁵ whose repeated use brings singular values between 0 and 1 near 1, fast
# rather than exactly: to 0.7 … 1.2 (Jordan et al. 2024)
QUINTIC = (3.4445, -4.7750, 2.0315)
NUM_ITERATIONS = 5
# An orthogonal matrix times 0.2 √max(rows, columns) has entries of about the size of an AdamW step (Liu et al. 2025):
# both can share one learning rate
STEP_SCALE = 0.2
TINY = 1e-7  # keeps a gradient of zeros from being divided by zero


class Muon(torch.optim.Optimizer):
    """Nesterov momentum with orthogonal steps; decay is decoupled, as in AdamW."""

    def __init__(
        self, matrices: Iterable[nn.Parameter], *, lr: float, momentum: float, weight_decay: float, dtype: torch.dtype
    ) -> None:
        """Prepare.

        Args:
            matrices: parameters of two or more dimensions; the first one is the output.
            lr: learning rate.
            momentum: decay of the mean of the gradients.
            weight_decay: per unit of learning rate.
            dtype: of the products that make steps orthogonal; bfloat16 is enough where it is fast.
        """
        super().__init__(matrices, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})
        self.dtype = dtype

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]  # noqa: ANN401 - torch's signature
        """Make a step with all parameters that have a gradient; none where the attribute `found_inf` is 1."""
        assert closure is None
        for group in self.param_groups:
            alike: dict[torch.Size, list[nn.Parameter]] = defaultdict(list)
            for parameter in group["params"]:
                if parameter.grad is not None:
                    alike[parameter.shape].append(parameter)
            for parameters in alike.values():
                self._step(parameters, group)

    def _step(self, parameters: list[nn.Parameter], group: dict[str, Any]) -> None:
        """Make a step with parameters of one shape: their steps are made orthogonal by the same products."""
        found_inf: Tensor = getattr(self, "found_inf", torch.zeros(()))
        directions = []
        for parameter in parameters:
            assert parameter.grad is not None
            gradient = torch.where(found_inf == 0, parameter.grad, 0.0)
            state = self.state[parameter]
            if not state:
                state["momentum"] = torch.zeros_like(parameter)
            state["momentum"].lerp_(gradient, (1 - group["momentum"]) * (1 - found_inf))
            directions.append(gradient.lerp(state["momentum"], group["momentum"]).flatten(1))
        steps = orthogonalized(torch.stack(directions).to(self.dtype)) * (1 - found_inf)
        scale = STEP_SCALE * math.sqrt(max(steps.shape[1:]))
        for parameter, step in zip(parameters, steps, strict=True):
            parameter.mul_(1 - group["lr"] * group["weight_decay"] * (1 - found_inf))
            parameter.add_(step.view_as(parameter), alpha=-group["lr"] * scale)


def orthogonalized(matrices: Tensor) -> Tensor:
    """Bring all singular values of each matrix near 1 by Newton-Schulz iterations.

    Args:
        matrices: (number, rows, columns).

    Returns:
        (number, rows, columns).
    """
    if matrices.size(1) > matrices.size(2):
        return orthogonalized(matrices.mT).mT
    first, third, fifth = QUINTIC
    matrices = matrices / (matrices.norm(dim=(1, 2), keepdim=True) + TINY)  # singular values are at most 1 now
    for _ in range(NUM_ITERATIONS):
        square = matrices @ matrices.mT  # (number, rows, rows)
        matrices = first * matrices + (third * square + fifth * square @ square) @ matrices
    return matrices
