"""Rotary positions (Su et al. 2021, RoFormer): a query and a key are turned by an angle that grows with their place.

Pairs of components are turned, each pair at its own frequency, 10000^(-i / (d_head/2)). A dot product of two turned
vectors depends on the difference of their angles alone, so a score depends on how far apart two positions are, and
nothing has to be added to the embeddings.
"""

import math

import torch
from torch import Tensor

__all__ = ["rotate"]

BASE = 10_000.0


def rotate(heads: Tensor, first_position: int | Tensor = 0) -> Tensor:
    """Turn queries or keys by their places; component i is paired with component i + d_head/2.

    Args:
        heads: (batch, num_heads, length, d_head), d_head even.
        first_position: place of the first vector, one for all or (batch,) int64.

    Returns:
        The shape of `heads`.
    """
    length, half = heads.size(2), heads.size(3) // 2
    places = torch.arange(length, device=heads.device, dtype=torch.float32)
    if isinstance(first_position, Tensor):
        places = (first_position[:, None] + places)[:, None, :, None]  # (batch, 1, length, 1)
    else:
        places = (first_position + places)[:, None]  # (length, 1)
    frequencies = torch.exp(torch.arange(half, device=heads.device, dtype=torch.float32) * (-math.log(BASE) / half))
    angles = places * frequencies  # (…, length, d_head/2)
    cosine, sine = angles.cos().to(heads.dtype), angles.sin().to(heads.dtype)
    first, second = heads.chunk(2, dim=-1)
    return torch.cat((first * cosine - second * sine, second * cosine + first * sine), dim=-1)
