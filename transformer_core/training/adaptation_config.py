"""AdaptationConfig: which weights of a model that training starts from are trained, and how. Imports no torch."""

import re
from dataclasses import dataclass

from transformer_core.errors import ConfigError

__all__ = ["AdaptationConfig", "ModelPart"]

_PART = re.compile(r"embeddings|(encoder|decoder)(?:\.([1-9]\d*)(?:-([1-9]\d*))?)?")


@dataclass(frozen=True, kw_only=True)
class ModelPart:
    """A part of a model: the embeddings, a stack, or some layers of a stack."""

    name: str  # as it is typed: encoder.1-4
    stack: str  # embeddings, encoder or decoder
    first: int | None = None  # layers, from 1; None: the whole stack
    last: int | None = None

    @classmethod
    def parse(cls, name: str) -> "ModelPart":
        """Read a name.

        Raises:
            ConfigError: it is none.
        """
        match = _PART.fullmatch(name)
        if match is None:
            raise ConfigError(
                f"--freeze {name}: is no part of a model; use encoder, decoder, embeddings, or layers, from 1, as in "
                "encoder.1-4 or decoder.2"
            )
        stack, first, last = match.groups()
        if first is None:
            return cls(name=name, stack=stack or name)
        part = cls(name=name, stack=stack, first=int(first), last=int(last or first))
        assert part.first is not None and part.last is not None, "both were just set"
        if part.first > part.last:
            raise ConfigError(f"--freeze {name}: the first layer comes after the last")
        return part


@dataclass(frozen=True, kw_only=True)
class AdaptationConfig:
    """How a trained model is adapted; all of it is trained where nothing is asked for."""

    freeze: tuple[str, ...] = ()  # parts that stay as they are: encoder, decoder, embeddings, layers as in encoder.1-4
    lora_rank: int | None = None  # train adapters of this rank beside the linear projections, and nothing else
    lora_alpha: float | None = None  # how much the adapters count: by alpha / rank; None: alpha is the rank

    def __post_init__(self) -> None:
        for name in self.freeze:
            ModelPart.parse(name)
        if self.lora_rank is not None and self.lora_rank < 1:
            raise ConfigError(f"lora_rank ({self.lora_rank}) must be at least 1")
        if self.lora_alpha is not None and self.lora_rank is None:
            raise ConfigError("--lora-alpha says how much adapters count; it goes with --lora-rank")
        if self.lora_alpha is not None and not 0 < self.lora_alpha < float("inf"):
            raise ConfigError(f"lora_alpha ({self.lora_alpha}) must be above 0")

    @property
    def is_whole(self) -> bool:
        """Whether all weights are trained."""
        return not self.freeze and self.lora_rank is None

    @property
    def parts(self) -> tuple[ModelPart, ...]:
        """The parts that stay as they are."""
        return tuple(map(ModelPart.parse, self.freeze))
