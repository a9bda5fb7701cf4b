"""The lecture's table, measured: what a layer that turns a sequence into a sequence costs, reaches, and learns.

A recurrence takes one step after another; a convolution computes all positions at once, but each sees a few
neighbours; self-attention lets every position see every other in one step, at a cost that grows with the square of the
length. `compare` puts numbers beside each of these words.
"""

from dataclasses import asdict, dataclass
from typing import Any

import torch

from transformer_core.device import choose_device
from transformer_core.experiments.compare_config import CompareConfig
from transformer_core.experiments.compare_cost import Cost, measure_cost
from transformer_core.experiments.compare_quality import TrainedMixer, describe_mixer
from transformer_core.experiments.compare_reach import Reach, measure_reach
from transformer_core.experiments.compare_scale import ScalePoint, measure_scale
from transformer_core.experiments.compare_structure import LayerStructure, structure_of
from transformer_core.experiments.compare_training import mixer_runs, train_mixer
from transformer_core.experiments.progress import Progress, no_progress
from transformer_core.provenance import describe_software
from transformer_core.training.progress import Listener, Silent

__all__ = ["Comparison", "MixerFigures", "compare"]


@dataclass(frozen=True, kw_only=True)
class MixerFigures:
    """A row of the table."""

    structure: LayerStructure  # what follows from how it is built
    cost: Cost  # what was measured
    reaches: tuple[Reach, ...]  # an encoder's stacks of one layer and more, then a decoder's


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Everything that `compare` found."""

    config: CompareConfig
    device: str
    threads: int
    software: dict[str, str]  # versions
    mixers: tuple[MixerFigures, ...]
    scale: tuple[ScalePoint, ...]  # what the division by √d_head does
    trained: tuple[TrainedMixer, ...]  # empty where nothing was to be trained

    def to_dict(self) -> dict[str, Any]:
        """Everything by name, in types that JSON has."""
        stack, training = self.config.stack, self.config.training
        sizes = ("d_model", "num_heads", "num_layers", "d_ff", "kernel_width")
        return {
            "software": self.software,
            "device": self.device,
            "threads": self.threads,
            "seed": self.config.seed,
            "stack": {name: getattr(stack, name) for name in sizes},
            "mixers": [_mixer_record(figures) for figures in self.mixers],
            "scale": [asdict(point) for point in self.scale],
            "training": None
            if training is None
            else {
                "minutes": training.budget_minutes,
                "max_steps": training.max_steps,
                "models": [_model_record(model) for model in self.trained],
            },
        }


def compare(config: CompareConfig, listener: Listener | None = None, progress: Progress = no_progress) -> Comparison:
    """Train what is to be trained, and measure the rest.

    Raises:
        ConfigError: options do not fit together, or not to what the folder holds.
        DataError: the text cannot be read.
        OutOfMemoryError: the longest sequence does not fit.
        Interrupted: a signal came while something was trained; the same call goes on.
    """
    device = choose_device(config.device)
    if config.threads is not None:
        torch.set_num_threads(config.threads)
    trained = _train(config, device, listener or Silent(), progress)
    torch.manual_seed(config.seed)
    mixers = []
    with progress("measuring time and memory", unit="lengths") as advance:
        for mixer in config.mixers:
            cost = measure_cost(mixer, config.stack, config.lengths, device, advance)
            structure = structure_of(mixer, config.lengths[-1], config.stack)
            reaches = tuple(measure_reach(mixer, config.stack, config.seed))
            mixers.append(MixerFigures(structure=structure, cost=cost, reaches=reaches))
    return Comparison(
        config=config,
        device=device.type,
        threads=torch.get_num_threads(),
        software=describe_software(),
        mixers=tuple(mixers),
        scale=tuple(measure_scale(config.seed)),
        trained=trained,
    )


def _train(
    config: CompareConfig, device: torch.device, listener: Listener, progress: Progress
) -> tuple[TrainedMixer, ...]:
    """Train every mixer; only then translate with them, one after the other, so that their speeds compare."""
    training = config.training
    if training is None:
        return ()
    runs = mixer_runs(config, progress, listener.on_message)
    has_ended = [train_mixer(run, training.budget_minutes, listener, progress) for run in runs]
    with progress("translating the validation pairs", unit="models") as advance:
        trained = []
        for run, has_converged in zip(runs, has_ended, strict=True):
            trained.append(describe_mixer(run, training.metrics, device, has_diverged=not has_converged))
            advance(1)
    return tuple(trained)


def _mixer_record(figures: MixerFigures) -> dict[str, Any]:
    structure, cost = asdict(figures.structure), asdict(figures.cost)
    reaches: dict[str, list[dict[str, Any]]] = {"encoder": [], "decoder": []}
    for reach in figures.reaches:
        record = {**asdict(reach), "share": reach.share}
        del record["mixer"], record["is_causal"]
        reaches["decoder" if reach.is_causal else "encoder"].append(record)
    return {**structure, **cost, "points": list(cost["points"]), "reach": reaches}


def _model_record(model: TrainedMixer) -> dict[str, Any]:
    record = {**asdict(model), "folder": str(model.folder)}
    if model.quality is not None:  # scores as `evaluate --json` writes them
        record["quality"]["scores"] = [
            {"metric": score.name, "name": score.label, "score": score.value, "signature": score.signature}
            for score in model.quality.scores
        ]
    return record
