"""What a large corpus costs: memory while training, and the speed of `transduce prepare`.

    python benchmarks/memory.py [--folder WORK] [--lines 1000000 ...] [--steps 300] [--output memory.json]
    python benchmarks/memory.py --only prepare --data DATA [--repeat 20]

    train      a small model is trained for a few hundred steps on 1, 10 and 50 million lines of generated ids, which
               are written as shards beside a tokenizer that `transduce prepare` learned from a few lines. RssAnon, the
               memory of the process that belongs to no file, is read from /proc/PID/status along the run; so Linux is
               needed. A size that does not fit the disk is left out; a corpus is removed when it has been trained on.
    prepare    multi30k, repeated, with its tokenizer given: lines a second of `transduce prepare` from start to end
               beside the library `tokenizers` alone, which encodes the same lines in batches and throws the ids away,
               with one core and with all, in turn; of each the best of three.

DATA is the folder that holds multi30k/.
"""

import argparse
import json
import os
import random
import shutil
import subprocess
import sys
import time
from importlib import metadata
from itertools import repeat
from pathlib import Path

import numpy as np
from process_memory import memory_of
from quality import REPOSITORY, run
from results_table import MACHINE, Row, show, write_figures

from tokenizer import Tokenizer
from transformer_core.data.encoding import Chunk, EncodedRows, RowEncoder
from transformer_core.data.shards import Part, write_corpus

SHORTEST, LONGEST = 5, 35  # tokens of a side: 20 in the mean
BYTES_A_LINE = 2 * (2 * (SHORTEST + LONGEST) // 2 + 8)  # two sides, ids of 16 bits, an offset
MODEL = [
    "--arch",
    "tiny",
    "--layers",
    "2",
    "--d-model",
    "64",
    "--heads",
    "4",
    "--ffn-dim",
    "128",
    "--batch-size",
    "2048",
]
SAMPLE_EVERY_SECONDS = 0.5
ALONE = """
import sys, time
import tokenizers
library = tokenizers.Tokenizer.from_file(sys.argv[1])
num_lines = 0
for path in sys.argv[2:]:
    with open(path, encoding="utf-8") as file:
        lines = []
        for line in file:
            lines.append(line)
            if len(lines) == 4096:
                num_lines += len(library.encode_batch_fast(lines, add_special_tokens=False))
                lines = []
        num_lines += len(library.encode_batch_fast(lines, add_special_tokens=False))
print(num_lines)
"""


class GeneratedRows(RowEncoder):
    """Gives random ids in place of those of the text."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        super().__init__((tokenizer, tokenizer), LONGEST)
        self.random = np.random.default_rng(1)
        self.vocabulary_size = tokenizer.vocabulary_size

    def encode(self, chunk: Chunk) -> EncodedRows:
        """Make as many rows as there are."""
        lengths = [self.random.integers(SHORTEST, LONGEST, len(chunk.rows), endpoint=True) for _ in range(2)]
        ids = [self.random.integers(5, self.vocabulary_size, side.sum(), dtype=np.uint16) for side in lengths]
        return EncodedRows(
            part=0, ids=list(ids), lengths=lengths, num_read=len(chunk.rows), num_blank=0, num_long=0, num_cut=0
        )


def prepare_small(folder: Path) -> Path:
    """Prepare a few lines of words that nobody speaks, for their tokenizer and their validation text."""
    folder.mkdir(parents=True, exist_ok=True)
    source = random.Random(1)
    words = ["".join(source.choices("abcdefghijklmnopqrstuvwxyz", k=source.randrange(2, 9))) for _ in range(5000)]
    for name in ("small.src", "small.tgt"):
        lines = (" ".join(source.choices(words, k=source.randrange(5, 15))) for _ in range(3000))
        (folder / name).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    prepared = folder / "prepared"
    files = ["-s", str(folder / "small.src"), "-t", str(folder / "small.tgt")]
    run(["prepare", *files, "--valid-size", "100", "--vocab-size", "8000", "-o", str(prepared), "--overwrite"])
    return prepared


def measure_training(folder: Path, num_lines: int, steps: int, threads: int) -> Row | None:
    """Train on so many lines and watch the memory; None if the disk is too small for them."""
    needed, free = num_lines * BYTES_A_LINE, shutil.disk_usage(folder).free
    if free < 1.2 * needed:
        print(
            f"{num_lines:,} lines need {needed / 1e9:.1f} GB, and {free / 1e9:.1f} are free: left out", file=sys.stderr
        )
        return None
    prepared, model = prepare_small(folder), folder / f"model-{num_lines}"
    tokenizer = Tokenizer.load(prepared / "tokenizer.json")
    started_at = time.monotonic()
    corpus = write_corpus(prepared / "train", [Part(repeat(("", ""), num_lines))], GeneratedRows(tokenizer))
    row: Row = {"lines": num_lines, "shards": corpus.num_shards, "writing": time.monotonic() - started_at}
    row["GB"] = sum(path.stat().st_size for path in (prepared / "train").iterdir()) / 1e9
    options = [
        "--data",
        str(prepared),
        "-o",
        str(model),
        *MODEL,
        "--max-steps",
        str(steps),
        "--valid-every",
        str(steps),
    ]
    row |= watch(["train", *options, "--threads", str(threads), "--overwrite", "--log-every", "10"], model, steps)
    shutil.rmtree(prepared)
    return row


def watch(arguments: list[str], model: Path, steps: int) -> Row:
    """Run a training and read its memory along the way."""
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    process = subprocess.Popen([sys.executable, "-m", "cli", *arguments], env=environment)
    started_at = time.monotonic()
    samples: list[tuple[int, dict[str, float]]] = []  # step, megabytes
    first_step_after = 0.0
    while process.poll() is None:
        step = last_step(model)
        if step and not first_step_after:
            first_step_after = time.monotonic() - started_at
        if memory := memory_of(process.pid):
            samples.append((step, memory))
        time.sleep(SAMPLE_EVERY_SECONDS)
    if process.returncode:
        raise SystemExit(f"train ended with code {process.returncode}")
    anonymous = [memory["RssAnon"] for _, memory in samples]
    row: Row = {"seconds": time.monotonic() - started_at, "to step 10": first_step_after}
    for share in (0.25, 0.5, 0.75, 1.0):
        row[f"MB at {share:.0%}"] = max(
            (memory["RssAnon"] for step, memory in samples if step <= share * steps), default=0.0
        )
    return row | {"MB at most": max(anonymous), "MB of files": max(memory["RssFile"] for _, memory in samples)}


def last_step(model: Path) -> int:
    """Say how far the training is by its log."""
    try:
        lines = (model / "metrics.jsonl").read_text(encoding="utf-8").split("\n")[:-1]
    except OSError:
        return 0
    return int(json.loads(lines[-1])["step"]) if lines else 0


def measure_preparation(data: Path, folder: Path, times: int) -> list[Row]:
    """Time `prepare` and the library alone on the same lines."""
    folder.mkdir(parents=True, exist_ok=True)
    raw = data / "multi30k" / "raw"
    files = [folder / "repeated.en", folder / "repeated.de"]
    for path in files:
        text = (raw / f"train{path.suffix}").read_bytes()
        path.write_bytes(text * times)
    num_lines = sum(path.read_bytes().count(b"\n") for path in files)
    tokenizer = folder / "joint.json"
    if not tokenizer.exists():
        texts = [word for side in ("en", "de") for word in ("-i", str(raw / f"train.{side}"))]
        run(["tokenizer", "train", *texts, "-o", str(tokenizer), "--vocab-size", "10000"])
    valid = ["--valid-src", str(raw / "val.en"), "--valid-tgt", str(raw / "val.de")]
    pairs = ["-s", str(files[0]), "-t", str(files[1]), *valid, "--tokenizer", str(tokenizer)]
    rows = []
    for threads in dict.fromkeys((1, os.cpu_count() or 1)):
        seconds: dict[str, list[float]] = {"tokenizers alone": [], "transduce prepare": []}
        for _ in range(3):
            started_at = time.monotonic()
            command = [sys.executable, "-c", ALONE, str(tokenizer), *map(str, files)]
            environment = {**os.environ, "RAYON_NUM_THREADS": str(threads)}
            subprocess.run(command, check=True, env=environment, stdout=subprocess.DEVNULL)
            seconds["tokenizers alone"].append(time.monotonic() - started_at)
            options = ["-o", str(folder / "prepared-text"), "--threads", str(threads), "--overwrite"]
            seconds["transduce prepare"].append(run(["prepare", *pairs, *options])[1])
        alone = min(seconds["tokenizers alone"])
        for name, values in seconds.items():
            best = min(values)
            rows.append(
                {"what": name, "cores": threads, "lines/s": num_lines / best, "seconds": best, "of alone": alone / best}
            )
    return rows


def main() -> None:
    """Measure what is asked for, print tables and write the JSON."""
    parser = argparse.ArgumentParser(description="What a large corpus costs.")
    parser.add_argument("--only", choices=("train", "prepare"), help="one part; both if not given")
    parser.add_argument("--data", type=Path, help="folder of the corpora, for prepare")
    parser.add_argument("--folder", type=Path, default=Path("memory"), help="where corpora and models go")
    parser.add_argument(
        "--lines", type=int, action="append", help="lines of a corpus; repeat it; 1, 10 and 50 million if not given"
    )
    parser.add_argument("--steps", type=int, default=300, help="updates on each corpus")
    parser.add_argument("--repeat", type=int, default=20, help="how often multi30k is repeated")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="processor threads of training")
    parser.add_argument("--output", type=Path, help="where to write the figures as JSON")
    options = parser.parse_args()
    if options.data is None and options.only != "train":
        parser.error("prepare needs --data; --only train does without")
    figures: dict[str, object] = {
        "threads": options.threads,
        **MACHINE,
        "tokenizers": metadata.version("tokenizers"),
    }
    if options.only != "prepare":
        options.folder.mkdir(parents=True, exist_ok=True)
        sizes = options.lines or (1_000_000, 10_000_000, 50_000_000)
        found = (measure_training(options.folder, size, options.steps, options.threads) for size in sizes)
        rows = [row for row in found if row is not None]
        figures["train"] = rows
        show(f"RssAnon while training, {options.steps} steps", rows)
    if options.only != "train":
        rows = measure_preparation(options.data, options.folder, options.repeat)
        figures["prepare"] = rows
        show("lines a second, both sides counted", rows)
    if options.output:
        write_figures(options.output, figures)


if __name__ == "__main__":
    main()
