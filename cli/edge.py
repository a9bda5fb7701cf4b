"""The edge where exceptions end: one line on stderr, and the exit code of the kind.

    0 ok · 1 failure · 2 usage · 3 bad input data · 4 model or checkpoint · 5 out of memory
    129 SIGHUP · 130 SIGINT · 141 SIGPIPE · 143 SIGTERM

Whatever is none of the kinds below is a fault of this program and says so; --debug shows the traceback of any.
"""

import errno
import gc
import io
import os
import re
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import NoReturn, TextIO

import typer

from cli import console
from transformer_core.errors import (
    ConfigError,
    DataError,
    Interrupted,
    ModelError,
    OutOfMemoryError,
    TransduceError,
)
from transformer_core.out_of_memory import is_out_of_memory

__all__ = ["EXIT_CODES", "Terminated", "describe", "error_edge", "run"]

FAILURE = 1
USAGE = 2
BAD_DATA = 3
BAD_MODEL = 4
OUT_OF_MEMORY = 5
SIGHUP = 129
SIGINT = 130
SIGPIPE = 141
SIGTERM = 143

YES = ("1", "true", "t", "yes", "y", "on")  # what Typer takes for a flag in the environment

EXIT_CODES: dict[type[Exception], int] = {
    ConfigError: USAGE,
    DataError: BAD_DATA,
    ModelError: BAD_MODEL,
    OutOfMemoryError: OUT_OF_MEMORY,
    TransduceError: FAILURE,
}


class Terminated(KeyboardInterrupt):
    """SIGTERM or SIGHUP came: like Ctrl-C it must unwind everything, so that no half-written file stays behind.

    Attributes:
        exit_code: what to leave with.
    """

    def __init__(self, exit_code: int) -> None:
        super().__init__()
        self.exit_code = exit_code


def run(app: Callable[..., object]) -> NoReturn:
    """Run a Typer app as a program: streams as we need them, a clean way out whatever happens."""
    _open_streams()
    _unwind_on_signals()
    warnings.showwarning = _show_warning
    code: object = 0
    try:
        app(prog_name=console.PROGRAM)
    except SystemExit as exit_request:
        code = exit_request.code
    code = _flush_results(code if isinstance(code, int) else FAILURE)
    with suppress(ValueError):  # not the main thread
        for number in (signal.SIGTERM, signal.SIGHUP):
            if signal.getsignal(number) != signal.SIG_IGN:
                signal.signal(number, signal.SIG_DFL)  # nothing is left to unwind
    gc.freeze()  # the system takes everything back; Python would first look through it for garbage, for long
    sys.exit(code)


@contextmanager
def error_edge() -> Iterator[None]:
    """Turn every exception of the block into its line and exit code.

    Raises:
        typer.Exit: with the code; Typer leaves the program with it.
    """
    try:
        yield
        console.flush()
    except typer.Exit:
        raise
    except (BrokenPipeError, SystemExit) as error:
        # Rich, which writes the help, makes a SystemExit(1) of a reader that is gone.
        if isinstance(error, SystemExit) and not isinstance(error.__context__, BrokenPipeError):
            raise
        _discard(sys.stdout)
        raise typer.Exit(SIGPIPE) from None
    except KeyboardInterrupt as error:
        console.warn("terminated" if isinstance(error, Terminated) else "interrupted")
        raise typer.Exit(error.exit_code if isinstance(error, Terminated) else SIGINT) from None
    except Interrupted as error:
        console.warn(str(error))
        raise typer.Exit(128 + error.signal_number) from None
    except Exception as error:
        if _is_debug_wanted(sys.argv):
            import traceback

            traceback.print_exc()
        code, message = describe(error)
        if message:
            console.error(message)
        try:
            console.flush()  # results that came before the fault are results
        except OSError:
            _discard(sys.stdout)  # what cannot be written now cannot be written at exit either
        raise typer.Exit(code) from None


def describe(error: Exception) -> tuple[int, str]:
    """The exit code and the line of an exception."""
    for kind, code in {**EXIT_CODES, **_tokenizer_exit_codes()}.items():
        if isinstance(error, kind):
            return code, str(error)
    if isinstance(error, typer.TyperException):  # a command line that does not parse
        from cli.usage import describe_usage_error

        return error.exit_code, describe_usage_error(error)
    if is_out_of_memory(error):
        return OUT_OF_MEMORY, "out of memory; make the batch smaller (--batch-size), or the model"
    if isinstance(error, OSError) and error.errno is not None:
        return FAILURE, _describe_os_error(error)
    return FAILURE, (
        f"this is a fault of transduce, not yours: {type(error).__name__}: {error}; "
        "run it again with --debug (or TRANSDUCE_DEBUG=1) for the traceback, and please report it"
    )


def _tokenizer_exit_codes() -> dict[type[Exception], int]:
    """The codes of the tokenizer's exceptions, if it is loaded: it takes time, and without it none can be raised."""
    if "tokenizer.errors" not in sys.modules:
        return {}
    from tokenizer.errors import TokenizerConfigError, TokenizerDataError, TokenizerError, TokenizerFileError

    return {
        TokenizerConfigError: USAGE,
        TokenizerDataError: BAD_DATA,
        TokenizerFileError: BAD_MODEL,
        TokenizerError: FAILURE,
    }


def _is_debug_wanted(arguments: list[str]) -> bool:
    """Tell whether tracebacks are wanted; read from the arguments because parsing them may be what fails."""
    options = arguments[1 : arguments.index("--")] if "--" in arguments else arguments[1:]
    return "--debug" in options or os.environ.get("TRANSDUCE_DEBUG", "").lower() in YES


def _unwind_on_signals() -> None:
    """Let SIGTERM, SIGHUP and Ctrl-C unwind the program instead of killing it on the spot."""

    def unwind(signal_number: int, frame: FrameType | None) -> None:
        if _is_importing(frame):  # broken off, it would leave half a module, with which torch goes on
            again = threading.Timer(0.05, os.kill, (os.getpid(), signal_number))
            again.daemon = True
            return again.start()
        match signal_number:
            case signal.SIGINT:
                raise KeyboardInterrupt
            case signal.SIGHUP:
                signal.signal(signal.SIGHUP, signal.SIG_IGN)  # the shell and the terminal both send it
                raise Terminated(SIGHUP)
            case _:
                raise Terminated(SIGTERM)

    with suppress(ValueError):  # not the main thread: then somebody else handles signals
        for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
            if signal.getsignal(number) != signal.SIG_IGN:  # as nohup, or a script for its background, has it
                signal.signal(number, unwind)


def _is_importing(frame: FrameType | None) -> bool:
    """Tell whether what runs in a frame was called by an import."""
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            return True
        frame = frame.f_back
    return False


class _Stderr(io.TextIOWrapper):
    """Standard error that takes what it cannot write for written: what cannot be said must not undo what was done."""

    def write(self, text: str) -> int:
        """Write a text."""
        try:
            return super().write(text)
        except OSError:  # a full disk, a reader that is gone
            _discard(self)
            return len(text)

    def flush(self) -> None:
        """Write out what is held."""
        try:
            super().flush()
        except OSError:
            _discard(self)


def _open_streams() -> None:
    r"""Make standard streams that are there, UTF-8 and end lines in "\n", whatever locale and system say."""
    if sys.stdin is None:  # closed by the caller (<&-): a descriptor that refuses to be read
        sys.stdin = open(os.open(os.devnull, os.O_WRONLY), encoding="utf-8")  # noqa: SIM115 - lives as long as we do
    if sys.stdout is None:  # and one that refuses what is written to it (>&-)
        sys.stdout = open(os.open(os.devnull, os.O_RDONLY), "w", encoding="utf-8")  # noqa: SIM115
    with suppress(AttributeError):  # replaced by a stream that cannot be set (tests, notebooks), as may be stderr
        sys.stdout.reconfigure(encoding="utf-8", errors="surrogateescape", newline="\n")  # type: ignore[union-attr]
    with suppress(AttributeError):
        file = open(os.devnull, "wb") if sys.stderr is None else sys.stderr.buffer  # noqa: SIM115
        sys.stderr = _Stderr(file, encoding="utf-8", errors="backslashreplace", newline="\n", line_buffering=True)


def _show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """Show what a library warns of with -v only: it is said to programmers, not to users."""
    console.detail(f"{category.__name__}: {message} ({filename}:{lineno})")


def _flush_results(code: int) -> int:
    """Write out what stdout still holds; returns the exit code, which a full disk or a gone reader changes."""
    try:
        with error_edge():
            console.flush()
    except typer.Exit as exit_request:
        return code or exit_request.exit_code
    return code


def _discard(stream: TextIO) -> None:
    """Point a stream to nowhere, so that the interpreter's own last flush has nothing to complain about."""
    with suppress(OSError, ValueError, AttributeError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)


def _describe_os_error(error: OSError) -> str:
    """Name the file and what the system said of it."""
    reason = {
        errno.ENOSPC: "the disk is full",
        errno.EROFS: "the file system is read-only",
        errno.EACCES: "permission denied",
        errno.ENOENT: "no such file or folder",
        errno.EISDIR: "is a folder, not a file",
        errno.EBADF: "standard output is closed",
    }.get(error.errno or 0, error.strerror or str(error))
    if error.filename is None:
        return f"cannot write: {reason}" if error.errno in (errno.ENOSPC, errno.EROFS, errno.EBADF) else reason
    # The temporary name under which tokenizer.atomic_file writes means nothing to the user.
    name = re.sub(r"(^|[/\\])\.([^/\\]+)\.[^./\\]{8}\.tmp$", r"\1\2", os.fsdecode(error.filename))
    return f"{name}: {reason}"
