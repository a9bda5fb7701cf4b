"""Processes that share a stream of work: items go out to whoever is free, results come back in the order of the items.

Pickle goes through pipes between our own processes alone, as in `multiprocessing`; none is ever in a file.
"""

import os
import pickle
import signal
import subprocess
import sys
import traceback
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from queue import SimpleQueue
from threading import Event, Semaphore, Thread
from typing import Any, BinaryIO, TypeVar

from transformer_core.errors import OutOfMemoryError, TransduceError

__all__ = ["in_order", "num_cores", "worker_processes"]

ITEMS_PER_WORKER = 2  # out at once: one is worked on, another waits, so that nobody is idle while results are written
GRACE_SECONDS = 0.2  # for the reader of the items to notice that no more are wanted

Item = TypeVar("Item")
Result = TypeVar("Result")


def num_cores() -> int:
    """Give the number of processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def in_order(items: Iterable[Item], workers: Sequence[Callable[[Item], Result]]) -> Generator[Result, None, None]:
    """Let workers work on items, each on one at a time; give the results in the order of the items.

    Items are read in a thread of their own, so that a result comes as soon as it is there, though the next item may not
    be yet. No more than a few are out at once: memory does not grow with their number.

    Args:
        items: what is to be worked on; what reading them raises is raised behind the results of those before.
        workers: each is called by one thread at a time.
    """
    idle: SimpleQueue[Callable[[Item], Result]] = SimpleQueue()
    for worker in workers:
        idle.put(worker)

    def work(item: Item) -> Result:
        worker = idle.get()
        try:
            return worker(item)
        finally:
            idle.put(worker)

    futures: SimpleQueue[Future[Result] | None] = SimpleQueue()
    places, is_over = Semaphore(ITEMS_PER_WORKER * len(workers)), Event()
    executor = ThreadPoolExecutor(len(workers))

    def read() -> None:
        try:
            for item in items:
                places.acquire()
                if is_over.is_set():
                    return
                futures.put(executor.submit(work, item))
            futures.put(None)
        except BaseException as error:  # whatever it is, it is the caller's to raise
            failed: Future[Result] = Future()
            failed.set_exception(error)
            futures.put(failed)

    reader = Thread(target=read, daemon=True)  # it may wait for a pipe that nobody writes to
    reader.start()
    try:
        while (future := futures.get()) is not None:
            yield future.result()
            places.release()
    finally:
        is_over.set()
        places.release()
        executor.shutdown(wait=False, cancel_futures=True)
        reader.join(GRACE_SECONDS)


@contextmanager
def worker_processes(
    starts: Sequence[Callable[[], Callable[[Item], Result]]],
    *,
    work: str,
    option: str,
    environment: Mapping[str, str] | None = None,
) -> Iterator[list[Callable[[Item], Result]]]:
    """Start processes, and end them when the block does.

    They are started as programs of their own: a fork would copy threads in the middle of their work, and what
    `multiprocessing` spawns runs the caller's script once more.

    Args:
        starts: for each process what is called there first, and gives what is called there for each item. They can be
            pickled, as items and results can.
        work: what they do, in the past tense, for messages.
        option: says how many there are, for messages.
        environment: variables beside those of this process.

    Yields:
        A function for each: it has an item worked on there. What goes wrong there, it raises.

    Raises:
        OutOfMemoryError: the system killed one of them.
        TransduceError: one has ended.
    """
    with ExitStack() as stack:
        workers = []
        for _ in starts:
            workers.append(_Worker(work, option, {**os.environ, **(environment or {})}))
            stack.callback(workers[-1].end)
        for worker, start in zip(workers, starts, strict=True):
            worker.send(start)
        for worker in workers:
            worker.receive()  # that it is ready
        yield [worker.call for worker in workers]


class _Worker:
    """A process that works, seen from the one that started it."""

    def __init__(self, work: str, option: str, environment: Mapping[str, str]) -> None:
        self._work = work
        self._option = option
        code = f"import sys; sys.path[:] = {sys.path!r}; from {__name__} import _serve; _serve()"
        self._process = subprocess.Popen(
            [sys.executable, "-c", code],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
            start_new_session=True,  # Ctrl-C is for the parent, who ends its children
        )

    def call(self, item: Any) -> Any:  # noqa: ANN401 - what it takes and gives, `start` says
        """Have an item worked on."""
        self.send(item)
        return self.receive()

    def send(self, message: object) -> None:
        assert self._process.stdin is not None
        try:
            pickle.dump(message, self._process.stdin, pickle.HIGHEST_PROTOCOL)
            self._process.stdin.flush()
        except BrokenPipeError:
            raise self._death() from None

    def receive(self) -> object:
        assert self._process.stdout is not None
        try:
            result = pickle.load(self._process.stdout)
        except (EOFError, pickle.UnpicklingError):
            raise self._death() from None
        if isinstance(result, Exception):
            raise result
        return result

    def end(self) -> None:
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            with suppress(OSError):  # what was not sent cannot be any more
                if pipe is not None:
                    pipe.close()

    def _death(self) -> Exception:
        """Say why a process has ended that should not have."""
        code, who = self._process.wait(), f"a process that {self._work}"
        if code == -signal.SIGKILL:
            return OutOfMemoryError(f"{who} was killed, perhaps for want of memory; use fewer ({self._option})")
        reason = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with code {code}"
        return TransduceError(f"{who} {reason}; run the same command again")


def _serve() -> None:
    """Work on what comes on standard input until it ends: the life of a worker."""
    requests, results = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever prints must not disturb the results
    with suppress(EOFError, BrokenPipeError, KeyboardInterrupt):  # the parent is gone
        work = _attempt(lambda: pickle.load(requests)())
        _reply(work if isinstance(work, Exception) else None, results)
        while callable(work):
            _reply(_attempt(partial(work, pickle.load(requests))), results)
    os._exit(0)  # nothing is left to be written, or nobody to read it


def _attempt(work: Callable[[], object]) -> object:
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


def _reply(result: object, results: BinaryIO) -> None:
    pickle.dump(result, results, pickle.HIGHEST_PROTOCOL)
    results.flush()
