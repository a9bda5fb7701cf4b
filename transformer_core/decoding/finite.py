"""A model whose weights are damaged computes NaN: nothing that can be translated, scored or filled with."""

import math
from collections.abc import Iterable

from transformer_core.errors import ModelError

__all__ = ["require_finite"]


def require_finite(values: Iterable[float], place: str) -> None:
    """See that a model has computed probabilities.

    Args:
        values: probabilities or their logarithms.
        place: of the line that they were computed for: "file:line".

    Raises:
        ModelError: one of them is NaN or infinite.
    """
    if not all(map(math.isfinite, values)):
        raise ModelError(
            f"the model computes no probabilities (NaN) for {place}: "
            "its weights are damaged or its training diverged; take another --checkpoint"
        )
