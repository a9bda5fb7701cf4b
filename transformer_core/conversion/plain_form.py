"""The same model with less asked of who computes it: what can be folded into the weights is no option any more.

- Heads that share keys and values get their own copies.
- A layer that is used several times gets as many copies.
- Scores that are not divided by √d_head: the queries are multiplied by it instead.
- Sinusoids with sine and cosine side by side: the components of the residual stream change places until all sines come
  first. The stream is the same but for the order of its components, and norms do not depend on that.
"""

import math
from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor

from transformer_core.config import ModelConfig, StackConfig

__all__ = ["plain_form"]

Weights = dict[str, Tensor]
QUERY = "query_projection"
KEY_VALUE = "key_value_projection"


def plain_form(config: ModelConfig, weights: Mapping[str, Tensor]) -> tuple[ModelConfig, Weights]:
    """Give config and weights of a model that computes the same without the options above."""
    plain = _own_layers(config, weights)
    for side, stack in (("encoder", config.encoder), ("decoder", config.decoder)):
        for name in list(plain):
            if not name.startswith(f"{side}.layers."):
                continue
            if KEY_VALUE in name:
                plain[name] = _own_heads(plain[name], stack)
            elif QUERY in name and not config.scale_attention:
                plain[name] = plain[name] * math.sqrt(stack.d_head)
    if config.positions == "sinusoidal" and config.sinusoid_form == "vaswani":
        plain = {name: _sines_first(name, weight, config) for name, weight in plain.items()}
        config = replace(config, sinusoid_form="marian")
    return (
        replace(
            config,
            scale_attention=True,
            encoder=replace(config.encoder, num_key_value_heads=None, share_layers=False),
            decoder=replace(config.decoder, num_key_value_heads=None, share_layers=False),
        ),
        plain,
    )


def _own_layers(config: ModelConfig, weights: Mapping[str, Tensor]) -> Weights:
    """Repeat the weights of a layer for the places that share it."""
    plain = dict(weights)
    for side, stack in (("encoder", config.encoder), ("decoder", config.decoder)):
        first = f"{side}.layers.0."
        for name, weight in weights.items():
            if stack.share_layers and name.startswith(first):
                for number in range(1, stack.num_layers):
                    plain[f"{side}.layers.{number}.{name.removeprefix(first)}"] = weight.clone()
    return plain


def _own_heads(weight: Tensor, stack: StackConfig) -> Tensor:
    """Repeat keys and values for the queries that share them: (2 * key_heads * d_head, …) -> (2 * d_model, …)."""
    if stack.num_key_value_heads is None:
        return weight
    repeats = stack.num_heads // stack.num_key_value_heads
    # (2 * key_heads * d_head, …) -> (2, key_heads, d_head, …)
    heads = weight.view(2, stack.num_key_value_heads, stack.d_head, *weight.shape[1:])
    return heads.repeat_interleave(repeats, dim=1).flatten(0, 2)


def _sines_first(name: str, weight: Tensor, config: ModelConfig) -> Tensor:
    """Reorder the components of the stream in a weight: the even ones, and then the odd ones."""
    part = name.rsplit(".", 2)[-2]
    is_weight = name.endswith(".weight")
    if part in ("token_embedding", "norm", "final_norm") or name == "output_projection.weight":
        return _even_then_odd(weight, weight.dim() - 1)
    if name == "output_projection.bias":
        return weight
    if part in (QUERY, KEY_VALUE, "inner_projection"):  # out of the stream
        return _even_then_odd(weight, 1) if is_weight else weight
    return _even_then_odd(weight, 0)  # output_projection of a sublayer: into the stream


def _even_then_odd(weight: Tensor, dim: int) -> Tensor:
    order = torch.arange(weight.size(dim)).view(-1, 2).t().flatten()
    return weight.index_select(dim, order)
