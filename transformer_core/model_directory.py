"""A model as a folder: self-contained, without code or pickle in it, under names that Hugging Face users know.

    MODEL/config.json  model.safetensors  tokenizer.json (or source_tokenizer.json and target_tokenizer.json)
          generation.json   decoding defaults
          metadata.json     where the model comes from, and the hashes of its files
          checkpoints/      what training goes on from

Whatever lies in the folder may be damaged or hostile: everything is verified before a model is built from it, and
memory is bounded by the size of the files.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as serialize
from torch import Tensor, nn

from tokenizer import Tokenizer, TokenizerFileError
from tokenizer.atomic_file import write_bytes, write_text
from transformer_core.config import ModelConfig
from transformer_core.errors import ModelError
from transformer_core.model import Transformer

__all__ = [
    "LoadedModel",
    "checkpoint_path",
    "expected_shapes",
    "hash_file",
    "hash_model_files",
    "load_model",
    "read_config",
    "read_json",
    "read_tokenizers",
    "read_weights",
    "save_architecture",
    "verify_hashes",
    "weights_of",
    "write_json",
    "write_weights",
]

MAX_JSON_BYTES = 1 << 24  # config, generation and metadata are a few kilobytes
MAX_TOKENIZER_BYTES = 1 << 28
WEIGHT_DTYPES = ("F32",)
HASHED_FILES = (
    "config.json",
    "model.safetensors",
    "tokenizer.json",
    "source_tokenizer.json",
    "target_tokenizer.json",
    "generation.json",
)


@dataclass(frozen=True, kw_only=True)
class LoadedModel:
    """A model folder, read."""

    model: Transformer  # in evaluation mode
    source_tokenizer: Tokenizer
    target_tokenizer: Tokenizer  # the same object as the source's when the vocabulary is joint
    generation: dict[str, Any]  # decoding defaults, by the names of SearchConfig's fields
    metadata: dict[str, Any]  # provenance


def load_model(folder: str | Path, checkpoint: str = "best", device: str | torch.device = "cpu") -> LoadedModel:
    """Read a model folder.

    Args:
        folder: the folder that `train` wrote.
        checkpoint: "best" (the folder's own weights), "last", or the number of a step.
        device: where the weights go.

    Raises:
        ModelError: a file is missing or damaged, or does not fit the others.
    """
    folder = Path(folder)
    config = read_config(folder)
    source_tokenizer, target_tokenizer = read_tokenizers(folder, config)
    weights_path = checkpoint_path(folder, checkpoint)
    with torch.device("meta"):
        model = Transformer(config)
    weights = read_weights(weights_path, expected_shapes(model))
    _assign(model, {name: weight.to(device) for name, weight in weights.items()})
    return LoadedModel(
        model=model.eval(),
        source_tokenizer=source_tokenizer,
        target_tokenizer=target_tokenizer,
        generation=read_json(folder / "generation.json"),
        metadata=read_json(folder / "metadata.json"),
    )


def save_architecture(folder: Path, config: ModelConfig, source: Tokenizer, target: Tokenizer) -> None:
    """Write config.json and the tokenizers; `source` and `target` are one object when the vocabulary is joint."""
    write_text(folder / "config.json", config.to_json())
    if source is target:
        source.save(folder / "tokenizer.json")
    else:
        source.save(folder / "source_tokenizer.json")
        target.save(folder / "target_tokenizer.json")


def read_config(folder: Path) -> ModelConfig:
    """Read and check config.json.

    Raises:
        ModelError: the folder or the file is missing or damaged.
    """
    if not folder.is_dir():
        kind = "is a file, not a model folder" if folder.exists() else "does not exist"
        raise ModelError(f"{folder}: {kind}; name a folder written by `transduce train -o`")
    return ModelConfig.from_json(_read_text(folder / "config.json", MAX_JSON_BYTES), str(folder / "config.json"))


def read_tokenizers(folder: Path, config: ModelConfig) -> tuple[Tokenizer, Tokenizer]:
    """Read the tokenizer of the source and that of the target; one object twice when they are joint.

    Raises:
        ModelError: a file is missing or damaged, or its vocabulary is not that of config.json.
    """
    if (folder / "tokenizer.json").exists():
        tokenizer = _read_tokenizer(folder / "tokenizer.json", config, config.source_vocabulary_size)
        return tokenizer, tokenizer
    return (
        _read_tokenizer(folder / "source_tokenizer.json", config, config.source_vocabulary_size),
        _read_tokenizer(folder / "target_tokenizer.json", config, config.target_vocabulary_size),
    )


def checkpoint_path(folder: Path, checkpoint: str) -> Path:
    """Find the weights that "best", "last" or the number of a step stand for.

    Raises:
        ModelError: there are none such.
    """
    if checkpoint == "best":
        return folder / "model.safetensors"
    checkpoints = folder / "checkpoints"
    if checkpoint == "last":
        name = _read_text(checkpoints / "LATEST", 4096).strip()
    elif checkpoint.isdecimal():
        name = f"step-{int(checkpoint):08d}"
    else:
        raise ModelError(f"checkpoint {checkpoint!r} is none; use best, last or the number of a step")
    path = checkpoints / Path(name).name / "model.safetensors"
    if not path.is_file():
        kept = ", ".join(sorted(str(int(entry.name[5:])) for entry in checkpoints.glob("step-*"))) or "none"
        raise ModelError(f"{folder}: has no checkpoint {checkpoint}; kept steps: {kept}")
    return path


def write_weights(path: Path, weights: Mapping[str, Tensor]) -> None:
    """Write tensors as safetensors; the same tensors give the same bytes."""
    write_bytes(path, serialize({name: weight.detach().cpu().contiguous() for name, weight in weights.items()}))


def read_weights(path: Path, expected_shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Tensor]:
    """Read a safetensors file after its header is found to hold exactly the expected tensors.

    Raises:
        ModelError: the file is missing, damaged, or holds other names, shapes or dtypes.
    """
    if not path.is_file():
        raise ModelError(f"{path}: is missing; the model folder is incomplete or training saved no checkpoint yet")
    try:
        with safe_open(path, framework="pt") as file:
            names = set(file.keys())
            if missing := sorted(set(expected_shapes) - names):
                raise ModelError(f"{path}: lacks the tensor {missing[0]} that config.json asks for")
            if unknown := sorted(names - set(expected_shapes)):
                raise ModelError(f"{path}: holds the tensor {unknown[0]} that config.json does not know")
            for name, shape in expected_shapes.items():
                header = file.get_slice(name)
                if tuple(header.get_shape()) != shape:
                    found = tuple(header.get_shape())
                    raise ModelError(f"{path}: {name} has shape {found}, config.json asks for {shape}")
                if header.get_dtype() not in WEIGHT_DTYPES:
                    raise ModelError(f"{path}: {name} is stored as {header.get_dtype()}, not as {WEIGHT_DTYPES[0]}")
            return {name: file.get_tensor(name).clone() for name in expected_shapes}
    except (SafetensorError, OSError, ValueError) as error:
        raise ModelError(f"{path}: is damaged or no safetensors file ({error})") from None


def expected_shapes(model: Transformer) -> dict[str, tuple[int, ...]]:
    """Give the shape of every weight, each shared one once."""
    return {name: tuple(parameter.shape) for name, parameter in model.named_parameters()}


def weights_of(model: Transformer) -> dict[str, Tensor]:
    """Name every weight once, however many places share it."""
    return {name: parameter.detach() for name, parameter in model.named_parameters()}


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object; a file that is not there is an empty one.

    Raises:
        ModelError: the file is damaged.
    """
    if not path.exists():
        return {}
    try:
        content = json.loads(_read_text(path, MAX_JSON_BYTES))
    except (ValueError, RecursionError) as error:
        raise ModelError(f"{path}: is not JSON ({error})") from None
    if not isinstance(content, dict):
        raise ModelError(f"{path}: must hold a JSON object")
    return content


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write a JSON object that people can read."""
    write_text(path, json.dumps(content, indent=2, ensure_ascii=False) + "\n")


def hash_file(path: Path) -> str:
    """Give the SHA-256 of a file's bytes, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def hash_model_files(folder: Path) -> dict[str, str]:
    """Hash the files that make up the model."""
    return {name: hash_file(folder / name) for name in HASHED_FILES if (folder / name).is_file()}


def verify_hashes(folder: Path) -> list[str]:
    """Name the files of a model folder that are not what metadata.json says they were when training ended.

    Raises:
        ModelError: metadata.json is damaged or holds no hashes.
    """
    recorded = read_json(folder / "metadata.json").get("files")
    if not isinstance(recorded, dict) or not recorded:
        raise ModelError(f"{folder / 'metadata.json'}: holds no hashes to verify; training has not ended yet")
    found = hash_model_files(folder)
    return sorted(name for name in {*recorded, *found} if recorded.get(name) != found.get(name))


def _assign(model: Transformer, weights: Mapping[str, Tensor]) -> None:
    """Put weights into a model that was built without any (on the meta device); what is tied stays tied."""
    filled = {id(parameter): nn.Parameter(weights[name]) for name, parameter in model.named_parameters()}
    for module in model.modules():
        for name, parameter in list(module.named_parameters(recurse=False, remove_duplicate=False)):
            if id(parameter) in filled:
                setattr(module, name, filled[id(parameter)])


def _read_tokenizer(path: Path, config: ModelConfig, vocabulary_size: int) -> Tokenizer:
    try:
        tokenizer = Tokenizer.from_json(_read_text(path, MAX_TOKENIZER_BYTES), str(path))
    except TokenizerFileError as error:
        raise ModelError(str(error)) from None
    if tokenizer.vocabulary_size != vocabulary_size:
        raise ModelError(
            f"{path}: has {tokenizer.vocabulary_size} entries, config.json says {vocabulary_size}; "
            "the tokenizer is not the one that the model was trained with"
        )
    if (tokenizer.pad_id, tokenizer.bos_id, tokenizer.eos_id) != (config.pad_id, config.bos_id, config.eos_id):
        raise ModelError(f"{path}: has other special ids than config.json")
    return tokenizer


def _read_text(path: Path, max_bytes: int) -> str:
    try:
        if path.stat().st_size > max_bytes:
            raise ModelError(f"{path}: is larger than {max_bytes} bytes; the model folder is damaged")
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ModelError(f"{path}: is missing; the model folder is incomplete") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ModelError(f"{path}: cannot be read ({error})") from None
