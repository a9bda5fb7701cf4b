"""Whether `--arch auto` and the other defaults choose well: beside choices made by hand, on six corpora.

    python benchmarks/automatic.py --data DATA [--task multi30k [--choice auto]] [--output automatic.json]

For each corpus a model is trained by the command that a user types who knows nothing: two text files and two for
validation. Beside it, others are trained with one thing chosen by hand: the preset, the vocabulary, dropout, the batch,
how long. All are judged by the greedy translation of the validation pairs (of SCAN, which has none, of those that are
held back); nothing here looks at a test set. Results are added to those that the file holds already. A folder of an
interrupted run is gone on with.
"""

import argparse
import json
import os
import platform
import shlex
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from quality import run
from results_table import Row, show

AUTO = "auto"
DROPOUT = {"dropout 0.1": "--dropout 0.1"}
SMALL = {"small": "--arch small"}
SENTENCES = {
    AUTO: "",
    "vocabulary of 4,000": "--vocab-size 4000",
    **DROPOUT,
    **SMALL,
    "batches of 2k": "--batch-size 2048",
    "20 epochs": "--max-epochs 20",
}
WORDS = {
    AUTO: "",
    "letters": "--tokenizer-kind char",
    "vocabulary of 2,000": "--vocab-size 2000",
    **DROPOUT,
    **SMALL,
    "batches of 1k": "--batch-size 1024",
}


@dataclass(frozen=True)
class Task:
    """A corpus, and what is chosen for it."""

    train: tuple[str, str]  # source and target, below DATA
    valid: tuple[str, str] | None  # None: some training pairs are held back
    metric: str
    choices: dict[str, str]  # options of `train`


def _task(folder: str, valid: str, sides: tuple[str, str], metric: str, choices: dict[str, str]) -> Task:
    """A corpus whose files are named by their part and their side."""
    train, held_out = ((f"{folder}/{part}.{sides[0]}", f"{folder}/{part}.{sides[1]}") for part in ("train", valid))
    return Task(train=train, valid=held_out, metric=metric, choices=choices)


SIDES = ("src", "tgt")
TASKS = {
    "multi30k": _task("multi30k/raw", "val", ("en", "de"), "bleu", SENTENCES),
    "bible": _task("bible-en-es", "dev", ("en", "es"), "bleu", SENTENCES),
    "cmudict": _task("cmudict", "dev", SIDES, "exact", WORDS),
    "dutch": _task("sigmorphon-g2p-2021/medium-dut", "dev", SIDES, "exact", WORDS),
    "korean": _task("sigmorphon-g2p-2021/medium-kor", "dev", SIDES, "exact", WORDS),
    "scan": Task(
        train=("scan/simple/train.src", "scan/simple/train.tgt"),
        valid=None,
        metric="exact",
        choices={
            AUTO: "",
            "words": "--tokenizer-kind word",
            **DROPOUT,
            **SMALL,
            "no smoothing": "--label-smoothing 0",
            "batches of 1k": "--batch-size 1024",
        },
    ),
}


def measure(name: str, choice: str, data: Path, folder: Path, common: list[str]) -> Row:
    """Train one model; take the score of its best weights on the validation pairs."""
    task, model = TASKS[name], folder / f"{name}-{choice.replace(', ', '-').replace(' ', '-')}"
    arguments = ["train", "-s", str(data / task.train[0]), "-t", str(data / task.train[1])]
    if task.valid is not None:
        arguments += ["--valid-src", str(data / task.valid[0]), "--valid-tgt", str(data / task.valid[1])]
    options = shlex.split(task.choices[choice])
    run([*arguments, "-o", str(model), "--metric", task.metric, *options, *common])
    training = json.loads((model / "metadata.json").read_text(encoding="utf-8"))["training"]
    return {
        "task": name,
        "choice": choice,
        "options": shlex.join([*options, *common]),
        "metric": task.metric,
        "score": training["validation"][task.metric],
        "steps": training["steps"],
        "target tokens": training["target_tokens"],
        "seconds": training["seconds"],
        "processor": platform.machine(),
        "torch": metadata.version("torch"),
    }


def compare(rows: list[Row]) -> None:
    """Print each corpus, the best choice first, and how far the automatic one stays behind it."""
    for name in TASKS:
        chosen = sorted((row for row in rows if row["task"] == name), key=lambda row: -float(str(row["score"])))
        if not chosen:
            continue
        show(name, chosen, leave_out=("task", "options", "processor", "torch"))
        scores = {str(row["choice"]): float(str(row["score"])) for row in chosen}
        if AUTO in scores:
            best = max(scores.values())
            behind = f"{1 - scores[AUTO] / best:.1%} of the best score"
            if chosen[0]["metric"] == "exact" and best < 100:
                behind += f", {(100 - scores[AUTO]) / (100 - best) - 1:.1%} more errors"
            print(f"{AUTO} is behind by {behind}")


def main() -> None:
    """Measure what is asked for, add the rows to the file, print all of them."""
    parser = argparse.ArgumentParser(description="The choices of --arch auto beside others.")
    parser.add_argument("--data", type=Path, required=True, help="folder of the corpora")
    parser.add_argument("--task", choices=TASKS, action="append", help="repeat it; all if not given")
    parser.add_argument("--choice", action="append", help="repeat it; all of the task if not given")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="processor threads")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--folder", type=Path, default=Path("automatic"), help="where the models go")
    parser.add_argument("--output", type=Path, default=Path("automatic.json"), help="rows are added to this file")
    options = parser.parse_args()
    rows: list[Row] = json.loads(options.output.read_text(encoding="utf-8")) if options.output.exists() else []
    common = ["--threads", str(options.threads), "--seed", str(options.seed)]
    for name in options.task or TASKS:
        for choice in options.choice or TASKS[name].choices:
            row = measure(name, choice, options.data, options.folder, common)
            same = ("task", "choice", "options")
            rows = [old for old in rows if any(old[key] != row[key] for key in same)] + [row]
            options.output.write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")
    compare(rows)


if __name__ == "__main__":
    main()
