"""What the best recipes reach on tasks with published figures: one command of training each, on all cores.

    python benchmarks/headlines.py multi30k --data DATA [--seed 1 --seed 2] [--folder WORK] [--output multi30k.json]

DATA is the folder of the corpora. Recipes were chosen on validation pairs alone (benchmarks/recipes.py); a test set is
translated once for each seed, with the search that is written here. Every command is printed before it runs, so that it
can be copied. Results are added to those that the file holds already, one row a seed, and the table ends with means. A
folder of an interrupted run is gone on with; its time is then that of the rest.
"""

import argparse
import json
import os
import shlex
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from quality import REPOSITORY, run
from results_table import MACHINE, Row, keep_row, show


def words(text: str) -> tuple[str, ...]:
    """Split options as a shell would."""
    return tuple(shlex.split(text))


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Everything that makes a result, but for the seed."""

    sides: tuple[str, str]  # suffixes of source and target
    train: str  # files below DATA, without their suffix
    valid: str
    test: str
    tokenizers: dict[str, tuple[str, ...]]  # an option of `train`, and options of `tokenizer train` for it
    options: tuple[str, ...]  # of `train`
    search: tuple[str, ...]  # of `translate`
    metrics: tuple[str, ...]  # of `evaluate`
    processes: int = 1  # that train side by side


# The size of Transformer-Tiny: 2.48 million parameters. What is scored has no capitals.
CAPTIONS = words(
    "--arch tiny --norm-kind rms --feed-forward swiglu --query-key-norm --r-drop 3 "
    "--max-epochs 50 --patience 0 --metric bleu --valid-every 170"
)

EN_DE = Recipe(
    sides=("en", "de"),
    train="multi30k/raw/train",
    valid="multi30k/raw/val",
    test="multi30k/raw/test_2016_flickr",
    tokenizers={"tokenizer": words("--vocab-size 7000 --lowercase")},
    options=CAPTIONS,
    search=words("--beam-size 5 --length-penalty 1"),
    metrics=words("-m bleu -m chrf -lc --chrf-lowercase"),
    processes=2,
)


def phones(path: str, options: str) -> Recipe:
    """Words and how they are said."""
    return Recipe(
        sides=("src", "tgt"),
        train=f"{path}/train",
        valid=f"{path}/dev",
        test=f"{path}/test",
        tokenizers={},
        options=words(options),
        search=words("--beam-size 5"),
        metrics=words("-m exact -m wer"),
    )


DUTCH, KOREAN = "sigmorphon-g2p-2021/medium-dut", "sigmorphon-g2p-2021/medium-kor"
NOTHING_CHOSEN = "--metric exact"  # but this
# Recurrent layers are ahead where words are short and few (docs/layers.md).
RECURRENT = f"{NOTHING_CHOSEN} --encoder-mixer gru --decoder-mixer gru --dropout 0.3"

RECIPES = {
    "multi30k": EN_DE,
    "multi30k-de-en": replace(EN_DE, sides=("de", "en")),
    "cmudict": phones("cmudict", NOTHING_CHOSEN),
    "dutch": phones(DUTCH, RECURRENT),
    "dutch-defaults": phones(DUTCH, NOTHING_CHOSEN),
    "korean": phones(KOREAN, RECURRENT),
    "korean-defaults": phones(KOREAN, NOTHING_CHOSEN),
}


def train(recipe: Recipe, processes: int, arguments: list[str]) -> float:
    """Train; what the recipe has more processes for, fewer of them accumulate. Give the seconds that it took."""
    command = [sys.executable, "-m", "cli", "train", *arguments]
    if processes > 1:
        launcher = f"-m torch.distributed.run --standalone --nproc-per-node {processes} -m cli train"
        command = [sys.executable, *shlex.split(launcher), *arguments]
    if recipe.processes > 1:
        command += ["--threads", "1", "--accumulate", str(recipe.processes // processes)]
    print(f"$ python {shlex.join(command[1:])}", file=sys.stderr, flush=True)
    started_at = time.monotonic()
    subprocess.run(command, stdout=subprocess.DEVNULL, check=True, env={**os.environ, "PYTHONPATH": str(REPOSITORY)})
    return time.monotonic() - started_at


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """A recipe, and where and how it is followed."""

    recipe: Recipe
    data: Path  # the folder of the corpora
    folder: Path  # where the model goes
    seed: int
    processes: int
    more: Sequence[str] = ()  # options of `train` beside those of the recipe
    beside: Sequence[tuple[Path, Path]] = ()  # texts to learn from beside that of the recipe

    @property
    def model(self) -> Path:
        """The folder of the model."""
        return self.folder / f"model-{self.seed}"

    def pair(self, name: str) -> tuple[Path, Path]:
        """Source and target of a text of the recipe."""
        source, target = self.recipe.sides
        return self.data / f"{name}.{source}", self.data / f"{name}.{target}"

    def learn(self) -> float:
        """Train the model; give the seconds that it took."""
        self.folder.mkdir(parents=True, exist_ok=True)
        recipe = self.recipe
        (source, target), (valid_source, valid_target) = self.pair(recipe.train), self.pair(recipe.valid)
        arguments = ["--valid-src", str(valid_source), "--valid-tgt", str(valid_target), "-o", str(self.model)]
        for one, other in ((source, target), *self.beside):
            arguments += ["-s", str(one), "-t", str(other)]
        for option, learned in recipe.tokenizers.items():
            text = {"tokenizer": [source, target], "source-tokenizer": [source], "target-tokenizer": [target]}[option]
            path = self.folder / f"{option}.json"
            if not path.exists():
                inputs = [word for name in text for word in ("-i", str(name))]
                run(["tokenizer", "train", *inputs, *learned, "-o", str(path)])
            arguments += [f"--{option}", str(path)]
        return train(recipe, self.processes, [*arguments, *recipe.options, "--seed", str(self.seed), *self.more])

    def measure(self) -> Row:
        """Train; score the test set, and the validation pairs in the same way."""
        seconds, recipe = self.learn(), self.recipe
        record = json.loads((self.model / "metadata.json").read_text(encoding="utf-8"))
        row: Row = {
            "seed": self.seed,
            "options": shlex.join([*recipe.options, *self.more]),
            "processes": self.processes,
            "minutes": seconds / 60,
            "steps": record["training"]["steps"],
            "target tokens": record["training"]["target_tokens"],
            **MACHINE,
        }
        for name in (recipe.valid, recipe.test):
            source, reference = self.pair(name)
            hypotheses = self.folder / f"{source.stem}-{self.seed}.hyp"
            run(["translate", "-m", str(self.model), "-i", str(source), "-o", str(hypotheses), *recipe.search])
            lines, _, _ = run(["evaluate", str(reference), "-i", str(hypotheses), *recipe.metrics, "--json"])
            for score in map(json.loads, lines.splitlines()):
                row[f"{'valid' if name == recipe.valid else 'test'} {score['name']}"] = score["score"]
        return row


def show_with_means(name: str, rows: list[Row]) -> None:
    """Print a line for each seed, and the means, for each choice of options."""
    for choice in dict.fromkeys(str(row["options"]) for row in rows):
        chosen = [row for row in rows if row["options"] == choice]
        show(f"{name}: {choice}", chosen, leave_out=("options", *MACHINE))
        figures = [key for key in chosen[0] if key.startswith(("valid ", "test "))]
        means = [f"{key} {statistics.mean(float(str(row[key])) for row in chosen):.2f}" for key in figures]
        print(f"mean of {len(chosen)}: {', '.join(means)}")


def main() -> None:
    """Measure one recipe with every seed, add the rows to the file, print all of them."""
    parser = argparse.ArgumentParser(description="What the best recipes reach.")
    parser.add_argument("task", choices=RECIPES)
    parser.add_argument("--more", default="", help="options of `train` beside those of the recipe, as one word")
    parser.add_argument("--data", type=Path, required=True, help="folder of the corpora")
    parser.add_argument(
        "--processes", type=int, choices=(1, 2), help="those of the recipe if not given: one computes the same as two"
    )
    parser.add_argument("--seed", type=int, action="append", help="repeat it; 1 if not given")
    parser.add_argument("--folder", type=Path, help="where the models go; headline-TASK if not given")
    parser.add_argument("--output", type=Path, help="rows are added to this file; headline-TASK.json if not given")
    options = parser.parse_args()
    output = options.output or Path(f"headline-{options.task}.json")
    recipe, rows = RECIPES[options.task], list[Row]()
    processes = min(options.processes or recipe.processes, recipe.processes)
    for seed in options.seed or [1]:
        attempt = Attempt(
            recipe=recipe,
            data=options.data,
            folder=options.folder or Path(f"headline-{options.task}"),
            seed=seed,
            processes=processes,
            more=shlex.split(options.more),
        )
        row = attempt.measure()
        rows = keep_row(output, row, ("seed", "options"))
    show_with_means(options.task, rows)


if __name__ == "__main__":
    main()
