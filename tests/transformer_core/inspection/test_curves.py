import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from transformer_core.errors import ConfigError, DataError, ModelError
from transformer_core.inspection.curves import Axis, Run, axis_scale, choose_metrics, curves_of, read_run, read_runs
from transformer_core.training.progress import Silent, StepReport, TrainingLog, ValidationReport

__all__ = ["step_record", "validation_record", "write_run"]

NAN = math.nan


def step_record(step: int, **changes: object) -> dict[str, object]:
    """A record as training writes it: a second per ten steps, a pass over the data per hundred."""
    return {
        "type": "step",
        "step": step,
        "max_steps": 1000,
        "epoch": step / 100,
        "loss": 1000 / step,
        "perplexity": 3.0,
        "learning_rate": 0.001,
        "gradient_norm": 1.0,
        "tokens_per_second": 5000.0,
        "num_skipped": 0,
        "elapsed_seconds": step / 10,
        "remaining_seconds": 1.0,
        **changes,
    }


def validation_record(step: int, metric: str = "loss", **values: object) -> dict[str, object]:
    """The same of a validation."""
    return {
        "type": "validation",
        "step": step,
        "epoch": step / 100,
        "values": {"loss": 2.0, "perplexity": 7.0, **values},
        "metric": metric,
        "is_best": True,
    }


def write_run(folder: Path, records: Sequence[Mapping[str, object] | str]) -> Path:
    """Write a metrics.jsonl; a text goes into it as it is."""
    folder.mkdir(parents=True)
    lines = [record if isinstance(record, str) else json.dumps(record) + "\n" for record in records]
    (folder / "metrics.jsonl").write_text("".join(lines), encoding="utf-8")
    return folder


def points(run: Run, metric: str, axis: Axis = "step") -> dict[str, list[tuple[float, float]]]:
    """The curves of a metric by their split."""
    curves = curves_of([run], metric, axis)
    return {curve.split: list(zip(curve.x, curve.y, strict=True)) for curve in curves}


def test_what_training_writes_is_read(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    log = TrainingLog(folder, Silent())
    for step in (10, 20):
        log.step(
            StepReport(
                step=step,
                max_steps=20,
                epoch=step / 10,
                loss=3.0 if step == 10 else math.inf,
                perplexity=20.0,
                learning_rate=0.1,
                gradient_norm=1.0,
                tokens_per_second=100.0,
                num_target_tokens=100_000,
                num_skipped=0,
                elapsed_seconds=float(step),
                remaining_seconds=math.nan,
            )
        )
        values = {"loss": 2.0, "exact": float(step)}
        log.validation(
            ValidationReport(
                step=step, epoch=step / 10, values=values, metric="exact", is_best=True, num_worse=0, patience=3
            )
        )
    run = read_run(folder)
    assert (run.name, run.selecting, run.num_damaged) == ("run", ("exact",), 0)
    assert run.metrics() == ["loss", "perplexity", "learning_rate", "gradient_norm", "tokens_per_second", "exact"]
    assert points(run, "exact") == {"validation": [(10, 10), (20, 20)]}
    assert points(run, "learning_rate", "epoch") == {"training": [(1, 0.1), (2, 0.1)]}
    (loss,) = [curve for curve in curves_of([run], "loss", "time") if curve.split == "training"]
    assert loss.x == (10, 20)
    assert loss.y[0] == 3.0 and math.isnan(loss.y[1])  # infinite
    assert choose_metrics([run], []) == ["loss", "exact", "learning_rate", "tokens_per_second"]


def test_the_time_of_a_validation_lies_between_the_steps_around_it(tmp_path: Path) -> None:
    records = [
        validation_record(5),
        step_record(10, elapsed_seconds=20),
        validation_record(10),
        validation_record(25),
        step_record(30, elapsed_seconds=30),
        validation_record(50),
    ]
    run = read_run(write_run(tmp_path / "run", records))
    # from 0 to 10 two seconds a step, from 10 to 30 half a second, and so on after it
    assert [x for x, _ in points(run, "loss", "time")["validation"]] == [10, 20, 27.5, 40]


def test_what_is_damaged_or_missing_is_left_out(tmp_path: Path) -> None:
    records: list[Mapping[str, object] | str] = [
        step_record(10),
        "\n",
        step_record(20, loss=None, epoch="late"),
        "not json\n",
        "[1, 2]\n",
        '{"type": "step", "step": 30, "loss": NaN, "tokens_per_second": 1e999}\n',
        '{"type": "step", "loss": 3.5}\n',
        step_record(40, loss=True, learning_rate="high", tokens_per_second=10**400),
        "{" * 100_000 + "\n",
        {"type": "other", "step": 3, "loss": 1.0},
        {"type": "validation", "step": 40, "values": 3},
        step_record(50, loss=2),
        '{"type": "step", "step": 60, "lo',
    ]
    run = read_run(write_run(tmp_path / "run", records))
    assert run.num_damaged == 3
    (curve,) = curves_of([run], "loss", "step")
    assert curve.x == (10, 20, 30, 40, 50)
    assert [value for value in curve.y if not math.isnan(value)] == [100.0, 2.0]
    assert [curve.x for curve in curves_of([run], "loss", "epoch")] == [(0.1, 0.4, 0.5)]
    assert [curve.x for curve in curves_of([run], "loss", "time")] == [(1, 2, 4, 5)]


def test_metrics_are_chosen_from_what_there_is(tmp_path: Path) -> None:
    one = read_run(write_run(tmp_path / "one", [step_record(10), validation_record(10, "bleu", bleu=30.0)]))
    two = read_run(write_run(tmp_path / "two", [step_record(10), validation_record(10, "exact", exact=None)]))
    assert choose_metrics([one, two], []) == ["loss", "bleu", "learning_rate", "tokens_per_second"]
    assert choose_metrics([one, two], ["learning-rate", "bleu", "bleu"]) == ["learning_rate", "bleu"]
    assert [curve.run for curve in curves_of([one, two], "bleu", "step")] == ["one"]
    with pytest.raises(ConfigError, match="no run has the metric 'exact'; there are loss, perplexity, learning_rate,"):
        choose_metrics([one, two], ["loss", "exact"])


def test_runs_have_names_of_their_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    folders = [Path("a/run"), Path("b/run"), Path("c\x1b[31m")]
    for folder in folders:
        write_run(folder, [step_record(10)])
    assert [run.name for run in read_runs(folders)] == ["a/run", "b/run", "c␛[31m"]
    monkeypatch.chdir("a/run")
    assert [run.name for run in read_runs([Path()])] == ["run"]


def test_a_run_that_has_just_begun_is_no_fault_beside_another(tmp_path: Path) -> None:
    empty, other = write_run(tmp_path / "empty", []), write_run(tmp_path / "other", [step_record(10)])
    assert [run.metrics()[:1] for run in read_runs([empty, other])] == [[], ["loss"]]
    with pytest.raises(DataError, match=r"empty/metrics\.jsonl: holds no numbers yet"):
        read_runs([empty])


def test_what_is_no_run_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for name, line in (
        ("missing", "missing: does not exist"),
        ("file", "file: is a file, not a model folder"),
        ("", r"metrics\.jsonl: is missing or cannot be read"),
    ):
        with pytest.raises(ModelError, match=line):
            read_runs([tmp_path / name])


@pytest.mark.parametrize(
    ("seconds", "scale"),
    [(90, (1.0, "time (seconds)")), (600, (60.0, "time (minutes)")), (7200, (3600.0, "time (hours)"))],
)
def test_time_has_a_unit_that_fits(tmp_path: Path, seconds: float, scale: tuple[float, str]) -> None:
    run = read_run(write_run(tmp_path / "run", [step_record(10, elapsed_seconds=seconds)]))
    assert axis_scale(curves_of([run], "loss", "time"), "time") == scale
    assert axis_scale(curves_of([run], "loss", "step"), "step") == (1.0, "step")
