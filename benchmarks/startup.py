"""How long the help takes, beside that of a Typer program with one empty command.

    python benchmarks/startup.py [--runs 20] [--output startup.json]

Both are run in turn, so that a busy machine slows both; the figure is the median CPU time (user and system) of the
process, which waiting for the disk or for other programs does not change.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
LIMIT = 1.5  # times the empty program

EMPTY_PROGRAM = '''\
import typer

app = typer.Typer()


@app.command()
def main() -> None:
    """Do nothing."""


app()
'''


def measure_cpu_seconds(command: list[str], environment: Mapping[str, str]) -> float:
    """User and system time of one run of a command.

    Raises:
        RuntimeError: it failed; a program that ends early must not look fast.
    """
    before = os.times()
    process = subprocess.run(command, capture_output=True, env=environment, check=False)
    after = os.times()
    if process.returncode:
        raise RuntimeError(f"{command} failed: {process.stderr.decode()}")
    return after.children_user + after.children_system - before.children_user - before.children_system


def measure_startup(num_runs: int) -> dict[str, float]:
    """Median CPU-seconds of each program's help, by name, and their ratio to the empty program's."""
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "COLUMNS": "100"}
    with tempfile.TemporaryDirectory() as folder:
        empty = Path(folder, "empty.py")
        empty.write_text(EMPTY_PROGRAM, encoding="utf-8")
        commands = {
            "empty": [sys.executable, str(empty), "--help"],
            "transduce --help": [sys.executable, "-m", "cli", "--help"],
            "transduce -h": [sys.executable, "-m", "cli", "-h"],
        }
        seconds: dict[str, list[float]] = {name: [] for name in commands}
        for command in commands.values():  # once for the caches: bytecode, files
            measure_cpu_seconds(command, environment)
        for _ in range(num_runs):
            for name, command in commands.items():
                seconds[name].append(measure_cpu_seconds(command, environment))
    return {name: statistics.median(values) for name, values in seconds.items()}


def main() -> None:
    """Print the table and write the JSON; fail above the limit."""
    parser = argparse.ArgumentParser(description="CPU time of the help.")
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--output", type=Path, help="where to write the figures as JSON")
    options = parser.parse_args()
    medians = measure_startup(options.runs)
    ratios = {name: value / medians["empty"] for name, value in medians.items()}
    print(f"{'program':<20}{'CPU-seconds':>12}{'ratio':>8}")
    for name, value in medians.items():
        print(f"{name:<20}{value:>12.3f}{ratios[name]:>8.2f}")
    if options.output:
        figures = {
            "cpu_seconds": medians,
            "ratios": ratios,
            "runs": options.runs,
            "python": platform.python_version(),
            "machine": platform.machine(),
        }
        options.output.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    if max(ratios.values()) > LIMIT:
        sys.exit(f"the help takes more than {LIMIT} times that of an empty program")


if __name__ == "__main__":
    main()
