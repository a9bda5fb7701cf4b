"""Rows of token ids of different lengths side by side in one tensor."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

__all__ = ["TokenIds", "mask_of", "pad", "pad_rows"]

TokenIds = Sequence[int] | NDArray[np.integer[Any]]


def pad_rows(rows: Sequence[TokenIds], pad_id: int, *, first: int | None = None, last: int | None = None) -> Tensor:
    """Stack rows of ids, padded at the end.

    Args:
        rows: the ids of each row.
        pad_id: fills the rows up to the longest.
        first: an id put before each row.
        last: an id put after each row.

    Returns:
        (rows, longest) int64.
    """
    start = 0 if first is None else 1
    width = max(map(len, rows)) + start + (0 if last is None else 1)
    padded = np.full((len(rows), width), pad_id, dtype=np.int64)
    if first is not None:
        padded[:, 0] = first
    for place, row in enumerate(rows):
        padded[place, start : start + len(row)] = row
        if last is not None:
            padded[place, start + len(row)] = last
    return torch.from_numpy(padded)


def mask_of(lengths: Sequence[int]) -> Tensor | None:
    """Give the mask of padded rows, (rows, longest) bool, True = a real token; None where all have one length."""
    longest = max(lengths)
    return None if min(lengths) == longest else torch.arange(longest) < torch.tensor(lengths)[:, None]


def pad(rows: Sequence[TokenIds], pad_id: int, device: torch.device) -> tuple[Tensor, Tensor | None]:
    """Stack rows of ids on a device: `pad_rows` and `mask_of`."""
    mask = mask_of([len(row) for row in rows])
    return pad_rows(rows, pad_id).to(device), None if mask is None else mask.to(device)
