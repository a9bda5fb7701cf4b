"""What `demo` says: how good the model is, what became of some unseen items, and how to do it all by hand."""

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from cli.console import PROGRAM
from cli.text_table import columns
from transformer_core.experiments.config import ArchitectureConfig
from transformer_core.experiments.training_file import option_values
from transformer_core.training.config import TrainingConfig

if TYPE_CHECKING:
    from transformer_core.experiments.demo import Demo, DemoResult
    from transformer_core.experiments.demo_data import DemoTask

__all__ = ["commands", "examples", "scores"]

NUM_EXAMPLES = 10
COMMAND_WIDTH = 94  # and 2 to indent it and 2 for a backslash
ITEM_NAMES: "dict[DemoTask, str]" = {"pronounce": "word", "dates": "date"}
METRIC_NAMES = {"exact": "exact match", "wer": "phone error rate (WER)", "cer": "character error rate (CER)"}


def scores(demo: "Demo", result: "DemoResult") -> list[str]:
    """Give a table of the scores, and below it what it takes to reproduce them."""
    header = [f"{len(result.sources):,} {ITEM_NAMES[demo.data.task]}s that training never saw", ""]
    rows = [[METRIC_NAMES[score.name], f"{score.text()} %"] for score in result.scores]
    if demo.data.num_references > 1:
        header = [header[0], "any listed", "the first alone"]
        rows = [[*row, f"{first.text()} %"] for row, first in zip(rows, result.first_scores, strict=True)]
    training = demo.run.training
    made = f"{result.num_parameters:,} parameters after {training.max_steps:,} steps, seed {training.seed}"
    signatures = [[score.label, score.signature] for score in result.scores]
    return [
        *columns([header, *rows], num_left=1),
        "",
        f"{made}; {result.search}",
        *columns(signatures),
    ]


def examples(demo: "Demo", result: "DemoResult") -> list[str]:
    """Give a table of the first test items: what the model says, whether it is right, and the truth."""
    rows = [[ITEM_NAMES[demo.data.task], "the model says", "", "right is"]]
    for index in range(min(NUM_EXAMPLES, len(result.sources))):
        said = result.hypotheses[index]
        truth = list(dict.fromkeys(lines[index] for lines in result.references))
        rows.append([result.sources[index], said, "✓" if said in truth else "✗", " | ".join(truth)])
    return columns(rows)


def commands(demo: "Demo") -> list[str]:
    """Give the commands that do the same with the data of the demo."""
    data, run, hypotheses = demo.data, demo.run, demo.hypotheses_path
    lines: list[list[str | Path]] = []
    for item in demo.tokenizers:
        kind = ["--kind", item.config.kind, *(["--lowercase"] if item.config.lowercase else [])]
        lines.append(["tokenizer", "train", "-i", item.text_path, "-o", item.path, *kind])
    pairs: list[str | Path] = ["-s", data.source_path("train"), "-t", data.target_path("train")]
    pairs += ["--valid-src", data.source_path("valid"), "--valid-tgt", data.target_path("valid")]
    source, target = demo.tokenizers
    pairs += ["--source-tokenizer", source.path, "--target-tokenizer", target.path]
    lines.append(["train", *pairs, "-o", run.folder, *_flags(run.architecture, run.training)])
    device = ["--device", run.training.device] if run.training.device != TrainingConfig.device else []
    translate: list[str | Path] = ["translate", "-m", run.folder, *device]
    lines.append([*translate, "-i", data.source_path("test"), "-o", hypotheses])
    metrics = [word for name in demo.metrics for word in ("-m", name)]
    references = data.reference_paths()
    for files in [references, references[:1]] if len(references) > 1 else [references]:
        lines.append(["evaluate", *files, "-i", hypotheses, *metrics])
    return [*map(_command, lines), f"{shlex.join(['echo', demo.example])} | {_command(translate)}"]


def _flags(architecture: ArchitectureConfig, training: TrainingConfig) -> list[str]:
    """Spell what differs from the defaults of `train`."""
    defaults = option_values(ArchitectureConfig(), TrainingConfig())
    return [
        word
        for name, value in option_values(architecture, training).items()
        if defaults.get(name) != value
        for word in (f"--{name.replace('_', '-')}", str(value))
    ]


def _command(words: Sequence[str | Path]) -> str:
    """Spell a command as a shell reads it, on lines that fit the screen, an option on one line with its value."""
    quoted = [shlex.quote(str(word)) for word in words]
    lines = [PROGRAM]
    for word, following in zip(quoted, [*quoted[1:], ""], strict=True):
        width = len(lines[-1]) + 1 + len(word) + (1 + len(following) if word.startswith("-") else 0)
        if width > COMMAND_WIDTH:
            lines[-1] += " \\"
            lines.append(f"    {word}")
        else:
            lines[-1] += f" {word}"
    return "\n".join(lines)
