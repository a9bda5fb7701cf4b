"""What is compared: the mixers of the table, and what is asked of the comparison. Imports no torch."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, get_args

from transformer_core.config import PRESETS, Mixer, ModelConfig, StackConfig
from transformer_core.errors import ConfigError
from transformer_core.evaluation.metrics import MetricName
from transformer_core.training.config import TrainingConfig

__all__ = [
    "DEFAULT_MINUTES",
    "MIXER_NAMES",
    "UNSCALED",
    "CompareConfig",
    "MixerName",
    "TrainingComparison",
    "is_forward_only",
    "model_config_of",
    "stacks_of",
]

# A bidirectional recurrence is another row than one that reads forward only.
MixerName = Literal["attention", "gru", "bigru", "lstm", "bilstm", "ssru", "conv"]
MIXER_NAMES: tuple[MixerName, ...] = get_args(MixerName)
UNSCALED = "unscaled"  # attention once more, without its division by √d_head: trained, not measured
SHORTEST = 16  # positions of the shortest sequence that is measured
DEFAULT_MINUTES = 5.0
NUM_TOKENS = 8  # of a vocabulary where none is needed


@dataclass(frozen=True, kw_only=True)
class TrainingComparison:
    """What is trained, on which text and for how long: the same for every mixer."""

    folder: Path  # one model folder per mixer goes there
    train_src: tuple[Path, ...] = ()  # both sides are needed: DataConfig says so
    train_tgt: tuple[Path, ...] = ()
    valid_src: tuple[Path, ...] = ()  # empty: some training pairs are held back
    valid_tgt: tuple[Path, ...] = ()
    tokenizer: Path | None = None  # joint; None: one is learned from the training pairs
    minutes: float | None = None  # of training, for each; None with max_steps, or DEFAULT_MINUTES
    max_steps: int | None = None  # updates, for each
    metrics: tuple[MetricName, ...] = ("exact", "bleu")  # of the translations of the validation pairs
    batch_size: int | None = None  # tokens; None follows from the data
    dropout: float | None = None  # None follows from the data
    overwrite: bool = False  # start anew where an earlier comparison was
    command: str = ""  # how it was started, for each model's metadata.json

    def __post_init__(self) -> None:
        if self.minutes is not None and self.max_steps is not None:
            raise ConfigError("--minutes is equal time, --max-steps equal updates; give one of them")
        if self.minutes is not None and not 0 < self.minutes < float("inf"):
            raise ConfigError(f"minutes ({self.minutes}) must be above 0")
        if not self.metrics:
            raise ConfigError("there must be a metric to tell translations apart")

    @property
    def budget_minutes(self) -> float | None:
        """How long each is trained; None where the number of updates is fixed."""
        return (self.minutes or DEFAULT_MINUTES) if self.max_steps is None else None


@dataclass(frozen=True, kw_only=True)
class CompareConfig:
    """What is asked of the comparison."""

    mixers: tuple[MixerName, ...] = MIXER_NAMES  # rows of the table
    stack: StackConfig = PRESETS["tiny"]  # width, heads, depth and kernel width; its mixer does not matter
    max_length: int = 4096  # positions of the longest sequence that is measured; the formulas are evaluated there
    seed: int = TrainingConfig.seed  # start of every random choice
    device: str = TrainingConfig.device  # auto, cpu, cuda, cuda:N, mps
    threads: int | None = TrainingConfig.threads  # processor threads; None: as many as cores
    training: TrainingComparison | None = None  # None: nothing is trained

    def __post_init__(self) -> None:
        if not self.mixers or len(set(self.mixers)) < len(self.mixers) or not set(self.mixers) <= set(MIXER_NAMES):
            raise ConfigError(f"mixers must be some of {', '.join(MIXER_NAMES)}, each once")
        if self.max_length < 2 * SHORTEST:
            raise ConfigError(
                f"max_length ({self.max_length}) must be at least {2 * SHORTEST}: lengths are {SHORTEST}, "
                f"{2 * SHORTEST}, and so on, and two are needed to see how cost grows"
            )
        for mixer in MIXER_NAMES:  # all, because the largest decides how wide the others are made
            model_config_of(mixer, self.stack)

    @property
    def lengths(self) -> tuple[int, ...]:
        """The lengths that are measured: powers of 2."""
        return tuple(SHORTEST << power for power in range((self.max_length // SHORTEST).bit_length()))


def is_forward_only(mixer: MixerName) -> bool:
    """Tell whether no encoder can be made of a mixer: it only ever reads forward."""
    return mixer == "ssru"


def stacks_of(mixer: MixerName, stack: StackConfig) -> tuple[StackConfig, StackConfig]:
    """Encoder and decoder of the model that has this mixer.

    A decoder reads forward whatever the encoder does. The SSRU has one direction, so the encoder beside it is
    attention, as in Kim et al. 2019.
    """
    kind: Mixer
    match mixer:
        case "bigru":
            kind = "gru"
        case "bilstm":
            kind = "lstm"
        case _:
            kind = mixer
    decoder = replace(stack, mixer=kind, bidirectional=mixer in ("bigru", "bilstm"))
    return replace(decoder, mixer="attention") if is_forward_only(mixer) else decoder, decoder


def model_config_of(mixer: MixerName, stack: StackConfig) -> ModelConfig:
    """The architecture of that model, over a vocabulary that hardly counts.

    Raises:
        ConfigError: the mixer cannot have these sizes.
    """
    encoder, decoder = stacks_of(mixer, stack)
    return ModelConfig(
        source_vocabulary_size=NUM_TOKENS,
        target_vocabulary_size=NUM_TOKENS,
        pad_id=0,
        bos_id=1,
        eos_id=2,
        encoder=encoder,
        decoder=decoder,
        dropout=0.0,
    )
