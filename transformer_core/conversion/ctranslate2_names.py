"""What our weights are called in CTranslate2's specification of a Transformer.

Queries, keys and values of self-attention are one matrix there, keys and values of cross-attention as here. Of a gated
feed-forward the gate is linear_0 and what it gates linear_0_noact.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from transformer_core.config import ModelConfig
from transformer_core.errors import ModelError

__all__ = ["ACTIVATIONS", "GATES", "from_ctranslate2", "to_ctranslate2"]

Arrays = dict[str, Tensor]

ACTIVATIONS = {"relu": 0, "silu": 2, "gelu": 3}
GATES = {"glu": 6, "swiglu": 2}  # sigmoid, silu

NORM_PARTS = {"weight": "gamma", "bias": "beta"}


def to_ctranslate2(config: ModelConfig, weights: Mapping[str, Tensor]) -> Arrays:
    """Rename weights of a plain form (plain_form.py)."""
    arrays: Arrays = {}
    for ours, theirs in _norms(config):
        for ours_kind, their_kind in NORM_PARTS.items():
            if f"{ours}.{ours_kind}" in weights:
                arrays[f"{theirs}/{their_kind}"] = weights[f"{ours}.{ours_kind}"]
    for ours, theirs, is_cross in _attentions(config):
        for kind in ("weight", "bias"):
            query, key_value, output = (
                weights[f"{ours}.{part}_projection.{kind}"] for part in ("query", "key_value", "output")
            )
            linears = (query, key_value, output) if is_cross else (torch.cat((query, key_value)), output)
            arrays |= {f"{theirs}/linear_{number}/{kind}": linear for number, linear in enumerate(linears)}
    for ours, theirs in _feed_forwards(config):
        for kind in ("weight", "bias"):
            inner = weights[f"{ours}.inner_projection.{kind}"]
            if config.feed_forward == "plain":
                arrays[f"{theirs}/linear_0/{kind}"] = inner
            else:
                gate, gated = inner.chunk(2)
                arrays[f"{theirs}/linear_0/{kind}"], arrays[f"{theirs}/linear_0_noact/{kind}"] = gate, gated
            arrays[f"{theirs}/linear_1/{kind}"] = weights[f"{ours}.output_projection.{kind}"]
    source = weights["source_embedding.token_embedding.weight"]
    target = weights.get("target_embedding.token_embedding.weight", source)
    arrays["encoder/embeddings_0/weight"], arrays["decoder/embeddings/weight"] = source, target
    arrays["decoder/projection/weight"] = weights.get("output_projection.weight", target)
    if (bias := weights.get("output_projection.bias")) is not None:
        arrays["decoder/projection/bias"] = bias
    return arrays


def from_ctranslate2(config: ModelConfig, arrays: Mapping[str, Tensor], name: str) -> Arrays:
    """Rename arrays to ours, and take apart what is one array there.

    Args:
        config: of our model.
        arrays: as floats.
        name: the file that messages speak of.

    Raises:
        ModelError: an array is missing, or there is one that our models have no use for.
    """
    file = _File({array_name: array for array_name, array in arrays.items() if array.dim()}, name)
    weights: Arrays = {}
    kinds = NORM_PARTS if config.norm_kind == "layer" else {"weight": "gamma"}
    for ours, theirs in _norms(config):
        weights |= {f"{ours}.{kind}": file.take(f"{theirs}/{their_kind}") for kind, their_kind in kinds.items()}
    for kind in ("weight", "bias"):
        for ours, theirs, is_cross in _attentions(config):
            query, key_value, output = _projections(config, file, (theirs, kind), is_cross=is_cross)
            weights[f"{ours}.query_projection.{kind}"] = query
            weights[f"{ours}.key_value_projection.{kind}"] = key_value
            weights[f"{ours}.output_projection.{kind}"] = output
        for ours, theirs in _feed_forwards(config):
            inner = file.take(f"{theirs}/linear_0/{kind}")
            if config.feed_forward != "plain":
                gated = file.take(f"{theirs}/linear_0_noact/{kind}")
                if gated.shape != inner.shape:
                    raise ModelError(
                        f"{name}: {theirs}/linear_0 and linear_0_noact have shapes that do not go together"
                    )
                inner = torch.cat((inner, gated))
            weights[f"{ours}.inner_projection.{kind}"] = inner
            weights[f"{ours}.output_projection.{kind}"] = file.take(f"{theirs}/linear_1/{kind}")
    weights |= _tables_from(config, file)
    if unknown := sorted(file.left):
        raise ModelError(f"{name}: holds the array {unknown[0]}, which none of our layers has")
    return weights


@dataclass(frozen=True)
class _File:
    """Arrays that nobody has taken yet, and the file that they are from."""

    left: Arrays
    name: str

    def take(self, array_name: str) -> Tensor:
        """Give an array, once.

        Raises:
            ModelError: it is not there.
        """
        if array_name not in self.left:
            raise ModelError(
                f"{self.name}: lacks the array {array_name}; only models of a known layout can be imported"
            )
        return self.left.pop(array_name)


def _projections(
    config: ModelConfig, file: _File, name_and_kind: tuple[str, str], *, is_cross: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Give the projections of an attention: query, key and value, output."""
    name, kind = name_and_kind
    first, second = file.take(f"{name}/linear_0/{kind}"), file.take(f"{name}/linear_1/{kind}")
    if is_cross:
        return first, second, file.take(f"{name}/linear_2/{kind}")
    d_model = config.encoder.d_model if name.startswith("encoder") else config.decoder.d_model
    return first[:d_model], first[d_model:], second


def _tables_from(config: ModelConfig, file: _File) -> Arrays:
    """Rename what has a row for each entry of a vocabulary, and for each position."""
    tables = {
        "source_embedding.token_embedding.weight": file.take("encoder/embeddings_0/weight"),
        "target_embedding.token_embedding.weight": file.take("decoder/embeddings/weight"),
        "output_projection.weight": file.take("decoder/projection/weight"),
    }
    num_tables = {"all": 1, "decoder": 2, "none": 3}[config.tie_embeddings]
    tables = dict(list(tables.items())[:num_tables])
    bias = file.left.pop("decoder/projection/bias", None)
    if config.output_bias and bias is not None:
        tables["output_projection.bias"] = bias
    for side, ours in (("encoder", "source"), ("decoder", "target")):
        table = file.left.pop(f"{side}/position_encodings/encodings", None)
        if config.positions == "learned" and table is not None:
            tables[f"{ours}_embedding.position_embedding.weight"] = table
    return tables


def _layers(config: ModelConfig) -> Iterator[tuple[str, str, str]]:
    for side, stack in (("encoder", config.encoder), ("decoder", config.decoder)):
        for number in range(stack.num_layers):
            yield side, f"{side}.layers.{number}", f"{side}/layer_{number}"


def _attentions(config: ModelConfig) -> Iterator[tuple[str, str, bool]]:
    """Every attention: our name, theirs, whether it is cross-attention."""
    for side, ours, theirs in _layers(config):
        yield f"{ours}.mixer", f"{theirs}/self_attention", False
        if side == "decoder":
            yield f"{ours}.cross_attention", f"{theirs}/attention", True


def _feed_forwards(config: ModelConfig) -> Iterator[tuple[str, str]]:
    for _, ours, theirs in _layers(config):
        yield f"{ours}.feed_forward", f"{theirs}/ffn"


def _norms(config: ModelConfig) -> Iterator[tuple[str, str]]:
    """Every norm: our name and theirs."""
    for side, ours, theirs in _layers(config):
        yield f"{ours}.mixer_residual.norm", f"{theirs}/self_attention/layer_norm"
        yield f"{ours}.feed_forward_residual.norm", f"{theirs}/ffn/layer_norm"
        if side == "decoder":
            yield f"{ours}.cross_attention_residual.norm", f"{theirs}/attention/layer_norm"
    if config.norm_first:
        yield "encoder.final_norm", "encoder/layer_norm"
        yield "decoder.final_norm", "decoder/layer_norm"
    if config.norm_embedding:
        yield "source_embedding.norm", "encoder/layernorm_embedding"
        yield "target_embedding.norm", "decoder/layernorm_embedding"
