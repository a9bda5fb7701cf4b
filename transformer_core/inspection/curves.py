"""Training curves, read from the metrics.jsonl of one or several runs, finished or going on; loads no torch."""

import json
import math
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_args

from transformer_core.errors import ConfigError, DataError, ModelError
from transformer_core.inspection.labels import visible

__all__ = [
    "Axis",
    "Curve",
    "Record",
    "Run",
    "Split",
    "axis_scale",
    "choose_metrics",
    "curves_of",
    "read_run",
    "read_runs",
]

Axis = Literal["step", "epoch", "time"]
Split = Literal["training", "validation"]

SPLITS: tuple[Split, ...] = get_args(Split)
TIME_UNITS = ((3600.0, "hours"), (60.0, "minutes"), (1.0, "seconds"))
METRICS_FILE = "metrics.jsonl"
# What training writes beside the metrics of a step: where it stands and what it counts.
_PLACES = frozenset(
    {"step", "max_steps", "epoch", "num_target_tokens", "num_skipped", "elapsed_seconds", "remaining_seconds"}
)
_FIRST, _LAST = ("loss",), ("learning_rate", "tokens_per_second")  # by default, around the metric that selects


@dataclass(frozen=True, kw_only=True)
class Record:
    """One line of metrics.jsonl; NaN where it says nothing."""

    split: Split
    step: float  # updates made
    epoch: float  # passes over the data
    seconds: float  # spent training; of a validation, read off the steps around it
    values: Mapping[str, float]  # by metric

    def place(self, axis: Axis) -> float:
        """Where the record stands on an axis."""
        return {"step": self.step, "epoch": self.epoch, "time": self.seconds}[axis]


@dataclass(frozen=True, kw_only=True)
class Curve:
    """A metric of a run over its course."""

    run: str
    metric: str
    split: Split
    x: tuple[float, ...]
    y: tuple[float, ...]  # NaN where it was not a number


@dataclass(frozen=True, kw_only=True)
class Run:
    """The numbers of a run."""

    name: str
    folder: Path
    records: tuple[Record, ...]
    selecting: tuple[str, ...]  # the metrics that chose the best weights
    num_damaged: int  # lines that were no records, a last one that is being written aside

    def metrics(self) -> list[str]:
        """Name every metric that has a number somewhere, in the order of their appearance."""
        names = dict.fromkeys(
            name for record in self.records for name, value in record.values.items() if not math.isnan(value)
        )
        return list(names)

    def curve(self, metric: str, split: Split, axis: Axis) -> Curve | None:
        """Draw a metric along an axis; None if it has no number there."""
        points = [
            (record.place(axis), record.values[metric])
            for record in self.records
            if record.split == split and metric in record.values and not math.isnan(record.place(axis))
        ]
        if all(math.isnan(y) for _, y in points):
            return None
        xs, ys = zip(*points, strict=True)
        return Curve(run=self.name, metric=metric, split=split, x=xs, y=ys)


def read_runs(folders: Sequence[Path]) -> list[Run]:
    """Read runs, each under a name of its own: that of its folder, or its path where two folders have one name.

    Raises:
        ModelError: a folder or its metrics.jsonl is missing.
        DataError: no run has written a number yet.
    """
    runs = [read_run(folder) for folder in folders]
    names = [run.name for run in runs]
    runs = [
        replace(run, name=visible(str(folder))) if names.count(run.name) > 1 else run
        for run, folder in zip(runs, folders, strict=True)
    ]
    if not any(run.metrics() for run in runs):
        raise DataError(f"{runs[0].folder / METRICS_FILE}: holds no numbers yet; training writes them as it goes")
    return runs


def read_run(folder: Path) -> Run:
    """Read the metrics.jsonl of a model folder.

    Raises:
        ModelError: the folder or the file is missing.
    """
    if not folder.is_dir():
        kind = "is a file, not a model folder" if folder.exists() else "does not exist"
        raise ModelError(f"{folder}: {kind}; name a folder written by `transduce train -o`")
    path = folder / METRICS_FILE
    try:
        text = path.read_text(encoding="utf-8", errors="replace") if path.is_file() else None
    except OSError:
        text = None
    if text is None:
        raise ModelError(f"{path}: is missing or cannot be read; training writes it into the model folder")
    lines = text.split("\n")
    parsed = [_parse(line) for line in lines]
    found = [record for record in parsed if record is not None]
    num_damaged = sum(record is None and bool(line.strip()) for record, line in zip(parsed[:-1], lines, strict=False))
    selecting = dict.fromkeys(
        str(record["metric"]) for record in found if record.get("type") == "validation" and "metric" in record
    )
    return Run(
        name=visible(folder.resolve().name),
        folder=folder,
        records=tuple(_records(found)),
        selecting=tuple(selecting),
        num_damaged=num_damaged,
    )


def choose_metrics(runs: Sequence[Run], wanted: Sequence[str]) -> list[str]:
    """Name what is to be drawn: what is wanted, or else loss, the metrics that select, learning rate and speed.

    Raises:
        ConfigError: no run has a metric that is wanted.
    """
    there = list(dict.fromkeys(name for run in runs for name in run.metrics()))
    if not wanted:
        usual = dict.fromkeys((*_FIRST, *(name for run in runs for name in run.selecting), *_LAST))
        return [name for name in usual if name in there] or there
    names = list(dict.fromkeys(name.replace("-", "_") for name in wanted))
    for name in names:
        if name not in there:
            raise ConfigError(f"no run has the metric {name!r}; there are {', '.join(there)}")
    return names


def curves_of(runs: Sequence[Run], metric: str, axis: Axis) -> list[Curve]:
    """Draw a metric of every run that has it, in training and in validation."""
    curves = (run.curve(metric, split, axis) for run in runs for split in SPLITS)
    return [curve for curve in curves if curve is not None]


def axis_scale(curves: Sequence[Curve], axis: Axis) -> tuple[float, str]:
    """Choose the unit of an axis: what its places are divided by, and what is written beside it."""
    if axis != "time":
        return 1.0, axis
    longest = max((max(curve.x) for curve in curves), default=0.0)
    return next((size, f"time ({name})") for size, name in TIME_UNITS if longest >= 2 * size or size == 1.0)


def _parse(line: str) -> dict[str, Any] | None:
    """Read a line; None if it is no record."""
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return record if isinstance(record, dict) else None


def _records(found: Sequence[Mapping[str, Any]]) -> Iterator[Record]:
    """Make records of what was read, in its order."""
    clock = _Clock([(_number(record.get("step")), _number(record.get("elapsed_seconds"))) for record in found])
    for record in found:
        step, epoch = _number(record.get("step")), _number(record.get("epoch"))
        if record.get("type") == "step":
            values = {name: _number(value) for name, value in record.items() if name not in _PLACES and name != "type"}
            seconds = _number(record.get("elapsed_seconds"))
            yield Record(split="training", step=step, epoch=epoch, seconds=seconds, values=values)
        elif record.get("type") == "validation" and isinstance(record.get("values"), dict):
            values = {name: _number(value) for name, value in record["values"].items()}
            yield Record(split="validation", step=step, epoch=epoch, seconds=clock.at(step), values=values)


class _Clock:
    """Tells the time of a step that lies between steps whose time is known."""

    def __init__(self, times: Sequence[tuple[float, float]]) -> None:
        known = sorted((step, seconds) for step, seconds in times if not math.isnan(step + seconds))
        self._steps = [0.0, *(step for step, _ in known)]
        self._seconds = [0.0, *(seconds for _, seconds in known)]

    def at(self, step: float) -> float:
        """Give the seconds; NaN where no step has a time. Beyond the last one they go on as between the last two."""
        if len(self._steps) < 2 or math.isnan(step):
            return math.nan
        right = min(max(bisect_right(self._steps, step), 1), len(self._steps) - 1)
        begin, end = self._steps[right - 1], self._steps[right]
        share = (step - begin) / (end - begin) if end > begin else 1.0
        return self._seconds[right - 1] + share * (self._seconds[right] - self._seconds[right - 1])


def _number(value: object) -> float:
    """A finite number, or NaN for anything else: null, text, infinity."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return math.nan
    try:
        return float(value) if math.isfinite(value) else math.nan
    except OverflowError:
        return math.nan
