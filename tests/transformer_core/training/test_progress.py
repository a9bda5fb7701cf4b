import json
import math
from pathlib import Path

import pytest

from transformer_core.training.progress import (
    Silent,
    StepReport,
    TrainingLog,
    ValidationReport,
    format_duration,
    format_step,
    format_validation,
)

STEP = StepReport(
    step=1000,
    max_steps=4000,
    epoch=8.68,
    loss=3.2104,
    perplexity=12.3,
    learning_rate=0.003,
    gradient_norm=1.1,
    tokens_per_second=9123.4,
    num_target_tokens=100_000,
    num_skipped=0,
    elapsed_seconds=240.0,
    remaining_seconds=720.0,
)
VALIDATION = ValidationReport(
    step=1000,
    epoch=8.68,
    values={"loss": 2.1, "perplexity": 8.17, "bleu": 31.2},
    metric="bleu",
    is_best=True,
    num_worse=0,
    patience=10,
    sample=("ein Hund", "a dog", "a dog\u2028"),
)


class Listener:
    def __init__(self) -> None:
        self.heard: list[object] = []

    def on_message(self, text: str) -> None:
        self.heard.append(text)

    def on_warning(self, text: str) -> None:
        self.heard.append(text)

    def on_step(self, report: StepReport) -> None:
        self.heard.append(report)

    def on_validation(self, report: ValidationReport) -> None:
        self.heard.append(report)


def test_everything_is_written_down_and_passed_on(tmp_path: Path) -> None:
    listener = Listener()
    log = TrainingLog(tmp_path, listener)
    log.message("hello")
    log.warning("careful")
    log.step(STEP)
    log.validation(VALIDATION)
    assert listener.heard == ["hello", "careful", STEP, VALIDATION]
    step, validation = map(json.loads, (tmp_path / "metrics.jsonl").read_text(encoding="utf-8").split("\n")[:-1])
    assert (step["type"], step["step"], step["loss"]) == ("step", 1000, 3.2104)
    assert (validation["type"], validation["values"]["bleu"]) == ("validation", 31.2)
    assert validation["sample"] == ["ein Hund", "a dog", "a dog\u2028"]
    lines = (tmp_path / "train.log").read_text(encoding="utf-8").split("\n")
    assert [line[20:] for line in lines[:2]] == ["hello", "warning: careful"]


def test_what_a_resumed_run_writes_again_is_cut_back(tmp_path: Path) -> None:
    log = TrainingLog(tmp_path, Silent())
    assert log.sizes() == (0, 0)
    log.step(STEP)
    sizes = log.sizes()
    kept = (tmp_path / "metrics.jsonl").read_bytes(), (tmp_path / "train.log").read_bytes()
    log.validation(VALIDATION)
    with (tmp_path / "metrics.jsonl").open("ab") as file:
        file.write(b'{"type": "st')  # a kill in the middle of a line
    log.cut_back(*sizes)
    assert ((tmp_path / "metrics.jsonl").read_bytes(), (tmp_path / "train.log").read_bytes()) == kept
    log.cut_back(10**6, 10**6)  # nothing grows
    assert log.sizes() == sizes
    log.cut_back(0, 0)
    assert log.sizes() == (0, 0)


def test_numbers_that_json_does_not_have_are_null(tmp_path: Path) -> None:
    log = TrainingLog(tmp_path, Silent())
    report = StepReport(**{**vars(STEP), "gradient_norm": math.inf, "loss": math.nan})
    log.step(report)
    log.validation(ValidationReport(**{**vars(VALIDATION), "values": {"loss": math.nan, "bleu": 1.0}}))
    step, validation = map(json.loads, (tmp_path / "metrics.jsonl").read_text(encoding="utf-8").split("\n")[:-1])
    assert step["gradient_norm"] is None
    assert step["loss"] is None
    assert validation["values"] == {"loss": None, "bleu": 1.0}


def test_the_lines_are_these() -> None:
    assert format_step(STEP) == (
        "step 1000/4000  epoch 8.7  loss 3.210  ppl 12.30  lr 3.0e-03  tok/s 9.1k  gnorm 1.10  eta 12m"
    )
    assert format_step(StepReport(**{**vars(STEP), "num_skipped": 3})).endswith("  skipped 3")
    assert format_validation(VALIDATION) == (
        "valid at step 1000  loss 2.1000  perplexity 8.17  bleu 31.20  (best so far)"
    )
    worse = ValidationReport(**{**vars(VALIDATION), "is_best": False, "num_worse": 2})
    assert format_validation(worse).endswith("(2 of 10 without a better bleu)")
    not_counted = ValidationReport(**{**vars(VALIDATION), "is_best": False, "num_worse": 0})
    assert format_validation(not_counted).endswith("(no better bleu)")


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0s"), (59.4, "59s"), (60, "1m"), (3569, "59m"), (3720, "1h02m"), (math.inf, "?")]
)
def test_durations(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text
