"""Checkpoints: everything that training needs to go on as if it had never stopped.

    checkpoints/step-00004000/model.safetensors  optimizer.safetensors  state.json
    checkpoints/step-00004000/adapters.safetensors    beside adapters: what they hold; the model has them merged
    checkpoints/base.safetensors                      and the weights that they adapt, as they were before
    checkpoints/snapshots/step-00004000.safetensors   weights for the mean at the end
    checkpoints/LATEST                                the name of the newest complete checkpoint, written last

A checkpoint is made in a folder of another name, synced and renamed; only then does LATEST point to it. So a kill at
any instant leaves the one before. What was saved because of a signal or a time limit is extra: it does not count among
the checkpoints that are kept, and goes when the next one is there.

No random state has to be saved: every random choice follows from the seed and the number of the step.
"""

import shutil
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path

from torch import Tensor

from tokenizer.atomic_file import remove_temporary_files, sync_directory, write_text
from transformer_core.errors import ModelError
from transformer_core.layers.low_rank import low_rank_layers
from transformer_core.model import Transformer
from transformer_core.model_directory import expected_shapes, plain_parameters, weights_of
from transformer_core.model_files import (
    checkpoint_name,
    checkpoint_path,
    latest_checkpoint,
    read_json,
    step_of,
    write_json,
)
from transformer_core.training.adaptation import adapter_weights, base_weights, set_parameters
from transformer_core.training.optimizer import ModelOptimizer
from transformer_core.training.sharding import gathered
from transformer_core.weight_file import read_weights, write_weights

__all__ = ["Checkpoints", "TrainingState", "set_weights"]

ADAPTERS, BASE = "adapters.safetensors", "base.safetensors"
MAX_COUNT = 1 << 53  # of anything that is counted in a state


@dataclass(kw_only=True)
class TrainingState:
    """Where training stands; with the weights and the optimizer it decides all that follows."""

    step: int = 0  # updates made
    epoch: int = 0  # passes over the data completed
    batch: int = 0  # batches of the running epoch already used
    micro_batches: int = 0  # that make an update, over all processes; as the run began
    validated_step: int = 0  # of the last validation
    best_values: dict[str, float] = field(default_factory=dict)  # what it gave for the best weights, by metric
    best_step: int = 0  # of the best weights; 0 where they are a mean
    averaged: list[int] = field(
        default_factory=list
    )  # steps whose mean the best weights are; empty where they are none
    num_worse: int = 0  # validations since the best one
    num_skipped: int = 0  # updates left out because a gradient was not finite
    num_skipped_in_a_row: int = 0
    num_target_tokens: int = 0  # seen in all
    elapsed_seconds: float = 0.0  # spent training, over all runs
    window_loss_sum: float = 0.0  # since the last log line: smoothed loss in nats,
    window_nll_sum: float = 0.0  # negative log-likelihood in nats,
    window_tokens: int = 0  # target tokens,
    window_seconds: float = 0.0  # and time spent on updates
    snapshots: list[int] = field(default_factory=list)  # steps whose weights enter the mean, oldest first
    metrics_bytes: int = 0  # length of metrics.jsonl when this was saved
    log_bytes: int = 0  # length of train.log
    is_extra: bool = False  # saved because of a signal or a time limit, not because it was due


class Checkpoints:
    """The checkpoints folder of a model.

    Of several processes one writes and tidies; the others read.
    """

    def __init__(self, model_folder: Path, keep_last: int, *, is_writer: bool = True) -> None:
        self.model_folder = model_folder
        self.folder = model_folder / "checkpoints"
        self.keep_last = keep_last
        self.is_writer = is_writer

    def save(self, model: Transformer, optimizer: ModelOptimizer, state: TrainingState) -> None:
        """Write a checkpoint of `state.step` and remove those that are no longer kept.

        Where weights are split, every process must take part.

        Raises:
            OSError: it cannot be written; the one before is still there, and nothing else is.
        """
        weights = gathered(weights_of(model), is_wanted=self.is_writer)
        optimizer_state = gathered(optimizer.state(), is_wanted=self.is_writer)
        if not self.is_writer:
            return None
        name = checkpoint_name(state.step)
        if self._latest_name() == name:  # the same step again, so the same weights
            return self.save_state(state)
        temporary = self.folder / f".{name}.tmp"
        shutil.rmtree(temporary, ignore_errors=True)
        try:
            temporary.mkdir(parents=True)
            write_weights(temporary / "model.safetensors", weights)
            write_weights(temporary / "optimizer.safetensors", optimizer_state)
            self._save_adapters(model, temporary)
            write_json(temporary / "state.json", asdict(state))
        except BaseException as error:
            shutil.rmtree(temporary, ignore_errors=True)
            if isinstance(error, OSError):
                error.filename = str(self.folder / name)  # the temporary one means nothing to the user
            raise
        if (self.folder / name).exists():  # a kill came before LATEST was written
            shutil.rmtree(self.folder / name)
        temporary.rename(self.folder / name)
        sync_directory(self.folder)
        write_text(self.folder / "LATEST", f"{name}\n")
        self._prune(state)

    def save_state(self, state: TrainingState) -> None:
        """Renew the state in the newest checkpoint, which is of the same step."""
        write_json(self.folder / checkpoint_name(state.step) / "state.json", asdict(state))

    def latest(self) -> Path | None:
        """Where the newest checkpoint is; None if there is none yet.

        Raises:
            ModelError: LATEST is damaged.
        """
        name = self._latest_name()
        return None if name is None else self.folder / name

    def state(self) -> TrainingState | None:
        """Read where the newest checkpoint stands; None if there is none yet.

        Raises:
            ModelError: the checkpoint is damaged.
        """
        folder = self.latest()
        return None if folder is None else _read_state(folder / "state.json")

    def load(self, model: Transformer, optimizer: ModelOptimizer) -> TrainingState | None:
        """Put the newest checkpoint into model and optimizer; None if there is none yet.

        Raises:
            ModelError: the checkpoint is damaged.
        """
        if self.is_writer:
            self._remove_leftovers()
        if self.latest() is None:
            return None
        weights_path = checkpoint_path(self.model_folder, "last")
        set_weights(model, read_weights(weights_path, expected_shapes(model)))
        self._load_adapters(model, weights_path.parent)
        state = _read_state(weights_path.with_name("state.json"))
        optimizer_path = weights_path.with_name("optimizer.safetensors")
        optimizer.load_state(read_weights(optimizer_path, optimizer.state_shapes()))
        return state

    def _save_adapters(self, model: Transformer, folder: Path) -> None:
        """Write what is merged in the model's weights and cannot be told apart in them."""
        if adapters := adapter_weights(model):
            write_weights(folder / ADAPTERS, adapters)
            if not (self.folder / BASE).exists():
                write_weights(self.folder / BASE, base_weights(model))

    def _load_adapters(self, model: Transformer, folder: Path) -> None:
        """Put back what `_save_adapters` wrote.

        Raises:
            ModelError: a file is missing or damaged.
        """
        if adapters := adapter_weights(model):
            for path, weights in ((self.folder / BASE, base_weights(model)), (folder / ADAPTERS, adapters)):
                shapes = {name: tuple(weight.shape) for name, weight in weights.items()}
                set_parameters(model, read_weights(path, shapes))

    def save_snapshot(self, model: Transformer, step: int) -> None:
        """Write weights that may enter the mean."""
        self._snapshots.mkdir(parents=True, exist_ok=True)
        write_weights(self.snapshot_path(step), weights_of(model))

    def snapshot_path(self, step: int) -> Path:
        """Where the weights of a step lie."""
        return self._snapshots / f"{checkpoint_name(step)}.safetensors"

    @property
    def _snapshots(self) -> Path:
        return self.folder / "snapshots"

    def _latest_name(self) -> str | None:
        return latest_checkpoint(self.model_folder) if (self.folder / "LATEST").exists() else None

    def _prune(self, state: TrainingState) -> None:
        """Remove what neither a resumed run nor the user needs; the newest checkpoint is on disk by now."""
        regular = []
        for step, path in self._saved():
            if step == state.step:
                continue
            if step < state.step and _is_regular(path):
                regular.append(path)
            else:
                shutil.rmtree(path, ignore_errors=True)
        for path in regular[: max(0, len(regular) + (0 if state.is_extra else 1) - self.keep_last)]:
            shutil.rmtree(path, ignore_errors=True)
        kept = {self.snapshot_path(step) for step in state.snapshots}
        for path in self._snapshots.glob("*.safetensors"):
            if path not in kept:
                path.unlink(missing_ok=True)

    def _saved(self) -> list[tuple[int, Path]]:
        """List the checkpoints by their step."""
        steps = ((step_of(path.name), path) for path in self.folder.glob("step-*"))
        return sorted((step, path) for step, path in steps if step is not None)

    def _remove_leftovers(self) -> None:
        """Remove what a killed run did not come to rename."""
        for path in self.folder.glob(".step-*.tmp"):
            shutil.rmtree(path, ignore_errors=True)
        for folder in (self.folder, self._snapshots, *(path for _, path in self._saved())):
            remove_temporary_files(folder)


def set_weights(model: Transformer, weights: dict[str, Tensor]) -> None:
    """Copy named weights into a model, whatever device it is on; adapters add nothing to them any more."""
    for _, layer in low_rank_layers(model):
        layer.forget()
    set_parameters(model, {name: weights[name] for name, _ in plain_parameters(model)})


def _read_state(path: Path) -> TrainingState:
    """Read a state.json.

    Raises:
        ModelError: it is damaged, or of another version.
    """
    content = read_json(path)
    if unknown := set(content) ^ {item.name for item in fields(TrainingState)}:
        raise ModelError(f"{path}: unknown or missing key {min(unknown)!r}; it was written by another version")
    for name, default in asdict(TrainingState()).items():
        if not _is_like(content[name], default):
            raise ModelError(f"{path}: {name} is {content[name]!r:.100}, not of its kind; the checkpoint is damaged")
    state = TrainingState(**content)
    if max(state.validated_step, state.best_step, state.num_skipped, state.epoch) > state.step:
        raise ModelError(f"{path}: has done more than its {state.step} steps allow; the checkpoint is damaged")
    return state


def _is_like(value: object, default: object) -> bool:
    """Tell whether a value of a state may stand where `default` stood when training began."""
    match value:
        case bool() | float():
            return type(value) is type(default)
        case int():
            return type(default) is int and 0 <= value < MAX_COUNT
        case list():
            return isinstance(default, list) and all(_is_like(item, 0) for item in value)
        case dict():
            return isinstance(default, dict) and all(isinstance(item, float) for item in value.values())
        case _:
            return False


def _is_regular(path: Path) -> bool:
    """Tell whether a checkpoint counts: it was due, and is whole (a kill may have come while it was removed)."""
    try:
        return not _read_state(path / "state.json").is_extra
    except ModelError:
        return False
