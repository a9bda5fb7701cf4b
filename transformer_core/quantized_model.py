"""A model with its weights in fewer bits: a smaller folder, read as any other."""

from pathlib import Path

import torch

from tokenizer.atomic_file import new_folder
from transformer_core.config import FORMAT_VERSION
from transformer_core.errors import ConfigError
from transformer_core.model import Transformer
from transformer_core.model_directory import expected_shapes
from transformer_core.model_files import (
    checkpoint_path,
    copy_shortlist,
    hash_file,
    hash_model_files,
    read_config,
    read_json,
    read_tokenizers,
    save_architecture,
    write_json,
)
from transformer_core.provenance import describe_software
from transformer_core.weight_file import WeightForm, read_weights, write_weights

__all__ = ["quantize_model"]

CARRIED_OVER = ("data", "corpus", "pretraining", "training")  # of metadata.json: they are true of these weights, too


def quantize_model(
    model: Path, folder: Path, form: WeightForm, checkpoint: str = "best", command: str = ""
) -> tuple[int, int]:
    """Write the model again, whole or not at all, with its matrices in another form.

    Args:
        model: its folder.
        folder: of the new one; there is none yet, or an empty one.
        form: of the matrices.
        checkpoint: which weights, as for load_model.
        command: how it was asked for, for metadata.json.

    Returns:
        Bytes of the file of the weights, before and after.

    Raises:
        ConfigError: the folder is taken.
        ModelError: a file of the model is missing or damaged.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ConfigError(f"{folder}: is there already; name another folder for the quantized model")
    config = read_config(model)
    tokenizers = read_tokenizers(model, config)
    path = checkpoint_path(model, checkpoint)
    with torch.device("meta"):
        shapes = expected_shapes(Transformer(config))
    weights = read_weights(path, shapes, is_mapped=True)
    origin = read_json(model / "metadata.json")
    metadata = {
        "format_version": FORMAT_VERSION,
        "software": describe_software(),
        "command": command,
        "quantized": {"to": form, "path": str(path.resolve()), "sha256": hash_file(path)},
        **{name: origin[name] for name in CARRIED_OVER if name in origin},
    }
    with new_folder(folder) as temporary:
        save_architecture(temporary, config, *tokenizers)
        write_weights(temporary / "model.safetensors", weights, form=form)
        write_json(temporary / "generation.json", read_json(model / "generation.json"))
        copy_shortlist(model, temporary)
        write_json(temporary / "metadata.json", metadata | {"files": hash_model_files(temporary)})
    return path.stat().st_size, (folder / "model.safetensors").stat().st_size
