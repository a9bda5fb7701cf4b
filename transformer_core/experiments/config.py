"""What a training run is made of: the data, the architecture asked for, and TrainingConfig. Imports no torch."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

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
from transformer_core.training.config import TrainingConfig

__all__ = ["ArchitectureConfig", "DataConfig", "NormPlace", "TrainingRun"]

NormPlace = Literal["first", "last"]


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Which text a model learns from, and how it becomes tokens."""

    train_src: tuple[Path, ...]  # source sides, line by line beside the target sides
    train_tgt: tuple[Path, ...]
    valid_src: tuple[Path, ...] = ()  # validation pairs; empty: some training pairs are held back
    valid_tgt: tuple[Path, ...] = ()
    valid_size: int | None = None  # pairs held back; None: a twentieth, at most 1000
    tokenizer: Path | None = None  # joint tokenizer; None: one is learned from the training pairs
    source_tokenizer: Path | None = None  # or one for each side
    target_tokenizer: Path | None = None
    tokenizer_kind: Kind = TokenizerConfig.kind  # of the tokenizer that is learned
    vocabulary_size: int | None = None  # of the tokenizer that is learned; None follows from the data
    max_length: int = 256  # tokens a side of a training pair may have; longer pairs are dropped and counted
    errors: Literal["strict", "replace"] = "strict"  # what bytes that are not UTF-8 do

    def __post_init__(self) -> None:
        if not self.train_src or not self.train_tgt:
            raise ConfigError("training needs both sides: --train-src FILE and --train-tgt FILE")
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
        if self.max_length < 1 or (self.valid_size is not None and self.valid_size < 1):
            raise ConfigError("--max-length and --valid-size must be at least 1")


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
        decoder = _given(num_layers=self.num_decoder_layers, d_model=self.decoder_d_model, d_ff=self.decoder_d_ff)
        preset = PRESETS[self.arch]
        return (
            replace(preset, mixer=self.encoder_mixer, **{**both, **encoder}),
            replace(preset, mixer=self.decoder_mixer, **{**both, **decoder}),
        )

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
    data: DataConfig
    architecture: ArchitectureConfig = field(default_factory=ArchitectureConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    init_from: Path | None = None  # a model whose weights, architecture and tokenizers training starts from
    overwrite: bool = False  # remove what an earlier run left in the folder
    command: str = ""  # how the run was started, for metadata.json


def _given(**values: int | None) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}
