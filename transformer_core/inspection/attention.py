"""Read the attention weights of a model for a sentence, or for a pair of them, with the tokens that they belong to."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from tokenizer import Tokenizer
from tokenizer.masked_text import MaskedLineEncoder
from transformer_core.attention_walk import walk
from transformer_core.config import AttentionKind, ModelConfig
from transformer_core.data.lines import is_blank
from transformer_core.errors import DataError, ModelError
from transformer_core.inspection.attention_maps import SentenceAttention
from transformer_core.inspection.labels import token_labels
from transformer_core.model import Transformer

__all__ = ["MAX_TOKENS", "Target", "encode_source", "read_attention"]

MAX_TOKENS = 512  # of a sentence: more of them nobody can look at, and the weights grow with the square


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
    device = model.device
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
