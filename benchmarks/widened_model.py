"""A trained small model written into the shape of a large one: what it computes stays, what that costs does not.

Speed depends on how long translations are, and those of random weights have no natural end. So a Tiny model is widened
to Opus-MT's shape: every vector of the residual stream stands four times side by side, heads and feed-forwards are
repeated and their outputs divided, further layers add nothing, and entries that no text has fill the vocabulary. All
products are dense and of full size. Of the rounding of narrower numbers it says nothing: its weights repeat themselves.
"""

import json
import math
from dataclasses import replace

import torch
from torch import Tensor

from tokenizer import Tokenizer
from transformer_core.config import ModelConfig, StackConfig
from transformer_core.layers.embedding import SINUSOID_FORMS, sinusoids
from transformer_core.model import Transformer
from transformer_core.model_directory import LoadedModel

__all__ = ["OPUS_MT", "OPUS_MT_VOCABULARY", "widened"]

OPUS_MT = StackConfig(num_layers=6, d_model=512, num_heads=8, d_ff=2048)
OPUS_MT_VOCABULARY = 32_000
NEVER = -10_000.0  # the logit of entries that no text has


def widened(loaded: LoadedModel, shape: StackConfig = OPUS_MT, vocabulary: int = OPUS_MT_VOCABULARY) -> LoadedModel:
    """Give a model of another shape that computes the same logits, up to rounding.

    Args:
        loaded: of one vocabulary and the defaults of `train` but for its positions, which are sinusoids.
        shape: of both stacks; each width is a multiple of the model's.
        vocabulary: entries, at least as many as the model's.
    """
    config, own = loaded.model.config, loaded.model.config.encoder
    assert config.norm_first and config.norm_kind == "layer" and config.feed_forward == "plain"
    assert config.positions == "sinusoidal"
    assert own.mixer == "attention" and own.num_key_value_heads is None and config.tie_embeddings == "all"
    wide = replace(
        config,
        encoder=shape,
        decoder=shape,
        source_vocabulary_size=vocabulary,
        target_vocabulary_size=vocabulary,
        positions="learned",  # the sinusoids of the narrow model, repeated
        output_bias=True,
    )
    model = Transformer(wide).eval()
    narrow = loaded.model.state_dict()
    with torch.no_grad():
        for name, weight in model.state_dict().items():
            weight.copy_(_widened_weight(name, narrow, weight.shape, config, shape))
    tokenizer = _with_more_entries(loaded.source_tokenizer, vocabulary)
    return replace(loaded, model=model, source_tokenizer=tokenizer, target_tokenizer=tokenizer)


def _widened_weight(
    name: str, narrow: dict[str, Tensor], shape: torch.Size, config: ModelConfig, stack: StackConfig
) -> Tensor:
    """Make one tensor of the wide model out of the narrow one's."""
    own, copies = config.encoder, stack.d_model // config.encoder.d_model
    if name.endswith("position_embedding.weight"):
        table = sinusoids(shape[0], own.d_model, SINUSOID_FORMS[config.sinusoid_form])
        return table.repeat(1, copies)
    if name == "output_projection.bias":
        bias = torch.full(shape, NEVER)
        bias[: config.target_vocabulary_size] = 0.0
        return bias
    if name not in narrow:  # of a further layer: its sublayers add nothing, though all is computed
        return torch.zeros(shape) if "output_projection" in name else torch.randn(shape) * 0.02
    weight = narrow[name]
    if name.endswith("token_embedding.weight") or name == "output_projection.weight":
        # by √d_model it is multiplied, and that has grown by √copies
        rows = torch.zeros(shape)
        rows[: weight.size(0)] = weight.repeat(1, copies) / math.sqrt(copies)
        return rows
    if "final_norm" in name:  # of the decoder: the logits are sums over `copies` times as many products
        factor = math.sqrt(copies) / copies if name.startswith("decoder.") else 1.0
        return weight.repeat(copies) * factor
    return _repeated(name, weight, own, stack, shape) * _scale_of_queries(name, own, stack)


def _repeated(name: str, weight: Tensor, own: StackConfig, wide: StackConfig, shape: torch.Size) -> Tensor:
    """Repeat outputs, and inputs with a share each; heads keep their components together."""
    heads = (torch.arange(wide.num_heads) % own.num_heads)[:, None] * own.d_head
    by_head = (heads + torch.arange(wide.d_head) % own.d_head).flatten()  # for every wide component its narrow one
    outputs = torch.arange(shape[0]) % weight.size(0)
    if "query_projection" in name:
        outputs = by_head
    elif "key_value_projection" in name:  # keys, then values
        outputs = torch.cat((by_head, by_head + own.d_model))
    weight = weight[outputs]
    if weight.dim() == 1:
        return weight
    is_after_heads = "mixer.output_projection" in name or "cross_attention.output_projection" in name
    inputs = by_head if is_after_heads else torch.arange(shape[1]) % weight.size(1)
    return weight[:, inputs] * (weight.size(1) / shape[1])


def _scale_of_queries(name: str, own: StackConfig, wide: StackConfig) -> float:
    """A head that holds each component several times has a larger product, and divides it by a larger root."""
    return math.sqrt(own.d_head / wide.d_head) if "query_projection" in name else 1.0


def _with_more_entries(tokenizer: Tokenizer, vocabulary: int) -> Tokenizer:
    """Add entries to a vocabulary that no text is cut into: nothing is merged to them."""
    document = json.loads(tokenizer.to_json())
    pieces = document["model"]["vocab"]
    for index in range(len(pieces), vocabulary):
        pieces[f"\U000f0000{index}"] = index
    return Tokenizer.from_json(json.dumps(document, ensure_ascii=False))
