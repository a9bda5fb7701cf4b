"""Whether `--arch auto` and the other defaults choose well: beside choices made by hand, on six corpora.

    python benchmarks/automatic.py --data DATA [--task multi30k [--choice auto]] [--output automatic.json]

For each corpus a model is trained by the command that a user types who knows nothing: two text files and two for
validation. Beside it, others are trained with one thing chosen by hand: the preset, the vocabulary, dropout, how long.
All are judged by the greedy translation of the validation pairs (of SCAN, which has none, of those that are held back);
nothing here looks at a test set. Results are added to those that the file holds already. A folder of an interrupted run
is gone on with.
"""

import argparse
import json
import os
import shlex
import statistics
from dataclasses import dataclass
from pathlib import Path

from quality import TASKS as FIRST_TASKS
from quality import run
from results_table import MACHINE, Row, keep_row, kept_rows, show

AUTO = "auto"
LESS_DROPOUT = {"dropout 0.1": "--dropout 0.1"}
EARLIER = {"sinusoids, cosine": "--positions sinusoidal --lr-schedule cosine"}  # what the defaults were
SMALL_IN_THE_SAME_TIME = {"small, 10 epochs": "--arch small --max-epochs 10"}  # where it would take hours
HALF = {"20 epochs": "--max-epochs 20"}

SENTENCES = {
    AUTO: "",
    "vocabulary of 4,000": "--vocab-size 4000",
    **LESS_DROPOUT,
    **EARLIER,
    **SMALL_IN_THE_SAME_TIME,
    **HALF,
}
MORE_DROPOUT = {"dropout 0.3": "--dropout 0.3"}
VERSES = {  # sentences twice as long
    AUTO: "",
    **MORE_DROPOUT,
    **HALF,
    "10 epochs": "--max-epochs 10",
    "vocabulary of 4,000, 10 epochs": "--vocab-size 4000 --max-epochs 10",
    "dropout 0.3, 10 epochs": "--dropout 0.3 --max-epochs 10",
}
PIECES = {"pieces": "--tokenizer-kind bpe"}
EARLIER_OF_WORDS = {name: f"{options} --tokenizer-kind bpe --batch-size 4096" for name, options in EARLIER.items()}
PIECES_OF_WORDS = {"vocabulary of 2,000": "--vocab-size 2000"}
RECURRENT = {"recurrent layers": "--encoder-mixer gru --decoder-mixer gru"}


def _with_dropout(dropout: float, choices: dict[str, str]) -> dict[str, str]:
    """Choose the dropout beside something else."""
    return {f"{name}, dropout {dropout}": f"{options} --dropout {dropout}" for name, options in choices.items()}


FEW_WORDS = {
    AUTO: "",
    **MORE_DROPOUT,
    **LESS_DROPOUT,
    **_with_dropout(0.3, PIECES_OF_WORDS | PIECES | EARLIER_OF_WORDS | RECURRENT),
    **PIECES,
    **RECURRENT,
}
MANY_WORDS = {
    AUTO: "",
    **PIECES_OF_WORDS,
    **RECURRENT,
    "dropout 0.2": "--dropout 0.2",
    **MORE_DROPOUT,
    **_with_dropout(0.3, PIECES | EARLIER_OF_WORDS),
    **SMALL_IN_THE_SAME_TIME,
}


@dataclass(frozen=True)
class Task:
    """A corpus, and what is chosen for it."""

    train: tuple[str, str]  # source and target, below DATA
    valid: tuple[str, str] | None  # None: some training pairs are held back
    metric: str
    choices: dict[str, str]  # options of `train`


def _sides(path: str, *sides: str) -> tuple[str, str]:
    """Name the files of both sides."""
    source, target = (f"{path}.{side}" for side in sides)
    return source, target


def _known(name: str, metric: str, choices: dict[str, str]) -> Task:
    """Take the text of a task of quality.py."""
    return Task(FIRST_TASKS[name].train, FIRST_TASKS[name].valid, metric, choices)


def _words(folder: str) -> Task:
    """A language of SIGMORPHON 2021."""
    path = f"sigmorphon-g2p-2021/{folder}"
    return Task(_sides(f"{path}/train", "src", "tgt"), _sides(f"{path}/dev", "src", "tgt"), "exact", FEW_WORDS)


COMMANDS = {
    AUTO: "",
    **PIECES,
    **LESS_DROPOUT,
    **EARLIER,
    "no smoothing": "--label-smoothing 0",
}
TASKS = {
    "multi30k": _known("multi30k", "bleu", SENTENCES),
    "bible": Task(_sides("bible-en-es/train", "en", "es"), _sides("bible-en-es/dev", "en", "es"), "bleu", VERSES),
    "cmudict": _known("cmudict", "exact", MANY_WORDS),
    "dutch": _words("medium-dut"),
    "korean": _words("medium-kor"),
    "scan": _known("scan", "exact", COMMANDS),
}


def measure(name: str, choice: str, data: Path, folder: Path, common: list[str]) -> Row:
    """Train one model; take the score of its best weights on the validation pairs."""
    seed = common[-1]
    task, model = TASKS[name], folder / f"{name}-{choice.replace(', ', '-').replace(' ', '-')}-{seed}"
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
        **MACHINE,
    }


def _mean_score(rows: list[Row], choice: object) -> float:
    """The mean of the seeds of a choice."""
    return statistics.mean(float(str(row["score"])) for row in rows if row["choice"] == choice)


def compare(rows: list[Row]) -> None:
    """Print each corpus, the best choice first, and how far the automatic one stays behind it."""
    for name in TASKS:
        chosen = sorted((row for row in rows if row["task"] == name), key=lambda row: -float(str(row["score"])))
        if not chosen:
            continue
        show(name, chosen, leave_out=("task", "options", *MACHINE))
        scores = {str(row["choice"]): _mean_score(chosen, row["choice"]) for row in chosen}
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
    tasks = options.task or list(TASKS)
    if unknown := {
        choice for choice in options.choice or () if not all(choice in TASKS[name].choices for name in tasks)
    }:
        parser.error(f"--choice {', '.join(sorted(unknown))}: {', '.join(tasks)} have no such choice")
    common = ["--threads", str(options.threads), "--seed", str(options.seed)]
    for name in tasks:
        for choice in options.choice or TASKS[name].choices:
            row = measure(name, choice, options.data, options.folder, common)
            keep_row(options.output, row, ("task", "choice", "options"))
    compare(kept_rows(options.output))


if __name__ == "__main__":
    main()
