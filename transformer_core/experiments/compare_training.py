"""What each mixer learns: models of equal size, trained on the same pairs for the same time or as many updates.

Models are made equal by the inner width of their feed-forward: the mixer with the most weights keeps the one that was
asked for, and the others' is widened until they have as many. Training is that of `train`, into a folder for each
(compare_folder.py).

Equal updates take the learning rate to zero (cosine), as `train` does. Equal time cannot know how many updates it will
be worth, so the rate falls with the square root of the step, and training ends when the time is up: the last updates
are then averaged as always. Either way a run that is interrupted goes on.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from transformer_core.config import StackConfig
from transformer_core.errors import ConfigError, TrainingError
from transformer_core.experiments.compare_config import (
    MIXER_NAMES,
    UNSCALED,
    CompareConfig,
    MixerName,
    TrainingComparison,
    model_config_of,
    stacks_of,
)
from transformer_core.experiments.compare_folder import shared_data
from transformer_core.experiments.config import ArchitectureConfig, TrainingRun
from transformer_core.experiments.progress import Progress
from transformer_core.experiments.train_from_text import train_from_text
from transformer_core.experiments.training_file import TRAINING_FILE, read_training_file
from transformer_core.model import Transformer
from transformer_core.model_files import read_json
from transformer_core.training.checkpoint import Checkpoints
from transformer_core.training.config import Schedule, TrainingConfig
from transformer_core.training.progress import Listener, StepReport, ValidationReport

__all__ = ["MixerRun", "equal_widths", "mixer_runs", "train_mixer"]

EQUAL_TIME_SCHEDULE: Schedule = "inverse-sqrt"
WARMUP_STEPS = 200  # of equal time
STEPS_BETWEEN_VALIDATIONS = 250  # of equal time
MOST_STEPS = 1_000_000  # of equal time: no limit
ALIGNMENT = 8  # products of such widths are fast; a wide feed-forward is rounded to it


@dataclass(frozen=True, kw_only=True)
class MixerRun:
    """A model to be trained."""

    name: str  # a mixer, or UNSCALED
    d_ff: int
    run: TrainingRun


def mixer_runs(config: CompareConfig, progress: Progress, say: Callable[[str], None]) -> list[MixerRun]:
    """Plan the training of every mixer; learn the tokenizer that they share, if none is given.

    Raises:
        ConfigError: the folder holds something else.
        DataError: the text cannot be read.
        TokenizerError: the tokenizer is none.
    """
    assert config.training is not None, "something is to be trained"
    data = shared_data(config.training, progress, say)
    widths = equal_widths(config.stack)
    runs = []
    for mixer in config.mixers:
        for name in (mixer, UNSCALED) if mixer == "attention" else (mixer,):
            run = TrainingRun(
                folder=config.training.folder / name,
                data=data,
                architecture=_architecture(mixer, replace(config.stack, d_ff=widths[mixer]), config.training),
                training=_training(config),
                overwrite=config.training.overwrite,
                command=config.training.command,
            )
            if name == UNSCALED:
                run = replace(run, architecture=replace(run.architecture, scale_attention=False))
            runs.append(MixerRun(name=name, d_ff=widths[mixer], run=run))
    return runs


def train_mixer(mixer_run: MixerRun, minutes: float | None, listener: Listener, progress: Progress) -> bool:
    """Train one model, or go on, or do nothing where it is trained already.

    Args:
        mixer_run: the model.
        minutes: how long, over all runs; None: to the end of its updates.
        listener: is told how it goes.
        progress: is shown how far preparations are.

    Returns:
        whether training came to its end; False where it diverged.

    Raises:
        ConfigError: it was trained with another kind of budget before.
        Interrupted: a signal came; everything is saved.
    """
    _refuse_other_budget(mixer_run.run)
    listener.on_message(f"training {mixer_run.name} in {mixer_run.run.folder}")
    try:
        if minutes is None:
            train_from_text(mixer_run.run, listener, progress)
        else:
            _train_for(mixer_run.run, 60 * minutes, listener, progress)
    except TrainingError as error:
        listener.on_warning(f"{mixer_run.name}: {error}")
        return False
    return True


def equal_widths(stack: StackConfig) -> dict[MixerName, int]:
    """Find for every mixer the inner width of the feed-forward with which all models are equally large.

    All mixers of the table count, whichever are compared, so that a model is the same beside any others.
    """
    sizes = {mixer: _num_parameters(mixer, stack) for mixer in MIXER_NAMES}
    largest = max(sizes.values())
    widths = {}
    for mixer, size in sizes.items():
        per_unit = _num_parameters(mixer, replace(stack, d_ff=stack.d_ff + 1)) - size
        width = stack.d_ff + (largest - size) / per_unit
        unit = ALIGNMENT if width >= 100 * ALIGNMENT / 2 else 1  # rounding changes it by less than 1 %
        widths[mixer] = unit * round(width / unit)
    return widths


def _num_parameters(mixer: MixerName, stack: StackConfig) -> int:
    with torch.device("meta"):
        return Transformer(model_config_of(mixer, stack)).num_parameters()


def _architecture(mixer: MixerName, stack: StackConfig, training: TrainingComparison) -> ArchitectureConfig:
    encoder, decoder = stacks_of(mixer, stack)
    assert encoder.mixer != "ssru", "no encoder is made of it"
    return ArchitectureConfig(
        num_layers=stack.num_layers,
        d_model=stack.d_model,
        num_heads=stack.num_heads,
        d_ff=stack.d_ff,
        encoder_mixer=encoder.mixer,
        decoder_mixer=decoder.mixer,
        bidirectional=encoder.bidirectional,
        kernel_width=stack.kernel_width,
        dropout=training.dropout,
    )


def _training(config: CompareConfig) -> TrainingConfig:
    training = config.training
    assert training is not None
    common = TrainingConfig(
        batch_size=training.batch_size,
        max_steps=training.max_steps,
        optimizer="adamw",  # what is compared are layers, and Muon's products would take part of their time
        lr_schedule="cosine",
        patience=0,  # whoever learns slowly gets all of its budget, too
        seed=config.seed,
        device=config.device,
        threads=config.threads,
    )
    if training.budget_minutes is None:
        return common
    return replace(
        common,
        lr_schedule=EQUAL_TIME_SCHEDULE,
        warmup_steps=WARMUP_STEPS,
        valid_every=STEPS_BETWEEN_VALIDATIONS,
        max_steps=MOST_STEPS,
    )


def _refuse_other_budget(run: TrainingRun) -> None:
    """Say in words of `compare` what would be a question of the learning rate."""
    if run.overwrite or not (run.folder / TRAINING_FILE).exists():
        return
    stored = read_training_file(run.folder).get("lr_schedule")
    if stored != run.training.lr_schedule:
        before = "--minutes" if stored == EQUAL_TIME_SCHEDULE else "--max-steps"
        raise ConfigError(f"{run.folder}: was trained with {before}; go on with that, or start anew with --overwrite")


def _train_for(run: TrainingRun, seconds: float, listener: Listener, progress: Progress) -> None:
    """Train until so much time was spent, over all runs; then let the step that was reached be the last one."""
    step, elapsed = (0, 0.0) if run.overwrite else _standing(run.folder)
    if elapsed < seconds:
        timed = replace(run, training=replace(run.training, max_time=(seconds - elapsed) / 60))
        result = train_from_text(timed, _TimedListener(listener, seconds), progress)
        step = result.state.step if result is not None else step
    last = replace(run, training=replace(run.training, max_steps=step), overwrite=False)
    train_from_text(last, listener, progress)


def _standing(folder: Path) -> tuple[int, float]:
    """Step and seconds of training of the newest checkpoint."""
    checkpoint = Checkpoints(folder, 1).latest()
    if checkpoint is None:
        return 0, 0.0
    state = read_json(checkpoint / "state.json")
    return int(state["step"]), float(state["elapsed_seconds"])


class _TimedListener:
    """Tells another listener when a run that ends with the time is expected to end."""

    def __init__(self, listener: Listener, seconds: float) -> None:
        self.listener = listener
        self.seconds = seconds

    def on_message(self, text: str) -> None:
        """Pass it on."""
        self.listener.on_message(text)

    def on_warning(self, text: str) -> None:
        """Pass it on."""
        self.listener.on_warning(text)

    def on_step(self, report: StepReport) -> None:
        """Pass it on with the steps and the time that are left."""
        expected = round(report.step * self.seconds / max(report.elapsed_seconds, 1e-9))
        remaining = max(0.0, self.seconds - report.elapsed_seconds)
        self.listener.on_step(replace(report, max_steps=max(report.step, expected), remaining_seconds=remaining))

    def on_validation(self, report: ValidationReport) -> None:
        """Pass it on."""
        self.listener.on_validation(report)
