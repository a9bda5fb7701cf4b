"""What a training run is made of: the data, the architecture asked for, and TrainingConfig. Imports no torch."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, Self, get_args

from transformer_core.config import (
    DEEP_PRESETS,
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
from transformer_core.experiments.text_config import DataConfig, RawTextConfig
from transformer_core.training.adaptation_config import AdaptationConfig
from transformer_core.training.config import PretrainingMetric, TrainingConfig, TranslationMetric

__all__ = [
    "AUTO",
    "PRETRAINING_DEFAULTS",
    "ArchitectureConfig",
    "NormPlace",
    "ObjectiveName",
    "PretrainingConfig",
    "ShareLayers",
    "TrainingRun",
]

NormPlace = Literal["first", "last"]
ShareLayers = Literal["none", "encoder", "decoder", "all"]
ObjectiveName = Literal["masked", "denoising"]

AUTO = "auto"  # in place of a preset: what follows from the data (recipe.py)

# What differs when a model is pretrained: the probabilities of `fill` are worth more where nothing smooths them.
PRETRAINING_DEFAULTS = TrainingConfig(label_smoothing=0.0, optimizer="adamw", lr_schedule="cosine")


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

    arch: str = AUTO  # preset; "auto" follows from the data
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
    share_layers: ShareLayers = "none"  # in which stacks one layer is used again and again
    norm: NormPlace = "first" if ModelConfig.norm_first else "last"
    norm_kind: NormKind = ModelConfig.norm_kind
    feed_forward: FeedForwardKind = ModelConfig.feed_forward
    activation: Activation = ModelConfig.activation
    positions: Positions | None = None  # None follows from the sequence layers
    sinusoid_form: SinusoidForm = ModelConfig.sinusoid_form
    max_positions: int = ModelConfig.max_positions
    query_key_norm: bool = ModelConfig.query_key_norm
    scale_attention: bool = ModelConfig.scale_attention
    tie_embeddings: TieEmbeddings | None = None  # None: all with a joint vocabulary of one width, else decoder
    dropout: float | None = None  # None follows from the data
    attention_dropout: float = ModelConfig.attention_dropout
    activation_dropout: float = ModelConfig.activation_dropout

    def __post_init__(self) -> None:
        if self.arch not in (AUTO, *PRESETS, *DEEP_PRESETS):
            raise ConfigError(f"arch ({self.arch!r}) must be {AUTO} or one of {', '.join(PRESETS | DEEP_PRESETS)}")
        if self.share_layers not in get_args(ShareLayers):
            raise ConfigError(f"share_layers ({self.share_layers!r}) must be one of {', '.join(get_args(ShareLayers))}")

    def stacks(self) -> tuple[StackConfig, StackConfig]:
        """Encoder and decoder: the preset with what was asked for otherwise.

        Raises:
            ConfigError: the values do not fit together.
        """
        assert self.arch != AUTO, "the caller completes the config"
        both = {
            "bidirectional": self.bidirectional,
            "kernel_width": self.kernel_width,
            **_given(num_layers=self.num_layers, d_model=self.d_model, num_heads=self.num_heads, d_ff=self.d_ff),
            **_given(num_key_value_heads=self.num_key_value_heads),
        }
        encoder = _given(num_layers=self.num_encoder_layers, d_model=self.encoder_d_model, d_ff=self.encoder_d_ff)
        of_encoder, of_decoder = DEEP_PRESETS.get(self.arch) or (PRESETS[self.arch],) * 2
        is_shared = self.share_layers in ("encoder", "all")
        encoder_stack = replace(of_encoder, mixer=self.encoder_mixer, share_layers=is_shared, **{**both, **encoder})
        return encoder_stack, self.decoder_like(replace(of_decoder, **both))

    def decoder_like(self, stack: StackConfig) -> StackConfig:
        """A decoder of the shape of `stack`, but for what was asked for the decoder otherwise.

        Raises:
            ConfigError: the values do not fit together.
        """
        decoder = _given(num_layers=self.num_decoder_layers, d_model=self.decoder_d_model, d_ff=self.decoder_d_ff)
        is_shared = self.share_layers in ("decoder", "all")
        return replace(stack, mixer=self.decoder_mixer, share_layers=is_shared, **decoder)

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
            "--share-layers": "decoder" if self.share_layers == "decoder" else None,
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
        assert self.dropout is not None and self.positions is not None, "the caller completes the config"
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
    asked: frozenset[str] = frozenset()  # the fields of the architecture that somebody set, be it to their defaults
    training: TrainingConfig = field(default_factory=TrainingConfig)
    init_from: Path | None = None  # a model whose weights, architecture and tokenizers training starts from
    init_checkpoint: str = "best"  # which of its weights: best, last, or the number of a step
    adaptation: AdaptationConfig = field(default_factory=AdaptationConfig)  # which of its weights are trained
    is_taught: bool = False  # a model wrote the targets of the training pairs (experiments/distill.py)
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
        if self.init_checkpoint != "best" and self.init_from is None:
            raise ConfigError("--init-checkpoint chooses among the weights of a model; name the model with --init-from")
        if self.training.fsdp and self.adaptation.lora_rank is not None:
            raise ConfigError("--fsdp does not go with --lora-rank: adapters leave little to split")
        if self.pretraining is not None:
            if self.init_from is not None:
                raise ConfigError("pretraining starts from nothing; --init-from is for training on pairs")
            if self.pretraining.objective == "masked":
                self.architecture.without_decoder()  # says what does not go with it, before anything is done


def _given(**values: int | None) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}
