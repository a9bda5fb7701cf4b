"""What a model folder holds and where it comes from, read without torch and without loading a weight."""

import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from tokenizer import Tokenizer
from transformer_core.config import ModelConfig
from transformer_core.errors import ModelError
from transformer_core.model_files import read_config, read_json, read_tokenizers, verify_hashes

__all__ = ["ModelSummary", "summarize_model"]


@dataclass(frozen=True, kw_only=True)
class ModelSummary:
    """A model in words and numbers."""

    folder: Path
    config: ModelConfig
    num_parameters: dict[str, int]  # by part; what is shared counts once, at its first place
    source_tokenizer: Tokenizer
    target_tokenizer: Tokenizer  # the same object as the source's when the vocabulary is joint
    generation: dict[str, Any]  # decoding defaults
    metadata: dict[str, Any]  # where it comes from
    best_validation: dict[str, Any] | None  # the record of metrics.jsonl, while training has not ended
    is_verified: bool  # the files are what they were when they were written

    def to_dict(self) -> dict[str, Any]:
        """Everything, in the types that JSON has."""
        is_joint = self.source_tokenizer is self.target_tokenizer
        return {
            "model": str(self.folder),
            "config": asdict(self.config),
            "num_parameters": {"total": sum(self.num_parameters.values()), **self.num_parameters},
            "tokenizers": {"joint": _describe(self.source_tokenizer)}
            if is_joint
            else {"source": _describe(self.source_tokenizer), "target": _describe(self.target_tokenizer)},
            "generation": self.generation,
            "metadata": self.metadata,
            "best_validation": self.best_validation,
            "is_verified": self.is_verified,
        }


def summarize_model(folder: Path, *, verify: bool = False) -> ModelSummary:
    """Read what a model folder says of itself.

    Args:
        folder: a model folder.
        verify: also hash its files and hold them against what metadata.json says.

    Raises:
        ModelError: a file is missing or damaged, or is not the one that was written.
    """
    config = read_config(folder)
    source_tokenizer, target_tokenizer = read_tokenizers(folder, config)
    num_parameters = _count_parameters(folder / "model.safetensors")
    if verify and (changed := verify_hashes(folder)):
        raise ModelError(f"{folder / changed[0]}: is not the file that metadata.json speaks of; it was changed later")
    return ModelSummary(
        folder=folder,
        config=config,
        num_parameters=num_parameters,
        source_tokenizer=source_tokenizer,
        target_tokenizer=target_tokenizer,
        generation=read_json(folder / "generation.json"),
        metadata=read_json(folder / "metadata.json"),
        best_validation=_best_validation(folder / "metrics.jsonl"),
        is_verified=verify,
    )


def _count_parameters(path: Path) -> dict[str, int]:
    """Count the weights of each part of the model, from the header of the file alone."""
    if not path.is_file():
        raise ModelError(f"{path}: is missing; the model folder is incomplete or training has validated nothing yet")
    counts: dict[str, int] = {}
    try:
        with safe_open(path, framework="np") as file:
            for name in sorted(file.keys()):
                part = name.partition(".")[0]
                counts[part] = counts.get(part, 0) + math.prod(file.get_slice(name).get_shape())
    except (SafetensorError, OSError, ValueError) as error:
        raise ModelError(f"{path}: is damaged or no safetensors file ({error})") from None
    return counts


def _best_validation(path: Path) -> dict[str, Any] | None:
    """Find the last record of a validation that was the best so far."""
    best = None
    if path.is_file():
        with path.open(encoding="utf-8", errors="replace") as file:
            for line in file:
                try:
                    record = json.loads(line)
                except (ValueError, RecursionError):  # cut off by a kill
                    continue
                if isinstance(record, dict) and record.get("type") == "validation" and record.get("is_best"):
                    best = record
    return best


def _describe(tokenizer: Tokenizer) -> dict[str, Any]:
    return {**asdict(tokenizer.config), "sha256": tokenizer.sha256}
