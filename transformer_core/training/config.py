"""TrainingConfig: how a model is trained. Imports no torch, so that the command line can offer the defaults."""

from collections.abc import Collection
from dataclasses import dataclass, fields, replace
from typing import Literal, Self, get_args

from transformer_core.errors import ConfigError

__all__ = [
    "MAX_SEED",
    "BatchType",
    "Metric",
    "OptimizerName",
    "Precision",
    "PretrainingMetric",
    "Schedule",
    "TrainingConfig",
    "TranslationMetric",
]

Schedule = Literal["auto", "inverse-sqrt", "cosine", "linear", "wsd", "constant"]
TranslationMetric = Literal["loss", "bleu", "chrf", "wer", "cer", "exact"]
PretrainingMetric = Literal["loss", "accuracy"]
Metric = TranslationMetric | PretrainingMetric
MAX_SEED = 2**32 - 1  # what is made of it and of a step fits torch's 64 bits
METRICS = tuple(dict.fromkeys((*get_args(TranslationMetric), *get_args(PretrainingMetric))))
BatchType = Literal["tokens", "sentences"]
OptimizerName = Literal["auto", "adamw", "muon"]
Precision = Literal["auto", "fp32", "bf16", "fp16"]


@dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """How a model is trained; what is None follows from the data (experiments/recipe.py)."""

    batch_size: int | None = None  # size of a micro-batch in units of batch_type
    batch_type: BatchType = "tokens"  # tokens: padded tokens of the longer side; sentences: pairs
    accumulate: int = 1  # micro-batches of each process summed into one update
    batch_warmup_steps: int = 0  # updates in which the micro-batches of an update rise from 1 to all
    fsdp: bool = False  # in a job of several processes: split weights and optimizer over them
    learning_rate: float | None = None  # the schedule's peak
    lr_schedule: Schedule = "auto"  # how the rate falls after the warm-up
    warmup_steps: int | None = None  # updates in which the rate rises from 0 to its peak
    optimizer: OptimizerName = "auto"  # of the matrices inside the layers; all other weights are AdamW's
    embedding_lr_factor: float | None = None  # rate of embeddings, norms and biases in multiples of learning_rate
    momentum: float = 0.95  # Muon: decay of the mean of the gradients
    beta1: float = 0.9  # AdamW: decay of the mean of the gradients
    beta2: float = 0.98  # AdamW: decay of the mean of their squares
    weight_decay: float = 0.0  # decay of matrices and embeddings per unit of learning rate
    label_smoothing: float = 0.1  # share of the target distribution spread over the vocabulary
    r_drop: float = (
        0.0  # translation: weight (alpha) that draws two passes with different dropout together; 0: one pass
    )
    final_dropout: float | None = None  # the model's dropout goes there in a line over max_steps; None: it stays
    ema_decay: float = 0.0  # of the moving average of the weights that is validated and kept; 0: the weights are
    clip_norm: float = 1.0  # gradients longer than this are scaled down to it; 0 leaves them
    max_steps: int | None = None  # updates; with cosine, linear and wsd the rate reaches 0 there
    max_epochs: int | None = None  # passes over the data
    max_time: float | None = None  # minutes; stops the run, never shapes weights or schedule; go on by the same command
    metric: Metric = "loss"  # what selects the best weights, on the validation pairs
    patience: int = 10  # validations without a better value before training stops; 0 never stops
    valid_every: int | None = None  # updates between validations
    valid_beam_size: int = 1  # beam for the metrics that need a translation
    save_every: int | None = None  # updates between checkpoints; None: valid_every
    keep_last: int = 3  # checkpoints kept
    average_last: int = 5  # snapshots, one per validation, whose mean is tried as the final weights; 0 tries none
    log_every: int = 50  # updates between log lines
    seed: int = 1  # start of every random choice
    precision: Precision = "auto"  # of the matrix products; auto: bf16 where the device has it, else fp16 on a GPU
    device: str = "auto"  # auto, cpu, cuda, cuda:N, mps
    threads: int | None = None  # processor threads; None: as many as cores

    def __post_init__(self) -> None:
        for name, choices in (
            ("batch_type", get_args(BatchType)),
            ("lr_schedule", get_args(Schedule)),
            ("metric", METRICS),
            ("optimizer", get_args(OptimizerName)),
            ("precision", get_args(Precision)),
        ):
            _require_choice(name, getattr(self, name), choices)
        at_least = {
            **dict.fromkeys(("batch_size", "accumulate", "keep_last", "log_every", "valid_beam_size"), 1),
            **dict.fromkeys(("max_steps", "max_epochs", "valid_every", "save_every", "threads"), 1),
            **dict.fromkeys(
                (
                    "warmup_steps",
                    "batch_warmup_steps",
                    "patience",
                    "average_last",
                    "seed",
                    "weight_decay",
                    "clip_norm",
                    "r_drop",
                ),
                0,
            ),
        }
        for name, low in at_least.items():
            value = getattr(self, name)
            if value is not None and not value >= low:
                raise ConfigError(f"{name} ({value}) must be at least {low}")
        if self.seed > MAX_SEED:
            raise ConfigError(f"seed ({self.seed}) must be at most {MAX_SEED}")
        for name in ("momentum", "beta1", "beta2", "label_smoothing", "final_dropout", "ema_decay"):
            value = getattr(self, name)
            if value is not None and not 0 <= value < 1:
                raise ConfigError(f"{name} ({value}) must be at least 0 and below 1")
        for name in ("learning_rate", "embedding_lr_factor", "max_time"):
            value = getattr(self, name)
            if value is not None and not 0 < value < float("inf"):
                raise ConfigError(f"{name} ({value}) must be above 0")

        if self.fsdp and self.precision == "fp16":
            raise ConfigError("fsdp goes with bf16 or fp32: the factor that fp16 needs is not split")

    def completed(self, **values: object) -> Self:
        """Fill fields that are None; a field that has a value keeps it."""
        known = {item.name for item in fields(self)}
        assert known >= set(values), f"no such fields: {set(values) - known}"
        return replace(self, **{name: value for name, value in values.items() if getattr(self, name) is None})  # type: ignore[arg-type]


def _require_choice(name: str, value: str, choices: Collection[str]) -> None:
    """See that a value is one of a few.

    Raises:
        ConfigError: it is not.
    """
    if value not in choices:
        raise ConfigError(f"{name} ({value!r}) must be one of {', '.join(choices)}")
