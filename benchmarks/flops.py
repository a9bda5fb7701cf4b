"""Floating-point operations: those that training needs for a token, and those that the processor can do."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

__all__ = ["PRODUCTS", "ModelSizes", "best_product", "flop_per_target_token"]

# (m, k, n) of products that training makes (projections of a layer, logits), and larger ones
PRODUCTS = ((4096, 128, 128), (3400, 128, 10_000), (4096, 512, 1024), (2048, 2048, 2048))
SECONDS_PER_PRODUCT = 0.5
WORST_ERROR = 4.0  # times that of torch's default: an approximation beyond it is no fp32 product


@dataclass(frozen=True)
class ModelSizes:
    """A Transformer with as many encoder as decoder layers and one embedding for everything."""

    num_layers: int
    d_model: int
    num_heads: int
    d_ff: int
    vocabulary_size: int


def flop_per_target_token(sizes: ModelSizes, lengths: Sequence[tuple[int, int]]) -> float:
    """Count what forward and backward pass need for each target token, where nothing is padded.

    A weight takes a multiplication and an addition for a token, and twice that on the way back. Attention is counted
    over whole sentences, masked places too.

    Args:
        sizes: of the model.
        lengths: tokens of source and target of the pairs, end tokens included.
    """
    d_model, d_ff = sizes.d_model, sizes.d_ff
    attention, feed_forward = 4 * d_model**2, 2 * d_model * d_ff
    # half the weights of cross-attention read the source, its keys and values, and half the target
    layer = attention + attention // 2 + feed_forward
    source_weights = sizes.num_layers * layer
    target_weights = sizes.num_layers * layer + d_model * sizes.vocabulary_size
    multiplications = 0
    for source, target in lengths:
        multiplications += source * source_weights + target * target_weights
        # queries times keys, and weights times values: of the encoder, of the decoder, across
        multiplications += sizes.num_layers * 2 * d_model * (source**2 + target**2 + source * target)
    return 6 * multiplications / sum(target for _, target in lengths)


def best_product(precision: Literal["fp32", "bf16"]) -> float:
    """Measure the fastest matrix product of one thread, in operations a CPU-second, over shapes and libraries.

    In fp32 torch has two libraries, and the faster one on many processors is behind `set_float32_matmul_precision`.
    Where that computes with less than fp32, it does not count.
    """
    import torch

    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    best = 0.0
    with torch.inference_mode():
        for m, k, n in PRODUCTS:
            left, right = torch.randn(m, k, dtype=dtype), torch.randn(k, n, dtype=dtype)
            some = slice(64)  # rows whose error is looked at
            exact = left[some].double() @ right.double() if precision == "fp32" else None
            error = 0.0
            for setting in ("highest", "medium"):
                torch.set_float32_matmul_precision(setting)
                if exact is not None:
                    setting_error = float(((left @ right)[some] - exact).abs().max())
                    error = error or setting_error
                    if setting_error > WORST_ERROR * error:
                        continue
                best = max(best, 2 * m * k * n / _fastest(partial(torch.mm, left, right)))
    torch.set_float32_matmul_precision("highest")
    return best


def _fastest(product: Callable[[], object]) -> float:
    """CPU-seconds of the fastest of some calls."""
    product()
    until, best = time.process_time() + SECONDS_PER_PRODUCT, float("inf")
    while time.process_time() < until:
        started_at = time.process_time()
        product()
        best = min(best, time.process_time() - started_at)
    return best
