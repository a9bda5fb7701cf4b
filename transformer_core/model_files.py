"""The files of a model folder: self-contained, no code or pickle in it, under names that Hugging Face users know.

    MODEL/config.json  model.safetensors  tokenizer.json (or source_tokenizer.json and target_tokenizer.json)
          generation.json   decoding defaults
          metadata.json     where the model comes from, and the hashes of its files
          shortlist.safetensors   the tokens that each source token may become, if they were learned
          checkpoints/      what training goes on from

Here is all that needs no torch; the weights are in model_directory.py. What lies in a folder may be damaged or hostile.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tokenizer import Tokenizer, TokenizerFileError
from tokenizer.atomic_file import write_bytes, write_text
from tokenizer.bounded_file import read_bounded
from tokenizer.file_format import MAX_FILE_BYTES
from transformer_core.config import ModelConfig
from transformer_core.errors import ModelError

__all__ = [
    "JOINT_TOKENIZER",
    "SHORTLIST_FILE",
    "SOURCE_TOKENIZER",
    "TARGET_TOKENIZER",
    "TOKENIZER_FILES",
    "checkpoint_name",
    "checkpoint_path",
    "copy_shortlist",
    "hash_file",
    "hash_model_files",
    "latest_checkpoint",
    "read_config",
    "read_json",
    "read_text",
    "read_tokenizers",
    "require_decoder",
    "save_architecture",
    "save_tokenizers",
    "step_of",
    "tokenizer_paths",
    "verify_hashes",
    "write_json",
]

MAX_JSON_BYTES = 1 << 22  # config, generation and metadata are a few kilobytes
MAX_NAME_BYTES = 1 << 8  # of LATEST
MAX_STEP_DIGITS = 18
JOINT_TOKENIZER = "tokenizer.json"
SOURCE_TOKENIZER = "source_tokenizer.json"
TARGET_TOKENIZER = "target_tokenizer.json"
SHORTLIST_FILE = "shortlist.safetensors"  # lexicon/shortlist.py
TOKENIZER_FILES = (JOINT_TOKENIZER, SOURCE_TOKENIZER, TARGET_TOKENIZER)
HASHED_FILES = (
    "config.json",
    "model.safetensors",
    JOINT_TOKENIZER,
    SOURCE_TOKENIZER,
    TARGET_TOKENIZER,
    "generation.json",
    SHORTLIST_FILE,
)


def save_architecture(folder: Path, config: ModelConfig, source: Tokenizer, target: Tokenizer) -> None:
    """Write config.json and the tokenizers; `source` and `target` are one object when the vocabulary is joint."""
    write_text(folder / "config.json", config.to_json())
    save_tokenizers(folder, source, target)


def save_tokenizers(folder: Path, source: Tokenizer, target: Tokenizer) -> None:
    """Write the tokenizers; `source` and `target` are one object when the vocabulary is joint."""
    files = {JOINT_TOKENIZER: source} if source is target else {SOURCE_TOKENIZER: source, TARGET_TOKENIZER: target}
    for name, tokenizer in files.items():
        tokenizer.save(folder / name)
    for name in set(TOKENIZER_FILES) - set(files):
        (folder / name).unlink(missing_ok=True)  # of something else that lay there: it would be read


def read_config(folder: Path) -> ModelConfig:
    """Read and check config.json.

    Raises:
        ModelError: the folder or the file is missing or damaged.
    """
    if not folder.is_dir():
        kind = "is a file, not a model folder" if folder.exists() else "does not exist"
        raise ModelError(f"{folder}: {kind}; name a folder written by `transduce train -o`")
    return ModelConfig.from_json(read_text(folder / "config.json"), str(folder / "config.json"))


def read_tokenizers(folder: Path, config: ModelConfig) -> tuple[Tokenizer, Tokenizer]:
    """Read the tokenizer of the source and that of the target; one object twice when they are joint.

    Raises:
        ModelError: a file is missing or damaged, or its vocabulary is not that of config.json.
    """
    if (folder / JOINT_TOKENIZER).exists():
        tokenizer = _read_tokenizer(folder / JOINT_TOKENIZER, config, config.source_vocabulary_size, config.bos_id)
        return tokenizer, tokenizer
    return (
        _read_tokenizer(folder / SOURCE_TOKENIZER, config, config.source_vocabulary_size),
        _read_tokenizer(folder / TARGET_TOKENIZER, config, config.target_vocabulary_size, config.bos_id),
    )


def tokenizer_paths(folder: Path) -> tuple[Path | None, Path | None, Path | None]:
    """Name the joint tokenizer of a model folder, or that of the source and that of the target; None for the others."""
    if (folder / JOINT_TOKENIZER).exists():
        return folder / JOINT_TOKENIZER, None, None
    return None, folder / SOURCE_TOKENIZER, folder / TARGET_TOKENIZER


def require_decoder(config: ModelConfig, name: str = "the model") -> None:
    """See that a model can write.

    Args:
        config: of the model.
        name: what the message calls it: its folder, where that is known.

    Raises:
        ModelError: it is an encoder alone.
    """
    if config.is_encoder_only:
        folder = name if name != "the model" else "MODEL"
        raise ModelError(
            f"{name}: is a pretrained encoder without a decoder; `transduce fill -m {folder}` predicts masked tokens, "
            f"and `transduce train --init-from {folder}` makes a model of it that writes"
        )


def checkpoint_path(folder: Path, checkpoint: str) -> Path:
    """Find the weights that "best", "last" or the number of a step stand for.

    Raises:
        ModelError: there are none such.
    """
    checkpoints = folder / "checkpoints"
    if checkpoint == "best":
        path = folder / "model.safetensors"
        if not path.exists() and (checkpoints / "LATEST").exists():
            raise ModelError(
                f"{folder}: has no best weights yet, training has validated nothing; its checkpoint `last` is what it "
                "saved last"
            )
        return path
    if checkpoint == "last":
        name = latest_checkpoint(folder)
    elif checkpoint.isdecimal() and len(checkpoint) <= MAX_STEP_DIGITS:
        name = checkpoint_name(int(checkpoint))
    else:
        raise ModelError(f"checkpoint {checkpoint!r} is none; use best, last or the number of a step")
    path = checkpoints / name / "model.safetensors"
    if not path.is_file():
        steps = (step_of(entry.name) for entry in checkpoints.glob("step-*"))
        kept = ", ".join(str(step) for step in sorted(step for step in steps if step is not None)) or "none"
        raise ModelError(f"{folder}: has no checkpoint {checkpoint}; kept steps: {kept}")
    return path


def checkpoint_name(step: int) -> str:
    """Name what holds the weights of a step."""
    return f"step-{step:08d}"


def step_of(name: str) -> int | None:
    """Give the step of what `checkpoint_name` may have named; None of everything else."""
    return int(name[5:]) if re.fullmatch(rf"step-[0-9]{{8,{MAX_STEP_DIGITS}}}", name) else None


def latest_checkpoint(folder: Path) -> str:
    """Give the name of the newest checkpoint of a model folder.

    Raises:
        ModelError: there is none yet, or LATEST names none.
    """
    path = folder / "checkpoints" / "LATEST"
    name = read_text(path, MAX_NAME_BYTES).removesuffix("\n")
    if step_of(name) is None:
        raise ModelError(f"{path}: is damaged: {name!r} is no name of a checkpoint")
    if not (path.parent / name).is_dir():
        raise ModelError(f"{path}: names {name}, which is not there; write the name of one that is into it")
    return name


def read_text(path: Path, max_bytes: int = MAX_JSON_BYTES) -> str:
    """Read one of the small files of a model folder.

    Raises:
        ModelError: it is missing or damaged, no ordinary file, or larger than any that training writes.
    """
    try:
        return read_bounded(path, max_bytes).decode("utf-8")
    except FileNotFoundError:
        raise ModelError(f"{path}: is missing; the model folder is incomplete") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ModelError(f"{path}: cannot be read ({error})") from None
    except ValueError as error:
        raise ModelError(f"{path}: {error}; the model folder is damaged") from None


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object; a file that is not there is an empty one.

    Raises:
        ModelError: the file is damaged.
    """
    if not path.exists():
        return {}
    try:
        content = json.loads(read_text(path))
        _to_json(content).encode("utf-8")  # as it is written again when a run goes on
    except UnicodeEncodeError:
        raise ModelError(f"{path}: holds half a character (such as \\ud800); the file is damaged") from None
    except (ValueError, RecursionError) as error:
        raise ModelError(f"{path}: is not JSON ({error})") from None
    if not isinstance(content, dict):
        raise ModelError(f"{path}: must hold a JSON object")
    return content


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write a JSON object that people can read."""
    write_text(path, _to_json(content))


def _to_json(content: Any) -> str:  # noqa: ANN401 - whatever JSON holds
    return json.dumps(content, indent=2, ensure_ascii=False) + "\n"


def hash_file(path: Path) -> str:
    """Give the SHA-256 of a file's bytes, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def hash_model_files(folder: Path) -> dict[str, str]:
    """Hash the files that make up the model."""
    return {name: hash_file(folder / name) for name in HASHED_FILES if (folder / name).is_file()}


def copy_shortlist(model: Path, folder: Path) -> None:
    """Copy the shortlist of a model, if it has one, to another one of the same vocabularies."""
    if (model / SHORTLIST_FILE).is_file():
        write_bytes(folder / SHORTLIST_FILE, (model / SHORTLIST_FILE).read_bytes())


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


def _read_tokenizer(path: Path, config: ModelConfig, vocabulary_size: int, bos_id: int | None = None) -> Tokenizer:
    """Read a tokenizer of a model; `bos_id` is what the decoder begins with, None for a source, which has no such."""
    try:
        tokenizer = Tokenizer.from_json(read_text(path, MAX_FILE_BYTES), str(path))
    except TokenizerFileError as error:
        raise ModelError(str(error)) from None
    if tokenizer.vocabulary_size != vocabulary_size:
        raise ModelError(
            f"{path}: has {tokenizer.vocabulary_size} entries, config.json says {vocabulary_size}; "
            "the tokenizer is not the one that the model was trained with"
        )
    is_other = (tokenizer.pad_id, tokenizer.eos_id) != (config.pad_id, config.eos_id)
    if is_other or bos_id not in (None, tokenizer.bos_id):
        raise ModelError(f"{path}: has other special ids than config.json")
    return tokenizer
