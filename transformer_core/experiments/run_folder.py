"""The model folder as the place of a training run: whether it holds one, which one, and what is written about it."""

import hashlib
import json
import math
from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from tokenizer.atomic_file import remove_temporary_files
from transformer_core.config import FORMAT_VERSION, ModelConfig
from transformer_core.data.shards import Corpus
from transformer_core.decoding.config import LENGTH_MARGIN
from transformer_core.errors import ConfigError, ModelError
from transformer_core.experiments.config import ArchitectureConfig, TrainingRun
from transformer_core.experiments.corpus_preparation import (
    PreparedData,
    is_prepared_data,
    prepared_data_names,
    remove_corpora,
    remove_prepared_data,
)
from transformer_core.experiments.distillation_config import DISTILLED_FOLDER
from transformer_core.experiments.distilled_text import describe_teacher
from transformer_core.experiments.locked_folder import require_folder_name
from transformer_core.experiments.replacement import discard, put_back, set_aside
from transformer_core.experiments.same_files import moved_options
from transformer_core.experiments.starting_point import StartingPoint
from transformer_core.experiments.text_config import DataConfig
from transformer_core.experiments.texts import TextConfig
from transformer_core.experiments.training_file import (
    TRAINING_FILE,
    option_values,
    read_training_file,
    refuse_changes,
    write_training_file,
)
from transformer_core.experiments.vocabulary_choice import Tokenizers
from transformer_core.model_files import (
    SHORTLIST_FILE,
    checkpoint_path,
    hash_file,
    hash_model_files,
    read_json,
    save_architecture,
    write_json,
)
from transformer_core.provenance import describe_software
from transformer_core.training.trainer import TrainingResult

__all__ = [
    "DATA_FOLDER",
    "abandon_run",
    "clear_folder",
    "continue_run",
    "data_key",
    "describe_run",
    "disown_run",
    "has_finished",
    "names_before",
    "open_run",
    "recall_start",
    "record_result",
    "run_options",
    "was_begun_by",
]

DATA_FOLDER = "data"
# What describes a run; a run that was killed before it was described may have left some of it.
DESCRIPTIONS = frozenset(
    {
        "config.json",
        "generation.json",
        "metadata.json",
        "source_tokenizer.json",
        "target_tokenizer.json",
        "tokenizer.json",
    }
)
RUN_FILES = DESCRIPTIONS | {"metrics.jsonl", "model.safetensors", "train.log", SHORTLIST_FILE}
RUN_FOLDERS = ("checkpoints", "tensorboard")


def open_run(run: TrainingRun) -> dict[str, Any] | None:
    """Give the options of the run that the folder holds; None when there is none to go on with. Changes nothing.

    Raises:
        ConfigError: something else is in the way, or the options differ from those of the run.
    """
    folder = run.folder
    if run.init_from is not None and run.init_from.resolve() == folder.resolve():
        raise ConfigError(f"--init-from and --output are both {folder}; name another folder for the new model")
    if (folder / TRAINING_FILE).exists():
        if run.overwrite:
            return None
        stored = read_training_file(folder)
        run = recall_start(run, stored)
        options = run_options(run)
        moved = moved_options(run, options, stored)
        refuse_changes(folder, stored, {name: value for name, value in options.items() if name not in moved})
        return stored
    require_folder_name(folder, "the model")
    if folder.exists():
        strange = {
            path.name
            for path in folder.iterdir()
            if not (path.name in DESCRIPTIONS or path.name.startswith("."))
            and not (path.name == DATA_FOLDER and path.is_dir() and is_prepared_data(path))
            and not (path.name == DISTILLED_FOLDER and run.is_taught)
        }
        if strange:
            raise ConfigError(f"{folder}: holds {min(strange)} and no training run; name another folder for the model")
    return None


def recall_start(run: TrainingRun, stored: Mapping[str, Any]) -> TrainingRun:
    """Fill in the model that a run started from, where it is not given."""
    if "init_from" not in stored:
        return run
    checkpoint = str(stored.get("init_checkpoint", "best")) if run.init_checkpoint == "best" else run.init_checkpoint
    return replace(run, init_from=run.init_from or Path(str(stored["init_from"])), init_checkpoint=checkpoint)


def was_begun_by(folder: Path, job_id: str | None) -> bool:
    """Tell whether the run that the folder holds is of a job that may be started again."""
    is_run = job_id is not None and (folder / TRAINING_FILE).exists()
    return is_run and read_json(folder / "metadata.json").get("job") == job_id


def disown_run(folder: Path, job_id: str | None) -> None:
    """Let the run that the folder holds be of no job: the one that begins now may have the name of an earlier one."""
    with suppress(ModelError):  # what is damaged is of no job
        if was_begun_by(folder, job_id):
            metadata = read_json(folder / "metadata.json")
            del metadata["job"]
            write_json(folder / "metadata.json", metadata)


def names_before(folder: Path) -> set[str]:
    """Say what of somebody else's the folder for a new run holds, for `abandon_run`."""
    names = {path.name for path in folder.iterdir()}
    return names - RUN_FILES if TRAINING_FILE in names else names


def clear_folder(folder: Path) -> None:
    """Set the run aside that --overwrite replaces, and remove what killed writers left."""
    if (folder / TRAINING_FILE).exists():
        data = [f"{DATA_FOLDER}/{name}" for name in prepared_data_names(folder / DATA_FOLDER)]
        # the last one makes it a run: a kill on the way leaves something that is known to be one
        set_aside(folder, [*data, *RUN_FOLDERS, *sorted(RUN_FILES), TRAINING_FILE])
    remove_temporary_files(folder)


def abandon_run(folder: Path, before: Collection[str]) -> None:
    """Remove what a run left that failed before it was described; `before` was in the folder before it."""
    if (folder / TRAINING_FILE).exists():
        return
    remove_prepared_data(folder / DATA_FOLDER)
    for name in DESCRIPTIONS - set(before):
        (folder / name).unlink(missing_ok=True)
    put_back(folder)


def run_options(run: TrainingRun) -> dict[str, Any]:
    """Give the options of a run as they stand in training.toml."""
    if run.pretraining is None:
        values = option_values(run.data, run.architecture, run.adaptation, run.training)
    else:
        values = option_values(run.data, run.pretraining, run.architecture, run.training)
        # no metric of pretraining needs a beam, its corruption differs every time, and `pretrain` has no such options
        del values["valid_beam_size"], values["r_drop"]
    if run.init_from is not None:
        usual = option_values(ArchitectureConfig())  # the model brings the rest
        values = {name: value for name, value in values.items() if name not in usual or usual[name] != value}
        values["init_from"] = str(run.init_from.resolve())
        if run.init_checkpoint != "best":
            values["init_checkpoint"] = run.init_checkpoint
    return values


def has_finished(run: TrainingRun, stored: dict[str, Any]) -> bool:
    """Tell whether the run in the folder has nothing left to do: it is finished, and no limit is another now."""
    if not _training_record(run.folder).get("is_finished"):
        return False
    if isinstance(run.data, DataConfig) and run.data.shortlist and not (run.folder / SHORTLIST_FILE).exists():
        return False
    wanted = option_values(run.training)
    return all(wanted.get(name) == stored.get(name) for name in ("max_steps", "max_epochs", "patience"))


def data_key(data: TextConfig, tokenizers: Tokenizers, data_files: dict[str, list[dict[str, Any]]]) -> str:
    """Name everything that the corpora on disk follow from."""
    facts = {
        "files": {name: [file["sha256"] for file in files] for name, files in data_files.items()},
        "tokenizers": [tokenizer.sha256 for tokenizer in tokenizers],
        "max_length": data.max_length,
        "valid_size": data.valid_size,
        "errors": data.errors,
        "form": [data.form.format, *data.form.columns],
        "weights": data.weights,
        "tags": data.tags,
    }
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def describe_run(
    start: StartingPoint,
    tokenizers: Tokenizers,
    data: PreparedData,
    data_files: dict[str, list[dict[str, Any]]],
    job_id: str | None,
) -> None:
    """Write what describes the model; training.toml last, because it makes the folder a run that can be resumed.

    What it replaces goes.
    """
    run, config, folder = start.run, start.model.config, start.run.folder
    save_architecture(folder, config, *tokenizers)
    write_json(folder / "generation.json", _generation(run, config, data))
    metadata: dict[str, Any] = {
        "format_version": FORMAT_VERSION,
        "software": describe_software(),
        "command": run.command,
        "data": data_files,
        "corpus": asdict(data.training.statistics) | {"num_held_back": data.num_held_back},
        "training": {"is_finished": False},
    }
    if run.pretraining is not None:
        metadata["pretraining"] = asdict(run.pretraining)
    if run.init_from is not None:
        metadata["init_from"] = {
            "path": str(run.init_from.resolve()),
            "checkpoint": run.init_checkpoint,
            "sha256": hash_file(checkpoint_path(run.init_from, run.init_checkpoint)),
            "fresh": list(start.fresh_parts),
        }
    if job_id is not None:
        metadata["job"] = job_id
    if run.is_taught:
        metadata["teacher"] = describe_teacher(folder)
    write_json(folder / "metadata.json", metadata)
    write_training_file(folder, run_options(run), _command(run))
    discard(folder)


def continue_run(run: TrainingRun, stored: dict[str, Any]) -> None:
    """Write down which options a run goes on with; the number of threads stays that of its beginning."""
    folder = run.folder
    remove_temporary_files(folder)
    if _training_record(folder).get("is_finished"):
        metadata = read_json(folder / "metadata.json")
        metadata.pop("files", None)
        write_json(folder / "metadata.json", {**metadata, "training": {"is_finished": False}})
    options = {**run_options(run), **{name: stored[name] for name in ("threads",) if name in stored}}
    if options != stored:
        write_training_file(folder, options, _command(run))


def _training_record(folder: Path) -> dict[str, Any]:
    """Give what metadata.json says of the training."""
    record = read_json(folder / "metadata.json").get("training")
    return record if isinstance(record, dict) else {}


def _command(run: TrainingRun) -> str:
    """The command that such a run is one of."""
    return "train" if run.pretraining is None else "pretrain"


def _generation(run: TrainingRun, config: ModelConfig, data: PreparedData) -> dict[str, Any]:
    """What decoding begins with: limits that follow from what was seen in training."""
    limits: dict[str, Any] = {}
    if not config.is_encoder_only:
        limits["max_length_ratio"] = _length_ratio(data.training)
    if len(tags := list(dict.fromkeys(data.tags))) > 1:  # who translates has to say which
        limits["tags"] = tags
    elif tags:
        limits["tag"] = tags[0]
    if run.pretraining is not None:  # a longer line is cut for training, so it is for decoding
        limits["max_source_length"] = run.data.max_length
    return limits


def _length_ratio(corpus: Corpus) -> float:
    """Give the ratio under which every training target keeps, for the limit of decoding: at least 1.5, at most 50."""
    ratios = ((target - LENGTH_MARGIN) / source for source, target in corpus.longest_targets.items())
    return min(50.0, math.ceil(max(1.5, *ratios) * 10) / 10) if corpus.longest_targets else 1.5


def record_result(folder: Path, result: TrainingResult) -> None:
    """Add to metadata.json how training ended; a finished run needs its corpora no more."""
    state = result.state
    metadata = read_json(folder / "metadata.json")
    metadata["training"] = {
        "is_finished": result.is_finished,
        "reason": result.reason,
        "steps": state.step,
        "best_step": state.best_step or None,
        "averaged_steps": state.averaged,
        "validation": {name: value for name, value in state.best_values.items() if math.isfinite(value)},
        "epochs": state.epoch,
        "target_tokens": state.num_target_tokens,
        "skipped_updates": state.num_skipped,
        "seconds": round(state.elapsed_seconds, 1),
    }
    if result.is_finished:
        metadata["files"] = hash_model_files(folder)
    write_json(folder / "metadata.json", metadata)
    if result.is_finished:
        remove_corpora(folder / DATA_FOLDER)
