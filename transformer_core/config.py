"""ModelConfig: the architecture of a model, written as config.json beside its weights.

Imports no torch, so that the command line can offer its presets and defaults without loading it.
"""

import json
import math
import reprlib
from dataclasses import asdict, dataclass, field, replace
from typing import Literal, Self, get_args

from transformer_core.errors import ConfigError, ModelError
from transformer_core.json_record import build_record

__all__ = [
    "DEEP_PRESETS",
    "FORMAT_VERSION",
    "PRESETS",
    "Activation",
    "AttentionKind",
    "DecoderMixer",
    "EncoderMixer",
    "FeedForwardKind",
    "Mixer",
    "ModelConfig",
    "NormKind",
    "Positions",
    "SinusoidForm",
    "StackConfig",
    "TieEmbeddings",
]

FORMAT_VERSION = 1

EncoderMixer = Literal["attention", "gru", "lstm", "conv"]
DecoderMixer = Literal[
    "attention", "gru", "lstm", "ssru", "conv"
]  # ssru has one direction, so no encoder is made of it
Mixer = Literal[EncoderMixer, DecoderMixer]
Activation = Literal["relu", "gelu", "silu"]
FeedForwardKind = Literal["plain", "glu", "swiglu"]
NormKind = Literal["layer", "rms"]
AttentionKind = Literal["encoder", "decoder", "cross"]  # a stack of itself, or the decoder of the encoder's output
Positions = Literal["sinusoidal", "learned", "rotary", "none"]
SinusoidForm = Literal["marian", "fairseq", "vaswani"]
TieEmbeddings = Literal["all", "decoder", "none"]

# Far beyond any model that fits a machine; a config.json that asks for more is damaged or hostile.
MAX_LAYERS = 512
MAX_WIDTH = 1 << 16
MAX_VOCABULARY = 1 << 24
MAX_POSITIONS = 1 << 20


@dataclass(frozen=True, kw_only=True)
class StackConfig:
    """Depth and width of the encoder or the decoder.

    The paper's N, d_model, h and d_ff; encoder and decoder each have their own, so they stand in a record of
    their own instead of under two prefixes.
    """

    num_layers: int = 6  # layers of the stack; a decoder may have none (ModelConfig.is_encoder_only)
    d_model: int = 512  # width of the residual stream
    num_heads: int = 8  # attention heads; d_model is divided among them
    d_ff: int = 2048  # inner width of the feed-forward
    mixer: Mixer = "attention"  # the sequence layer
    num_key_value_heads: int | None = None  # of attention: heads with keys and values of their own; None: num_heads
    bidirectional: bool = True  # gru and lstm in the encoder: half the width reads each way
    kernel_width: int = 3  # conv: positions that a filter sees
    share_layers: bool = False  # one layer, used num_layers times with the same weights (Dabre and Fujita 2019)

    def __post_init__(self) -> None:
        _require_range("num_layers", self.num_layers, 0, MAX_LAYERS)
        _require_range("d_model", self.d_model, 2, MAX_WIDTH)
        _require_range("num_heads", self.num_heads, 1, MAX_WIDTH)
        _require_range("d_ff", self.d_ff, 1, MAX_WIDTH)
        _require_choice("mixer", self.mixer, get_args(Mixer))
        _require_range("kernel_width", self.kernel_width, 1, MAX_WIDTH)
        if self.d_model % self.num_heads:
            raise ConfigError(f"d_model ({self.d_model}) must be divisible by num_heads ({self.num_heads})")
        if self.num_key_value_heads is not None:
            _require_range("num_key_value_heads", self.num_key_value_heads, 1, self.num_heads)
            if self.num_heads % self.num_key_value_heads:
                raise ConfigError(
                    f"num_heads ({self.num_heads}) must be divisible by num_key_value_heads "
                    f"({self.num_key_value_heads}): each head of keys and values serves the same number of query heads"
                )

    @property
    def d_head(self) -> int:
        """Width of one attention head."""
        return self.d_model // self.num_heads


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """Everything that decides which tensors a model has and what they compute."""

    source_vocabulary_size: int  # rows of the source embedding, special tokens included
    target_vocabulary_size: int  # rows of the target embedding
    pad_id: int  # fills a batch; never attended to
    bos_id: int  # the decoder's first input
    eos_id: int  # ends a hypothesis, and every source
    encoder: StackConfig = field(default_factory=StackConfig)
    decoder: StackConfig = field(default_factory=StackConfig)
    norm_first: bool = True  # a norm before each sublayer and once at the end (True), or after each residual sum
    norm_kind: NormKind = "layer"  # LayerNorm, or RMSNorm (layers/norm.py)
    feed_forward: FeedForwardKind = "plain"  # two matrices, or three of which one is a gate (layers/feed_forward.py)
    activation: Activation = "relu"  # of the plain feed-forward
    positions: Positions = "sinusoidal"  # how a token knows its place
    sinusoid_form: SinusoidForm = "marian"  # which sinusoids (layers/embedding.py)
    max_positions: int = 1024  # rows of learned positions: their hard limit; sinusoids have none
    query_key_norm: bool = False  # attention: queries and keys are normalised before their product
    scale_attention: bool = True  # attention: scores are divided by √d_head; without it training is an experiment
    scale_embedding: bool = True  # token vectors are multiplied by √d_model before their places are added
    norm_embedding: bool = False  # a norm over token and place together, before the first layer
    tie_embeddings: TieEmbeddings = "all"  # source, target and output share a matrix; the last two; none do
    output_bias: bool = False  # a number for each entry is added to its logit; training leaves it as it is
    dropout: float = 0.1  # share of the embeddings' and sublayers' outputs zeroed in training
    attention_dropout: float = 0.0  # share of attention weights zeroed in training
    activation_dropout: float = 0.0  # share of feed-forward activations zeroed in training

    def __post_init__(self) -> None:
        _require_range("num_layers of the encoder", self.encoder.num_layers, 1, MAX_LAYERS)
        _require_range("source_vocabulary_size", self.source_vocabulary_size, 1, MAX_VOCABULARY)
        _require_range("target_vocabulary_size", self.target_vocabulary_size, 1, MAX_VOCABULARY)
        _require_range("max_positions", self.max_positions, 1, MAX_POSITIONS)
        _require_choice("activation", self.activation, get_args(Activation))
        _require_choice("feed_forward", self.feed_forward, get_args(FeedForwardKind))
        _require_choice("norm_kind", self.norm_kind, get_args(NormKind))
        _require_choice("positions", self.positions, get_args(Positions))
        _require_choice("sinusoid_form", self.sinusoid_form, get_args(SinusoidForm))
        _require_choice("tie_embeddings", self.tie_embeddings, get_args(TieEmbeddings))
        for name in ("pad_id", "bos_id", "eos_id"):
            smaller_vocabulary_size = min(self.source_vocabulary_size, self.target_vocabulary_size)
            _require_range(name, getattr(self, name), 0, smaller_vocabulary_size - 1)
        for name in ("dropout", "attention_dropout", "activation_dropout"):
            value = getattr(self, name)
            if not isinstance(value, int | float) or not 0 <= value < 1:
                raise ConfigError(f"{name} ({reprlib.repr(value)}) must be at least 0 and below 1")
        self._require_mixers()
        if self.positions == "sinusoidal" and (self.encoder.d_model % 2 or self.decoder.d_model % 2):
            raise ConfigError("sinusoidal positions need an even d_model: each frequency has a sine and a cosine")
        if self.tie_embeddings == "all":
            if self.encoder.d_model != self.decoder.d_model:
                raise ConfigError(
                    f"tie_embeddings 'all' needs one width, but the encoder's d_model is {self.encoder.d_model} "
                    f"and the decoder's {self.decoder.d_model}; use 'decoder' or 'none'"
                )
            if self.source_vocabulary_size != self.target_vocabulary_size:
                raise ConfigError(
                    "tie_embeddings 'all' needs a joint vocabulary, but source and target have "
                    f"{self.source_vocabulary_size} and {self.target_vocabulary_size} entries; use 'decoder' or 'none'"
                )
        elif self.is_encoder_only:
            raise ConfigError(
                f"tie_embeddings is '{self.tie_embeddings}', but a model without decoder layers predicts its own input "
                "and needs 'all'"
            )

    @property
    def is_encoder_only(self) -> bool:
        """Whether there is no decoder: an encoder that was pretrained to predict masked tokens of its own input."""
        return self.decoder.num_layers == 0

    @property
    def max_length(self) -> float:
        """Tokens that a sequence may have, bos or eos aside; only learned positions limit it."""
        return self.max_positions - 1 if self.positions == "learned" else math.inf

    def _require_mixers(self) -> None:
        """See that each stack can be made of its sequence layer."""
        _require_choice("the encoder's mixer", self.encoder.mixer, get_args(EncoderMixer))
        _require_choice("the decoder's mixer", self.decoder.mixer, get_args(DecoderMixer))
        if self.encoder.mixer in ("gru", "lstm") and self.encoder.bidirectional and self.encoder.d_model % 2:
            raise ConfigError(f"a bidirectional encoder needs an even d_model, not {self.encoder.d_model}")
        if self.encoder.mixer == "conv" and self.encoder.kernel_width % 2 == 0:
            raise ConfigError(f"the encoder's kernel_width ({self.encoder.kernel_width}) must be odd: it has a centre")
        for stack in (self.encoder, self.decoder):
            if self.positions == "rotary" and stack.mixer == "attention" and stack.d_head % 2:
                raise ConfigError(f"rotary positions turn pairs of components: d_head ({stack.d_head}) must be even")

    def to_json(self) -> str:
        """The text of config.json."""
        return json.dumps({"format_version": FORMAT_VERSION, **asdict(self)}, indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str, name: str = "config.json") -> Self:
        """Read the text of a config.json; `name` is the file that messages speak of.

        Raises:
            ModelError: the text is not JSON, a key is unknown or missing, or a value is absurd.
        """
        try:
            values = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise ModelError(f"{name}: is not JSON ({error}); the model folder is damaged") from None
        if not isinstance(values, dict):
            raise ModelError(f"{name}: must hold a JSON object; the model folder is damaged")
        version = values.pop("format_version", None)
        if version != FORMAT_VERSION:
            raise ModelError(
                f"{name}: has format_version {reprlib.repr(version)}, this version of transduce reads "
                f"{FORMAT_VERSION}; use the version that wrote it (metadata.json names it)"
            )
        try:
            stacks = {side: build_record(StackConfig, values.pop(side, None), side) for side in ("encoder", "decoder")}
            return build_record(cls, {**values, **stacks}, "the top level")
        except ConfigError as error:
            raise ModelError(f"{name}: {error}") from None

    def resized(self, source_vocabulary_size: int, target_vocabulary_size: int) -> Self:
        """The same architecture over other vocabularies."""
        return replace(
            self, source_vocabulary_size=source_vocabulary_size, target_vocabulary_size=target_vocabulary_size
        )


def _require_range(name: str, value: int, low: int, high: int) -> None:
    if not low <= value <= high:
        raise ConfigError(f"{name} ({reprlib.repr(value)}) must be between {low} and {high}")


def _require_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise ConfigError(f"{name} ({reprlib.repr(value)}) must be one of {', '.join(choices)}")


PRESETS: dict[str, StackConfig] = {
    "tiny": StackConfig(num_layers=4, d_model=128, num_heads=4, d_ff=256),
    "small": StackConfig(num_layers=3, d_model=512, num_heads=8, d_ff=1024),
    "base": StackConfig(num_layers=6, d_model=512, num_heads=8, d_ff=2048),
    "big": StackConfig(num_layers=6, d_model=1024, num_heads=16, d_ff=4096),
}
# The same sizes with layers where they cost little: the encoder works once on a line, the decoder once for each token
# (Kasai et al. 2021, "Deep encoder, shallow decoder"). The numbers are those of the layers of both.
DEEP_PRESETS: dict[str, tuple[StackConfig, StackConfig]] = {
    f"{name}-{encoder}-{decoder}": (
        replace(PRESETS[name], num_layers=encoder),
        replace(PRESETS[name], num_layers=decoder),
    )
    for name, encoder, decoder in (("tiny", 6, 2), ("small", 6, 2), ("base", 6, 2), ("base", 12, 1))
}
