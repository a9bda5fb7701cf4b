"""Which weights are kept: the best ones by the metric, and at the end the mean of the last ones if it is better.

The mean of weights along the way is often better than any of them (training/averaging.py); it is judged like them, on
the validation pairs, before it takes their place.
"""

import math
from collections.abc import Callable, Mapping

from transformer_core.errors import ModelError
from transformer_core.evaluation.metrics import higher_is_better
from transformer_core.model import Transformer
from transformer_core.model_directory import expected_shapes, weights_of
from transformer_core.training.averaging import mean_weights
from transformer_core.training.checkpoint import Checkpoints, TrainingState, set_weights
from transformer_core.training.config import Metric, TrainingConfig
from transformer_core.weight_file import read_weights, write_weights

__all__ = ["Selection", "is_better"]


class Selection:
    """Keeps the best weights as the model's own, and snapshots for the mean."""

    def __init__(self, model: Transformer, checkpoints: Checkpoints, config: TrainingConfig) -> None:
        self.model = model
        self.checkpoints = checkpoints
        self.metric = config.metric
        self.num_snapshots = config.average_last
        self.best_path = checkpoints.model_folder / "model.safetensors"

    def consider(self, state: TrainingState, values: dict[str, float], patient_until: int = 0) -> bool:
        """Keep the weights of `state.step` if they are the best so far, and a snapshot in any case.

        Args:
            state: notes what is kept, and how often in a row there was nothing better.
            values: of the validation of these weights, by metric.
            patient_until: the step before which that is not counted.

        Returns:
            whether they are the best so far.
        """
        is_best = self._is_best(state, values)
        if is_best:
            write_weights(self.best_path, weights_of(self.model))
            state.best_values, state.best_step, state.averaged, state.num_worse = values, state.step, [], 0
        elif state.step >= patient_until:
            state.num_worse += 1
        if self.num_snapshots:
            self.checkpoints.save_snapshot(self.model, state.step)
            state.snapshots = [*state.snapshots, state.step][-self.num_snapshots :]
        return is_best

    def check(self, state: TrainingState) -> None:
        """See that a state that was read says what is compared.

        Raises:
            ModelError: it does not.
        """
        for name in (self.metric, "loss"):
            if (state.best_values or state.snapshots) and name not in state.best_values:
                raise ModelError(f"{self.checkpoints.folder}: the state has no {name}; the checkpoint is damaged")

    def try_mean(self, state: TrainingState, validate: Callable[[], dict[str, float]]) -> str | None:
        """Put the mean of the snapshots in the place of the best weights if it is better than they are.

        Args:
            state: notes what is kept.
            validate: gives the values of the weights that the model has then: the mean's.

        Returns:
            what came of it, for people; None if there is nothing to try.
        """
        if len(state.snapshots) < 2 or state.averaged == state.snapshots:  # a run that went on has done it before
            return None
        shapes = expected_shapes(self.model)
        mean = mean_weights(read_weights(self.checkpoints.snapshot_path(step), shapes) for step in state.snapshots)
        set_weights(self.model, mean)
        values = validate()
        is_best = self._is_best(state, values)
        best = f"step {state.best_step}" if state.best_step else "the mean before"
        value, best_value = values[self.metric], state.best_values[self.metric]
        outcome = (
            f"mean of the last {len(state.snapshots)} snapshots: {self.metric} {value:.4f}"
            f"{' and a lower loss' if is_best and value == best_value else ''}, "
            f"{'better' if is_best else 'not better'} than {best_value:.4f} of {best}"
        )
        if is_best:
            write_weights(self.best_path, mean)
            state.best_values, state.best_step, state.averaged = values, 0, state.snapshots
        return outcome

    def _is_best(self, state: TrainingState, values: Mapping[str, float]) -> bool:
        """Tell whether weights are better than the best so far; of two with the same metric those with less loss are.

        A share of few pairs has few values, and stays at one of them for long.
        """
        best = state.best_values
        if not best:
            return True
        metric: Metric = "loss" if values[self.metric] == best[self.metric] else self.metric
        return is_better(metric, values[metric], best[metric])


def is_better(metric: Metric, value: float, than: float) -> bool:
    """Tell whether a value of a metric beats another; whatever is a number beats what is none."""
    if not math.isfinite(value) or not math.isfinite(than):
        return math.isfinite(value) and not math.isfinite(than)
    match metric:
        case "loss":
            return value < than
        case "accuracy":
            return value > than
        case _:
            return value > than if higher_is_better(metric) else value < than
