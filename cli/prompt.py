"""Lines as a filter reads them: asks for one after the other where somebody types them, counts them where none does."""

import os
import stat
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol, TypeVar

from cli import console, options

__all__ = ["input_windows", "prompted"]

PROMPT = "> "

_Item = TypeVar("_Item")


class WindowReader(Protocol[_Item]):
    """Reads lines or records in groups."""

    @property
    def is_standard_input(self) -> bool:
        """Whether they come from standard input."""

    def windows(self, max_items: int, /) -> Iterator[list[_Item]]:
        """Hand over what there is, at most so many at once."""


@contextmanager
def input_windows(
    reader: WindowReader[_Item], buffer_size: int, output: Path, *, invitation: str, work: str
) -> Iterator[Iterator[list[_Item]]]:
    """Read windows of lines: with a prompt for each where somebody types them, else with a count on the terminal.

    Args:
        reader: of the input.
        buffer_size: lines of a window.
        output: where the results go.
        invitation: what is said to somebody who types: what to type, and how to end.
        work: what is done with the lines, to stand beside the count.
    """
    windows = reader.windows(buffer_size)
    if reader.is_standard_input and sys.stdin.isatty():
        yield prompted(windows, invitation)
    elif console.is_terminal() and _goes_to_file(output):
        with console.progress(work, unit="lines") as advance:
            yield _counted(windows, advance)
    else:
        yield windows


def prompted(windows: Iterator[list[_Item]], invitation: str) -> Iterator[list[_Item]]:
    """Give windows of typed lines, with a prompt on stderr before each, until Ctrl-D.

    Args:
        windows: of standard input.
        invitation: what is said first: what to type, and how to end.
    """
    console.info(invitation)
    while True:
        _say(PROMPT)
        window = next(windows, None)
        if window is None:
            _say("\n")
            return
        yield window


def _goes_to_file(output: Path) -> bool:
    """Tell results that go into a file from those that may come out on the terminal, at the end of a pipe perhaps."""
    return output != options.STANDARD_STREAM or stat.S_ISREG(os.fstat(sys.stdout.fileno()).st_mode)


def _counted(windows: Iterator[list[_Item]], advance: Callable[[int], None]) -> Iterator[list[_Item]]:
    for window in windows:
        yield window
        advance(len(window))


def _say(text: str) -> None:
    if not console.is_quiet():
        sys.stderr.write(text)
        sys.stderr.flush()
