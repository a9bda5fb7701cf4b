"""What the sequence layers and the modern parts of their frame bring on real tasks, by the commands a user would type.

    python benchmarks/mixers.py --data DATA [--only scan [--mixer gru]] [--folder WORK] [--output mixers.json]

    scan      attention (with its division by √d_head and without), GRU, LSTM and convolution as encoder and decoder
    cmudict   the mixers of `compare` at equal size after as many updates: spelling to pronunciation
    ssru      an SSRU decoder beside an attention decoder of the same width and depth: greedy decoding, A B A B …
    parts     RMSNorm, gated feed-forwards, rotary positions, one head of keys, query-key norm beside the plain model

DATA is the folder that holds scan/ and cmudict/ (and multi30k/, for --decoder-task multi30k). Every command is printed
before it runs. A folder of an interrupted run is gone on with.
"""

import argparse
import json
import os
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from quality import REPOSITORY, TASKS, Task, run
from results_table import MACHINE, Row, show, write_figures

ALTERNATING_RUNS = 5  # of each decoder
MAX_STEPS, BATCH_SIZE = 1200, 2048  # updates, and tokens of each, where mixers and parts are set side by side
SCAN_MIXERS: dict[str, tuple[str, ...]] = {
    "attention": (),
    "unscaled": ("--no-scale-attention",),  # without the division by √d_head
    "gru": ("--encoder-mixer", "gru", "--decoder-mixer", "gru"),
    "lstm": ("--encoder-mixer", "lstm", "--decoder-mixer", "lstm"),
    "conv": ("--encoder-mixer", "conv", "--decoder-mixer", "conv"),
}
# two thirds of the preset's 256: with its third matrix a gated feed-forward is as large as the plain one
GATED_WIDTH = ("--ffn-dim", "171")
PARTS: dict[str, tuple[str, ...]] = {
    "plain": (),
    "rms": ("--norm-kind", "rms"),
    "glu": ("--feed-forward", "glu", *GATED_WIDTH),
    "swiglu": ("--feed-forward", "swiglu", *GATED_WIDTH),
    "rotary": ("--positions", "rotary"),
    "kv-heads 1": ("--kv-heads", "1"),
    "query-key-norm": ("--query-key-norm",),
}


@dataclass(frozen=True)
class Bench:
    """Where the text and the models are, and how long each is trained."""

    data: Path
    folder: Path
    mixers: tuple[str, ...]  # of `scan`
    max_steps: int | None  # None: what the part says
    decoder_task: str  # what the decoders of `ssru` learn
    threads: int
    seed: int

    def tokenizer(self, name: str) -> Path:
        """Learn the tokenizer of a task, once."""
        task, path = TASKS[name], self.folder / f"{name}.json"
        if not path.exists():
            sides = [word for side in task.train for word in ("-i", str(self.data / side))]
            run(["tokenizer", "train", *sides, "-o", str(path), *task.tokenizer])
        return path

    def pairs(self, name: str) -> list[str]:
        """The options that name the text of a task."""
        task = TASKS[name]
        words = ["-s", str(self.data / task.train[0]), "-t", str(self.data / task.train[1])]
        if task.valid is not None:
            words += ["--valid-src", str(self.data / task.valid[0]), "--valid-tgt", str(self.data / task.valid[1])]
        return [*words, "--tokenizer", str(self.tokenizer(name))]

    def train(self, name: str, model: Path, options: Sequence[str] = ()) -> None:
        """Train one model by the options of the task, each with the same positions and the same schedule.

        By AdamW, whose steps do not depend on a layer's matrices.
        """
        limit = () if self.max_steps is None else ("--max-steps", str(self.max_steps))
        same = ["--optimizer", "adamw", "--lr-schedule", "cosine", "--positions", "sinusoidal"]
        trained = [*self.pairs(name), "-o", str(model), *same, *TASKS[name].options, *limit, *options]
        run(["train", *trained, *self.common()])

    def budget(self) -> list[str]:
        """The options by which models that are set side by side are trained equally long."""
        return ["--max-steps", str(self.max_steps or MAX_STEPS), "--batch-size", str(BATCH_SIZE)]

    def common(self) -> list[str]:
        """The options of every training."""
        return ["--threads", str(self.threads), "--seed", str(self.seed)]


def scan(bench: Bench) -> list[Row]:
    """Train each mixer on SCAN and score its test set."""
    rows = []
    for name in bench.mixers:
        model = bench.folder / "scan" / name
        bench.train("scan", model, SCAN_MIXERS[name])
        rows.append({"mixer": name, **describe(model), **test_scores(bench, TASKS["scan"], model)})
    return rows


def cmudict(bench: Bench) -> list[Row]:
    """Let `compare` train all mixers to equal size and updates; score each on the test set."""
    folder = bench.folder / "cmudict"
    arguments = ["compare", *bench.pairs("cmudict"), "-o", str(folder), *bench.budget(), "--dropout", "0.1"]
    arguments += ["--max-length", "32", "--metric", "exact", "--metric", "wer", "--json", *bench.common()]
    output, _, _ = run(arguments)
    rows: list[Row] = []
    for model in json.loads(output)["training"]["models"]:
        name, quality = model["name"], model["quality"]
        if quality is None:
            rows.append({"mixer": name, "parameters": model["num_parameters"], "valid loss": "diverged"})
            continue
        rows.append(
            {
                "mixer": name,
                **describe(folder / name),
                "d_ff": model["d_ff"],
                **test_scores(bench, TASKS["cmudict"], folder / name),
                "training tokens/s": model["tokens_per_second"],
                "decoding lines/s": quality["lines_per_second"],
            }
        )
    return rows


def ssru(bench: Bench) -> list[Row]:
    """Train both decoders; translate the test set with one and the other in turn."""
    task = TASKS[bench.decoder_task]
    models = {name: bench.folder / "ssru" / bench.decoder_task / name for name in ("attention", "ssru")}
    for name, model in models.items():
        bench.train(bench.decoder_task, model, (*bench.budget(), "--decoder-mixer", name))
    lines = (bench.data / task.test[0]).read_text(encoding="utf-8").splitlines()
    seconds = alternate({name: greedy(model, lines) for name, model in models.items()})
    ratios = [one / other for one, other in zip(seconds["attention"], seconds["ssru"], strict=True)]
    rows = []
    for name, model in models.items():
        median = statistics.median(seconds[name])
        rows.append(
            {
                "decoder": name,
                **describe(model),
                **test_scores(bench, task, model),
                "median CPU s": median,
                "lines/CPU s": len(lines) / median,
                "times as fast": statistics.median(ratios) if name == "ssru" else 1.0,
                "runs CPU s": " ".join(f"{run_seconds:.2f}" for run_seconds in seconds[name]),
            }
        )
    return rows


def parts(bench: Bench) -> list[Row]:
    """Train the plain model, and the same with one part of it exchanged."""
    rows = []
    for name, options in PARTS.items():
        model = bench.folder / "parts" / name.replace(" ", "-")
        bench.train("cmudict", model, (*bench.budget(), "--patience", "0", *options))
        rows.append({"part": name, **describe(model), **test_scores(bench, TASKS["cmudict"], model)})
    return rows


def describe(model: Path) -> Row:
    """What a trained model is, and what it took."""
    summary = json.loads(run(["inspect", "model", str(model), "--json"])[0])
    training = summary["metadata"]["training"]
    return {
        "parameters": summary["num_parameters"]["total"],
        "steps": training["steps"],
        "training s": training["seconds"],
        "valid loss": training["validation"]["loss"],
    }


def test_scores(bench: Bench, task: Task, model: Path) -> Row:
    """Translate the test set by greedy search, and score it."""
    hypotheses = model.parent / f"{model.name}.hyp"
    source, target = (str(bench.data / name) for name in task.test)
    run(
        [
            "translate",
            "-m",
            str(model),
            "-i",
            source,
            "-o",
            str(hypotheses),
            "--greedy",
            "--threads",
            str(bench.threads),
        ]
    )
    scores, _, _ = run(["evaluate", target, "-i", str(hypotheses), *task.metrics, "--json"])
    return {score["name"]: score["score"] for score in map(json.loads, scores.splitlines())}


def greedy(model: Path, lines: Sequence[str]) -> Callable[[], float]:
    """Load a model; each call translates the lines and gives the CPU-seconds that it took."""
    from transformer_core.decoding.config import SearchConfig
    from transformer_core.decoding.translator import Translator
    from transformer_core.model_directory import load_model

    loaded = load_model(model)
    search = SearchConfig(beam_size=1, max_length_ratio=loaded.generation["max_length_ratio"])
    translator = Translator(loaded.model, loaded.source_tokenizer, loaded.target_tokenizer, search)
    translator.translate(lines[:100])

    def seconds() -> float:
        started_at = time.process_time()  # which other programs do not move
        translator.translate(lines)
        return time.process_time() - started_at

    return seconds


def alternate(runs: dict[str, Callable[[], float]]) -> dict[str, list[float]]:
    """Run one after the other, again and again, so that whatever else the machine does meets all of them."""
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(ALTERNATING_RUNS):
        for name, one in runs.items():
            seconds[name].append(one())
    return seconds


BENCHES: dict[str, Callable[[Bench], list[Row]]] = {"scan": scan, "cmudict": cmudict, "ssru": ssru, "parts": parts}


def main() -> None:
    """Measure what is asked for, print tables and write the JSON."""
    parser = argparse.ArgumentParser(description="What the sequence layers bring on real tasks.")
    parser.add_argument("--data", type=Path, required=True, help="folder of the corpora")
    parser.add_argument("--only", choices=BENCHES, action="append", help="a part; repeat it; all if not given")
    parser.add_argument("--folder", type=Path, default=Path("mixers"), help="where the models go")
    parser.add_argument("--output", type=Path, help="where to write the figures as JSON")
    parser.add_argument(
        "--mixer", choices=SCAN_MIXERS, action="append", help="one of scan; repeat it; all if not given"
    )
    parser.add_argument("--max-steps", type=int, help="updates for every model, in place of what each part says")
    parser.add_argument("--decoder-task", choices=TASKS, default="cmudict", help="what the decoders of ssru learn")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="processor threads")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    bench = Bench(
        data=options.data,
        folder=options.folder,
        mixers=tuple(options.mixer or SCAN_MIXERS),
        max_steps=options.max_steps,
        decoder_task=options.decoder_task,
        threads=options.threads,
        seed=options.seed,
    )
    sys.path.insert(0, str(REPOSITORY))
    import torch

    torch.set_num_threads(options.threads)
    figures: dict[str, object] = {
        "threads": options.threads,
        "seed": options.seed,
        **MACHINE,
    }
    for name in options.only or BENCHES:
        rows = BENCHES[name](bench)
        figures[name] = rows
        show(name, rows)
        if options.output:  # after every part, so that what was measured is there whatever comes
            write_figures(options.output, figures)


if __name__ == "__main__":
    main()
