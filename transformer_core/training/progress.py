"""What training says while it runs: records for metrics.jsonl, lines for train.log, and whoever else listens."""

import json
import math
import os
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

from transformer_core.data.lines import blaming

__all__ = [
    "Listener",
    "Silent",
    "StepReport",
    "TrainingLog",
    "ValidationReport",
    "format_duration",
    "format_step",
    "format_validation",
]


@dataclass(frozen=True, kw_only=True)
class StepReport:
    """The updates since the last report."""

    step: int  # updates made
    max_steps: int
    epoch: float  # passes over the data, with the share of the running one
    loss: float  # smoothed cross-entropy per target token, nats
    perplexity: float  # e to the power of the negative log-likelihood per target token
    learning_rate: float
    gradient_norm: float  # before clipping, of the last update
    tokens_per_second: float  # target tokens
    num_target_tokens: int  # learned from so far, over all runs
    num_skipped: int  # updates left out in all because a gradient was not finite
    elapsed_seconds: float  # spent training, over all runs
    remaining_seconds: float  # expected until max_steps


@dataclass(frozen=True, kw_only=True)
class ValidationReport:
    """One look at the validation pairs."""

    step: int
    epoch: float
    values: dict[str, float]  # loss, perplexity and the metrics, by name
    metric: str  # the one that selects
    is_best: bool
    num_worse: int  # validations since the best one
    patience: int
    signatures: dict[str, str] = field(default_factory=dict)  # circumstances of the metrics
    sample: tuple[str, str, str] | None = None  # source, hypothesis, reference


class Listener(Protocol):
    """Who is told how training goes; the command line shows it."""

    def on_message(self, text: str) -> None:
        """Something worth a line has happened."""

    def on_warning(self, text: str) -> None:
        """Something is not as it should be, though training goes on."""

    def on_step(self, report: StepReport) -> None:
        """Some updates were made."""

    def on_validation(self, report: ValidationReport) -> None:
        """The validation pairs were looked at."""


class Silent:
    """A listener that says nothing."""

    def on_message(self, text: str) -> None:
        """Say nothing."""

    def on_warning(self, text: str) -> None:
        """Say nothing."""

    def on_step(self, report: StepReport) -> None:
        """Say nothing."""

    def on_validation(self, report: ValidationReport) -> None:
        """Say nothing."""


class TrainingLog:
    """Appends to metrics.jsonl and train.log, cuts them back on resume, and passes everything on to a listener.

    Of several processes one writes.
    """

    def __init__(self, folder: Path, listener: Listener, *, is_writer: bool = True) -> None:
        self._is_writer = is_writer
        self._metrics_path = folder / "metrics.jsonl"
        self._log_path = folder / "train.log"
        self._listener = listener

    def sizes(self) -> tuple[int, int]:
        """Bytes in metrics.jsonl and train.log."""
        return _size(self._metrics_path), _size(self._log_path)

    def cut_back(self, metrics_bytes: int, log_bytes: int) -> None:
        """Forget what was written after a checkpoint: the resumed run writes it again."""
        for path, size in ((self._metrics_path, metrics_bytes), (self._log_path, log_bytes)):
            if self._is_writer and _size(path) > size:
                os.truncate(path, size)

    def message(self, text: str) -> None:
        """Note something worth a line."""
        self._append_line(text)
        self._listener.on_message(text)

    def warning(self, text: str) -> None:
        """Note that something is not as it should be."""
        self._append_line(f"warning: {text}")
        self._listener.on_warning(text)

    def step(self, report: StepReport) -> None:
        """Note some updates."""
        self._append_record({"type": "step", **asdict(report)})
        self._append_line(format_step(report))
        self._listener.on_step(report)

    def validation(self, report: ValidationReport) -> None:
        """Note a look at the validation pairs."""
        self._append_record({"type": "validation", **asdict(report)})
        self._append_line(format_validation(report))
        self._listener.on_validation(report)

    def _append_record(self, record: dict[str, Any]) -> None:
        self._append(self._metrics_path, json.dumps(_finite(record), ensure_ascii=False, allow_nan=False))

    def _append_line(self, text: str) -> None:
        self._append(self._log_path, f"{time.strftime('%Y-%m-%d %H:%M:%S')} {text}")

    def _append(self, path: Path, line: str) -> None:
        if self._is_writer:
            with blaming(str(path)), path.open("a", encoding="utf-8", newline="\n") as file:
                file.write(f"{line}\n")


def format_step(report: StepReport) -> str:
    """One line: "step 1000/4000  epoch 8.7  loss 3.21  ppl 12.3  lr 3.0e-03  tok/s 9.1k  gnorm 1.1  eta 12m"."""
    skipped = f"  skipped {report.num_skipped}" if report.num_skipped else ""
    return (
        f"step {report.step}/{report.max_steps}  epoch {report.epoch:.1f}  loss {report.loss:.3f}  "
        f"ppl {report.perplexity:.2f}  lr {report.learning_rate:.1e}  tok/s {report.tokens_per_second / 1000:.1f}k  "
        f"gnorm {report.gradient_norm:.2f}  eta {format_duration(report.remaining_seconds)}{skipped}"
    )


def format_validation(report: ValidationReport) -> str:
    """One line: "valid at step 1000  loss 2.10  perplexity 8.17  bleu 31.2  (best)"."""
    values = "  ".join(
        f"{name} {value:.2f}" if name != "loss" else f"loss {value:.4f}" for name, value in report.values.items()
    )
    patience = f" of {report.patience}" if report.patience else ""
    standing = f"{report.num_worse}{patience} without a better {report.metric}"
    if report.is_best:
        standing = "best so far"
    elif not report.num_worse:  # nothing is counted before the rate falls
        standing = f"no better {report.metric}"
    return f"valid at step {report.step}  {values}  ({standing})"


def format_duration(seconds: float) -> str:
    """A duration for people: 45s, 12m, 1h02m."""
    if not math.isfinite(seconds):
        return "?"
    minutes = round(seconds / 60)
    if seconds < 60:
        return f"{seconds:.0f}s"
    return f"{minutes}m" if minutes < 60 else f"{minutes // 60}h{minutes % 60:02d}m"


def _finite(value: object) -> object:
    """Put null in the place of infinity and NaN, which JSON does not have."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
