"""Products of float32 matrices on a CPU, by the faster of the two libraries that torch has for them.

MKL multiplies by default, and on some processors leaves half of their vector units idle. Behind
`set_float32_matmul_precision("medium")` stands oneDNN, which may use fewer bits: it does where the processor has matrix
tiles for bf16, and elsewhere computes as exactly as MKL; a Tiny model then trains 1.6 times as fast (the row "products
by MKL" of benchmarks/training_speed.py). A small product tells which of the two it is. A call of oneDNN takes longer,
so tiny products stay MKL's.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

__all__ = ["fast_fp32_products", "without_fast_products"]

MKL, ONEDNN = "highest", "medium"  # what torch calls them
PROBE_WIDTH = 256
# Share by which oneDNN's error may exceed MKL's: it adds in another order. With bf16 it is a hundred times as large.
ERROR_ALLOWED = 4.0


@contextmanager
def fast_fp32_products() -> Iterator[None]:
    """Let the block, gradients included, multiply float32 matrices by oneDNN, where it is as exact as MKL.

    For products of whole batches; it changes what the process computes with, whichever thread asks.
    """
    before = torch.get_float32_matmul_precision()
    if before == MKL and _is_exact():
        torch.set_float32_matmul_precision(ONEDNN)
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def without_fast_products(function: Callable[..., Tensor], *tensors: Tensor) -> Tensor:
    """Call a function that is made of many tiny products, and later its gradient, with MKL.

    Args:
        function: of the tensors, differentiable.
        tensors: of any shapes.
    """
    if torch.get_float32_matmul_precision() != ONEDNN:
        return function(*tensors)
    # gradients pass the two switches in the other order
    result = function(*_Switch.apply(MKL, ONEDNN, *tensors))  # type: ignore[no-untyped-call]
    return _Switch.apply(ONEDNN, MKL, result)[0]  # type: ignore[no-untyped-call, no-any-return]


class _Switch(Function):
    """Gives tensors, and later their gradients, as they are, and sets who multiplies from there on."""

    @staticmethod
    def forward(ctx: Any, now: str, with_gradients: str, *tensors: Tensor) -> tuple[Tensor, ...]:  # noqa: ANN401
        """Set it."""
        torch.set_float32_matmul_precision(now)
        ctx.with_gradients = with_gradients
        return tensors

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401
        """Set it on the way back."""
        torch.set_float32_matmul_precision(ctx.with_gradients)
        return None, None, *gradients


@cache
def _is_exact() -> bool:
    """Tell whether oneDNN computes float32 products on this processor with all bits."""
    generator = torch.Generator().manual_seed(0)
    left, right = (torch.randn(PROBE_WIDTH, PROBE_WIDTH, generator=generator) for _ in range(2))
    exact = left.double() @ right.double()
    errors = {}
    for library in (MKL, ONEDNN):
        torch.set_float32_matmul_precision(library)
        errors[library] = float((left @ right - exact).abs().max())
    torch.set_float32_matmul_precision(MKL)
    return errors[ONEDNN] <= ERROR_ALLOWED * errors[MKL]
