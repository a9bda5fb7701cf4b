"""A new model folder, made of what is there already: a mean, fewer bits, a model of another tool."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from tokenizer import Tokenizer
from tokenizer.atomic_file import new_folder
from transformer_core.config import FORMAT_VERSION, ModelConfig
from transformer_core.errors import ConfigError
from transformer_core.model_files import copy_shortlist, hash_model_files, save_architecture, write_json
from transformer_core.provenance import describe_software
from transformer_core.weight_file import WeightForm, require_finite, write_weights

__all__ = ["NewModel", "require_free", "write_model"]


@dataclass(frozen=True, kw_only=True)
class NewModel:
    """What a model folder is made of."""

    config: ModelConfig
    source_tokenizer: Tokenizer
    target_tokenizer: Tokenizer  # the same object as the source's where they are joint
    weights: Mapping[str, Tensor]  # float32
    generation: Mapping[str, Any]  # decoding defaults
    origin: Mapping[str, Any]  # where it comes from, for metadata.json
    shortlist_of: Path | None = (
        None  # a model folder of the same vocabularies, whose shortlist goes along if it has one
    )


def require_free(folder: Path) -> None:
    """See that a folder can be written.

    Raises:
        ConfigError: it is there already, and not empty.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ConfigError(f"{folder}: is there already; name another folder")


def write_model(model: NewModel, folder: Path, command: str = "", form: WeightForm = "fp32") -> None:
    """Write a model folder, whole or not at all.

    Args:
        model: what it holds.
        folder: there is none yet, or an empty one.
        command: how it was asked for, for metadata.json.
        form: of the matrices.

    Raises:
        ConfigError: the folder is taken.
        ModelError: a weight is infinite or NaN.
    """
    require_free(folder)
    require_finite(model.weights)
    with new_folder(folder) as temporary:
        save_architecture(temporary, model.config, model.source_tokenizer, model.target_tokenizer)
        write_weights(temporary / "model.safetensors", model.weights, form=form)
        write_json(temporary / "generation.json", model.generation)
        if model.shortlist_of is not None:
            copy_shortlist(model.shortlist_of, temporary)
        metadata = {
            "format_version": FORMAT_VERSION,
            "software": describe_software(),
            "command": command,
            **model.origin,
            "files": hash_model_files(temporary),
        }
        write_json(temporary / "metadata.json", metadata)
