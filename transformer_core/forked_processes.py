"""Worker processes that share their memory: one program gets ready, and the workers are its forks.

What lies in memory by then, such as the weights of a model as decoding lays them out, is there once for all of them.
A fork copies the one thread that calls it, so nothing may have started others: the program gets ready with one.
"""

import gc
import os
import pickle
import signal
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import IO, TypeVar

from transformer_core.worker_channel import Channel, attempt, launch, reply, serve

__all__ = ["can_fork", "forked_processes"]

Item = TypeVar("Item")
Result = TypeVar("Result")


def can_fork() -> bool:
    """Tell whether forks are safe here: the libraries of other systems than Linux do not bear them."""
    return sys.platform == "linux"


@contextmanager
def forked_processes(
    prepare: Callable[[], Callable[[], Callable[[Item], Result]]],
    count: int,
    *,
    work: str,
    option: str,
    environment: Mapping[str, str] | None = None,
) -> Iterator[list[Callable[[Item], Result]]]:
    """Start a program and fork it; end all of them when the block does.

    Args:
        prepare: runs once, in a program of its own, where it starts no thread, and returns `begin`; `begin` runs once
            in each fork and returns the function that is applied to each item. It can be pickled, as items and results
            can.
        count: of the forks.
        work: what they do, in the past tense, for messages.
        option: says how many there are, for messages.
        environment: variables beside those of this process.

    Yields:
        A function for each fork: it has an item worked on there. What goes wrong there, it raises.

    Raises:
        OutOfMemoryError: the system killed one of them.
        TransduceError: one has ended.
    """
    requests, results = [os.pipe() for _ in range(count)], [os.pipe() for _ in range(count)]  # (to read, to write)
    theirs = [(request[0], result[1]) for request, result in zip(requests, results, strict=True)]
    host = launch(f"from {__name__} import _host; _host({theirs})", environment, pass_fds=sum(theirs, ()))
    for descriptor in sum(theirs, ()):
        os.close(descriptor)
    assert host.stdin is not None and host.stdout is not None

    def channel(request: IO[bytes], result: IO[bytes]) -> Channel:
        return Channel(requests=request, results=result, process=host, work=work, option=option)

    first = channel(host.stdin, host.stdout)
    workers = [
        channel(os.fdopen(request[1], "wb"), os.fdopen(result[0], "rb"))
        for request, result in zip(requests, results, strict=True)
    ]
    try:
        first.call(prepare)
        for worker in workers:
            worker.receive()  # that it is ready
        yield [worker.call for worker in workers]
    finally:
        with suppress(ProcessLookupError):
            os.killpg(host.pid, signal.SIGKILL)  # before it is waited for: till then the number is its own
        host.wait()
        for each in [first, *workers]:
            each.close()


def _host(pipes: Sequence[tuple[int, int]]) -> None:
    """Get ready, fork, and end as the first fork does that should not have ended.

    Args:
        pipes: for every fork where it reads requests and writes results.
    """
    own = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever prints must not disturb the results
    begin = attempt(lambda: pickle.load(sys.stdin.buffer)())
    with suppress(BrokenPipeError):  # the parent is gone
        reply(begin if isinstance(begin, Exception) else None, own)
    if not callable(begin):
        os._exit(0)
    own.close()
    gc.collect()
    gc.freeze()  # a collection in a fork would write to every object, and so copy it
    for number, (request, result) in enumerate(pipes):
        if os.fork() == 0:
            for others in pipes[number + 1 :]:
                for descriptor in others:
                    os.close(descriptor)  # else nobody would notice that their fork has ended
            serve(begin, os.fdopen(request, "rb"), os.fdopen(result, "wb"))
            os._exit(0)  # nothing is left to be written, or nobody to read it
        os.close(request)
        os.close(result)
    for _ in pipes:
        code = os.waitstatus_to_exitcode(os.wait()[1])
        if code < 0:
            os.kill(os.getpid(), -code)
        if code != 0:
            os._exit(code)
    os._exit(0)
