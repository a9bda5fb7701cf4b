"""A task that a tiny model can be trained on in a second: strings of letters, and the same strings reversed."""

import json
import random
import shlex
from pathlib import Path
from typing import Any

__all__ = ["TINY_MODEL", "TINY_RUN", "metrics_without_times", "reversed_strings", "write_lines", "write_task"]

# Options of `transduce train`: the smallest model and, beside it, a run of 20 steps that validates and saves often.
TINY_MODEL = shlex.split(
    "--tokenizer-kind word --layers 1 --d-model 16 --heads 2 --ffn-dim 16 --precision fp32 --threads 1 --device cpu"
)
TINY_RUN = [
    *TINY_MODEL,
    *shlex.split("--batch-size 100 --max-steps 20 --valid-every 5 --save-every 4 --log-every 3 --lr 0.01"),
]
TIMES = ("tokens_per_second", "elapsed_seconds", "remaining_seconds")


def reversed_strings(
    count: int, *, seed: int = 0, letters: str = "abcdefgh", longest: int = 7
) -> tuple[list[str], list[str]]:
    """Lines of letters with spaces between, and their reversals."""
    source = random.Random(seed)
    rows = [source.choices(letters, k=source.randrange(1, longest + 1)) for _ in range(count)]
    return [" ".join(row) for row in rows], [" ".join(reversed(row)) for row in rows]


def write_lines(path: Path, lines: list[str]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return path


def write_task(folder: Path, count: int = 200, *, seed: int = 0) -> tuple[Path, Path]:
    """Write the two files of the task."""
    sources, targets = reversed_strings(count, seed=seed)
    return write_lines(folder / "train.src", sources), write_lines(folder / "train.tgt", targets)


def metrics_without_times(model: Path) -> list[dict[str, Any]]:
    """The records of metrics.jsonl without what depends on the clock."""
    lines = (model / "metrics.jsonl").read_text(encoding="utf-8").split("\n")[:-1]
    return [{key: value for key, value in json.loads(line).items() if key not in TIMES} for line in lines]
