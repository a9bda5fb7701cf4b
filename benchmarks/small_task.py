"""A small model and lines for it, made in a minute: for benchmarks that ask what holds, not how well it translates."""

import random
from pathlib import Path

from quality import run

__all__ = ["train_small", "training_arguments", "write_text"]

LETTERS = "abcdefghijklmnop"
SIZE = "--tokenizer-kind word --layers 1 --d-model 32 --heads 2 --ffn-dim 64 --precision fp32 --device cpu --threads 1"


def write_text(path: Path, num_lines: int, *, longest: int = 8, seed: int = 1) -> Path:
    """Write lines of letters with spaces between."""
    source = random.Random(seed)
    lines = (" ".join(source.choices(LETTERS, k=source.randrange(1, longest + 1))) for _ in range(num_lines))
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return path


def training_arguments(folder: Path, num_pairs: int, steps: int) -> list[str]:
    """Write pairs, a line and its reversal; give what trains a small model on them, all but where it goes."""
    source, target = write_text(folder / "train.src", num_pairs), folder / "train.tgt"
    lines = source.read_text(encoding="utf-8").splitlines()
    target.write_text("".join(f"{' '.join(reversed(line.split()))}\n" for line in lines), encoding="utf-8")
    often = ["--valid-every", str(max(1, steps // 20)), "--save-every", str(max(1, steps // 40)), "--patience", "0"]
    pairs = ["train", "-s", str(source), "-t", str(target), *SIZE.split(), "--batch-size", "512"]
    return [*pairs, "--lr", "0.003", "--max-steps", str(steps), *often]


def train_small(folder: Path) -> Path:
    """Train such a model, unless it is there."""
    folder.mkdir(parents=True, exist_ok=True)
    run([*training_arguments(folder, 5000, 300), "-q", "-o", str(folder / "model")])
    return folder / "model"
