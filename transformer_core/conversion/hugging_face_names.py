"""What our weights are called in the models of Hugging Face that descend from BART: Marian, Pegasus, M2M100, mBART.

They all have one layout, and differ in whether a norm comes first, in positions, and in a norm of the embeddings.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from transformer_core.config import ModelConfig, StackConfig
from transformer_core.errors import ModelError

__all__ = ["LEARNED_OFFSET", "from_hugging_face", "to_hugging_face"]

Weights = dict[str, Tensor]

LEARNED_OFFSET = 2  # rows of a table of learned positions that stand before the first position, and are never used
OF_LAYER = re.compile(r"model\.(encoder|decoder)\.layers\.\d+\..+")

ENCODER_LAYER = (
    ("mixer", "self_attn"),
    ("mixer_residual.norm", "self_attn_layer_norm"),
    ("feed_forward", ""),
    ("feed_forward_residual.norm", "final_layer_norm"),
)
DECODER_LAYER = (
    *ENCODER_LAYER,
    ("cross_attention", "encoder_attn"),
    ("cross_attention_residual.norm", "encoder_attn_layer_norm"),
)


def to_hugging_face(config: ModelConfig, weights: Mapping[str, Tensor]) -> Weights:
    """Rename weights of a plain form (plain_form.py), and give what is tied once."""
    named: Weights = {}
    for ours, theirs in _vectors(config):
        if ours in weights:
            named[theirs] = weights[ours]
    if config.tie_embeddings == "all":
        named["model.shared.weight"] = weights["source_embedding.token_embedding.weight"]
    else:
        named["model.encoder.embed_tokens.weight"] = weights["source_embedding.token_embedding.weight"]
        named["model.decoder.embed_tokens.weight"] = weights["target_embedding.token_embedding.weight"]
    if config.tie_embeddings == "none":
        named["lm_head.weight"] = weights["output_projection.weight"]
    for side in ("source", "target"):
        if (table := weights.get(f"{side}_embedding.position_embedding.weight")) is not None:
            unused = table.new_zeros(LEARNED_OFFSET, table.size(1))
            named[f"model.{_stack_of(side)}.embed_positions.weight"] = torch.cat((unused, table))
    for our_part, their_part, kind in _attentions(config):
        key, value = weights[f"{our_part}.key_value_projection.{kind}"].chunk(2)
        named[f"{their_part}.q_proj.{kind}"] = weights[f"{our_part}.query_projection.{kind}"]
        named[f"{their_part}.k_proj.{kind}"], named[f"{their_part}.v_proj.{kind}"] = key.clone(), value.clone()
        named[f"{their_part}.out_proj.{kind}"] = weights[f"{our_part}.output_projection.{kind}"]
    if (bias := weights.get("output_projection.bias")) is not None:
        named["final_logits_bias"] = bias[None]
    return named


def from_hugging_face(config: ModelConfig, given: Mapping[str, Tensor], name: str) -> Weights:
    """Rename weights to ours, and leave out what a config does not ask for.

    Args:
        config: of our model.
        given: by the names of Hugging Face.
        name: the file that messages speak of.

    Raises:
        ModelError: a weight is missing, has no shape that can be put together, or is of a layer that is not asked for.
    """
    file = _File(given, name)
    named = {ours: file.take(theirs) for ours, theirs in _vectors(config)} | _tables_from(config, file)
    for our_part, their_part, kind in _attentions(config):
        key, value = (file.take(f"{their_part}.{part}_proj.{kind}") for part in ("k", "v"))
        if key.shape != value.shape:
            raise ModelError(f"{name}: {their_part}.k_proj and v_proj have shapes that do not go together")
        named[f"{our_part}.query_projection.{kind}"] = file.take(f"{their_part}.q_proj.{kind}")
        named[f"{our_part}.key_value_projection.{kind}"] = torch.cat((key, value))
        named[f"{our_part}.output_projection.{kind}"] = file.take(f"{their_part}.out_proj.{kind}")
    for theirs in sorted(set(given) - file.taken):
        if OF_LAYER.fullmatch(theirs):
            raise ModelError(f"{name}: holds {theirs}, which its config.json has no layer for")
    return named


@dataclass(frozen=True)
class _File:
    """Weights by their names, the file that they are from, and the names of those that were taken."""

    given: Mapping[str, Tensor]
    name: str
    taken: set[str] = field(default_factory=set)

    def take(self, *names: str) -> Tensor:
        """Give the first of these weights that is there.

        Raises:
            ModelError: none is.
        """
        for each in names:
            if each in self.given and self.given[each].dim():
                self.taken.add(each)
                return self.given[each]
        raise ModelError(f"{self.name}: lacks the tensor {names[0]} that its config.json asks for")


def _tables_from(config: ModelConfig, file: _File) -> Weights:
    """Rename what has a row for each entry of a vocabulary, and for each position."""
    shared, output = "model.shared.weight", "lm_head.weight"
    sides = {side: f"model.{_stack_of(side)}.embed_tokens.weight" for side in ("source", "target")}
    tables: Weights = {}
    if config.tie_embeddings == "all":
        tables["source_embedding.token_embedding.weight"] = file.take(shared, sides["source"], output)
    else:
        for side, name in sides.items():
            tables[f"{side}_embedding.token_embedding.weight"] = file.take(name, shared)
    if config.tie_embeddings == "none":
        tables["output_projection.weight"] = file.take(output)
    if config.positions == "learned":
        for side in sides:
            positions = file.take(f"model.{_stack_of(side)}.embed_positions.weight")
            tables[f"{side}_embedding.position_embedding.weight"] = positions[LEARNED_OFFSET:]
    if config.output_bias:
        bias = file.given.get("final_logits_bias")
        tables["output_projection.bias"] = (
            torch.zeros(config.target_vocabulary_size) if bias is None else bias.flatten()
        )
    return tables


def _stack_of(side: str) -> str:
    return {"source": "encoder", "target": "decoder"}[side]


def _layers(config: ModelConfig) -> Iterator[tuple[str, str, str, str]]:
    """The parts of every layer: our prefix and part, their prefix and part."""
    stacks: tuple[tuple[str, StackConfig, tuple[tuple[str, str], ...]], ...] = (
        ("encoder", config.encoder, ENCODER_LAYER),
        ("decoder", config.decoder, DECODER_LAYER),
    )
    for side, stack, parts in stacks:
        for number in range(stack.num_layers):
            for ours, theirs in parts:
                yield f"{side}.layers.{number}.", ours, f"model.{side}.layers.{number}.", theirs


def _vectors(config: ModelConfig) -> Iterator[tuple[str, str]]:
    """All names but those of attention and of the vocabularies' tables: ours and theirs."""
    pairs: list[tuple[str, str]] = []
    for our_prefix, ours, their_prefix, theirs in _layers(config):
        if ours.endswith("norm"):
            pairs.append((f"{our_prefix}{ours}", f"{their_prefix}{theirs}"))
        elif ours == "feed_forward":
            pairs.append((f"{our_prefix}feed_forward.inner_projection", f"{their_prefix}fc1"))
            pairs.append((f"{our_prefix}feed_forward.output_projection", f"{their_prefix}fc2"))
    for side in ("source", "target"):
        stack = _stack_of(side)
        if config.norm_embedding:
            pairs.append((f"{side}_embedding.norm", f"model.{stack}.layernorm_embedding"))
        if config.norm_first:
            pairs.append((f"{stack}.final_norm", f"model.{stack}.layer_norm"))
    for ours, theirs in pairs:
        for kind in ("weight", "bias"):
            yield f"{ours}.{kind}", f"{theirs}.{kind}"


def _attentions(config: ModelConfig) -> Iterator[tuple[str, str, str]]:
    """Every attention, and the kinds of its weights: our name of it, theirs, the kind."""
    for our_prefix, ours, their_prefix, theirs in _layers(config):
        if ours in ("mixer", "cross_attention"):
            for kind in ("weight", "bias"):
                yield f"{our_prefix}{ours}", f"{their_prefix}{theirs}", kind
