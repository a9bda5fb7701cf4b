"""A model that was read from a foreign folder, and how it becomes a model folder of ours."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tokenizer import Tokenizer
from tokenizer.atomic_file import new_folder
from transformer_core.config import FORMAT_VERSION, ModelConfig
from transformer_core.errors import ModelError
from transformer_core.model import Transformer
from transformer_core.model_directory import expected_shapes
from transformer_core.model_files import hash_file, hash_model_files, save_architecture, write_json
from transformer_core.provenance import describe_software
from transformer_core.weight_file import write_weights

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


def write_imported(imported: Imported, folder: Path, command: str = "") -> None:
    """Write a model folder, whole or not at all.

    Args:
        imported: what it holds.
        folder: there is none yet, or an empty one.
        command: how it was asked for, for metadata.json.

    Raises:
        ModelError: a weight is missing, or has not the shape that the config asks for.
    """
    with torch.device("meta"):
        shapes = expected_shapes(Transformer(imported.config))
    for name, shape in shapes.items():
        if name not in imported.weights:
            raise ModelError(f"{imported.weights_path}: has nothing for {name}, which its config asks for")
        if (found := tuple(imported.weights[name].shape)) != shape:
            raise ModelError(f"{imported.weights_path}: {name} has shape {found}, its config asks for {shape}")
        if not bool(imported.weights[name].isfinite().all()):
            raise ModelError(f"{imported.weights_path}: {name} holds numbers that are infinite or none")
    with new_folder(folder) as temporary:
        save_architecture(temporary, imported.config, imported.source_tokenizer, imported.target_tokenizer)
        weights = {name: imported.weights[name].clone() for name in shapes}  # equal ones may be one tensor there
        write_weights(temporary / "model.safetensors", weights)
        write_json(temporary / "generation.json", imported.generation)
        metadata = {
            "format_version": FORMAT_VERSION,
            "software": describe_software(),
            "command": command,
            "imported": {"path": str(imported.weights_path.resolve()), "sha256": hash_file(imported.weights_path)},
        }
        write_json(temporary / "metadata.json", metadata | {"files": hash_model_files(temporary)})
