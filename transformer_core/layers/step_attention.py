"""Scaled dot-product attention from one new position of each row: what decoding does at every step.

The average is that of `layers/scaled_dot_product.py`; only the layout is made for it. A fused kernel spends most of its
time on getting started when every row has a single query. On a CPU the products written out are up to three times as
fast: with the positions in front, so that what is written so far is one block of memory, or as matrices, where the
beams of a sentence ask the same keys.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional

from transformer_core.layers.scaled_dot_product import scaled_dot_product_attention

__all__ = ["attend_to_past", "attend_to_source"]

# Up to so many rows the fused kernel is the faster one after all: it is one operation, and they would be ten.
FEW_ROWS = 8


def attend_to_past(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> Tensor:
    """Attend from the last position of each row to all that it has written.

    Args:
        query: (rows, num_heads, d_head).
        key: (length, rows, key_heads, d_head); with fewer heads than queries, neighbouring queries share one.
        value: (length, rows, key_heads, d_head).
        mask: (length, rows) bool, True = may be attended to; None where all may.

    Returns:
        (rows, num_heads, d_head).
    """
    if query.device.type != "cpu" or query.size(0) <= FEW_ROWS:
        # (length, rows, heads, d_head) -> (rows, heads, length, d_head)
        key, value = key.permute(1, 2, 0, 3), value.permute(1, 2, 0, 3)
        mask = None if mask is None else mask.t()[:, None, None, :]
        return _fused(query[:, :, None], key, value, mask).squeeze(2)
    rows, num_heads, d_head = query.shape
    # the queries that share a key side by side: (rows, num_heads, d_head) -> (rows, key_heads, shared, d_head)
    grouped = query.view(rows, key.size(2), -1, d_head) / math.sqrt(d_head)
    scores = (key[:, :, :, None] * grouped).sum(dim=-1)  # (length, rows, key_heads, shared)
    if mask is not None:
        scores.masked_fill_(~mask[:, :, None, None], -torch.inf)
    weights = scores.softmax(dim=0)
    return (weights[..., None] * value[:, :, :, None]).sum(dim=0).view(rows, num_heads, d_head)


def attend_to_source(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> Tensor:
    """Attend from the last positions of all beams of each sentence to its source.

    Args:
        query: (batch, beam, num_heads, d_head).
        key: (batch, key_heads, source_length, d_head); with fewer heads than queries, neighbouring queries share one.
        value: (batch, key_heads, source_length, d_head).
        mask: (batch, 1, 1, source_length) bool, True = may be attended to; None where all may.

    Returns:
        (batch, beam, num_heads, d_head).
    """
    if query.device.type != "cpu" or query.size(0) * query.size(1) <= FEW_ROWS:
        return _fused(query.transpose(1, 2), key, value, mask).transpose(1, 2)
    batch, beam, _, d_head = query.shape
    key_heads = key.size(1)
    # all queries of one key are the rows of a matrix:
    # (batch, beam, num_heads, d_head) -> (batch, key_heads, beam * shared, d_head)
    grouped = query.view(batch, beam, key_heads, -1, d_head).transpose(1, 2).flatten(2, 3) / math.sqrt(d_head)
    scores = grouped @ key.transpose(2, 3)  # (batch, key_heads, beam * shared, source_length)
    if mask is not None:
        scores.masked_fill_(~mask, -torch.inf)
    attended = scores.softmax(dim=-1) @ value
    # (batch, key_heads, beam * shared, d_head) -> (batch, beam, num_heads, d_head)
    return attended.view(batch, key_heads, beam, -1, d_head).transpose(1, 2).flatten(2, 3)


def _fused(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> Tensor:
    """Attend by the fused kernel, in the shapes of `scaled_dot_product_attention`."""
    if query.device.type != "cpu":
        return scaled_dot_product_attention(query, key, value, mask)
    # nothing is cast on a CPU in decoding, and to say so would take as long as the kernel
    is_grouped = key.size(1) != query.size(1)
    return functional.scaled_dot_product_attention(query, key, value, attn_mask=mask, enable_gqa=is_grouped)
