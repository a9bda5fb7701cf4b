"""Run a job of several processes, forked from this one: it has torch loaded, which takes seconds."""

import faulthandler
import os
import socket
import time
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path

# What the first optimizer, and splitting, would load in every process.
import torch._dynamo
import torch.distributed.fsdp  # noqa: F401

__all__ = ["free_port", "run_job"]

HANGS_AFTER_SECONDS = 60


def free_port() -> int:
    """A port on which nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def run_job(folder: Path, work: Callable[[], object], world_size: int = 2) -> list[str]:
    """Call `work` in every process of a job.

    Args:
        folder: where what they say goes.
        work: finds out by itself which process it is in; raises nothing, or what the test is about.
        world_size: processes.

    Returns:
        of every process "", or the kind of the exception that it raised and what that says, or the signal that it got.
    """
    variables = {"WORLD_SIZE": str(world_size), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    processes = [_start(folder, work, rank, variables) for rank in range(world_size)]
    ends_at = time.monotonic() + HANGS_AFTER_SECONDS
    outcomes: dict[int, str] = {}
    while len(outcomes) < world_size:
        for rank, process in enumerate(processes):
            if rank not in outcomes:
                ended, status = os.waitpid(process, os.WNOHANG)
                if ended:
                    said = (folder / f"rank-{rank}").read_text(encoding="utf-8")
                    outcomes[rank] = f"signal {os.WTERMSIG(status)}" if os.WIFSIGNALED(status) else said
        if time.monotonic() > ends_at:
            for rank, process in enumerate(processes):
                if rank not in outcomes:
                    os.kill(process, 9)
                    os.waitpid(process, 0)
            raise AssertionError(f"the job hangs; these have ended: {outcomes}")
        time.sleep(0.005)
    return [outcomes[rank] for rank in range(world_size)]


def _start(folder: Path, work: Callable[[], object], rank: int, variables: dict[str, str]) -> int:
    path = folder / f"rank-{rank}"
    path.write_text("", encoding="utf-8")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of forking where there are threads: none holds a lock
        process = os.fork()
    if process:
        return process
    try:
        os.environ.update(variables, RANK=str(rank), LOCAL_RANK=str(rank))
        faulthandler.dump_traceback_later(HANGS_AFTER_SECONDS - 5)  # shown by pytest if the test fails
        work()
    except BaseException as error:
        path.write_text(f"{type(error).__name__}: {error}", encoding="utf-8")
        traceback.print_exc()  # shown by pytest if the test fails
    finally:
        os._exit(0)
