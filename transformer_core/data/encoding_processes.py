"""Encode a long text by several processes at once; what comes out is the same, in the same order, for any number.

Pickle goes through pipes between our own processes alone, as in `multiprocessing`; none is ever in a file.
"""

import os
import pickle
import signal
import subprocess
import sys
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from itertools import chain, islice
from typing import BinaryIO

from tokenizer import Tokenizer
from transformer_core.data.encoding import Chunk, EncodedRows, RowEncoder
from transformer_core.errors import OutOfMemoryError

__all__ = ["encode_in_order", "num_cores"]

CHUNKS_ALONE = 4  # encoded by this process before it starts others: they take a third of a second to come

Worker = subprocess.Popen[bytes]


def encode_in_order(chunks: Iterable[Chunk], encoder: RowEncoder, processes: int) -> Generator[EncodedRows, None, None]:
    """Encode one chunk after the other; a long text by `processes` others at once.

    Raises:
        OutOfMemoryError: the system killed one of them.
    """
    chunks = iter(chunks)
    for chunk in islice(chunks, CHUNKS_ALONE if processes > 1 else None):
        yield encoder.encode(chunk)
    first = next(chunks, None)
    if first is not None:
        with _workers(encoder, processes) as workers:
            yield from _in_turn(chain([first], chunks), workers)


def num_cores() -> int:
    """Give the number of processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _in_turn(chunks: Iterable[Chunk], workers: Sequence[Worker]) -> Iterator[EncodedRows]:
    """Hand chunks to workers in turn and take the results in the same order.

    A worker gets a chunk only when its last result has been taken: neither ever waits for the other to read.
    """
    idle, busy = deque(workers), deque[Worker]()
    for chunk in chunks:
        result = None
        if not idle:
            idle.append(busy.popleft())
            result = _receive(idle[0])
        _send(idle[0], chunk)
        busy.append(idle.popleft())
        if result is not None:
            yield result
    yield from map(_receive, busy)


@contextmanager
def _workers(encoder: RowEncoder, count: int) -> Iterator[list[Worker]]:
    """Start processes that encode, and end them when the block does.

    They are started as programs of their own: a fork would copy threads in the middle of their work, and what
    `multiprocessing` spawns runs the caller's script once more.
    """
    code = f"import sys; sys.path[:] = {sys.path!r}; from {__name__} import _serve; _serve()"
    environment = {**os.environ, "TOKENIZERS_PARALLELISM": "false"}  # each of them has one core
    with ExitStack() as stack:
        workers: list[Worker] = []
        for _ in range(count):
            worker = subprocess.Popen(
                [sys.executable, "-c", code],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                env=environment,
                start_new_session=True,  # Ctrl-C is for the parent, who ends its children
            )
            stack.callback(_end, worker)
            workers.append(worker)
        for worker in workers:
            _send(worker, ([tokenizer.to_json() for tokenizer in encoder.tokenizers], encoder.max_length))
        yield workers


def _end(worker: Worker) -> None:
    worker.kill()
    worker.wait()
    for pipe in (worker.stdin, worker.stdout):
        with suppress(OSError):  # what was not sent cannot be any more
            if pipe is not None:
                pipe.close()


def _send(worker: Worker, message: object) -> None:
    assert worker.stdin is not None
    try:
        pickle.dump(message, worker.stdin, pickle.HIGHEST_PROTOCOL)
        worker.stdin.flush()
    except BrokenPipeError:
        raise _death(worker) from None


def _receive(worker: Worker) -> EncodedRows:
    assert worker.stdout is not None
    try:
        result = pickle.load(worker.stdout)
    except (EOFError, pickle.UnpicklingError):
        raise _death(worker) from None
    if isinstance(result, Exception):
        raise result
    assert isinstance(result, EncodedRows)
    return result


def _death(worker: Worker) -> Exception:
    """Say why a process has ended that should not have."""
    code = worker.wait()
    if code == -signal.SIGKILL:
        return OutOfMemoryError(
            "a process that tokenised was killed, perhaps for want of memory; use fewer (--threads)"
        )
    return RuntimeError(f"a process that tokenised ended with code {code}")


def _serve() -> None:
    """Encode what comes on standard input until it ends: the life of a worker."""
    requests, results = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever prints must not disturb the results
    with suppress(EOFError, BrokenPipeError, KeyboardInterrupt):  # the parent is gone
        texts, max_length = pickle.load(requests)
        encoder = RowEncoder([Tokenizer.from_json(text) for text in texts], max_length)
        while True:
            _answer(encoder, pickle.load(requests), results)


def _answer(encoder: RowEncoder, chunk: Chunk, results: BinaryIO) -> None:
    result: EncodedRows | Exception
    try:
        result = encoder.encode(chunk)
    except Exception as error:  # whatever it is, it is the parent's to raise
        result = error
    pickle.dump(result, results, pickle.HIGHEST_PROTOCOL)
    results.flush()
