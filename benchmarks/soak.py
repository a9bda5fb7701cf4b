"""Whether a stream may go on for ever: lines with ids through `translate`, while its memory is read.

    python benchmarks/soak.py [--folder WORK] [--lines 1000000] [--minutes 15] [--workers 2 | --serve] [--output FILE]

A tiny model, greedy, JSON lines through two pipes: every line must come back, in order, with its id and a translation.
With --workers several processes translate, with --serve a server does, and the program is its client. RssAnon, the
memory that belongs to no file, of all these processes together, is read ten times a second; so Linux is needed. Ends
with 1 if it grows by 5 % or more after line 10,000, or if a line is missing or out of place.
"""

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path

from latency import serving
from process_memory import family, memory_of
from quality import REPOSITORY
from results_table import MACHINE, Row, show, write_figures
from small_task import LETTERS, train_small

ENVIRONMENT = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
WARM_LINES = 10_000  # after these memory must stay what it is
LIMIT = 0.05
SAMPLE_EVERY_SECONDS = 0.1


class Stream:
    """Lines that go in, and how many have done so."""

    def __init__(self, process: "subprocess.Popen[bytes]", num_lines: int, ends_at: float) -> None:
        self.num_written = 0
        self._process = process
        self._num_lines = num_lines
        self._ends_at = ends_at

    def write(self) -> None:
        """Write lines until there are enough, or the time is up."""
        assert self._process.stdin is not None
        source = random.Random(1)
        with self._process.stdin as file:
            while self.num_written < self._num_lines and time.monotonic() < self._ends_at:
                text = " ".join(source.choices(LETTERS, k=source.randrange(1, 7)))
                file.write(f'{{"id": {self.num_written}, "text": "{text}"}}\n'.encode())
                self.num_written += 1


def soak_workers(model: Path, num_lines: int, minutes: float, workers: int) -> Row:
    """Stream lines through the program and its workers."""
    process = start(["-m", str(model), "--threads", "1", "--workers", str(workers)])
    return {"workers": workers, **soak(process, None, num_lines, minutes)}


def soak_server(model: Path, num_lines: int, minutes: float) -> Row:
    """Stream lines through a client of a server."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "socket")
        with serving(model, path, ENVIRONMENT) as server:
            return {"workers": "a server", **soak(start(["--socket", str(path)]), server, num_lines, minutes)}


def start(arguments: Sequence[str]) -> "subprocess.Popen[bytes]":
    """Start `translate`."""
    options = ["--greedy", "--max-length", "8", "--input-format", "jsonl", "-qq"]
    return subprocess.Popen(
        [sys.executable, "-m", "cli", "translate", *arguments, *options],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=ENVIRONMENT,
    )


def soak(process: "subprocess.Popen[bytes]", server: int | None, num_lines: int, minutes: float) -> Row:
    """Stream lines through the program and look at it, and at the server if there is one, meanwhile."""
    pids = [process.pid] if server is None else [process.pid, server]
    stream = Stream(process, num_lines, time.monotonic() + 60 * minutes)
    writer = threading.Thread(target=stream.write)
    writer.start()
    assert process.stdout is not None
    num_read, num_wrong, started_at, sampled_at = 0, 0, time.monotonic(), 0.0
    samples: list[tuple[int, float]] = []  # lines read, megabytes
    for line in process.stdout:
        found = json.loads(line)
        num_wrong += found["id"] != num_read or "translation" not in found  # which may be empty
        num_read += 1
        if time.monotonic() - sampled_at >= SAMPLE_EVERY_SECONDS:
            sampled_at = time.monotonic()
            memory = sum(memory_of(pid).get("RssAnon", 0.0) for first in pids for pid in family(first))
            samples.append((num_read, memory))
    writer.join()
    if process.wait():
        raise SystemExit(f"translate ended with code {process.returncode}")
    seconds = time.monotonic() - started_at
    warm = max((memory for lines, memory in samples if lines <= WARM_LINES), default=0.0)
    most = max((memory for lines, memory in samples if lines > WARM_LINES), default=0.0)
    return {
        "lines in": stream.num_written,
        "lines out": num_read,
        "wrong": num_wrong,
        "minutes": seconds / 60,
        "lines/s": num_read / seconds,
        f"MB at {WARM_LINES:,}": warm,
        "MB at most after": most,
        "growth %": 100 * (most / warm - 1) if warm and most else None,
    }


def main() -> None:
    """Print the table and write the JSON; fail if anything is lost, or memory grows."""
    parser = argparse.ArgumentParser(description="A long stream through translate.")
    parser.add_argument("--folder", type=Path, default=Path("soak"), help="where the model is trained")
    parser.add_argument("--lines", type=int, default=1_000_000)
    parser.add_argument("--minutes", type=float, default=60.0, help="after which no more lines are written")
    way = parser.add_mutually_exclusive_group()
    way.add_argument("--workers", type=int, default=1)
    way.add_argument("--serve", action="store_true", help="let a server translate")
    parser.add_argument("--output", type=Path, help="where to write the figures as JSON")
    options = parser.parse_args()
    model = train_small(options.folder)
    if options.serve:
        row = soak_server(model, options.lines, options.minutes)
    else:
        row = soak_workers(model, options.lines, options.minutes, options.workers)
    show("a stream of JSON lines, greedy, RssAnon of all processes", [row])
    if options.output:
        write_figures(options.output, {"row": row, **MACHINE})
    growth = row["growth %"]
    if row["wrong"] or row["lines in"] != row["lines out"]:
        sys.exit("lines are lost or out of place")
    if isinstance(growth, float) and growth >= 100 * LIMIT:
        sys.exit(f"memory grows by more than {LIMIT:.0%}")


if __name__ == "__main__":
    main()
