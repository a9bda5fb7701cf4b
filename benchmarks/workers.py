"""How much faster two workers of `translate` are than one: lines a second, in turn, a thread each.

    python benchmarks/workers.py [--model MODEL --input FILE] [--repeat 5] [--output workers.json]

Without a model a small one is trained, and it is given 20,000 lines. Time begins with the first line of the output,
when all processes have loaded the model, and ends with the last; the lines of the first window are not counted. The
outputs must be the same bytes. RssAnon, the memory that a process has for itself, is the most that was seen.
"""

import argparse
import hashlib
import os
import statistics
import subprocess
import sys
import threading
import time
from pathlib import Path

from process_memory import family, memory_of
from quality import REPOSITORY
from results_table import MACHINE, Row, show, write_figures
from small_task import train_small, write_text

BUFFER_SIZE = 1024
SAMPLE_EVERY_SECONDS = 0.2


def translate(model: Path, source: Path, workers: int) -> Row:
    """Translate a file by so many workers."""
    options = ["--threads", "1", "--workers", str(workers), "--buffer-size", str(BUFFER_SIZE), "-qq"]
    process = subprocess.Popen(
        [sys.executable, "-m", "cli", "translate", "-m", str(model), "-i", str(source), *options],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
    )
    memory: dict[int, float] = {}
    watcher = threading.Thread(target=watch, args=(process, memory), daemon=True)
    watcher.start()
    assert process.stdout is not None
    digest, num_lines, began_at = hashlib.sha256(), 0, 0.0
    for line in process.stdout:
        began_at = began_at or time.monotonic()
        digest.update(line)
        num_lines += 1
    seconds = time.monotonic() - began_at
    if process.wait():
        raise SystemExit(f"translate ended with code {process.returncode}")
    if num_lines <= BUFFER_SIZE:
        raise SystemExit(f"more than {BUFFER_SIZE} lines are needed")
    anonymous = sorted(memory.values(), reverse=True)
    return {
        "workers": workers,
        "lines/s": (num_lines - BUFFER_SIZE) / seconds,
        "MB of each": ", ".join(f"{value:.0f}" for value in anonymous),
        "sha256": digest.hexdigest()[:12],
    }


def watch(process: "subprocess.Popen[bytes]", most: dict[int, float]) -> None:
    """Keep the most memory of each process that was seen."""
    while process.poll() is None:
        for pid in family(process.pid):
            most[pid] = max(most.get(pid, 0.0), memory_of(pid).get("RssAnon", 0.0))
        time.sleep(SAMPLE_EVERY_SECONDS)


def main() -> None:
    """Measure, print the table and write the JSON; fail if the outputs differ."""
    parser = argparse.ArgumentParser(description="One worker against two.")
    parser.add_argument(
        "--folder", type=Path, default=Path("workers"), help="where a model is trained if none is given"
    )
    parser.add_argument("--model", type=Path)
    parser.add_argument("--input", type=Path)
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--output", type=Path, help="where to write the figures as JSON")
    options = parser.parse_args()
    if (options.model is None) != (options.input is None):
        parser.error("give --model and --input, or neither")
    model = options.model or train_small(options.folder)
    source = options.input or write_text(options.folder / "source", 20_000, seed=2)
    rows = [translate(model, source, workers) for _ in range(options.repeat) for workers in (1, 2)]
    show("translate, a thread for each worker", rows)
    medians = {workers: statistics.median(_rates(rows, workers)) for workers in (1, 2)}
    ratio = medians[2] / medians[1]
    print(f"\nmedians: {medians[1]:,.0f} and {medians[2]:,.0f} lines/s: two are {ratio:.2f} times as fast as one")
    if options.output:
        write_figures(options.output, {"rows": rows, "ratio": ratio, **MACHINE})
    if len({row["sha256"] for row in rows}) > 1:
        sys.exit("the outputs differ")


def _rates(rows: list[Row], workers: int) -> list[float]:
    return [float(str(row["lines/s"])) for row in rows if row["workers"] == workers]


if __name__ == "__main__":
    main()
