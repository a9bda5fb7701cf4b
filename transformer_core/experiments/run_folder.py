"""The model folder as the place of a training run: whether it holds one, which one, and what is written about it."""

import hashlib
import json
import math
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

from transformer_core.config import FORMAT_VERSION, ModelConfig
from transformer_core.data.shards import Corpus
from transformer_core.decoding.config import LENGTH_MARGIN
from transformer_core.errors import ConfigError
from transformer_core.experiments.config import DataConfig, TrainingRun
from transformer_core.experiments.corpus_preparation import PreparedData, Tokenizers
from transformer_core.experiments.provenance import describe_file, describe_software, is_unchanged
from transformer_core.experiments.training_file import (
    option_values,
    read_training_file,
    refuse_changes,
    write_training_file,
)
from transformer_core.model_directory import hash_model_files, read_json, save_architecture, write_json
from transformer_core.training.trainer import TrainingResult

__all__ = [
    "abandon_run",
    "data_key",
    "describe_data",
    "describe_run",
    "has_finished",
    "open_run",
    "record_result",
    "run_options",
]


def open_run(run: TrainingRun) -> dict[str, Any] | None:
    """Give the options of the run that the folder holds; None when it holds none and is ready for one.

    Raises:
        ConfigError: something else is in the way, or the options differ from those of the run.
    """
    folder = run.folder
    if run.overwrite and (folder / "training.toml").exists():
        _remove_run(folder)
    if (folder / "training.toml").exists():
        stored = read_training_file(folder)
        refuse_changes(folder, stored, run_options(run))
        return stored
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"{folder}: is a file; name a folder for the model")
    if folder.exists():
        # a run that was killed before it was described may have left some of its files
        strange = {path.name for path in folder.iterdir() if not path.name.startswith(".")} - _LEFTOVERS
        if strange:
            raise ConfigError(f"{folder}: holds {min(strange)} and no training run; name another folder for the model")
    folder.mkdir(parents=True, exist_ok=True)
    return None


def abandon_run(folder: Path, *, is_new_folder: bool) -> None:
    """Remove what a run left that failed before it was described."""
    if (folder / "training.toml").exists():
        return
    shutil.rmtree(folder / "data", ignore_errors=True)
    if is_new_folder:
        shutil.rmtree(folder, ignore_errors=True)


def run_options(run: TrainingRun) -> dict[str, Any]:
    """Give the options of a run as they stand in training.toml."""
    values = option_values(run.data, run.architecture, run.training)
    if run.init_from is not None:
        values["init_from"] = str(run.init_from.resolve())
    return values


def _remove_run(folder: Path) -> None:
    """Remove a run; training.toml last, so that a kill leaves something that is known to be a run."""
    for name in ("checkpoints", "data", "tensorboard"):
        shutil.rmtree(folder / name, ignore_errors=True)
    for name in sorted(_RUN_FILES - {"training.toml"}):
        (folder / name).unlink(missing_ok=True)
    (folder / "training.toml").unlink()


_RUN_FILES = frozenset(
    {
        "config.json",
        "generation.json",
        "metadata.json",
        "metrics.jsonl",
        "model.safetensors",
        "source_tokenizer.json",
        "target_tokenizer.json",
        "tokenizer.json",
        "train.log",
        "training.toml",
    }
)
_LEFTOVERS = _RUN_FILES - {"model.safetensors", "metrics.jsonl", "train.log"} | {"data"}


def has_finished(run: TrainingRun, stored: dict[str, Any]) -> bool:
    """Tell whether the run in the folder has nothing left to do."""
    finished = read_json(run.folder / "metadata.json").get("training", {})
    if not finished.get("is_finished"):
        return False
    wanted = option_values(run.training)
    limits = ("max_steps", "max_epochs", "patience")
    return all(wanted.get(name, stored.get(name)) == stored.get(name) for name in limits)


def describe_data(run: TrainingRun, stored: dict[str, Any] | None) -> dict[str, list[dict[str, Any]]]:
    """Describe the data files by their hashes.

    Raises:
        DataError: a file is missing.
        ConfigError: a file is not what it was when the run began.
    """
    paths = {
        "train_src": run.data.train_src,
        "train_tgt": run.data.train_tgt,
        "valid_src": run.data.valid_src,
        "valid_tgt": run.data.valid_tgt,
    }
    if stored is None:
        return {name: [describe_file(path) for path in files] for name, files in paths.items()}
    recorded: dict[str, list[dict[str, Any]]] = read_json(run.folder / "metadata.json").get("data", {})
    for name, files in paths.items():
        if not is_unchanged(recorded.get(name, []), files):
            raise ConfigError(
                f"the files of --{name.replace('_', '-')} are missing or not what they were when the run in "
                f"{run.folder} began; put them back, or start anew with --overwrite"
            )
    return recorded


def data_key(data: DataConfig, tokenizers: Tokenizers, data_files: dict[str, list[dict[str, Any]]]) -> str:
    """Name everything that the corpora on disk follow from."""
    facts = {
        "files": {name: [file["sha256"] for file in files] for name, files in data_files.items()},
        "tokenizers": [tokenizer.sha256 for tokenizer in tokenizers],
        "max_length": data.max_length,
        "valid_size": data.valid_size,
        "errors": data.errors,
    }
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def describe_run(
    run: TrainingRun,
    config: ModelConfig,
    tokenizers: Tokenizers,
    options: dict[str, Any],
    data: PreparedData,
    data_files: dict[str, list[dict[str, Any]]],
) -> None:
    """Write what describes the model; training.toml last, because it makes the folder a run that can be resumed."""
    folder = run.folder
    save_architecture(folder, config, *tokenizers)
    write_json(folder / "generation.json", {"max_length_ratio": _length_ratio(data.training)})
    metadata = {
        "format_version": FORMAT_VERSION,
        "software": describe_software(),
        "command": run.command,
        "data": data_files,
        "corpus": asdict(data.training.statistics) | {"num_held_back": data.num_held_back},
        "training": {"is_finished": False},
    }
    write_json(folder / "metadata.json", metadata)
    write_training_file(folder, options)


def _length_ratio(corpus: Corpus) -> float:
    """Give the ratio under which every training target keeps, for the limit of decoding: at least 1.5, at most 50."""
    largest = 1.5
    for number in range(corpus.num_shards):
        shard = corpus.shard(number)
        ratios = (shard.target_lengths() - LENGTH_MARGIN) / shard.source_lengths()
        largest = max(largest, float(ratios.max()))
    return min(50.0, math.ceil(largest * 10) / 10)


def record_result(folder: Path, result: TrainingResult) -> None:
    """Add to metadata.json how training ended; a finished run needs its corpora no more."""
    state = result.state
    metadata = read_json(folder / "metadata.json")
    metadata["training"] = {
        "is_finished": result.is_finished,
        "reason": result.reason,
        "steps": result.step,
        "best_step": result.best_step or None,
        "num_averaged": result.num_averaged,
        "validation": result.values,
        "epochs": state.epoch,
        "target_tokens": state.num_target_tokens,
        "skipped_updates": state.num_skipped,
        "seconds": round(state.elapsed_seconds, 1),
    }
    if result.is_finished:
        metadata["files"] = hash_model_files(folder)
        for name in ("train", "valid"):
            shutil.rmtree(folder / "data" / name, ignore_errors=True)
    write_json(folder / "metadata.json", metadata)
