"""What pretraining on raw text brings where pairs are few, by the commands a user would type.

    python benchmarks/pretraining.py --data DATA [--folder WORK] [--output pretraining.json]

    few     1,000 pairs of multi30k en-de; raw text is the English side of one half of the other 28,000 pairs and the
            German side of the other half, so that no raw line has its translation in the raw text
    full    all 29,000 pairs; raw text is both of their sides, so nothing is seen that the pairs do not hold

Each seed draws other pairs and trains other models. In every arm a model of `--arch tiny` is trained on the same pairs:

    nothing             from nothing, with what `train` makes of the pairs alone: its own, small vocabulary
    nothing, joint      from nothing, with the vocabulary that is learned from pairs and raw text
    masked              from an encoder that was pretrained to predict masked tokens; the decoder is fresh
    denoising           from a whole model that was pretrained to mend lines
    denoising, faster   the same, at half of the learning rate of a fresh model instead of a fifth

BLEU is of test2016, lowercased, beam 5. The gain of an arm is over the better of the two that start from nothing, of
the same seed. DATA is the folder that holds multi30k/. Every command is printed before it runs, and a folder of an
interrupted run is gone on with.
"""

import argparse
import json
import os
import random
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from quality import run
from results_table import MACHINE, Row, show, write_figures

NUM_FEW = 1000  # pairs
# Few pairs make few batches; smaller ones make more updates of the same work.
FEW_PRETRAINING = ("--batch-size", "2048", "--max-steps", "2000")
FEW_TRAINING = ("--batch-size", "1024", "--max-steps", "1000")
# What each arm starts from: None, or an objective; and its own options beside the dropout of all of them: a denoising
# model brings that of its pretraining, which is too little for so few pairs.
DROPOUT = ("--dropout", "0.3")
ARMS: dict[str, tuple[str | None, tuple[str, ...]]] = {
    "nothing": (None, DROPOUT),
    "nothing, joint": (None, DROPOUT),
    "masked": ("masked", DROPOUT),
    "denoising": ("denoising", DROPOUT),
    "denoising, faster": ("denoising", (*DROPOUT, "--lr", "0.002")),
}


@dataclass(frozen=True)
class Bench:
    """Where the text and the models are, and how long each is trained."""

    data: Path
    folder: Path
    pretraining: tuple[str, ...]  # options of every pretraining
    training: tuple[str, ...]  # of every training
    common: tuple[str, ...]  # of both

    def text(self, name: str) -> Path:
        """A file of the corpus."""
        return self.data / "multi30k" / "raw" / name


@dataclass(frozen=True)
class Part:
    """The text of one part for one seed."""

    folder: Path
    sources: Path
    targets: Path
    raw: tuple[Path, Path]
    pretraining: tuple[str, ...]  # options of its pretraining
    training: tuple[str, ...]  # and of its training

    @property
    def pairs(self) -> list[str]:
        """The options that name the pairs."""
        return ["-s", str(self.sources), "-t", str(self.targets)]

    @property
    def all_text(self) -> list[str]:
        """The options that name all text once."""
        files = dict.fromkeys((self.sources, self.targets, *self.raw))
        return [word for path in files for word in ("-i", str(path))]


def few(bench: Bench, seed: int) -> Part:
    """Draw pairs, and halves of the others."""
    folder = bench.folder / f"few-{seed}"
    folder.mkdir(parents=True, exist_ok=True)
    sides = [bench.text(f"train.{side}").read_text(encoding="utf-8").split("\n")[:-1] for side in ("en", "de")]
    order = list(range(len(sides[0])))
    random.Random(seed).shuffle(order)
    pairs, others = order[:NUM_FEW], order[NUM_FEW:]
    halves = others[: len(others) // 2], others[len(others) // 2 :]
    files = [folder / name for name in ("pairs.en", "pairs.de", "raw.en", "raw.de")]
    for path, side, numbers in zip(files, (0, 1, 0, 1), (pairs, pairs, *halves), strict=True):
        text = "".join(f"{sides[side][number]}\n" for number in numbers)
        if not path.exists() or path.read_text(encoding="utf-8") != text:  # a run goes on with files of the same time
            path.write_text(text, encoding="utf-8")
    return Part(folder, files[0], files[1], (files[2], files[3]), FEW_PRETRAINING, FEW_TRAINING)


def full(bench: Bench, seed: int) -> Part:
    """Take all pairs, and both of their sides as raw text."""
    folder = bench.folder / f"full-{seed}"
    folder.mkdir(parents=True, exist_ok=True)
    sides = bench.text("train.en"), bench.text("train.de")
    return Part(folder, *sides, sides, (), ())


PARTS = {"few": few, "full": full}


def measure(bench: Bench, part: Part, seed: int, arms: Sequence[str]) -> list[Row]:
    """Train every arm on the pairs of a part and score the test set."""
    tokenizer = part.folder / "joint.json"
    if not tokenizer.exists():
        run(["tokenizer", "train", *part.all_text, "-o", str(tokenizer), "--vocab-size", "8000"])
    valid = ["--valid-src", str(bench.text("val.en")), "--valid-tgt", str(bench.text("val.de"))]
    rows = []
    for arm in arms:
        objective, own = ARMS[arm]
        start = ["--lr-schedule", "cosine"]
        start += ["--arch", "tiny", "--optimizer", "adamw"] if objective is None else ["--init-from"]
        if objective is not None:
            start.append(str(pretrain(bench, part, seed, objective, tokenizer)))
        elif arm.endswith("joint"):
            start += ["--tokenizer", str(tokenizer)]
        model = part.folder / arm.replace(", ", "-")
        options = ["-o", str(model), *start, *own, *part.training, *bench.training, *bench.common, "--seed", str(seed)]
        run(["train", *part.pairs, *valid, *options])
        rows.append({"seed": seed, "arm": arm, **test_scores(bench, model), **describe(model)})
    return rows


def pretrain(bench: Bench, part: Part, seed: int, objective: str, tokenizer: Path) -> Path:
    """Pretrain on the raw text of a part."""
    model = part.folder / f"pretrained-{objective}"
    raw = [word for path in part.raw for word in ("-i", str(path))]
    options = ["-o", str(model), "--objective", objective, "--tokenizer", str(tokenizer), "--arch", "tiny"]
    run(["pretrain", *raw, *options, *part.pretraining, *bench.pretraining, *bench.common, "--seed", str(seed)])
    return model


def test_scores(bench: Bench, model: Path) -> Row:
    """Translate test2016 and score it."""
    hypotheses = model.parent / f"{model.name}.hyp"
    source, target = (str(bench.text(f"test_2016_flickr.{side}")) for side in ("en", "de"))
    run(["translate", "-m", str(model), "-i", source, "-o", str(hypotheses)])
    scores, _, _ = run(["evaluate", target, "-i", str(hypotheses), "-m", "bleu", "-m", "chrf", "-lc", "--json"])
    found = [json.loads(line) for line in scores.splitlines()]
    return {score["name"]: score["score"] for score in found} | {"signature": found[0]["signature"]}


def describe(model: Path) -> Row:
    """Say what training took, and how far the model that it started from had come."""
    content = json.loads((model / "metadata.json").read_text(encoding="utf-8"))
    row: Row = {"steps": content["training"]["steps"], "seconds": content["training"]["seconds"]}
    if "init_from" in content:
        path = Path(content["init_from"]["path"]) / "metadata.json"
        pretraining = json.loads(path.read_text(encoding="utf-8"))["training"]
        row |= {f"pretraining {name}": pretraining[name] for name in ("steps", "seconds")}
        row |= {f"pretraining {name}": pretraining["validation"][name] for name in ("perplexity", "accuracy")}
    return row


def summarize(rows: Sequence[Row]) -> list[Row]:
    """Give mean and spread of each arm, and its gain over the better start from nothing."""
    bleu = {(row["seed"], row["arm"]): float(str(row["BLEU"])) for row in rows}
    seeds = sorted({seed for seed, _ in bleu}, key=str)
    baselines = {
        seed: max((value for (s, arm), value in bleu.items() if s == seed and "nothing" in str(arm)), default=None)
        for seed in seeds
    }
    summary: list[Row] = []
    for arm in dict.fromkeys(arm for _, arm in bleu):
        values = [bleu[seed, arm] for seed in seeds]
        row: Row = {"arm": arm, "BLEU": statistics.mean(values), "of": " ".join(f"{value:.2f}" for value in values)}
        gains = [value - base for value, base in zip(values, baselines.values(), strict=True) if base is not None]
        if gains and "nothing" not in str(arm):
            row["gain"] = statistics.mean(gains)
            row["least gain"] = min(gains)
        summary.append(row)
    return summary


def main() -> None:
    """Measure what is asked for, print tables and write the JSON."""
    parser = argparse.ArgumentParser(description="What pretraining brings where pairs are few.")
    parser.add_argument("--data", type=Path, required=True, help="folder of the corpora")
    parser.add_argument("--only", choices=PARTS, action="append", help="a part; repeat it; all if not given")
    parser.add_argument("--arm", choices=ARMS, action="append", help="an arm; repeat it; all if not given")
    parser.add_argument("--seed", type=int, action="append", help="repeat it; 1, 2 and 3 if not given")
    parser.add_argument("--folder", type=Path, default=Path("pretraining"), help="where text and models go")
    parser.add_argument("--output", type=Path, help="where to write the figures as JSON")
    parser.add_argument(
        "--pretraining-steps", type=int, help="updates of pretraining; what pretrain chooses if not given"
    )
    parser.add_argument("--training-steps", type=int, help="updates of training; what train chooses if not given")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="processor threads")
    options = parser.parse_args()
    bench = Bench(
        data=options.data,
        folder=options.folder,
        pretraining=() if options.pretraining_steps is None else ("--max-steps", str(options.pretraining_steps)),
        training=() if options.training_steps is None else ("--max-steps", str(options.training_steps)),
        common=("--threads", str(options.threads)),
    )
    figures: dict[str, object] = {
        "threads": options.threads,
        **MACHINE,
    }
    for name in options.only or PARTS:
        rows: list[Row] = []
        for seed in options.seed or (1, 2, 3):
            rows += measure(bench, PARTS[name](bench, seed), seed, options.arm or list(ARMS))
            summary = summarize(rows)
            figures[name] = {"runs": rows, "summary": summary}
            if options.output:  # after every seed, so that what was measured is there whatever comes
                write_figures(options.output, figures)
        show(name, rows, leave_out=["signature"])
        show(f"{name}, {rows[0]['signature']}", summary)


if __name__ == "__main__":
    main()
