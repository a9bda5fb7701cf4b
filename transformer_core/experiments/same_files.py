"""Whether a run that goes on finds what it began with: text, tokenizers and the model that it starts from.

What counts is what the files hold, not where they lie, so that a folder can be moved with all that is in it.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tokenizer import Tokenizer
from transformer_core.errors import ConfigError, ModelError
from transformer_core.experiments.config import TrainingRun
from transformer_core.experiments.texts import TextConfig
from transformer_core.experiments.vocabulary_choice import Tokenizers, tokenizer_files
from transformer_core.model_files import checkpoint_path, hash_file, read_config, read_json, read_tokenizers
from transformer_core.provenance import describe_file, is_unchanged

__all__ = ["compare_tokenizers", "describe_data", "moved_options", "require_same_start"]

TOKENIZER_OPTIONS = ("tokenizer", "source_tokenizer", "target_tokenizer")


def moved_options(run: TrainingRun, options: Mapping[str, Any], stored: Mapping[str, Any]) -> set[str]:
    """Name the options of files that are given by another path than when the run began, and hold the same.

    Args:
        run: that is to go on.
        options: its own, as they stand in training.toml.
        stored: those that it began with.

    Raises:
        ConfigError: a tokenizer is another.
        ModelError: the folder of the run is damaged.
    """
    others = {name for name, value in options.items() if name in stored and stored[name] != value}
    recorded = _recorded_data(run)
    moved = {
        name for name, files in run.data.files.items() if name in others and is_unchanged(recorded.get(name), files)
    }
    tokenizers = others.intersection(TOKENIZER_OPTIONS)
    if tokenizers and all(path.exists() for path in tokenizer_files(run.data)):
        compare_tokenizers(run.data, read_tokenizers(run.folder, read_config(run.folder)), run.folder)
        moved |= tokenizers
    if "init_from" in others and _has_same_start(run):
        moved.add("init_from")
    return moved


def describe_data(run: TrainingRun, stored: dict[str, Any] | None) -> dict[str, list[dict[str, Any]]]:
    """Describe the data files by their hashes.

    Raises:
        DataError: a file is missing.
        ConfigError: a file is not what it was when the run began.
    """
    paths = run.data.files
    if stored is None:
        return {name: [describe_file(path) for path in files] for name, files in paths.items()}
    recorded = _recorded_data(run)
    described = {name: recorded.get(name, []) for name in paths}
    for name, files in paths.items():
        if not is_unchanged(described[name], files):
            raise ConfigError(
                f"the files of --{name.replace('_', '-')} are missing or not what they were when the run in "
                f"{run.folder} began; put them back, or start anew with --overwrite"
            )
    return described


def require_same_start(run: TrainingRun) -> None:
    """See that the model to start from is the one that the run began with.

    Raises:
        ConfigError: it is another one.
    """
    if not _has_same_start(run):
        raise ConfigError(
            f"{run.init_from}: is not the model that the run in {run.folder} began with; put it back, or start anew "
            "with --overwrite"
        )


def compare_tokenizers(data: TextConfig, tokenizers: Tokenizers, folder: Path) -> None:
    """Hold the tokenizers that are given against those of the run in `folder`.

    Raises:
        ConfigError: one is another.
    """
    for place, path in enumerate(tokenizer_files(data)):
        if not path.exists():
            continue
        given = Tokenizer.load(path) if place else Tokenizer.load(path).with_tags(data.tags)
        if given.sha256 != tokenizers[place].sha256:
            raise ConfigError(
                f"{path}: is not the tokenizer of the run in {folder}; leave it out to go on, or start anew with "
                "--overwrite"
            )


def _recorded_data(run: TrainingRun) -> dict[str, Any]:
    """What metadata.json, which may be damaged, says of the data files, by the names of their options."""
    found = read_json(run.folder / "metadata.json").get("data")
    return found if isinstance(found, dict) else {}


def _has_same_start(run: TrainingRun) -> bool:
    """Tell whether the model to start from is the one that the run began with."""
    assert run.init_from is not None
    began_with = read_json(run.folder / "metadata.json").get("init_from", {}).get("sha256")
    try:
        return bool(began_with == hash_file(checkpoint_path(run.init_from, run.init_checkpoint)))
    except (ModelError, OSError):
        return False
