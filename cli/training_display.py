"""Shows how training goes: a live display on a terminal, a line now and then elsewhere, TensorBoard if asked for."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cli import console
from transformer_core.errors import ConfigError
from transformer_core.training.progress import (
    Listener,
    StepReport,
    ValidationReport,
    format_duration,
    format_step,
    format_validation,
)

if TYPE_CHECKING:
    from rich.live import Live
    from rich.table import Table

__all__ = ["training_display"]


@contextmanager
def training_display(folder: Path, *, writes_tensorboard: bool = False) -> Iterator[Listener]:
    """Give the listener that fits where stderr goes."""
    with ExitStack() as stack:
        listener: Listener = _Lines()
        if console.is_terminal() and not console.is_quiet():
            listener = stack.enter_context(_live())
        if writes_tensorboard:
            listener = stack.enter_context(_tensorboard(folder / "tensorboard", listener))
        yield listener


class _Lines:
    """Writes a line for everything."""

    def on_message(self, text: str) -> None:
        """Write the line."""
        console.info(text)

    def on_warning(self, text: str) -> None:
        """Write the line."""
        console.warn(text)

    def on_step(self, report: StepReport) -> None:
        """Write a line of numbers."""
        console.info(format_step(report))

    def on_validation(self, report: ValidationReport) -> None:
        """Write a line of numbers and what a sample became."""
        console.info(format_validation(report))
        if report.sample is not None:
            console.detail("sample: {!r} became {!r}, should be {!r}".format(*report.sample))


@contextmanager
def _live() -> Iterator[Listener]:
    """Draw a display that changes in place, with messages above it."""
    from rich.live import Live

    rich = console.rich_console()
    with Live(console=rich, refresh_per_second=4, transient=True) as live, console.live_on(rich):
        yield _Display(live)


class _Display(_Lines):
    """A table of where training stands, the last validation and its sample."""

    def __init__(self, live: "Live") -> None:
        self.live = live
        self.last_step: StepReport | None = None
        self.last_validation: ValidationReport | None = None

    def on_step(self, report: StepReport) -> None:
        """Draw the numbers."""
        self.last_step = report
        self.live.update(self._table())

    def on_validation(self, report: ValidationReport) -> None:
        """Draw the numbers and leave a line above."""
        console.info(format_validation(report))
        self.last_validation = report
        self.live.update(self._table())

    def _table(self) -> "Table":
        from rich.progress_bar import ProgressBar
        from rich.table import Table
        from rich.text import Text

        table = Table.grid(padding=(0, 2))
        if (step := self.last_step) is not None:
            table.add_row("step", f"{step.step:,} of {step.max_steps:,}, epoch {step.epoch:.1f}")
            table.add_row("", ProgressBar(total=step.max_steps, completed=step.step, width=40))
            table.add_row("loss", f"{step.loss:.3f}   perplexity {step.perplexity:.2f}")
            table.add_row("pace", f"{step.tokens_per_second:,.0f} target tokens/s   rate {step.learning_rate:.2e}")
            table.add_row("left", f"about {format_duration(step.remaining_seconds)}")
        if (validation := self.last_validation) is not None:
            table.add_row("valid", Text(format_validation(validation)))
            if validation.sample is not None:
                for name, text in zip(("source", "output", "truth"), validation.sample, strict=True):
                    table.add_row(name, Text(text[:200], overflow="ellipsis", no_wrap=True))
        return table


@contextmanager
def _tensorboard(folder: Path, listener: Listener) -> Iterator[Listener]:
    """Write TensorBoard events beside telling `listener`.

    Raises:
        ConfigError: the package is not installed.
    """
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise ConfigError("--tensorboard needs a package: pip install 'transduce[tensorboard]'") from None
    board = _TensorBoard(lambda step: SummaryWriter(str(folder), purge_step=step), listener)
    try:
        yield board
    finally:
        board.close()


class _TensorBoard:
    """Writes scalars and passes everything on."""

    def __init__(self, open_writer: Callable[[int], Any], listener: Listener) -> None:
        self.open_writer = open_writer
        # Opened at the first event: until then the folder of the model may not be there yet. What an earlier run
        # wrote after the step that this one goes on from is purged.
        self.writer: Any = None
        self.listener = listener

    def close(self) -> None:
        """Write out what is left."""
        if self.writer is not None:
            self.writer.close()

    def on_message(self, text: str) -> None:
        """Pass it on."""
        self.listener.on_message(text)

    def on_warning(self, text: str) -> None:
        """Pass it on."""
        self.listener.on_warning(text)

    def on_step(self, report: StepReport) -> None:
        """Write the numbers of some updates."""
        names = ("loss", "perplexity", "learning_rate", "gradient_norm", "tokens_per_second")
        self._write({f"training/{name}": getattr(report, name) for name in names}, report.step)
        self.listener.on_step(report)

    def on_validation(self, report: ValidationReport) -> None:
        """Write the numbers of a validation."""
        self._write({f"validation/{name}": value for name, value in report.values.items()}, report.step)
        self.listener.on_validation(report)

    def _write(self, scalars: Mapping[str, float], step: int) -> None:
        if self.writer is None:
            self.writer = self.open_writer(step)
        for name, value in scalars.items():
            self.writer.add_scalar(name, value, step)
