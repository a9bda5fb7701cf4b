"""A model on disk and in memory: save it, verify it, load it.

Whatever lies in a model folder may be damaged or hostile: everything is verified before a model is built from it, and
memory is bounded by the size of the files.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor, nn

from tokenizer import Tokenizer
from transformer_core.config import ModelConfig
from transformer_core.errors import ConfigError, ModelError
from transformer_core.layers.low_rank import low_rank_layers
from transformer_core.lexicon.shortlist import Shortlist
from transformer_core.model import Transformer
from transformer_core.model_files import SHORTLIST_FILE, checkpoint_path, read_config, read_json, read_tokenizers
from transformer_core.weight_file import read_weights

__all__ = [
    "LoadedModel",
    "expected_shapes",
    "load_model",
    "plain_model",
    "plain_parameters",
    "require_same_vocabularies",
    "shapes_of",
    "weights_of",
]


@dataclass(frozen=True, kw_only=True)
class LoadedModel:
    """A model folder, read."""

    model: Transformer  # in evaluation mode
    source_tokenizer: Tokenizer
    target_tokenizer: Tokenizer  # the same object as the source's when the vocabulary is joint
    generation: dict[str, Any]  # decoding defaults, by the names of SearchConfig's fields
    metadata: dict[str, Any]  # provenance
    shortlist: Shortlist | None = None  # if it was asked for

    def tagged(self, tag: str | None) -> Self:
        """Read every line with a tag before it: the one that is given, or the only one that the model knows.

        Raises:
            ConfigError: the model translates in several directions, and none is named.
            TokenizerConfigError: it has no such tag.
            ModelError: generation.json names tags that are none.
        """
        own, tags = self.generation.get("tag"), self.generation.get("tags")
        known = self.source_tokenizer.tags
        for name in [own, *(tags if isinstance(tags, list) else [tags])]:
            if name is not None and not (isinstance(name, str) and name in known):
                raise ModelError(f"generation.json: {name!r:.100} is no tag of the vocabulary")
        tag = tag or own
        if tag is None and isinstance(tags, list) and tags:
            choices = " or ".join(tags)
            raise ConfigError(f"this model translates in several directions; say which: --tag {choices}")
        return replace(self, source_tokenizer=self.source_tokenizer.tagged(tag))


def load_model(
    folder: str | Path,
    checkpoint: str = "best",
    device: str | torch.device = "cpu",
    *,
    is_mapped: bool = False,
    needs_shortlist: bool = False,
) -> LoadedModel:
    """Read a model folder.

    Args:
        folder: the folder that `train` wrote.
        checkpoint: "best" (the folder's own weights), "last", or the number of a step.
        device: where the weights go.
        is_mapped: as for read_weights.
        needs_shortlist: read the shortlist, too.

    Raises:
        ModelError: a file is missing or damaged, or does not fit the others.
    """
    folder = Path(folder)
    config = read_config(folder)
    source_tokenizer, target_tokenizer = read_tokenizers(folder, config)
    shortlist = None
    if needs_shortlist:
        shortlist = Shortlist.load(folder / SHORTLIST_FILE, source_tokenizer, target_tokenizer)
    weights_path = checkpoint_path(folder, checkpoint)
    with torch.device("meta"):
        model = Transformer(config)
    weights = read_weights(weights_path, expected_shapes(model), is_mapped=is_mapped)
    _assign(model, {name: weight.to(device) for name, weight in weights.items()})
    return LoadedModel(
        model=model.eval(),
        source_tokenizer=source_tokenizer,
        target_tokenizer=target_tokenizer,
        generation=read_json(folder / "generation.json"),
        metadata=read_json(folder / "metadata.json"),
        shortlist=shortlist,
    )


def require_same_vocabularies(folders: Sequence[Path], models: Sequence[LoadedModel]) -> None:
    """See that models can decode together.

    Raises:
        ConfigError: two have not the same vocabularies.
    """
    for folder, loaded in zip(folders, models, strict=True):
        for side in ("source", "target"):
            own, first = (getattr(each, f"{side}_tokenizer").sha256 for each in (loaded, models[0]))
            if own != first:
                raise ConfigError(
                    f"{folder} has another {side} vocabulary than {folders[0]}; models decode together only with the "
                    "same tokenizers: train them with --tokenizer"
                )


def expected_shapes(model: Transformer) -> dict[str, tuple[int, ...]]:
    """Give the shape of every weight, each shared one once."""
    return {name: tuple(parameter.shape) for name, parameter in plain_parameters(model)}


def shapes_of(config: ModelConfig) -> dict[str, tuple[int, ...]]:
    """Give the shape of every weight that a model of this config has; none is made."""
    with torch.device("meta"):
        return expected_shapes(Transformer(config))


def weights_of(model: Transformer) -> dict[str, Tensor]:
    """Name every weight once, however many places share it; adapters are merged into the weights that they adapt."""
    merged = {f"{name}.weight": layer.merged_weight() for name, layer in low_rank_layers(model)}
    return {name: merged.get(name, parameter.detach()) for name, parameter in plain_parameters(model)}


def plain_parameters(model: Transformer) -> Iterator[tuple[str, nn.Parameter]]:
    """Give the parameters that a model has by its config: all but those of adapters."""
    adapters = {
        id(parameter) for _, layer in low_rank_layers(model) for parameter in (layer.adapter_down, layer.adapter_up)
    }
    return ((name, parameter) for name, parameter in model.named_parameters() if id(parameter) not in adapters)


def plain_model(model: Transformer) -> Transformer:
    """Give a model that does the same and has no adapters; weights without any are shared, not copied."""
    if not any(True for _ in low_rank_layers(model)):
        return model
    with torch.device("meta"):
        plain = Transformer(model.config)
    _assign(plain, weights_of(model))
    return plain.train(model.training)


def _assign(model: Transformer, weights: Mapping[str, Tensor]) -> None:
    """Put weights into a model that was built without any (on the meta device); what is tied stays tied."""
    filled = {id(parameter): nn.Parameter(weights[name]) for name, parameter in model.named_parameters()}
    for module in model.modules():
        for name, parameter in list(module.named_parameters(recurse=False, remove_duplicate=False)):
            if id(parameter) in filled:
                setattr(module, name, filled[id(parameter)])
