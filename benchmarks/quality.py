"""What the defaults reach on real tasks: train, translate and score by the commands a user would type.

    python benchmarks/quality.py multi30k --data DATA [--folder WORK] [--output multi30k.json]
    python benchmarks/quality.py scan --data DATA
    python benchmarks/quality.py cmudict --data DATA

DATA is the folder that holds multi30k/, scan/ and cmudict/. Every command is printed before it runs, so that it can be
copied; what it took and what it reached are printed as a table and written as JSON. A folder of an interrupted run is
gone on with.
"""

import argparse
import json
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from results_table import MACHINE, write_figures

REPOSITORY = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Task:
    """A task with a figure that is known from the literature or asked of us."""

    train: tuple[str, str]  # source and target, below DATA
    valid: tuple[str, str] | None
    test: tuple[str, str]
    tokenizer: tuple[str, ...]  # options of `tokenizer train`
    options: Sequence[str]  # of `train`
    metrics: tuple[str, ...]  # options of `evaluate`
    searches: dict[str, tuple[str, ...]] = field(default_factory=lambda: {"beam 5": (), "greedy": ("--greedy",)})


TASKS = {
    "multi30k": Task(
        train=("multi30k/raw/train.en", "multi30k/raw/train.de"),
        valid=("multi30k/raw/val.en", "multi30k/raw/val.de"),
        test=("multi30k/raw/test_2016_flickr.en", "multi30k/raw/test_2016_flickr.de"),
        tokenizer=("--vocab-size", "7000", "--lowercase"),  # what is scored has no capitals
        options=("--arch", "tiny"),
        metrics=("-m", "bleu", "-m", "chrf", "-lc"),
    ),
    "scan": Task(
        train=("scan/simple/train.src", "scan/simple/train.tgt"),
        valid=None,
        test=("scan/simple/test.src", "scan/simple/test.tgt"),
        tokenizer=("--kind", "word"),
        # a task without noise: targets are not smoothed, and steps are small and many
        options=shlex.split(
            "--arch tiny --dropout 0.1 --label-smoothing 0 "
            "--optimizer adamw --lr-schedule cosine --batch-size 2048 --lr 1e-3 --max-steps 4000"
        ),
        metrics=("-m", "exact"),
    ),
    "cmudict": Task(
        train=("cmudict/train.src", "cmudict/train.tgt"),
        valid=("cmudict/dev.src", "cmudict/dev.tgt"),
        test=("cmudict/test.src", "cmudict/test.tgt"),
        tokenizer=("--kind", "bpe", "--vocab-size", "400"),
        options=("--arch", "tiny", "--dropout", "0.1"),
        metrics=("-m", "exact", "-m", "wer"),
    ),
}


def run(arguments: list[str]) -> tuple[str, float, float]:
    """Run a command of transduce.

    Returns:
        Its standard output, and the wall and CPU seconds that it took.
    """
    print(f"$ transduce {shlex.join(arguments)}", file=sys.stderr, flush=True)
    before, started_at = os.times(), time.monotonic()
    process = subprocess.run(
        [sys.executable, "-m", "cli", *arguments],
        stdout=subprocess.PIPE,
        check=True,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
    )
    after = os.times()
    cpu_seconds = after.children_user + after.children_system - before.children_user - before.children_system
    return process.stdout.decode(), time.monotonic() - started_at, cpu_seconds


def measure(task: Task, data: Path, folder: Path) -> dict[str, object]:
    """Train on a task and score its test set."""
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer, model = folder / "tokenizer.json", folder / "model"
    train = [str(data / name) for name in task.train]
    run(["tokenizer", "train", "-i", train[0], "-i", train[1], "-o", str(tokenizer), *task.tokenizer])
    arguments = ["train", "-s", train[0], "-t", train[1], "--tokenizer", str(tokenizer), "-o", str(model)]
    if task.valid is not None:
        arguments += ["--valid-src", str(data / task.valid[0]), "--valid-tgt", str(data / task.valid[1])]
    _, wall, cpu = run([*arguments, *task.options])
    figures: dict[str, object] = {"train_wall_seconds": round(wall), "train_cpu_seconds": round(cpu)}
    figures["training"] = json.loads((model / "metadata.json").read_text(encoding="utf-8"))["training"]
    for name, search in task.searches.items():
        hypotheses = folder / f"test.{name.replace(' ', '-')}"
        source, target = (str(data / name) for name in task.test)
        _, wall, cpu = run(["translate", "-m", str(model), "-i", source, "-o", str(hypotheses), *search])
        scores, _, _ = run(["evaluate", target, "-i", str(hypotheses), *task.metrics, "--json"])
        figures[name] = {
            "wall_seconds": round(wall, 1),
            "cpu_seconds": round(cpu, 1),
            "scores": [json.loads(line) for line in scores.splitlines()],
        }
    return figures


def main() -> None:
    """Measure one task, print a table and write the JSON."""
    parser = argparse.ArgumentParser(description="Quality of the defaults on a real task.")
    parser.add_argument("task", choices=TASKS)
    parser.add_argument("--data", type=Path, required=True, help="folder of the corpora")
    parser.add_argument("--folder", type=Path, help="where the model goes; quality-TASK if not given")
    parser.add_argument("--output", type=Path, help="where to write the figures as JSON")
    options = parser.parse_args()
    task = TASKS[options.task]
    figures = measure(task, options.data, options.folder or Path(f"quality-{options.task}"))
    figures["machine"] = MACHINE
    print(f"training: {figures['train_wall_seconds']} s wall, {figures['train_cpu_seconds']} CPU-seconds")
    for name in task.searches:
        result = figures[name]
        assert isinstance(result, dict)
        for score in result["scores"]:
            print(f"{name:<8}{score['name']:<8}{score['score']:>8.2f}  {score['signature']}")
    if options.output:
        write_figures(options.output, figures)


if __name__ == "__main__":
    main()
