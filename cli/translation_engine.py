"""Who does the work of `translate`: this process, several of this machine, or a Ray cluster; the output is the same."""

import os
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from functools import partial
from typing import Annotated, Literal

import typer

from cli import options
from cli.translation_work import TranslatedWindow, TranslationSetup, Window
from transformer_core.errors import ConfigError

__all__ = ["Engine", "EngineChoice", "Workers", "translation_engine"]

EngineChoice = Literal["processes", "ray"]
Engine = Annotated[
    EngineChoice,
    typer.Option(
        "--engine",
        help="Where the workers are: on this machine, or on a Ray cluster (extra: ray), which starts anew what dies.",
        rich_help_panel=options.RUNTIME,
    ),
]
Workers = Annotated[
    int | None,
    typer.Option(
        "--workers",
        "--inter-threads",
        min=1,
        help="Processes that translate side by side; the output is that of one. "
        "Default: 1; on Ray as many as there is room for.",
        rich_help_panel=options.RUNTIME,
    ),
]

# What translates windows, in their order.
Translate = Callable[[Iterable[Window]], Generator[TranslatedWindow, None, None]]


@contextmanager
def translation_engine(setup: TranslationSetup, engine: EngineChoice, workers: int | None) -> Iterator[Translate]:
    """Make ready what translates, and end it when the block does.

    Args:
        setup: what a translation depends on.
        engine: where the workers are.
        workers: how many; None for the default.

    Raises:
        ConfigError, ModelError, OutOfMemoryError: as `TranslationSetup.start`; the cluster has no room.
    """
    if engine == "ray":
        with _on_ray(setup, workers) as translate:
            yield translate
    elif workers is None or workers == 1:
        with closing(setup.start()) as work:
            yield lambda windows: (work(window) for window in windows)
    else:
        with _processes(setup, workers) as translate:
            yield translate


@contextmanager
def _processes(setup: TranslationSetup, workers: int) -> Iterator[Translate]:
    from transformer_core.device import choose_device
    from transformer_core.forked_processes import can_fork, forked_processes
    from transformer_core.worker_processes import in_order, num_cores, worker_processes

    environment = {
        "OMP_NUM_THREADS": str(max(1, num_cores() // workers)),  # each of them gets its share of the cores
        "TOKENIZERS_PARALLELISM": "false",
        "PYTHONWARNINGS": "ignore",  # cli/edge.py shows them to programmers alone
        **os.environ,
    }
    if can_fork() and setup.socket is None and choose_device(setup.device).type == "cpu":
        start = partial(forked_processes, setup.prepare, workers)
    else:  # neither a GPU nor a connection can be shared
        start = partial(worker_processes, [replace(setup, worker=number).start for number in range(workers)])
    with start(work="translated", option="--workers", environment=environment) as processes:
        yield partial(in_order, workers=processes)


@contextmanager
def _on_ray(setup: TranslationSetup, workers: int | None) -> Iterator[Translate]:
    try:
        from transformer_core.ray_workers import ray_workers
    except ImportError:
        raise ConfigError("--engine ray needs Ray: pip install 'transduce[ray]'") from None
    from transformer_core.worker_processes import in_order

    setup = replace(setup, folders=[folder.absolute() for folder in setup.folders])
    with ray_workers(setup.start, workers, threads=setup.threads or 1, device=setup.device) as actors:
        yield partial(in_order, workers=actors)
