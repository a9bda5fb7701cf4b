"""Lines as a filter reads them: asks for one after the other where somebody types them, counts them where none does.

What is typed can be edited and called back, in later sessions too: readline keeps it in transduce/history of the user's
state folder (XDG_STATE_HOME, or ~/.local/state). Where that cannot be written, nothing is kept.
"""

import os
import stat
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from cli import console, options
from transformer_core.data.line_count import count_lines

__all__ = ["TypedInput", "line_count", "typed_input"]

PROMPT = "> "
HISTORY_LINES = 1000


@contextmanager
def line_count(inputs: Sequence[Path], output: Path, *, work: str) -> Iterator[Callable[[int], None]]:
    """Count lines on the terminal if nothing else goes there; yields a function that is told how many were just done.

    Args:
        inputs: what is read.
        output: where the results go.
        work: what is done with the lines, to stand beside the count.
    """
    if not _is_typed(inputs) and console.is_terminal() and not console.is_quiet() and _goes_to_file(output):
        with console.progress(work, total=count_lines(inputs), unit="lines") as advance:
            yield advance
    else:
        yield lambda count: None


def typed_input(inputs: Sequence[Path], invitation: str) -> "TypedInput | None":
    """Give what asks for lines if somebody is there to type them; None where the input is a file or a pipe.

    Args:
        inputs: what is to be read.
        invitation: what is said first: what to type, and how to end.
    """
    return TypedInput(invitation) if _is_typed(inputs) else None


class TypedInput:
    """Asks for lines on the terminal, as a source for a LineReader, until Ctrl-D.

    Args:
        invitation: what is said first: what to type, and how to end.
    """

    name = "standard input"

    def __init__(self, invitation: str) -> None:
        self._invitation = invitation
        self._ask: Callable[[], bytes] | None = None  # None before the first line

    def read(self) -> bytes | None:
        """Ask for the next line; None at the end."""
        if self._ask is None:
            console.info(self._invitation)
            # Python edits lines with readline only if both ends are terminals.
            has_editor = sys.stdout.isatty() and os.environ.get("TERM") != "dumb"
            self._ask = (_editor() if has_editor else None) or _ask_plainly
        line = self._ask()
        if not line:
            _say("\n")
        return line or None

    def pauses(self) -> bool:
        """Every line is answered before the next is asked for."""
        return True

    def close(self) -> None:
        """Standard input stays open."""


def _ask_plainly() -> bytes:
    _say(PROMPT)
    return sys.stdin.buffer.readline()


def _editor() -> Callable[[], bytes] | None:
    """What asks for a line that can be edited; None where there is no readline."""
    try:
        import readline
    except ImportError:
        return None
    sys.stdin.reconfigure(encoding="utf-8", errors="surrogateescape")  # type: ignore[union-attr]
    history = _history_file()
    readline.set_history_length(HISTORY_LINES)
    if history is not None:
        with suppress(OSError):
            readline.read_history_file(history)

    def ask() -> bytes:
        num_before = readline.get_current_history_length()
        try:
            line = input("" if console.is_quiet() else PROMPT)
        except EOFError:
            return b""
        if history is not None and readline.get_current_history_length() > num_before:
            with suppress(OSError, AttributeError):  # the disk is full; libedit cannot append
                readline.append_history_file(1, history)
        return line.encode("utf-8", "surrogateescape") + b"\n"

    return ask


def _history_file() -> Path | None:
    """The file that keeps what was typed, for this user's eyes; None if there can be none."""
    with suppress(OSError, RuntimeError):  # RuntimeError: this user has no home
        base = os.environ.get("XDG_STATE_HOME", "")
        folder = (Path(base) if os.path.isabs(base) else Path.home() / ".local" / "state") / "transduce"
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.close(os.open(folder / "history", os.O_RDWR | os.O_CREAT, 0o600))
        return folder / "history"
    return None


def _is_typed(inputs: Sequence[Path]) -> bool:
    return list(inputs) == [options.STANDARD_STREAM] and sys.stdin is not None and sys.stdin.isatty()


def _goes_to_file(output: Path) -> bool:
    """Tell results that go into a file from those that may come out on the terminal, at the end of a pipe perhaps."""
    return output != options.STANDARD_STREAM or stat.S_ISREG(os.fstat(sys.stdout.fileno()).st_mode)


def _say(text: str) -> None:
    if not console.is_quiet():
        sys.stderr.write(text)
        sys.stderr.flush()
