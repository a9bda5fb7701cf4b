"""One walk through encoder and decoder, which computes what `forward` does and keeps the attention weights.

It goes through the same residual frames as the model's own forward and asks each attention for its weights on the way,
with the inputs that it gets there. A mixer that is no attention (recurrent, convolutional) is walked through.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from transformer_core.config import AttentionKind
from transformer_core.layers.attention import SelfAttention
from transformer_core.layers.mixer import SequenceMixer
from transformer_core.model import DecoderLayer, EncoderLayer, Transformer

__all__ = ["Walk", "walk"]


@dataclass(frozen=True, kw_only=True)
class Walk:
    """What a walk through a model found."""

    weights: dict[AttentionKind, Tensor]  # each (layers, batch, num_heads, rows, columns) float32
    memory: Tensor  # (batch, source_length, d_model), what `encode` gives
    hidden: Tensor  # (batch, target_length, d_model), what `decode` gives


def walk(model: Transformer, source: Tensor, source_mask: Tensor | None, target_input: Tensor) -> Walk:
    """Compute whole pairs and keep every attention weight.

    Args:
        model: in evaluation mode: dropout would be drawn once for the weights and once for the values.
        source: (batch, source_length) int64, padded with pad_id.
        source_mask: (batch, source_length) bool, True = a real token; None where all are.
        target_input: (batch, target_length) int64, begins with bos_id, padded at the end.
    """
    found: dict[AttentionKind, list[Tensor]] = {"encoder": [], "decoder": [], "cross": []}
    stream = model.source_embedding(source)
    for layer in model.encoder.layers:
        assert isinstance(layer, EncoderLayer)
        mix = _mixing(layer.mixer, source_mask, found["encoder"], causal=False)
        stream = layer.feed_forward_residual(layer.mixer_residual(stream, mix), layer.feed_forward)
    memory = model.encoder.final_norm(stream)
    stream = model.target_embedding(target_input)
    for layer in model.decoder.layers:
        assert isinstance(layer, DecoderLayer)
        stream = layer.mixer_residual(stream, _mixing(layer.mixer, None, found["decoder"], causal=True))
        stream = layer.cross_attention_residual(stream, _crossing(layer, memory, source_mask, found["cross"]))
        stream = layer.feed_forward_residual(stream, layer.feed_forward)
    weights = {kind: torch.stack(of_layers) for kind, of_layers in found.items() if of_layers}
    return Walk(weights=weights, memory=memory, hidden=model.decoder.final_norm(stream))


def _mixing(
    mixer: SequenceMixer, mask: Tensor | None, found: list[Tensor], *, causal: bool
) -> Callable[[Tensor], Tensor]:
    """A mixer as the sublayer of a frame that puts its weights, if it has any, into `found`."""

    def mix(inputs: Tensor) -> Tensor:
        if isinstance(mixer, SelfAttention):
            found.append(mixer.weights(inputs, mask, causal=causal))
        return mixer(inputs, mask, causal=causal)  # type: ignore[no-any-return]

    return mix


def _crossing(
    layer: DecoderLayer, memory: Tensor, mask: Tensor | None, found: list[Tensor]
) -> Callable[[Tensor], Tensor]:
    """The same for cross-attention."""

    def cross(inputs: Tensor) -> Tensor:
        found.append(layer.cross_attention.weights(inputs, memory, mask))
        return layer.cross_attention(inputs, memory, mask)  # type: ignore[no-any-return]

    return cross
