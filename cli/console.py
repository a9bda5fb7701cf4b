"""Where words go: results to stdout, everything else to stderr.

    console.write_line(text)                  a result, to stdout
    console.info(text)                        what is going on; -q silences it
    console.detail(text)                      only with -v
    console.warn(text)                        "transduce: warning: text"; -qq silences it
    console.error(text)                       "transduce: error: text"; always shown
    with console.progress("reading", unit="lines") as advance:
        advance(1)                            a bar on a terminal, a line now and then elsewhere

In a job of several processes only the first one speaks; an error says which one it comes from. Rich is imported when a
progress bar or the training display is first shown, not before: most commands end sooner than it loads.
"""

import os
import re
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console as RichConsole
    from rich.progress import Progress, TaskID

__all__ = [
    "command_line",
    "configure",
    "detail",
    "error",
    "flush",
    "has_color",
    "info",
    "is_quiet",
    "is_terminal",
    "is_verbose",
    "live_on",
    "progress",
    "reset",
    "results_have_color",
    "rich_console",
    "take_place",
    "warn",
    "write",
    "write_line",
]

PROGRAM = "transduce"
LONGEST_ERROR = 2000  # characters
LOG_EVERY_SECONDS = 30.0  # between progress lines where there is no terminal
REDRAW_EVERY_SECONDS = 0.1  # Rich takes a lock for every update: too dear to do for every line of a corpus


# Names of files and what stands in files of others may hold what moves the cursor or turns the order of the text.
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]")
_HALF_CHARACTER = re.compile("[\ud800-\udc7f\udd00-\udfff]")  # none that stands for a byte of a file's name


@dataclass
class _State:
    """How loud this process is."""

    quiet: int = 0  # 1: no information and no progress; 2: no warnings either
    verbose: int = 0  # 1: details
    color: bool = True  # False after --no-color
    is_on: bool = True  # False in every process of a job but the first
    place: str = ""  # which process of a job this is, for errors; empty for one that is alone
    live: "RichConsole | None" = None  # the console of the display that is being drawn, so that lines go above it


_state = _State()


def configure(*, quiet: int | None = None, verbose: int | None = None, color: bool | None = None) -> None:
    """Set how loud and how colourful the program is; None leaves a setting as it is, and no level falls.

    `transduce -qq translate -q` is as quiet as was asked for anywhere.
    """
    if quiet is not None:
        _state.quiet = max(_state.quiet, quiet)
    if verbose is not None:
        _state.verbose = max(_state.verbose, verbose)
    if color is not None:
        _state.color = color


def reset() -> None:
    """Go back to the defaults: several runs in one process (tests) must not inherit each other's loudness."""
    _state.quiet, _state.verbose, _state.color, _state.live = 0, 0, True, None
    _state.is_on, _state.place = True, ""


def take_place(place: str, *, is_first: bool) -> None:
    """Be one process of a job: all but the first are silent but for errors, which begin with `place`."""
    _state.is_on, _state.place = is_first, place


def is_quiet() -> bool:
    """Tell whether information and progress are unwanted."""
    return _state.quiet > 0 or not _state.is_on


def is_verbose() -> bool:
    """Tell whether details are wanted."""
    return _state.verbose > 0 and _state.is_on


def is_terminal() -> bool:
    """Tell whether a live display can be drawn: stderr is a terminal that can move its cursor."""
    return sys.stderr.isatty() and os.environ.get("TERM") not in ("dumb", "unknown")


def has_color() -> bool:
    """Tell whether stderr may be coloured: a terminal, and neither NO_COLOR, TERM=dumb nor --no-color."""
    return _state.color and not os.environ.get("NO_COLOR") and is_terminal()


def results_have_color() -> bool:
    """Tell the same of stdout."""
    is_plain = os.environ.get("NO_COLOR") or os.environ.get("TERM") in ("dumb", "unknown")
    return _state.color and not is_plain and sys.stdout.isatty()


def write(text: str) -> None:
    """Write a result to stdout as it is, as UTF-8 whatever the locale."""
    sys.stdout.flush()  # what was printed before comes before
    sys.stdout.buffer.write(_HALF_CHARACTER.sub("\ufffd", text).encode("utf-8", errors="surrogateescape"))
    if sys.stdout.isatty():
        sys.stdout.buffer.flush()


def write_line(text: str = "") -> None:
    r"""Write a result and "\n" to stdout."""
    write(f"{text}\n")


def flush() -> None:
    """Hand every result written so far to whoever reads stdout.

    Raises:
        OSError: the disk is full, or the reader is gone.
    """
    if sys.stdout is not None:
        sys.stdout.flush()


def info(text: str) -> None:
    """Say what is going on."""
    if not is_quiet():
        _say(text)


def detail(text: str) -> None:
    """Say what only -v asks for."""
    if is_verbose():
        _say(text)


def warn(text: str) -> None:
    """Say that something is not as it should be, though the work goes on."""
    if _state.quiet < 2 and _state.is_on:
        _say(text, label="warning", color_code="33")


def error(text: str) -> None:
    """Say in one line why the work ends; no level silences it."""
    place = f"{_state.place}: " if _state.place else ""
    line = _spelled_out(place + " ".join(text.split()))
    _say(line if len(line) <= LONGEST_ERROR else line[:LONGEST_ERROR] + "…", label="error", color_code="31")


def command_line() -> str:
    """Give the command as it was typed, for records of where a model comes from."""
    import shlex

    return shlex.join([PROGRAM, *sys.argv[1:]])


def rich_console() -> "RichConsole":
    """Make a Rich console on stderr that obeys NO_COLOR and --no-color, for displays of one's own."""
    from rich.console import Console

    return Console(file=sys.stderr, no_color=not has_color(), highlight=False)


@contextmanager
def live_on(rich: "RichConsole") -> Iterator[None]:
    """Send messages above the live display of `rich` while the block runs, and then where they went before."""
    outer, _state.live = _state.live, rich
    try:
        yield
    finally:
        _state.live = outer


@contextmanager
def progress(
    description: str, *, total: int | None = None, unit: str = "lines", writes_results: bool = False
) -> Iterator[Callable[[int], None]]:
    """Show how far the work is; yields a function that is told how many units were just done.

    Args:
        description: what is being done ("learning the vocabulary").
        total: units there are, where that is known.
        unit: what is counted, in the plural.
        writes_results: results are written meanwhile; if they go to a terminal, no bar disturbs them.
    """
    if is_quiet() or (writes_results and sys.stdout.isatty()):
        yield lambda count: None
    elif is_terminal():
        with _bar(description, total, unit) as advance:
            yield advance
    else:
        yield _ProgressLog(description, total, unit).advance


@contextmanager
def _bar(description: str, total: int | None, unit: str) -> Iterator[Callable[[int], None]]:
    """Draw a bar that goes away when the work is done: how much is done, how fast, how long it took and will take."""
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        SpinnerColumn,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    count = MofNCompleteColumn() if total is not None else TextColumn("{task.completed:,.0f}")
    bar = BarColumn() if total is not None else SpinnerColumn()
    left = [TextColumn("left"), TimeRemainingColumn()] if total is not None else []
    rate = TextColumn("{task.fields[rate]}")
    columns = (TextColumn("{task.description}"), bar, count, TextColumn(unit), rate, TimeElapsedColumn(), *left)
    rich = rich_console()
    with Progress(*columns, console=rich, transient=True, refresh_per_second=4) as display, live_on(rich):
        counter = _ProgressBar(display, display.add_task(description, total=total, rate=""))
        yield counter.advance
        counter.draw()


class _ProgressBar:
    """Counts units and passes the sum on to Rich a few times a second."""

    def __init__(self, display: "Progress", task: "TaskID") -> None:
        self.display = display
        self.task = task
        self.num_done = 0
        self.started_at = time.monotonic()
        self.drawn_at = float("-inf")  # the first count is shown at once

    def advance(self, count: int) -> None:
        """Count `count` more units."""
        self.num_done += count
        if time.monotonic() - self.drawn_at >= REDRAW_EVERY_SECONDS:
            self.draw()

    def draw(self) -> None:
        """Show the count, and how much that is in a second."""
        self.drawn_at = time.monotonic()
        seconds = self.drawn_at - self.started_at
        rate = f"{self.num_done / seconds:,.0f}/s" if seconds > 1 else ""
        self.display.update(self.task, completed=self.num_done, rate=rate)


class _ProgressLog:
    """Counts units and says so in a line now and then."""

    def __init__(self, description: str, total: int | None, unit: str) -> None:
        self.description = description
        self.goal = "" if total is None else f" of {total:,}"
        self.unit = unit
        self.num_done = 0
        self.said_at = time.monotonic()

    def advance(self, count: int) -> None:
        """Count `count` more units."""
        self.num_done += count
        now = time.monotonic()
        if now - self.said_at >= LOG_EVERY_SECONDS:
            self.said_at = now
            info(f"{self.description}: {self.num_done:,}{self.goal} {self.unit}")


def _spelled_out(text: str) -> str:
    return _CONTROL.sub(lambda match: ascii(match[0])[1:-1], text)


def _say(text: str, label: str = "", color_code: str = "") -> None:
    """Write a line to stderr, above the live display where there is one; what would disturb it is spelled out."""
    text = _spelled_out(text)
    head = f"{PROGRAM}: {label}: " if label else ""
    if head and has_color():
        head = f"{PROGRAM}: \x1b[{color_code}m{label}:\x1b[0m "
    if _state.live is not None:
        from rich.text import Text

        _state.live.print(Text.from_ansi(head + text), soft_wrap=True)
    else:
        sys.stderr.write(f"{head}{text}\n")
        sys.stderr.flush()
