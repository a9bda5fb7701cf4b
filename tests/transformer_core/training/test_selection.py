import math
from pathlib import Path

import pytest
import torch

from tests.transformer_core.decoding.random_model import random_model
from transformer_core.model_directory import expected_shapes, weights_of
from transformer_core.training.checkpoint import Checkpoints, TrainingState
from transformer_core.training.config import Metric, TrainingConfig
from transformer_core.training.selection import Selection, is_better
from transformer_core.weight_file import read_weights


@pytest.mark.parametrize(
    ("metric", "better", "worse"),
    [
        ("loss", 1.0, 2.0),
        ("wer", 10.0, 20.0),
        ("cer", 1.0, 2.0),
        ("bleu", 30.0, 20.0),
        ("chrf", 2.0, 1.0),
        ("exact", 9.0, 8.0),
    ],
)
def test_which_way_is_better(metric: Metric, better: float, worse: float) -> None:
    assert is_better(metric, better, worse)
    assert not is_better(metric, worse, better)
    assert not is_better(metric, better, better)
    assert not is_better(metric, math.nan, worse)
    assert is_better(metric, worse, math.nan)
    assert not is_better(metric, math.nan, math.nan)


class Run:
    def __init__(self, folder: Path, metric: Metric = "loss", average_last: int = 3) -> None:
        self.folder = folder
        self.model = random_model(12)
        self.state = TrainingState()
        config = TrainingConfig(metric=metric, average_last=average_last)
        self.selection = Selection(self.model, Checkpoints(folder, 1), config)

    def set(self, number: float) -> None:
        with torch.no_grad():
            for parameter in self.model.parameters():
                parameter.fill_(number)

    def consider(self, step: int, value: float) -> bool:
        self.state.step = step
        self.set(step)
        return self.selection.consider(self.state, {self.selection.metric: value})

    def consider_values(self, step: int, **values: float) -> bool:
        self.state.step = step
        self.set(step)
        return self.selection.consider(self.state, values)

    def kept(self) -> float:
        weights = read_weights(self.folder / "model.safetensors", expected_shapes(self.model))
        (number,) = {value for weight in weights.values() for value in weight.flatten().tolist()}
        return float(number)


def test_the_best_are_kept_and_worse_ones_counted(tmp_path: Path) -> None:
    run = Run(tmp_path)
    assert run.consider(10, 3.0)
    assert run.consider(20, 2.0)
    assert not run.consider(30, 2.5)
    assert not run.consider(40, 2.0)
    assert run.kept() == 20
    assert (run.state.best_step, run.state.best_values, run.state.num_worse) == (20, {"loss": 2.0}, 2)
    assert run.consider(50, 1.0)
    assert run.state.num_worse == 0


def test_of_the_same_metric_less_loss_is_better(tmp_path: Path) -> None:
    run = Run(tmp_path, metric="exact")
    assert run.consider_values(10, exact=0.0, loss=3.0)
    assert run.consider_values(20, exact=0.0, loss=2.0)
    assert not run.consider_values(30, exact=0.0, loss=2.0)
    assert run.consider_values(40, exact=5.0, loss=4.0)
    assert not run.consider_values(50, exact=5.0, loss=4.5)
    assert (run.kept(), run.state.num_worse) == (40, 1)
    outcome = run.selection.try_mean(run.state, lambda: {"exact": 5.0, "loss": 3.0})
    assert outcome is not None
    assert outcome.endswith("exact 5.0000 and a lower loss, better than 5.0000 of step 40")
    assert run.kept() == 40  # (30 + 40 + 50) / 3
    assert run.state.averaged == [30, 40, 50]


def test_before_a_step_worse_ones_are_not_counted(tmp_path: Path) -> None:
    run = Run(tmp_path)
    for step, value, num_worse in ((10, 3.0, 0), (20, 4.0, 0), (30, 5.0, 0), (40, 5.0, 1), (50, 4.0, 2)):
        run.state.step = step
        run.selection.consider(run.state, {"loss": value}, patient_until=40)
        assert run.state.num_worse == num_worse
    assert run.state.best_step == 10


def test_weights_whose_value_is_no_number_are_replaced_by_any(tmp_path: Path) -> None:
    run = Run(tmp_path)
    assert run.consider(10, math.nan)
    assert run.consider(20, 5.0)
    assert not run.consider(30, math.nan)
    assert run.kept() == 20


@pytest.mark.parametrize(("value", "best"), [(0.5, 20.0), (1.5, 10.0)])
def test_the_mean_of_the_last_takes_the_place_of_the_best_if_it_is_better(
    tmp_path: Path, value: float, best: float
) -> None:
    run = Run(tmp_path)
    for step, loss in ((5, 9.0), (10, 1.0), (20, 2.0), (30, 3.0)):
        run.consider(step, loss)
    assert run.state.snapshots == [10, 20, 30]

    def validate() -> dict[str, float]:
        assert all(torch.all(weight == 20) for weight in weights_of(run.model).values())  # (10 + 20 + 30) / 3
        return {"loss": value}

    outcome = run.selection.try_mean(run.state, validate)
    assert outcome is not None
    assert "mean of the last 3 snapshots" in outcome
    assert run.kept() == best
    if best == 20:
        assert (run.state.best_values, run.state.best_step, run.state.averaged) == ({"loss": 0.5}, 0, [10, 20, 30])
        # a run that was killed after this tries it no second time
        assert run.selection.try_mean(run.state, lambda: pytest.fail("validates again")) is None
        # and weights of a run that goes on must beat the mean
        assert not run.consider(40, 0.9)
        assert run.consider(50, 0.4)
        assert (run.state.best_step, run.state.averaged) == (50, [])


def test_one_snapshot_has_no_mean_worth_trying(tmp_path: Path) -> None:
    run = Run(tmp_path, average_last=0)
    run.consider(10, 1.0)
    run.consider(20, 1.0)
    assert run.state.snapshots == []
    assert run.selection.try_mean(run.state, lambda: pytest.fail("validates")) is None
    assert not (tmp_path / "checkpoints").exists()
