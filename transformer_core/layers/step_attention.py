"""Scaled dot-product attention from one new position of each row: what decoding does at every step.

The average is that of `layers/scaled_dot_product.py`. A fused kernel spends most of its time on getting started when
every row has a single query, so on a CPU the products are written out, as matrices or element by element.
"""

import math

from torch import Tensor
from torch.nn import functional

from transformer_core.layers.scaled_dot_product import scaled_dot_product_attention

__all__ = ["attend"]

# Up to so many rows the fused kernel is the faster one after all: it is one operation, and the others would be ten.
FEW_ROWS = 8


def attend(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> Tensor:
    """Attend from the last position of each row to what all rows of its sentence share.

    Args:
        query: (batch * beam, num_heads, d_head); the rows of a sentence, its beams, stand together.
        key: (batch, key_heads, length, d_head); with fewer heads than queries, neighbouring queries share one.
        value: (batch, key_heads, length, d_head).
        mask: (batch or batch * beam, length), added to the scores: 0 where one may attend to, -inf elsewhere; None
            where all may attend to all.

    Returns:
        (batch * beam, num_heads * d_head).
    """
    rows = query.size(0)
    if query.device.type != "cpu" or rows <= FEW_ROWS:
        return _fused(query, key, value, mask)
    if rows == key.size(0) and key.stride(2) > key.stride(0):
        return _by_elements(query, key, value, mask)
    return _by_matrices(query, key, value, mask)


def _by_elements(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> Tensor:
    """Attend with one row per sentence, where what stands at one position is one block of memory."""
    rows, _, d_head = query.shape
    # (rows, key_heads, length, d_head) -> (length, rows, key_heads, 1, d_head)
    key, value = (heads.permute(2, 0, 1, 3)[:, :, :, None] for heads in (key, value))
    # the queries that share a key side by side: (rows, num_heads, d_head) -> (rows, key_heads, shared, d_head)
    grouped = query.view(rows, key.size(2), -1, d_head) / math.sqrt(d_head)
    scores = (key * grouped).sum(dim=-1)  # (length, rows, key_heads, shared)
    if mask is not None:
        scores += mask.t()[:, :, None, None]
    weights = scores.softmax(dim=0)
    return (weights[..., None] * value).sum(dim=0).view(rows, -1)


def _by_matrices(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> Tensor:
    """Attend with all queries of one key as the rows of a matrix."""
    batch, key_heads, length, d_head = key.shape
    # (batch * beam, num_heads, d_head) -> (batch, key_heads, beam, shared, d_head)
    grouped = (query / math.sqrt(d_head)).view(batch, -1, key_heads, query.size(1) // key_heads, d_head).transpose(1, 2)
    queries = grouped.reshape(batch * key_heads, -1, d_head)  # (batch * key_heads, beam * shared, d_head)
    scores = queries @ key.flatten(0, 1).transpose(1, 2)
    if mask is not None:
        # (batch or batch * beam, length) -> (batch, 1, 1 or beam, 1, length)
        scores.view(*grouped.shape[:4], length).add_(mask.view(batch, 1, -1, 1, length))
    attended = scores.softmax(dim=-1) @ value.flatten(0, 1)
    return attended.view(grouped.shape).transpose(1, 2).reshape(query.size(0), -1)


def _fused(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> Tensor:
    """Attend by the fused kernel."""
    batch = key.size(0)
    # (batch * beam, num_heads, d_head) -> (batch, num_heads, beam, d_head)
    heads = query.view(batch, -1, *query.shape[1:]).transpose(1, 2)
    if mask is not None:
        mask = mask.view(batch, 1, -1, mask.size(1))
    if query.device.type == "cpu":
        # nothing is cast on a CPU in decoding, and to say so would take as long as the kernel
        is_grouped = key.size(1) != heads.size(1)
        attended = functional.scaled_dot_product_attention(heads, key, value, attn_mask=mask, enable_gqa=is_grouped)
    else:
        attended = scaled_dot_product_attention(heads, key, value, None if mask is None else mask == 0)
    return attended.transpose(1, 2).reshape(query.size(0), -1)
