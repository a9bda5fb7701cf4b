"""The tools that training_speed.py sets side by side: their commands, their configurations, and what their logs say.

All train the same model on the same pairs in batches of as many tokens. What differs, because it has no option:

- eole 0.6.4: dropout also inside the feed-forward; a pair whose source is in the batch already is left out.
- JoeyNMT 2.3.0: dropout also inside the feed-forward and of attention weights; batches of pairs of any lengths, and
  none in bf16 on a processor.
"""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Literal

from benchmarks.flops import ModelSizes
from benchmarks.timed_run import Line

__all__ = [
    "Precision",
    "Setting",
    "ToolName",
    "count_parameters",
    "count_target_tokens",
    "eole_config",
    "joeynmt_config",
    "transduce_arguments",
    "window",
]

ToolName = Literal["transduce", "eole", "joeynmt"]
Precision = Literal["fp32", "bf16"]

DROPOUT, LABEL_SMOOTHING, CLIP_NORM = 0.3, 0.1, 1.0  # what `transduce train` chooses for so few pairs
BETAS, LEARNING_RATE = (0.9, 0.98), 0.001  # the rate does not change the speed

# The number of updates in a line of progress.
STEP = {
    "transduce": re.compile(r"^step (\d+)/"),
    "eole": re.compile(r" Step +(\d+)/"),
    "joeynmt": re.compile(r"Step: +(\d+),"),
}
PARAMETERS = {
    "transduce": re.compile(r"^([\d,]+) parameters,"),
    "eole": re.compile(r"\* number of parameters: (\d+)"),
    "joeynmt": re.compile(r"Total params: (\d+)"),
}
EOLE_BATCH = re.compile(r"bsz: +\d+/ *(\d+)/")  # source tokens, target tokens, sentences of a batch
JOEYNMT_RATE = re.compile(r"Epoch +(\d+),.*Tokens per Sec: +(\d+),")


@dataclass(frozen=True)
class Setting:
    """What is trained, and how long."""

    train: tuple[Path, Path]  # text, source and target
    valid: tuple[Path, Path]
    tokenizer: Path
    tokens: Path  # what the tokenizer makes of the text: this name with .en and .de
    vocabulary: Path  # its entries, one a line, without the special ones
    num_pairs: int
    sizes: ModelSizes
    batch_size: int  # tokens of the longer side, padding included
    warmup: int  # updates before the window; there are log lines as often
    updates: int  # of the window
    seed: int

    @property
    def max_steps(self) -> int:
        """Updates of a run."""
        return self.warmup + self.updates


def transduce_arguments(setting: Setting, folder: Path, precision: Precision, options: Sequence[str]) -> list[str]:
    """The command, without its first word; sizes, dropout, smoothing and clipping are what it chooses by itself."""
    return [
        *("train", "-s", str(setting.train[0]), "-t", str(setting.train[1])),
        *("--valid-src", str(setting.valid[0]), "--valid-tgt", str(setting.valid[1])),
        *("--tokenizer", str(setting.tokenizer), "-o", str(folder), "--arch", "tiny"),
        *("--positions", "sinusoidal"),  # as the others have
        *("--batch-size", str(setting.batch_size), "--precision", precision, "--threads", "1"),
        # validation and checkpoint come after the window
        *("--max-steps", str(setting.max_steps), "--valid-every", str(setting.max_steps), "--average-last", "0"),
        *("--log-every", str(setting.warmup), "--seed", str(setting.seed), "--optimizer", "adamw", *options),
    ]


def eole_config(setting: Setting, folder: Path, precision: Precision) -> dict[str, object]:
    """The configuration file; with what eole logs by default, the entropy of attention, it would be slower."""
    sizes = setting.sizes
    return {
        "seed": setting.seed,
        "report_every": setting.warmup,
        "share_vocab": True,
        "src_vocab": str(setting.vocabulary),
        "vocab_size_multiple": 1,
        "data": {"train": {"path_src": f"{setting.tokens}.en", "path_tgt": f"{setting.tokens}.de"}},
        "model": {
            "architecture": "transformer",
            "layers": sizes.num_layers,
            "heads": sizes.num_heads,
            "hidden_size": sizes.d_model,
            "transformer_ff": sizes.d_ff,
            "embeddings": {"word_vec_size": sizes.d_model, "position_encoding_type": "SinusoidalInterleaved"},
            "share_embeddings": True,
            "share_decoder_embeddings": True,
            "generator_bias": False,
            "add_qkvbias": True,
            "add_final_linear_bias": True,
            "add_ffnbias": True,
        },
        "training": {
            "model_path": str(folder),
            "train_steps": setting.max_steps,
            "save_checkpoint_steps": 0,
            "batch_type": "tokens",
            "batch_size": setting.batch_size,
            "batch_size_multiple": 1,
            "bucket_size": setting.num_pairs,  # similar lengths are sought among all pairs
            "num_workers": 0,
            "compute_dtype": precision,
            "normalization": "tokens",
            "optim": "adam",
            "adam_beta1": BETAS[0],
            "adam_beta2": BETAS[1],
            "learning_rate": LEARNING_RATE,
            "max_grad_norm": CLIP_NORM,
            "label_smoothing": LABEL_SMOOTHING,
            "param_init_method": "xavier_uniform",
            "dropout": [DROPOUT],
            "attention_dropout": [0.0],
            "log_attention_entropy": False,
        },
    }


def joeynmt_config(setting: Setting, folder: Path) -> dict[str, object]:
    """The configuration file."""
    sizes = setting.sizes
    language = {"level": "word", "lowercase": False, "voc_file": str(setting.vocabulary)}
    stack = {
        "type": "transformer",
        "num_layers": sizes.num_layers,
        "num_heads": sizes.num_heads,
        "hidden_size": sizes.d_model,
        "ff_size": sizes.d_ff,
        "dropout": DROPOUT,
        "layer_norm": "pre",
        "embeddings": {"embedding_dim": sizes.d_model, "scale": True, "dropout": DROPOUT},
    }
    return {
        "name": "training_speed",
        "model_dir": str(folder),
        "use_cuda": False,
        "random_seed": setting.seed,
        "data": {
            "train": str(setting.tokens),
            "dev": str(setting.tokens),  # has to be there; no validation comes
            "dataset_type": "plain",
            "src": {"lang": "en", **language},
            "trg": {"lang": "de", **language},
        },
        "testing": {"beam_size": 1},
        "training": {
            "optimizer": "adam",
            "adam_betas": BETAS,
            "learning_rate": LEARNING_RATE,
            "learning_rate_min": 0.0,
            "scheduling": "warmupinversesquareroot",  # without one it does not start
            "clip_grad_norm": CLIP_NORM,
            "label_smoothing": LABEL_SMOOTHING,
            "normalization": "tokens",
            "batch_size": setting.batch_size,
            "batch_type": "token",
            "epochs": setting.max_steps,  # the updates end it
            "updates": setting.max_steps,
            "logging_freq": setting.warmup,
            "validation_freq": 1000 * setting.warmup,
            "shuffle": True,
        },
        "model": {
            "initializer": "xavier_uniform",
            "embed_initializer": "xavier_uniform",
            "bias_initializer": "zeros",
            "tied_embeddings": True,
            "tied_softmax": True,
            "encoder": stack,
            "decoder": stack,
        },
    }


def count_parameters(tool: ToolName, lines: Sequence[Line]) -> int:
    """Find in the log how many parameters the model has."""
    for line in lines:
        if found := PARAMETERS[tool].search(line.text):
            return int(found[1].replace(",", ""))
    raise RuntimeError(f"{tool} does not say how many parameters its model has")


def window(tool: ToolName, lines: Sequence[Line], first: int, last: int) -> list[Line]:
    """Choose the lines of progress from update `first` to update `last`, both of which there must be."""
    found = [(int(match[1]), line) for line in lines if (match := STEP[tool].search(line.text))]
    chosen = [(step, line) for step, line in found if first <= step <= last]
    if len(chosen) < 2 or (chosen[0][0], chosen[-1][0]) != (first, last):
        raise RuntimeError(f"{tool} reports the updates {[step for step, _ in found]}, not {first} and {last}")
    return [line for _, line in chosen]


def count_target_tokens(tool: ToolName, lines: Sequence[Line], folder: Path) -> float:
    """Count the target tokens, without padding and with end tokens, that were learned from in a window.

    Args:
        tool: whose log it is.
        lines: those of the window; the first one is where it begins.
        folder: where the model went.
    """
    steps = [int(match[1]) for line in lines if (match := STEP[tool].search(line.text))]
    match tool:
        case "transduce":  # to the token
            text = (folder / "metrics.jsonl").read_text(encoding="utf-8")
            records = [json.loads(line) for line in text.split("\n")[:-1]]
            counts = {record["step"]: record["num_target_tokens"] for record in records if record["type"] == "step"}
            return float(counts[steps[-1]] - counts[steps[0]])
        case "eole":  # to half a token of each update: the mean of a batch, rounded
            means = [int(EOLE_BATCH.findall(line.text)[0]) for line in lines[1:]]
            return float(sum(mean * (end - begin) for mean, (begin, end) in zip(means, pairwise(steps), strict=True)))
        case "joeynmt":  # to about a thousandth: tokens a second, rounded, and the seconds between two lines
            rates = [JOEYNMT_RATE.findall(line.text)[0] for line in lines]
            if len({epoch for epoch, _ in rates}) > 1:
                raise RuntimeError("the window leaves JoeyNMT's first epoch, whose last tokens it does not log")
            seconds = [end.wall_seconds - begin.wall_seconds for begin, end in pairwise(lines)]
            return float(sum(int(rate) * passed for (_, rate), passed in zip(rates[1:], seconds, strict=True)))
