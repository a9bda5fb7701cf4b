"""Scaled dot-product attention (Vaswani et al. 2017, section 3.2.1): the average, and the weights it averages by."""

import math

import torch
from torch import Tensor
from torch.nn import functional

from transformer_core.fp32_products import without_fast_products

__all__ = ["attention_weights", "scaled_dot_product_attention"]

# Scores of a head up to which, in training in bf16 on a CPU, the products written out take half the time of the fused
# kernel, which computes in fp32 there. With four times as many the scores themselves are what takes long.
MOST_WRITTEN_OUT = 64 * 64


def scaled_dot_product_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None = None,
    *,
    causal: bool = False,
    dropout: float = 0.0,
) -> Tensor:
    """Average the values, weighted by how well each key answers the query: softmax(query keyᵀ / √d_head) value.

    Why √d_head: with independent components of mean 0 and variance 1, the dot product of a query and a key is a sum of
    d_head such products, so its variance is d_head. Without the scale the scores grow with the width of the head, one
    of them wins, softmax saturates, and where softmax is saturated its gradient is almost zero. Dividing by √d_head
    brings the variance of the score back to 1 whatever the width.

    Args:
        query: (batch, num_heads, target_length, d_head).
        key: (batch, key_heads, source_length, d_head); with fewer heads than queries, neighbouring queries share one
            (grouped-query attention, Ainslie et al. 2023).
        value: (batch, key_heads, source_length, d_head).
        mask: broadcast to (batch, num_heads, target_length, source_length), bool, True = may be attended to.
        causal: query t may attend to keys 0..t only; goes with no mask.
        dropout: share of the attention weights zeroed.

    Returns:
        (batch, num_heads, target_length, d_head).
    """
    dtype = query.dtype
    if query.requires_grad and query.device.type == "cpu":
        if dtype == torch.bfloat16 and query.size(2) * key.size(2) <= MOST_WRITTEN_OUT:
            with torch.autocast("cpu", enabled=False):
                weights = _weights(query, key, mask, causal=causal).to(dtype)
                return functional.dropout(weights, dropout) @ _for_each_query(value, query)
        # torch's backward kernel for bf16 on a CPU takes 20 times as long as the one for fp32 (torch 2.13)
        query, key, value = query.float(), key.float(), value.float()

    def attend(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        return functional.scaled_dot_product_attention(
            query,
            key,
            value,
            attn_mask=mask,
            dropout_p=dropout,
            is_causal=causal,
            enable_gqa=key.size(1) != query.size(1),
        )

    with torch.autocast(query.device.type, enabled=False):
        attended = without_fast_products(attend, query, key, value)
    return attended.to(dtype)


def attention_weights(query: Tensor, key: Tensor, mask: Tensor | None = None, *, causal: bool = False) -> Tensor:
    """Give the weights by which `scaled_dot_product_attention` averages, to look at; the same arguments.

    Returns:
        (batch, num_heads, target_length, source_length) float32; each row sums to 1.
    """
    return _weights(query.float(), key.float(), mask, causal=causal)


def _weights(query: Tensor, key: Tensor, mask: Tensor | None, *, causal: bool) -> Tensor:
    """Compute scores in the numbers of query and key, and of them the weights, float32."""
    scores = (query / math.sqrt(query.size(3))) @ _for_each_query(key, query).transpose(2, 3)
    if causal:
        mask = torch.ones(scores.shape[2:], dtype=torch.bool, device=scores.device).tril()
    if mask is not None:
        scores.masked_fill_(~mask, -torch.inf)
    return scores.softmax(dim=-1, dtype=torch.float32)


def _for_each_query(heads: Tensor, query: Tensor) -> Tensor:
    """Repeat keys or values, (batch, key_heads, length, d_head), that several queries share."""
    shared = query.size(1) // heads.size(1)
    return heads if shared == 1 else heads.repeat_interleave(shared, dim=1)
