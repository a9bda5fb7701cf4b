import io
from pathlib import Path

import pytest
from rich.console import Console

from cli import console
from cli.training_display import training_display
from transformer_core.training.progress import StepReport, ValidationReport

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
    values={"loss": 2.1, "perplexity": 8.17},
    metric="loss",
    is_best=True,
    num_worse=0,
    patience=10,
    sample=("[bold]ein[/bold] Hund", "a dog", "a hound"),
)


def test_elsewhere_than_on_a_terminal_it_writes_lines(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    with training_display(tmp_path) as listener:
        listener.on_message("hello")
        listener.on_warning("careful")
        listener.on_step(STEP)
        listener.on_validation(VALIDATION)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.splitlines() == [
        "hello",
        "transduce: warning: careful",
        "step 1000/4000  epoch 8.7  loss 3.210  ppl 12.30  lr 3.0e-03  tok/s 9.1k  gnorm 1.10  eta 12m",
        "valid at step 1000  loss 2.1000  perplexity 8.17  (best so far)",
    ]


def test_on_a_terminal_it_draws_where_training_stands(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    screen = io.StringIO()
    rich = Console(file=screen, force_terminal=True, width=100, no_color=True, highlight=False)
    monkeypatch.setattr(console, "is_terminal", lambda: True)
    monkeypatch.setattr(console, "rich_console", lambda: rich)
    with training_display(tmp_path) as listener:
        listener.on_message("hello")
        listener.on_step(STEP)
        listener.on_validation(VALIDATION)
    shown = screen.getvalue()
    for part in (
        "hello",
        "1,000 of 4,000, epoch 8.7",
        "3.210   perplexity 12.30",
        "9,123 target tokens/s   rate 3.00e-03",
        "about 12m",
        "valid at step 1000  loss 2.1000",
        "[bold]ein[/bold] Hund",  # text, not markup
        "a hound",
    ):
        assert part in shown
