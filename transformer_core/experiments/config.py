"""What a training run is made of: the data, the architecture asked for, and TrainingConfig. Imports no torch."""

from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, ClassVar, Literal, Self, get_args

from tokenizer.config import Kind, TokenizerConfig
from transformer_core.config import (
    PRESETS,
    Activation,
    DecoderMixer,
    EncoderMixer,
    FeedForwardKind,
    ModelConfig,
    NormKind,
    Positions,
    SinusoidForm,
    StackConfig,
    TieEmbeddings,
)
from transformer_core.errors import ConfigError
from transformer_core.training.adaptation_config import AdaptationConfig
from transformer_core.training.config import PretrainingMetric, TrainingConfig, TranslationMetric

__all__ = [
    "PREPARED_FILE",
    "PRETRAINING_DEFAULTS",
    "ArchitectureConfig",
    "DataConfig",
    "NormPlace",
    "ObjectiveName",
    "PretrainingConfig",
    "RawTextConfig",
    "TrainingRun",
]

NormPlace = Literal["first", "last"]
ObjectiveName = Literal["masked", "denoising"]

PREPARED_FILE = "prepared.json"  # in a folder of `transduce prepare`: what the folder holds

# What differs when a model is pretrained: the probabilities of `fill` are worth more where nothing smooths them.
PRETRAINING_DEFAULTS = TrainingConfig(label_smoothing=0.0)


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Which pairs a model learns from, and how they become tokens."""

    unit: ClassVar[str] = "pairs"  # what a row is

    prepared: Path | None = None  # a folder of `transduce prepare`: in place of text, tokenizers and tags
    train_src: tuple[Path, ...] = ()  # source sides, line by line beside the target sides
    train_tgt: tuple[Path, ...] = ()
    valid_src: tuple[Path, ...] = ()  # validation pairs; empty: some training pairs are held back
    valid_tgt: tuple[Path, ...] = ()
    valid_size: int | None = None  # pairs held back; None: a twentieth, at most 1000
    tokenizer: Path | None = None  # joint tokenizer; None: one is learned from the training pairs
    source_tokenizer: Path | None = None  # or one for each side
    target_tokenizer: Path | None = None
    tokenizer_kind: Kind = TokenizerConfig.kind  # of the tokenizer that is learned
    vocabulary_size: int | None = None  # of the tokenizer that is learned; None follows from the data
    max_length: int = 256  # tokens a side of a training pair may have; longer pairs are dropped and counted
    bpe_dropout: float = 0.0  # share of the merges left out whenever a training pair is seen
    errors: Literal["strict", "replace"] = "strict"  # what bytes that are not UTF-8 do
    weights: tuple[float, ...] = ()  # share of the batches that each pair of training files has; (): as large as it is
    tags: tuple[str, ...] = ()  # what the sources of each pair of files, for training and for validation, begin with

    def __post_init__(self) -> None:
        _check_weights(self.weights, len(self.train_src) or len(self.weights), "pair of training files")
        if not 0 <= self.bpe_dropout < 1:
            raise ConfigError(f"bpe_dropout ({self.bpe_dropout}) must be at least 0 and below 1")
        if self.prepared is None:
            self._check_text()
        else:
            _refuse_text(self)

    def _check_text(self) -> None:
        if not self.train_src or not self.train_tgt:
            raise ConfigError("training needs both sides: --train-src FILE and --train-tgt FILE; or --data FOLDER")
        if len(self.train_src) != len(self.train_tgt):
            raise ConfigError(f"there are {len(self.train_src)} source files and {len(self.train_tgt)} target files")
        if len(self.valid_src) != len(self.valid_tgt):
            raise ConfigError(
                f"validation has {len(self.valid_src)} source files and {len(self.valid_tgt)} target files; "
                "give --valid-src and --valid-tgt equally often"
            )
        if (self.source_tokenizer is None) != (self.target_tokenizer is None):
            raise ConfigError("--source-tokenizer and --target-tokenizer go together")
        if self.tokenizer is not None and self.source_tokenizer is not None:
            raise ConfigError("give --tokenizer (joint), or --source-tokenizer and --target-tokenizer, not both")
        if self.valid_src and self.valid_size is not None:
            raise ConfigError("--valid-size holds training pairs back; with --valid-src nothing is held back")
        if self.tags and not len(self.valid_src) <= len(self.tags) == len(self.train_src):
            raise ConfigError(
                f"there are {len(self.tags)} tags, {len(self.train_src)} pairs of training files and "
                f"{len(self.valid_src)} of validation files; give --tag once for each pair of training files, in the "
                "same order, and validation files of the first of them, or of all"
            )
        if self.max_length < 1 or (self.valid_size is not None and self.valid_size < 1):
            raise ConfigError("--max-length and --valid-size must be at least 1")

    @property
    def files(self) -> dict[str, tuple[Path, ...]]:
        """All files, by the names of their options."""
        if self.prepared is not None:
            return {"data": (self.prepared / PREPARED_FILE,)}
        return {name: getattr(self, name) for name in ("train_src", "train_tgt", "valid_src", "valid_tgt")}

    @property
    def training_columns(self) -> tuple[tuple[Path, ...], ...]:
        """The files to train on: for each column of a row one after the other."""
        return self.train_src, self.train_tgt

    @property
    def validation_columns(self) -> tuple[tuple[Path, ...], ...]:
        """The files to validate with; none in a column where some training rows are held back."""
        return self.valid_src, self.valid_tgt


@dataclass(frozen=True, kw_only=True)
class RawTextConfig:
    """Which raw text a model is pretrained on, and how it becomes tokens; the counterpart of DataConfig."""

    unit: ClassVar[str] = "lines"

    prepared: Path | None = None  # as of DataConfig
    input: tuple[Path, ...] = ()  # lines, each by itself
    valid: tuple[Path, ...] = ()  # validation lines; empty: some training lines are held back
    valid_size: int | None = None  # lines held back; None: a twentieth, at most 1000
    tokenizer: Path | None = None  # None: one is learned from the text
    tokenizer_kind: Kind = TokenizerConfig.kind  # of the tokenizer that is learned
    vocabulary_size: int | None = None  # of the tokenizer that is learned; None follows from the data
    max_length: int = DataConfig.max_length  # tokens a line may have; longer ones are cut into pieces and counted
    errors: Literal["strict", "replace"] = DataConfig.errors  # what bytes that are not UTF-8 do
    weights: tuple[float, ...] = ()  # share of the batches that each file has; (): as large as it is
    tags: ClassVar[tuple[str, ...]] = ()  # raw text has none

    def __post_init__(self) -> None:
        _check_weights(self.weights, len(self.input) or len(self.weights), "file")
        if self.prepared is not None:
            return _refuse_text(self)
        if not self.input:
            raise ConfigError("pretraining needs text: --input FILE; or --data FOLDER")
        if self.valid and self.valid_size is not None:
            raise ConfigError("--valid-size holds lines back; with --valid nothing is held back")
        if self.max_length < 1 or (self.valid_size is not None and self.valid_size < 1):
            raise ConfigError("--max-length and --valid-size must be at least 1")

    @property
    def files(self) -> dict[str, tuple[Path, ...]]:
        """As of DataConfig."""
        if self.prepared is not None:
            return {"data": (self.prepared / PREPARED_FILE,)}
        return {"input": self.input, "valid": self.valid}

    @property
    def training_columns(self) -> tuple[tuple[Path, ...], ...]:
        """As of DataConfig, with one column."""
        return (self.input,)

    @property
    def validation_columns(self) -> tuple[tuple[Path, ...], ...]:
        """As of DataConfig, with one column."""
        return (self.valid,)


@dataclass(frozen=True, kw_only=True)
class PretrainingConfig:
    """What is learned from raw text."""

    objective: ObjectiveName = (
        "masked"  # masked: an encoder predicts hidden tokens; denoising: a model writes lines anew
    )
    whole_words: bool = False  # of masked: the tokens of a word are hidden together

    def __post_init__(self) -> None:
        if self.objective not in get_args(ObjectiveName):
            choices = ", ".join(get_args(ObjectiveName))
            raise ConfigError(f"objective ({self.objective!r}) must be one of {choices}")
        if self.whole_words and self.objective != "masked":
            raise ConfigError("--whole-words goes with --objective masked: denoising hides spans of tokens")


@dataclass(frozen=True, kw_only=True)
class ArchitectureConfig:
    """The architecture as it is asked for: a preset, and what differs from it; None means as in the preset."""

    arch: str | None = None  # preset; None follows from the data
    num_layers: int | None = None  # of encoder and decoder
    num_encoder_layers: int | None = None
    num_decoder_layers: int | None = None
    d_model: int | None = None  # width of both
    encoder_d_model: int | None = None
    decoder_d_model: int | None = None
    num_heads: int | None = None
    d_ff: int | None = None
    encoder_d_ff: int | None = None
    decoder_d_ff: int | None = None
    encoder_mixer: EncoderMixer = "attention"  # sequence layer of the encoder
    decoder_mixer: DecoderMixer = "attention"
    bidirectional: bool = StackConfig.bidirectional  # gru and lstm in the encoder
    kernel_width: int = StackConfig.kernel_width  # of convolutions
    num_key_value_heads: int | None = None  # of both; None: as many as heads
    norm: NormPlace = "first" if ModelConfig.norm_first else "last"
    norm_kind: NormKind = ModelConfig.norm_kind
    feed_forward: FeedForwardKind = ModelConfig.feed_forward
    activation: Activation = ModelConfig.activation
    positions: Positions = ModelConfig.positions
    sinusoid_form: SinusoidForm = ModelConfig.sinusoid_form
    max_positions: int = ModelConfig.max_positions
    query_key_norm: bool = ModelConfig.query_key_norm
    scale_attention: bool = ModelConfig.scale_attention
    tie_embeddings: TieEmbeddings | None = None  # None: all with a joint vocabulary of one width, else decoder
    dropout: float | None = None  # None follows from the data
    attention_dropout: float = ModelConfig.attention_dropout
    activation_dropout: float = ModelConfig.activation_dropout

    def __post_init__(self) -> None:
        if self.arch is not None and self.arch not in PRESETS:
            raise ConfigError(f"arch ({self.arch!r}) must be one of {', '.join(PRESETS)}")

    def stacks(self) -> tuple[StackConfig, StackConfig]:
        """Encoder and decoder: the preset with what was asked for otherwise.

        Raises:
            ConfigError: the values do not fit together.
        """
        assert self.arch is not None, "the caller completes the config"
        both = {
            "bidirectional": self.bidirectional,
            "kernel_width": self.kernel_width,
            **_given(num_layers=self.num_layers, d_model=self.d_model, num_heads=self.num_heads, d_ff=self.d_ff),
            **_given(num_key_value_heads=self.num_key_value_heads),
        }
        encoder = _given(num_layers=self.num_encoder_layers, d_model=self.encoder_d_model, d_ff=self.encoder_d_ff)
        preset = PRESETS[self.arch]
        encoder_stack = replace(preset, mixer=self.encoder_mixer, **{**both, **encoder})
        return encoder_stack, self.decoder_like(replace(preset, **both))

    def decoder_like(self, stack: StackConfig) -> StackConfig:
        """A decoder of the shape of `stack`, but for what was asked for the decoder otherwise.

        Raises:
            ConfigError: the values do not fit together.
        """
        decoder = _given(num_layers=self.num_decoder_layers, d_model=self.decoder_d_model, d_ff=self.decoder_d_ff)
        return replace(stack, mixer=self.decoder_mixer, **decoder)

    def without_decoder(self) -> Self:
        """The same of the encoder alone, for masked pretraining.

        Raises:
            ConfigError: something is asked for the decoder.
        """
        asked = {
            "--dec-layers": self.num_decoder_layers,
            "--dec-d-model": self.decoder_d_model,
            "--dec-ffn-dim": self.decoder_d_ff,
            "--decoder-mixer": None if self.decoder_mixer == "attention" else self.decoder_mixer,
            "--tie-embeddings": None if self.tie_embeddings == "all" else self.tie_embeddings,
        }
        for option, value in asked.items():
            if value is not None:
                raise ConfigError(f"{option} {value} needs a decoder, but --objective masked trains an encoder alone")
        return replace(self, num_decoder_layers=0, decoder_d_model=self.encoder_d_model, tie_embeddings="all")

    def model_config(
        self, vocabulary_sizes: tuple[int, int], special_ids: tuple[int, int, int], *, is_joint: bool
    ) -> ModelConfig:
        """Build the full architecture.

        Args:
            vocabulary_sizes: of source and target.
            special_ids: pad, bos, eos.
            is_joint: source and target share their vocabulary.
        """
        encoder, decoder = self.stacks()
        can_tie_all = is_joint and encoder.d_model == decoder.d_model
        assert self.dropout is not None, "the caller completes the config"
        return ModelConfig(
            source_vocabulary_size=vocabulary_sizes[0],
            target_vocabulary_size=vocabulary_sizes[1],
            pad_id=special_ids[0],
            bos_id=special_ids[1],
            eos_id=special_ids[2],
            encoder=encoder,
            decoder=decoder,
            norm_first=self.norm == "first",
            norm_kind=self.norm_kind,
            feed_forward=self.feed_forward,
            activation=self.activation,
            positions=self.positions,
            sinusoid_form=self.sinusoid_form,
            max_positions=self.max_positions,
            query_key_norm=self.query_key_norm,
            scale_attention=self.scale_attention,
            tie_embeddings=self.tie_embeddings or ("all" if can_tie_all else "decoder"),
            dropout=self.dropout,
            attention_dropout=self.attention_dropout,
            activation_dropout=self.activation_dropout,
        )


@dataclass(frozen=True, kw_only=True)
class TrainingRun:
    """Everything that decides what `train_from_text` does."""

    folder: Path  # the model folder
    data: DataConfig | RawTextConfig
    pretraining: PretrainingConfig | None = None  # what to learn from raw text; None with pairs, which are translated
    architecture: ArchitectureConfig = field(default_factory=ArchitectureConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    init_from: Path | None = None  # a model whose weights, architecture and tokenizers training starts from
    adaptation: AdaptationConfig = field(default_factory=AdaptationConfig)  # which of its weights are trained
    teacher: Path | None = None  # the model that wrote the targets of the training pairs (experiments/distill.py)
    overwrite: bool = False  # remove what an earlier run left in the folder
    command: str = ""  # how the run was started, for metadata.json

    def __post_init__(self) -> None:
        is_raw = isinstance(self.data, RawTextConfig)
        if is_raw != (self.pretraining is not None):
            raise ConfigError("raw text goes with a PretrainingConfig, and pairs go without")
        metrics = get_args(PretrainingMetric if is_raw else TranslationMetric)
        if self.training.metric not in metrics:
            raise ConfigError(f"metric ({self.training.metric!r}) must be one of {', '.join(metrics)}")
        if not self.adaptation.is_whole and self.init_from is None:
            option = "--freeze" if self.adaptation.freeze else "--lora-rank"
            raise ConfigError(f"{option} keeps what a model has learned; name the model with --init-from")
        if self.training.fsdp and self.adaptation.lora_rank is not None:
            raise ConfigError("--fsdp does not go with --lora-rank: adapters leave little to split")
        if self.pretraining is not None:
            if self.init_from is not None:
                raise ConfigError("pretraining starts from nothing; --init-from is for training on pairs")
            if self.pretraining.objective == "masked":
                self.architecture.without_decoder()  # says what does not go with it, before anything is done


def _check_weights(weights: tuple[float, ...], num_texts: int, what: str) -> None:
    if len(weights) not in (0, num_texts):
        raise ConfigError(f"there are {len(weights)} weights; give --weights once for each {what} ({num_texts})")
    if not all(0 < weight < float("inf") for weight in weights):
        raise ConfigError("--weights must be above 0; leave out a file that is not to be learned from")


def _refuse_text(data: DataConfig | RawTextConfig) -> None:
    """See that nothing is asked for that a prepared folder has brought already."""
    free = {"prepared", "weights", "bpe_dropout", "max_length", "tokenizer_kind", "errors"}
    for item in fields(data):
        if item.name not in free and getattr(data, item.name) != item.default:
            name = {"vocabulary_size": "vocab_size", "tags": "tag"}.get(item.name, item.name).replace("_", "-")
            raise ConfigError(f"--data {data.prepared} brings text and tokenizers; leave out --{name}")


def _given(**values: int | None) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}
