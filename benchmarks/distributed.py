"""Two processes with a thread each against one process with two threads: the same updates, the same model.

    python benchmarks/distributed.py --data DATA [--folder WORK] [--output distributed.json]

DATA is the folder that holds multi30k/. Both train the Tiny model in turn, A B A B, on the same batches: one process
takes two batches an update, each of two takes one. Speed is target tokens a second over all updates after the first
report, without what a start costs. Every command is printed before it runs.
"""

import argparse
import json
import os
import shlex
import shutil
import statistics
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from quality import REPOSITORY, TASKS, run
from results_table import MACHINE, write_figures

WAYS: dict[str, tuple[Sequence[str], Sequence[str]]] = {  # how Python is told to start it, and options of `train`
    "one process, two threads": (("-m", "cli"), ("--threads", "2", "--accumulate", "2")),
    "two processes, a thread each": (
        ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "cli"),
        ("--threads", "1"),
    ),
}


def pairs(data: Path, folder: Path) -> list[str]:
    """Learn the tokenizer once; give the options that name the text."""
    task, tokenizer = TASKS["multi30k"], folder / "tokenizer.json"
    train = [str(data / name) for name in task.train]
    if not tokenizer.exists():
        run(["tokenizer", "train", "-i", train[0], "-i", train[1], "-o", str(tokenizer), *task.tokenizer])
    assert task.valid is not None
    valid = [str(data / name) for name in task.valid]
    words = ["-s", train[0], "-t", train[1], "--valid-src", valid[0], "--valid-tgt", valid[1]]
    return [*words, "--tokenizer", str(tokenizer), *task.options]


def train(launch: Sequence[str], arguments: Sequence[str], model: Path) -> tuple[float, float]:
    """Train once; give target tokens a second, and the loss of the last updates."""
    shutil.rmtree(model, ignore_errors=True)
    command = [*launch, "-q", "train", *arguments, "-o", str(model)]
    print(f"$ python {shlex.join(command)}", file=sys.stderr, flush=True)
    subprocess.run(
        [sys.executable, *command],
        stdout=subprocess.DEVNULL,
        check=True,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
    )
    lines = (model / "metrics.jsonl").read_text(encoding="utf-8").split("\n")[:-1]
    steps = [record for record in map(json.loads, lines) if record["type"] == "step"]
    timed = steps[1:] or steps
    # a mean over updates of one size: harmonic, because time is what adds up
    return statistics.harmonic_mean([record["tokens_per_second"] for record in timed]), steps[-1]["loss"]


def main() -> None:
    """Measure, print a table and write the JSON."""
    parser = argparse.ArgumentParser(description="Two processes against one with two threads.")
    parser.add_argument("--data", type=Path, required=True, help="folder of the corpora")
    parser.add_argument("--folder", type=Path, default=Path("distributed"), help="where the models go")
    parser.add_argument("--output", type=Path, help="where to write the figures as JSON")
    parser.add_argument("--runs", type=int, default=3, help="of each way")
    parser.add_argument("--max-steps", type=int, default=200, help="updates of a run")
    parser.add_argument("--precision", default="fp32")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    common = [*pairs(options.data, options.folder), "--precision", options.precision, "--device", "cpu"]
    common += ["--max-steps", str(options.max_steps), "--valid-every", str(options.max_steps)]
    common += ["--log-every", str(max(1, options.max_steps // 10)), "--average-last", "0"]
    speeds: dict[str, list[float]] = {name: [] for name in WAYS}
    losses: dict[str, float] = {}
    for _ in range(options.runs):
        for name, (launch, arguments) in WAYS.items():
            speed, losses[name] = train(launch, [*common, *arguments], options.folder / name.split()[0])
            speeds[name].append(speed)
    medians = {name: statistics.median(values) for name, values in speeds.items()}
    one, two = medians.values()
    for name in WAYS:
        shown = " ".join(f"{speed:,.0f}" for speed in speeds[name])
        print(f"{name:<30}{medians[name]:>10,.0f} target tokens/s   loss {losses[name]:.4f}   ({shown})")
    print(f"two processes are {two / one:.2f} times as fast as one")
    figures = {
        "tokens_per_second": speeds,
        "ratio": two / one,
        "last_loss": losses,
        "max_steps": options.max_steps,
        "precision": options.precision,
        **MACHINE,
    }
    if options.output:
        write_figures(options.output, figures)


if __name__ == "__main__":
    main()
