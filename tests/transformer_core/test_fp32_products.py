"""Who multiplies float32 matrices: oneDNN where it is as exact as MKL, but MKL where products are tiny."""

from collections.abc import Callable, Iterator
from typing import cast

import pytest
import torch
from torch import Tensor
from torch.autograd import Function

from transformer_core import fp32_products
from transformer_core.fp32_products import fast_fp32_products, without_fast_products
from transformer_core.layers.scaled_dot_product import scaled_dot_product_attention


@pytest.fixture(autouse=True)
def library() -> Iterator[Callable[[bool], None]]:
    """Set whether oneDNN passes for exact here; give back what was before."""

    def pretend(is_exact: bool) -> None:
        patch.setattr(fp32_products, "_is_exact", lambda: is_exact)

    with pytest.MonkeyPatch.context() as patch:
        yield pretend
    assert torch.get_float32_matmul_precision() == "highest"


@pytest.mark.parametrize(("is_exact", "inside"), [(True, "medium"), (False, "highest")])
def test_a_block_multiplies_by_onednn_where_that_is_exact(
    library: Callable[[bool], None], *, is_exact: bool, inside: str
) -> None:
    library(is_exact)
    with fast_fp32_products():
        assert torch.get_float32_matmul_precision() == inside
        with fast_fp32_products():
            assert torch.get_float32_matmul_precision() == inside
        assert torch.get_float32_matmul_precision() == inside
    assert torch.get_float32_matmul_precision() == "highest"


def test_an_error_in_a_block_changes_nothing_for_what_follows(library: Callable[[bool], None]) -> None:
    library(True)
    with pytest.raises(ZeroDivisionError), fast_fp32_products():
        _ = 1 / 0
    assert torch.get_float32_matmul_precision() == "highest"


def test_what_the_user_has_set_stays(library: Callable[[bool], None]) -> None:
    library(True)
    torch.set_float32_matmul_precision("high")
    try:
        with fast_fp32_products():
            assert torch.get_float32_matmul_precision() == "high"
        assert torch.get_float32_matmul_precision() == "high"
    finally:
        torch.set_float32_matmul_precision("highest")


class _Seen(Function):
    """Doubles, and remembers who would have multiplied on the way there and back."""

    libraries: list[str] = []  # noqa: RUF012 - one for the test

    @staticmethod
    def forward(_: object, tensor: Tensor) -> Tensor:
        _Seen.libraries.append(torch.get_float32_matmul_precision())
        return 2 * tensor

    @staticmethod
    def backward(_: object, gradient: Tensor) -> Tensor:
        _Seen.libraries.append(torch.get_float32_matmul_precision())
        return 2 * gradient


def test_tiny_products_and_their_gradients_stay_with_mkl(library: Callable[[bool], None]) -> None:
    library(True)
    weight = torch.ones(3, requires_grad=True)

    def double(tensor: Tensor) -> Tensor:
        return cast("Tensor", _Seen.apply(tensor))  # type: ignore[no-untyped-call]

    _Seen.libraries.clear()
    with fast_fp32_products():
        result = double(without_fast_products(double, double(weight)))
        assert _Seen.libraries == ["medium", "highest", "medium"]
        _Seen.libraries.clear()
        result.sum().backward()  # type: ignore[no-untyped-call]
        assert _Seen.libraries == ["medium", "highest", "medium"]
    assert weight.grad is not None
    assert weight.grad.tolist() == [8.0, 8.0, 8.0]


def test_without_gradients_the_result_is_the_same(library: Callable[[bool], None]) -> None:
    library(True)
    tensor = torch.arange(3.0)
    with torch.inference_mode(), fast_fp32_products():
        assert without_fast_products(lambda one, other: one + other, tensor, tensor).tolist() == [0.0, 2.0, 4.0]
        assert torch.get_float32_matmul_precision() == "medium"


def test_attention_and_projections_give_what_they_give_by_mkl() -> None:
    generator = torch.Generator().manual_seed(1)
    weight = torch.randn(64, 64, generator=generator, requires_grad=True)
    heads = torch.randn(8, 2, 20, 64, generator=generator)

    def compute() -> tuple[Tensor, Tensor]:
        query = heads @ weight
        attended = scaled_dot_product_attention(query, heads, heads, causal=True)
        (gradient,) = torch.autograd.grad((attended @ weight).square().sum(), weight)
        return attended.detach(), gradient

    plain = compute()
    with fast_fp32_products():
        fast = compute()
    torch.testing.assert_close(fast, plain, rtol=1e-4, atol=1e-4 * float(plain[1].abs().max()))


def test_the_library_that_passes_for_exact_is() -> None:
    left, right = torch.randn(2, 300, 300, generator=torch.Generator().manual_seed(2))
    exact = left.double() @ right.double()
    with fast_fp32_products():
        error = float((left @ right - exact).abs().max())
    assert error < 1e-3  # products of bf16 are off by 0.1 and more
