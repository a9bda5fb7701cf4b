"""What one short line costs: a cold `translate`, one through a warm `serve`, and a cold script of CTranslate2's.

    python benchmarks/latency.py MODEL [--ctranslate2 FOLDER] [--runs 20] [--output latency.json]

Beside them stand what Python needs to import typer, and to import torch. All are run in turn, so that a busy machine
slows all of them; the figures are medians of the CPU time (user and system) of the process, to which for `serve` what
the server spent on the answer is added, and of the wall clock. Each computes with one thread.

--ctranslate2 is the same model as CTranslate2 reads it, with a tokenizer.json beside it that `tokenizers` reads;
without it, or where ctranslate2 is not installed, that row is left out.
"""

import argparse
import importlib.util
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from results_table import MACHINE, Row, show, write_figures

REPOSITORY = Path(__file__).resolve().parent.parent
LINE = b"a man in an orange hat starring at something .\n"
SECONDS_TO_START = 300
MAX_COLD = 1.25  # times import torch
MAX_WARM = 2.0  # times import typer

CTRANSLATE2_SCRIPT = """\
import sys
import ctranslate2
from tokenizers import Tokenizer
folder = sys.argv[1]
tokenizer = Tokenizer.from_file(sys.argv[2])
model = ctranslate2.Translator(folder, device="cpu", inter_threads=1, intra_threads=1)
tokens = tokenizer.encode(sys.stdin.readline().rstrip("\\n"), add_special_tokens=False).tokens
found = model.translate_batch([tokens], beam_size=5)[0].hypotheses[0]
print(tokenizer.decode([tokenizer.token_to_id(token) for token in found]))
"""


@contextmanager
def serving(model: Path, path: Path, environment: Mapping[str, str]) -> Iterator[int]:
    """Run a server while the block runs; gives its process id."""
    command = [sys.executable, "-m", "cli", "serve", str(model), "--socket", str(path), "--threads", "1", "-q"]
    process = subprocess.Popen(command, env=environment)
    try:
        deadline = time.monotonic() + SECONDS_TO_START
        while not path.exists():
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError("the server did not start")
            time.sleep(0.1)
        yield process.pid
    finally:
        process.terminate()
        process.wait()


def cpu_seconds_of(process_id: int | None) -> float:
    """Read the CPU clock of another process (Linux)."""
    return 0.0 if process_id is None else time.clock_gettime((~process_id << 3) | 2)


def measure(command: list[str], environment: Mapping[str, str], helper: int | None) -> tuple[float, float]:
    """Give the CPU-seconds and wall seconds of one run; those of a helping process are added to the first.

    Raises:
        RuntimeError: it failed; a program that ends early must not look fast.
    """
    before, helped, started_at = resource.getrusage(resource.RUSAGE_CHILDREN), cpu_seconds_of(helper), time.monotonic()
    process = subprocess.run(command, input=LINE, capture_output=True, env=environment, check=False)
    seconds = time.monotonic() - started_at
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if process.returncode:
        raise RuntimeError(f"{command} failed: {process.stderr.decode()}")
    cpu_seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return cpu_seconds + cpu_seconds_of(helper) - helped, seconds


def measure_all(model: Path, ctranslate2: Path | None, num_runs: int) -> list[Row]:
    """Run every program in turn, and give a row of medians for each."""
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)  # an installed program has its bytecode
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "socket")
        translate = [sys.executable, "-m", "cli", "translate"]
        commands = {
            "import typer": [sys.executable, "-c", "import typer"],
            "import torch": [sys.executable, "-c", "import torch"],
            "translate": [*translate, "-m", str(model), "--threads", "1"],
            "translate --socket": [*translate, "--socket", str(path)],
        }
        if ctranslate2 is not None and importlib.util.find_spec("ctranslate2"):
            script = Path(folder, "script.py")
            script.write_text(CTRANSLATE2_SCRIPT, encoding="utf-8")
            tokenizer = ctranslate2 / "tokenizer.json"
            commands["CTranslate2"] = [sys.executable, str(script), str(ctranslate2), str(tokenizer)]
        with serving(model, path, environment) as server:
            helpers = {"translate --socket": server}
            figures: dict[str, list[tuple[float, float]]] = {name: [] for name in commands}
            for run in range(num_runs + 1):  # the first one is for the caches: bytecode, files
                for name, command in commands.items():
                    found = measure(command, environment, helpers.get(name))
                    if run:
                        figures[name].append(found)
    return [
        {
            "program": name,
            "CPU-seconds": statistics.median(cpu for cpu, _ in found),
            "least CPU-seconds": min(cpu for cpu, _ in found),
            "wall seconds": statistics.median(wall for _, wall in found),
        }
        for name, found in figures.items()
    ]


def main() -> None:
    """Print the table and write the JSON; say what does not hold."""
    parser = argparse.ArgumentParser(description="What one short line costs.")
    parser.add_argument("model", type=Path)
    parser.add_argument("--ctranslate2", type=Path, help="the model as CTranslate2 reads it")
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--output", type=Path, help="where to write the figures as JSON")
    options = parser.parse_args()
    rows = measure_all(options.model, options.ctranslate2, options.runs)
    show(f"one line, median of {options.runs} runs in turn", rows)
    cpu = {str(row["program"]): float(str(row["CPU-seconds"])) for row in rows}
    ratios = {
        "translate / import torch": cpu["translate"] / cpu["import torch"],
        "translate --socket / import typer": cpu["translate --socket"] / cpu["import typer"],
    }
    if "CTranslate2" in cpu:
        ratios["translate --socket / CTranslate2"] = cpu["translate --socket"] / cpu["CTranslate2"]
    show("of CPU-seconds", [{"ratio": name, "is": value} for name, value in ratios.items()])
    if options.output:
        write_figures(options.output, {"rows": rows, "ratios": ratios, "runs": options.runs, **MACHINE})
    limits = dict(zip(ratios, (MAX_COLD, MAX_WARM, 1.0), strict=False))
    if missed := [name for name, value in ratios.items() if value > limits[name]]:
        sys.exit("above the limit: " + ", ".join(f"{name} ({limits[name]})" for name in missed))


if __name__ == "__main__":
    main()
