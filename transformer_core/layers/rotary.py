"""Rotary positions (Su et al. 2021, RoFormer): a query and a key are turned by an angle that grows with their place.

Pairs of components are turned, each pair at its own frequency, 10000^(-i / (d_head/2)). A dot product of two turned
vectors depends on the difference of their angles alone, so a score depends on how far apart two positions are, and
nothing has to be added to the embeddings.
"""

import math
from functools import lru_cache

import torch
from torch import Tensor

__all__ = ["rotate"]

BASE = 10_000.0
FEWEST_PLACES = 256  # that a table has; longer ones double


def rotate(heads: Tensor, first_position: int | Tensor = 0, furthest: int = 0) -> Tensor:
    """Turn queries or keys by their places; component i is paired with component i + d_head/2.

    Args:
        heads: (batch, num_heads, length, d_head), d_head even.
        first_position: place of the first vector, one for all or (batch,) int64.
        furthest: of several first positions none is beyond it.

    Returns:
        The shape of `heads`.
    """
    length, d_head = heads.shape[2:]
    if isinstance(first_position, Tensor):
        num_places = furthest + length
        places = first_position[:, None] + torch.arange(length, device=heads.device)  # (batch, length)
        # (places, d_head) -> (batch, 1, length, d_head)
        cosine, sine = (part[places][:, None] for part in _turns(0, num_places, d_head, heads.dtype, heads.device))
    else:
        cosine, sine = _turns(first_position, first_position + length, d_head, heads.dtype, heads.device)
    # (a cos - b sin, b cos + a sin) for the halves a and b; rolled by half, they change places
    return torch.addcmul(heads * cosine, heads.roll(d_head // 2, dims=-1), sine)


@lru_cache(maxsize=1024)
def _turns(first: int, end: int, d_head: int, dtype: torch.dtype, device: torch.device) -> tuple[Tensor, Tensor]:
    """Give the part of a table from one place to another; remembered, because every layer asks for it at every step."""
    num_places = max(FEWEST_PLACES, 1 << (end - 1).bit_length())
    cosine, sine = _table(num_places, d_head, dtype, device)
    return cosine[first:end], sine[first:end]


@lru_cache(maxsize=16)
def _table(num_places: int, d_head: int, dtype: torch.dtype, device: torch.device) -> tuple[Tensor, Tensor]:
    """Give cosines, and sines with the sign of what they are multiplied by, each (places, d_head), of both halves."""
    half = d_head // 2
    with torch.inference_mode(mode=False):  # whoever asks first: training can use no tensor of inference
        places = torch.arange(num_places, device=device, dtype=torch.float32)[:, None]
        frequencies = torch.exp(torch.arange(half, device=device, dtype=torch.float32) * (-math.log(BASE) / half))
        angles = places * frequencies  # (places, d_head/2)
        cosine, sine = angles.cos().to(dtype), angles.sin().to(dtype)
        return torch.cat((cosine, cosine), dim=1), torch.cat((-sine, sine), dim=1)
