"""Processes that share a stream of work: items go out to whoever is free, results come back in the items' order."""

import os
import pickle
import sys
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from queue import SimpleQueue
from threading import Event, Semaphore, Thread
from typing import TypeVar

from transformer_core.worker_channel import Channel, launch, serve

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
            process = launch(f"from {__name__} import _serve; _serve()", environment)
            assert process.stdin is not None and process.stdout is not None
            worker = Channel(requests=process.stdin, results=process.stdout, process=process, work=work, option=option)
            stack.callback(_end, worker)
            workers.append(worker)
        for worker, start in zip(workers, starts, strict=True):
            worker.send(start)
        for worker in workers:
            worker.receive()  # that it is ready
        yield [worker.call for worker in workers]


def _end(worker: Channel) -> None:
    worker.process.kill()
    worker.process.wait()
    worker.close()


def _serve() -> None:
    """Be a worker: what is called first comes on standard input, and the items after it."""
    requests, results = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever prints must not disturb the results
    serve(lambda: pickle.load(requests)(), requests, results)
    os._exit(0)  # nothing is left to be written, or nobody to read it
