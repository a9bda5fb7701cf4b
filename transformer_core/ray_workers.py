"""Workers on a Ray cluster: each is an actor that is started anew, and its item given to it again, when it dies.

Needs the extra `ray`. A cluster that is there is used (RAY_ADDRESS, or one that `ray start` has begun on this machine);
else one of this machine alone is begun, and ends with the program.
"""

import logging
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, TypeVar

from transformer_core.errors import ConfigError, TransduceError

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # read when Ray is imported: nobody has asked to be counted

import ray

__all__ = ["ray_workers"]

RETRIES = 3  # of an item whose worker has died; what is raised there would be raised again
CONNECTS_WITHIN_SECONDS = 10.0

Item = TypeVar("Item")
Result = TypeVar("Result")


class Worker:
    """Works on items, in a process of the cluster."""

    def __init__(self, start: Callable[[], Callable[[Any], Any]]) -> None:
        self._start = start
        self._work: Callable[[Any], Any] | None = None

    def start(self) -> None:
        """Get ready; what goes wrong is raised to the caller, which it would not be in __init__."""
        if self._work is None:
            self._work = self._start()

    def call(self, item: Any) -> Any:  # noqa: ANN401 - what it takes and gives, `start` says
        """Work on an item, perhaps in a process that was just started anew."""
        self.start()
        assert self._work is not None
        return self._work(item)


@contextmanager
def ray_workers(
    start: Callable[[], Callable[[Item], Result]], count: int | None, *, threads: int, device: str
) -> Iterator[list[Callable[[Item], Result]]]:
    """Start workers on a cluster, and end them when the block does.

    Args:
        start: is called once in each of them, and gives what is called there for each item. It can be pickled, as items
            and results can; all that it reads is there on every machine of the cluster.
        count: of workers; None: as many as there is room for.
        threads: cores that each of them takes.
        device: where they compute; each takes a GPU if it is a GPU or "auto", and the cluster has any.

    Yields:
        A function for each: it has an item worked on there. What goes wrong there, it raises.

    Raises:
        ConfigError: there is no such cluster, or no room on it.
        TransduceError: a worker has died again and again.
    """
    _require_cluster(os.environ.get("RAY_ADDRESS", ""))
    try:
        ray.init(include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    except ConnectionError as error:
        raise ConfigError(f"there is no Ray cluster at RAY_ADDRESS ({error}); start one, or unset it") from None
    try:
        needs = {"CPU": float(threads)}
        if device in ("auto", "cuda") and ray.cluster_resources().get("GPU", 0):
            needs["GPU"] = 1.0
        room = min(int(ray.cluster_resources().get(kind, 0) // number) for kind, number in needs.items())
        if room < (count or 1):
            asked = " and ".join(f"{number:g} {kind}" for kind, number in needs.items())
            raise ConfigError(
                f"the Ray cluster has room for {room} workers with {asked} each; give fewer --workers or --threads"
            )
        kind = ray.remote(Worker).options(
            num_cpus=needs["CPU"], num_gpus=needs.get("GPU", 0), max_restarts=-1, max_task_retries=RETRIES
        )
        actors = [kind.remote(start) for _ in range(count or room)]
        try:
            for ready in [actor.start.remote() for actor in actors]:
                _get(ready)
            yield [partial(_call, actor) for actor in actors]
        finally:
            for actor in actors:
                ray.kill(actor)  # so that whoever waits for a result does so no longer
    finally:
        ray.shutdown()


def _require_cluster(address: str) -> None:
    """See that somebody listens where a cluster is said to be; Ray itself would go on asking for minutes.

    Raises:
        ConfigError: nobody does.
    """
    host, _, port = address.rpartition(":")
    if not host or "/" in host or not port.isdecimal():  # "auto", or an address of another kind
        return
    try:
        socket.create_connection((host, int(port)), CONNECTS_WITHIN_SECONDS).close()
    except OSError as error:
        raise ConfigError(f"there is no Ray cluster at RAY_ADDRESS ({error}); start one, or unset it") from None


def _call(actor: Any, item: object) -> Any:  # noqa: ANN401 - Ray is untyped here, and `start` says what the worker gives
    return _get(actor.call.remote(item))


def _get(reference: Any) -> Any:  # noqa: ANN401 - as above
    try:
        return ray.get(reference)
    except ray.exceptions.RayTaskError as error:
        raise error.cause from None
    except ray.exceptions.RayActorError as error:
        message = str(error).strip().splitlines()[0]
        raise TransduceError(f"a worker on Ray has died {RETRIES + 1} times ({message}); see the logs of Ray") from None
