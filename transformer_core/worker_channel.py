"""The way to a worker process and back: what goes in at one end of a pair of pipes, and what comes out of the other.

Pickle goes through pipes between our own processes alone, as in `multiprocessing`; none is ever in a file.
"""

import os
import pickle
import signal
import subprocess
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import IO, Any

from transformer_core.errors import OutOfMemoryError, TransduceError

__all__ = ["Channel", "attempt", "launch", "reply", "serve"]


@dataclass(frozen=True, kw_only=True)
class Channel:
    """A worker, seen from the process that gives it work.

    Attributes:
        requests: what is written here, it works on.
        results: what came of it is read here.
        process: it runs there, or in a fork of it that does not outlive it.
        work: what it does, in the past tense, for messages.
        option: says how many there are, for messages.
    """

    requests: IO[bytes]
    results: IO[bytes]
    process: "subprocess.Popen[bytes]"
    work: str
    option: str

    def call(self, item: Any) -> Any:  # noqa: ANN401 - what it takes and gives, the worker's start says
        """Have an item worked on; raise what goes wrong there.

        Raises:
            OutOfMemoryError: the system has killed the process.
            TransduceError: it has ended otherwise.
        """
        self.send(item)
        return self.receive()

    def send(self, message: object) -> None:
        """Give it something, without waiting for what comes of it."""
        try:
            pickle.dump(message, self.requests, pickle.HIGHEST_PROTOCOL)
            self.requests.flush()
        except BrokenPipeError:
            raise self._death() from None

    def receive(self) -> object:
        """Wait for the next result; raise it if it is an exception."""
        try:
            result = pickle.load(self.results)
        except (EOFError, pickle.UnpicklingError):
            raise self._death() from None
        if isinstance(result, Exception):
            raise result
        return result

    def close(self) -> None:
        """Close both pipes; what was not sent cannot be any more."""
        for pipe in (self.requests, self.results):
            with suppress(OSError):
                pipe.close()

    def _death(self) -> Exception:
        """Say why a process has ended that should not have."""
        code, who = self.process.wait(), f"a process that {self.work}"
        if code == -signal.SIGKILL:
            return OutOfMemoryError(f"{who} was killed, perhaps for want of memory; use fewer ({self.option})")
        reason = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with code {code}"
        return TransduceError(f"{who} {reason}; run the same command again")


def launch(code: str, environment: Mapping[str, str] | None, pass_fds: Sequence[int] = ()) -> "subprocess.Popen[bytes]":
    """Start Python as a program of its own, in a process group of its own, with pipes as its streams.

    Args:
        code: what it runs; it imports what this process can.
        environment: variables beside those of this process.
        pass_fds: other open files that it gets.
    """
    return subprocess.Popen(
        [sys.executable, "-c", f"import sys; sys.path[:] = {sys.path!r}; {code}"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, **(environment or {})},
        start_new_session=True,  # Ctrl-C is for the parent, who ends its children
        pass_fds=pass_fds,
    )


def serve(start: Callable[[], object], requests: IO[bytes], results: IO[bytes]) -> None:
    """Work on what comes until no more does: the life of a worker. The first reply says that it is ready.

    Args:
        start: gives what is called with each request.
        requests: of a Channel.
        results: of the same.
    """
    with suppress(EOFError, BrokenPipeError, KeyboardInterrupt):  # the parent is gone
        work = attempt(start)
        reply(work if isinstance(work, Exception) else None, results)
        while callable(work):
            reply(attempt(partial(work, pickle.load(requests))), results)


def attempt(work: Callable[[], object]) -> object:
    """Give what comes of the work, be it an exception: whatever it is, it is the parent's to raise."""
    try:
        return work()
    except Exception as error:
        error.add_note("".join(traceback.format_exception(error)))  # shown with --debug
        try:
            pickle.loads(pickle.dumps(error))
        except Exception:  # its class asks for more than its message
            return RuntimeError(f"{type(error).__name__}: {error}")
        return error


def reply(result: object, results: IO[bytes]) -> None:
    """Send what came of a request."""
    pickle.dump(result, results, pickle.HIGHEST_PROTOCOL)
    results.flush()
