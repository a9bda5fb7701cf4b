"""A model that was read from a foreign folder, and how it becomes a model folder of ours."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tokenizer import Tokenizer
from transformer_core.config import ModelConfig
from transformer_core.errors import ModelError
from transformer_core.model_directory import shapes_of
from transformer_core.new_model import NewModel, write_model
from transformer_core.provenance import describe_weights
from transformer_core.weight_file import require_finite

__all__ = ["Imported", "write_imported"]


@dataclass(frozen=True, kw_only=True)
class Imported:
    """All that a model folder is made of."""

    config: ModelConfig
    weights: dict[str, Tensor]  # by our names
    source_tokenizer: Tokenizer
    target_tokenizer: Tokenizer  # the same object as the source's where they are joint
    generation: dict[str, Any]  # decoding defaults
    weights_path: Path  # where the weights come from
    left_out: tuple[str, ...] = ()  # names of their decoding defaults that we have none for


def write_imported(imported: Imported, folder: Path, command: str = "") -> None:
    """Write a model folder, whole or not at all.

    Args:
        imported: what it holds.
        folder: there is none yet, or an empty one.
        command: how it was asked for, for metadata.json.

    Raises:
        ModelError: a weight is missing, or is not what the config asks for.
    """
    shapes = shapes_of(imported.config)
    for name, shape in shapes.items():
        if name not in imported.weights:
            raise ModelError(f"{imported.weights_path}: has nothing for {name}, which its config asks for")
        if (found := tuple(imported.weights[name].shape)) != shape:
            raise ModelError(f"{imported.weights_path}: {name} has shape {found}, its config asks for {shape}")
        if (dtype := imported.weights[name].dtype) != torch.float32:
            raise ModelError(f"{imported.weights_path}: {name} holds numbers of another kind ({dtype})")
    require_finite({name: imported.weights[name] for name in shapes}, str(imported.weights_path))
    model = NewModel(
        config=imported.config,
        source_tokenizer=imported.source_tokenizer,
        target_tokenizer=imported.target_tokenizer,
        weights={name: imported.weights[name].clone() for name in shapes},  # equal ones may be one tensor there
        generation=imported.generation,
        origin={"imported": describe_weights(imported.weights_path)},
    )
    write_model(model, folder, command)
