"""Read the attention weights of a model: one walk through encoder and decoder, which computes what `forward` does.

The walk goes through the same residual frames as the model's own forward and asks each attention for its weights on
the way, with the inputs that it gets there. A mixer that is no attention (recurrent, convolutional) is walked through.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from tokenizer import Tokenizer
from tokenizer.masked_text import MaskedLineEncoder
from transformer_core.config import ModelConfig
from transformer_core.data.lines import is_blank
from transformer_core.errors import DataError, ModelError
from transformer_core.inspection.attention_maps import AttentionKind, SentenceAttention
from transformer_core.inspection.labels import token_labels
from transformer_core.layers.attention import SelfAttention
from transformer_core.layers.mixer import SequenceMixer
from transformer_core.model import DecoderLayer, EncoderLayer, Transformer

__all__ = ["MAX_TOKENS", "Target", "Walk", "encode_source", "read_attention", "walk"]

MAX_TOKENS = 512  # of a sentence: more of them nobody can look at, and the weights grow with the square


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


def encode_source(model: Transformer, tokenizer: Tokenizer, sentence: str) -> list[int]:
    """Turn a sentence that is to be looked at into ids; for an encoder alone, `<mask>` in it is the mask token.

    Raises:
        DataError: it is blank, or too long.
    """
    encoder = MaskedLineEncoder(tokenizer) if model.config.is_encoder_only else tokenizer
    if is_blank(sentence) or not (ids := encoder.encode(sentence)):
        raise DataError("the sentence is blank: there is nothing that could be attended to")
    _check_length("sentence", ids)
    return ids


def _check_length(name: str, ids: Sequence[int]) -> None:
    if len(ids) > MAX_TOKENS:
        raise DataError(f"the {name} has {len(ids)} tokens; attention can be looked at for {MAX_TOKENS} at most")


@dataclass(frozen=True, kw_only=True)
class Target:
    """What stands on the other side of a sentence."""

    text: str
    token_ids: Sequence[int]  # its end token aside; the model may have written others than the tokenizer would cut
    is_decoded: bool  # the model wrote it


@torch.inference_mode()
def read_attention(
    model: Transformer, tokenizers: tuple[Tokenizer, Tokenizer], source: str, target: Target | None
) -> SentenceAttention:
    """Read the weights for one pair of sentences.

    Args:
        model: in evaluation mode, wherever it is.
        tokenizers: of the source and of the target.
        source: what the model reads.
        target: what it writes; None for an encoder alone.

    Raises:
        DataError: a sentence is blank or too long.
        ConfigError: a sentence is longer than the positions that the model has learned.
        ModelError: the model computes NaN.
    """
    source_tokenizer, target_tokenizer = tokenizers
    source_ids = [*encode_source(model, source_tokenizer, source), source_tokenizer.eos_id]
    target_ids = [] if target is None else [*target.token_ids, target_tokenizer.eos_id]
    _check_length("target", target_ids[:-1])
    device = model.output_projection.weight.device
    target_input = torch.tensor([[target_tokenizer.bos_id, *target_ids[:-1]]], device=device)
    found = walk(model, torch.tensor([source_ids], device=device), None, target_input)
    if not all(bool(weights.isfinite().all()) for weights in found.weights.values()):
        raise ModelError("the model computes no weights, but NaN: it is damaged or its training diverged")
    return SentenceAttention(
        source=source,
        target=None if target is None else target.text,
        is_decoded=target is not None and target.is_decoded,
        source_tokens=token_labels(source_tokenizer, source_ids),
        target_tokens=token_labels(target_tokenizer, target_ids),
        begin_token=token_labels(target_tokenizer, [target_tokenizer.bos_id])[0],
        weights={kind: weights[:, 0].cpu().numpy() for kind, weights in found.weights.items()},
        missing={kind: reason for kind, reason in _reasons(model.config).items() if kind not in found.weights},
    )


def _reasons(config: ModelConfig) -> dict[AttentionKind, str]:
    """Say of each kind of attention why a model may have none of it."""
    if config.is_encoder_only:
        no_decoder = "the model is an encoder without a decoder"
        reasons: dict[AttentionKind, str] = {"decoder": no_decoder, "cross": no_decoder}
    else:
        reasons = {"decoder": f"the decoder mixes by {config.decoder.mixer} and has no self-attention"}
    return {"encoder": f"the encoder mixes by {config.encoder.mixer} and has no self-attention", **reasons}
