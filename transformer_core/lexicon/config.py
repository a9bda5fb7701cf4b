"""ShortlistConfig: how many tokens a shortlist offers. Imports no torch."""

from dataclasses import dataclass

from transformer_core.errors import ConfigError

__all__ = ["ShortlistConfig"]

MAX_TOKENS = 1 << 16


@dataclass(frozen=True, kw_only=True)
class ShortlistConfig:
    """The tokens that a translation may choose among; the special tokens and those of the source come on top."""

    best: int = 100  # translations of each source token, the most probable ones
    frequent: int = 100  # tokens that every line is offered: the most frequent ones of the targets

    def __post_init__(self) -> None:
        for name in ("best", "frequent"):
            if not 0 <= (value := getattr(self, name)) <= MAX_TOKENS:
                raise ConfigError(f"{name} ({value}) must be between 0 and {MAX_TOKENS}")
