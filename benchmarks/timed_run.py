"""A program that runs while its CPU clock is read at every line it writes: what training_speed.py measures by."""

import os
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

__all__ = ["Line", "TimedRun", "run_timed"]


@dataclass(frozen=True)
class Line:
    """A line that the program wrote to either of its streams."""

    text: str
    wall_seconds: float  # since some moment, when the line came
    cpu_seconds: float  # of the program, all its threads, when the line came


@dataclass(frozen=True)
class TimedRun:
    """A run that ended well."""

    lines: list[Line]
    peak_bytes: int  # resident memory


def run_timed(command: Sequence[str], environment: Mapping[str, str], core: int | None = None) -> TimedRun:
    """Run a program to its end.

    Its clock is that of the process, so what it hands to other processes would not be seen: let it have no workers.

    Args:
        command: the program and its arguments.
        environment: all its variables.
        core: the only one that it may run on; None leaves that to the system.

    Raises:
        RuntimeError: it failed; its last lines are in the message.
    """
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=environment,
        text=True,
        encoding="utf-8",
        errors="replace",
        preexec_fn=None if core is None else lambda: os.sched_setaffinity(0, {core}),
    )
    assert process.stdout is not None
    lines: list[Line] = []
    with process.stdout:
        for text in process.stdout:
            lines.append(Line(text.rstrip("\n"), time.monotonic(), _cpu_seconds(process.pid, lines)))
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        last = "\n".join(line.text for line in lines[-20:])
        raise RuntimeError(f"{' '.join(command)} ended with {process.returncode}:\n{last}")
    return TimedRun(lines, usage.ru_maxrss * 1024)


def _cpu_seconds(process_id: int, before: Sequence[Line]) -> float:
    """Read the CPU clock of a process; of one that has just ended its last reading."""
    clock = (~process_id << 3) | 2  # what clock_getcpuclockid gives on Linux
    try:
        return time.clock_gettime(clock)
    except OSError:
        if not before:
            raise
        return before[-1].cpu_seconds
