"""Several processes that train one model together, as torchrun starts them; the only reader of RANK and its like.

Each process has the model and takes its share of the micro-batches of an update; gradients are summed over all of them,
so every process makes the same update. What is decided or written is so by the first one, and the others are told.

Who we are is asked before torch is loaded (cli/console.py), so torch is imported where it is used.
"""

import json
import os
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from transformer_core.errors import ConfigError, Interrupted, TrainingError

if TYPE_CHECKING:
    import torch
    from torch import distributed
    from torch.distributed import TCPStore  # type: ignore[attr-defined]

__all__ = ["ALONE", "Job", "joined", "this_job"]

# The others wait while the first one prepares text or validates, which may take hours. A process that ends is noticed
# at once all the same: its connections close, and torchrun ends the rest.
PATIENCE = timedelta(days=1)
MEETING_PLACE = "transduce/port"  # key
TIME_TO_CONNECT = timedelta(seconds=5)
# Which job it is, and how often it was started again: of Slurm and of torchrun.
JOB_IDS = ("SLURM_JOB_ID", "TORCHELASTIC_RUN_ID")
RESTART_COUNTS = ("SLURM_RESTART_COUNT", "TORCHELASTIC_RESTART_COUNT")
SIGNS_OF_LOSS = ("gloo", "nccl", "connection", "broken pipe")

# A deadlock (torch 2.13): the thread of gloo may drop the last reference to an operation, for which it needs Python's
# lock, while `destroy_process_group` holds that lock and waits for the thread. So the latest operations are kept for
# good.
_latest_operations: "deque[distributed.Work]" = deque(maxlen=16)
# And so is the group: dropped with the last model that trains in it, it would wait for the thread in the same way.
_groups: "list[distributed.ProcessGroup | None]" = []

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Job:
    """The processes that train one model, and which of them this is.

    Between processes goes what `joined` connects; a process that is alone needs no connection.
    """

    rank: int = 0  # of this process, over all machines
    local_rank: int = 0  # of this process, on its machine
    world_size: int = 1  # processes
    id: str | None = None  # of the job, however often it is started again; None where nobody starts it again
    is_restarted: bool = False  # whether it was started before

    @property
    def is_alone(self) -> bool:
        """Whether there is one process."""
        return self.world_size == 1

    @property
    def is_first(self) -> bool:
        """Whether this is the process that decides and writes."""
        return self.rank == 0

    @property
    def name(self) -> str:
        """This process, for people."""
        return f"rank {self.rank} of {self.world_size}"

    def device_name(self, name: str) -> str:
        """Give each process of a machine a device of its own.

        Raises:
            ConfigError: processes cannot be connected on such a device.
        """
        if self.is_alone:
            return name
        import torch

        if name == "auto":
            name = "cuda" if torch.cuda.is_available() else "cpu"
        if name.partition(":")[0] not in ("cpu", "cuda"):
            raise ConfigError(f"several processes train on cpu or cuda, not on {name}")
        return f"cuda:{self.local_rank}" if name == "cuda" else name

    def sum(self, *values: float) -> list[float]:
        """Add up, value by value, what each process has."""
        return self._reduced(values, "SUM")

    def largest(self, *values: float) -> list[float]:
        """Give, value by value, the largest that any process has."""
        return self._reduced(values, "MAX")

    def share(self, value: T) -> T:
        """Give all processes what the first one has; it must be of the values of JSON."""
        if self.is_alone:
            return value
        import torch
        from torch import distributed

        content = json.dumps(value).encode()
        (length,) = self.sum(len(content) if self.is_first else 0)
        buffer = torch.empty(int(length), dtype=torch.uint8)
        if self.is_first:
            buffer.copy_(torch.frombuffer(bytearray(content), dtype=torch.uint8))
        _complete(distributed.broadcast(buffer, src=0, async_op=True))
        shared: T = json.loads(buffer.numpy().tobytes())
        return shared

    def agree(self, signal_number: int | None, is_time_up: bool) -> tuple[int | None, bool]:
        """Make one of the wishes of all processes: a signal counts wherever it came, the time is the first's."""
        signal_of_any, time_of_first = self.largest(signal_number or 0, is_time_up and self.is_first)
        return int(signal_of_any) or None, bool(time_of_first)

    @contextmanager
    def first_before_others(self) -> Iterator[None]:
        """Let the first process run the block while the others wait; then they run it."""
        if not self.is_first:
            self.sum(0)
        yield
        if self.is_first:
            self.sum(0)

    def require_one_folder(self, folder: Path, step: int) -> None:
        """Hold the step that this process found in a folder against that of the first one.

        Raises:
            ConfigError: it is another.
        """
        if step != (first_step := self.share(step)):
            raise ConfigError(
                f"{folder}: the first process goes on from step {first_step} and this one from {step}; all machines "
                "of a job must share the folder"
            )

    def _reduced(self, values: tuple[float, ...], operation: str) -> list[float]:
        if self.is_alone:
            return list(values)
        import torch
        from torch import distributed

        tensor = torch.tensor(values, dtype=torch.float64)
        _complete(distributed.all_reduce(tensor, getattr(distributed.ReduceOp, operation), async_op=True))
        return tensor.tolist()


ALONE = Job()


def this_job() -> Job:
    """Read from the environment, as torchrun sets it, which process this is.

    Raises:
        ConfigError: the variables make no sense.
    """
    variables = {name: os.environ.get(name) for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE")}
    ids = [os.environ[name] for name in JOB_IDS if name in os.environ]
    is_restarted = any(os.environ.get(name, "0") != "0" for name in RESTART_COUNTS)
    if variables["RANK"] is None or variables["WORLD_SIZE"] is None:
        return Job(id=" ".join(ids) or None, is_restarted=is_restarted)
    try:
        rank, world_size = int(variables["RANK"]), int(variables["WORLD_SIZE"])
        local_rank = int(variables["LOCAL_RANK"] or rank)
    except ValueError:
        rank, local_rank, world_size = -1, -1, 0
    if not (0 <= rank < world_size and local_rank >= 0):
        said = ", ".join(f"{name}={value}" for name, value in variables.items() if value is not None)
        raise ConfigError(f"{said} in the environment name no process of a job; torchrun sets them, or nobody should")
    return Job(
        rank=rank,
        local_rank=local_rank,
        world_size=world_size,
        id=" ".join(ids) or None,
        is_restarted=is_restarted,
    )


@contextmanager
def joined(job: Job, device: "torch.device") -> Iterator[None]:
    """Connect the processes of a job while the block runs.

    Raises:
        ConfigError: the environment does not say where they meet.
        TrainingError: another process has ended, or cannot be reached.
    """
    if job.is_alone:
        yield
        return
    import torch
    from torch import distributed

    backend = "gloo"
    if device.type == "cuda":
        torch.cuda.set_device(device)
        backend = "cpu:gloo,cuda:nccl"  # counts and decisions stay off the device
    is_orderly = False
    try:
        store, _board = _meeting_place(job)  # either ends with the process that opened it
        distributed.init_process_group(backend, store=store, timeout=PATIENCE, rank=job.rank, world_size=job.world_size)
        _groups.append(distributed.group.WORLD)
        yield
        is_orderly = True
    except Interrupted:
        is_orderly = True  # all of them are
        raise
    except RuntimeError as error:
        if not any(sign in str(error).lower() for sign in SIGNS_OF_LOSS):
            raise
        raise TrainingError(
            f"another process of the job has ended ({_first_sentence(error)}); the same command goes on from the last "
            "checkpoint"
        ) from error
    finally:
        if is_orderly:
            distributed.destroy_process_group()


def _meeting_place(job: Job) -> "tuple[TCPStore, object]":
    """Open a store that only the processes of this start of the job know; torchrun's comes second.

    torchrun keeps its own when it starts processes again, with the addresses in it that dead ones left (torch 2.13). So
    all that is read there is where the first process listens, until one does.

    Raises:
        ConfigError: the environment does not say where torchrun's store is.
    """
    from torch.distributed import DistNetworkError, TCPStore  # type: ignore[attr-defined]
    from torch.distributed.rendezvous import rendezvous

    try:
        board = next(rendezvous("env://", job.rank, job.world_size, timeout=PATIENCE))[0]
    except ValueError as error:
        raise ConfigError(f"there is no meeting place ({error}); start the job by torchrun") from None
    host = os.environ["MASTER_ADDR"]
    if job.is_first:
        store = TCPStore(host, 0, is_master=True, wait_for_workers=False, timeout=PATIENCE)
        board.set(MEETING_PLACE, str(store.port))
        return store, board
    while True:
        port = int(board.get(MEETING_PLACE))
        try:
            store = TCPStore(host, port, wait_for_workers=False, timeout=TIME_TO_CONNECT)
        except DistNetworkError:
            continue
        store.set_timeout(PATIENCE)
        return store, board


def _complete(operation: "distributed.Work") -> None:
    _latest_operations.append(operation)
    operation.wait()


def _first_sentence(error: RuntimeError) -> str:
    """What a library says of a fault, without the place in its source and the advice that follows."""
    return str(error).strip().splitlines()[0].rpartition("] ")[2].partition(". ")[0]
