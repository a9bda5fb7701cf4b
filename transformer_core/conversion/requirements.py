"""What a model must not have to be written in another format, each with the option of `train` that makes it so."""

from transformer_core.config import ModelConfig
from transformer_core.errors import ModelError

__all__ = ["refuse", "require_attention"]


def refuse(option: str, reason: str) -> ModelError:
    """Say which option of a model is in the way of its export."""
    return ModelError(f"a model with {option} cannot be exported there: {reason}")


def require_attention(config: ModelConfig, format_name: str) -> None:
    """See that the sequence layers of both stacks are attention, without norms inside.

    Raises:
        ModelError: they are not.
    """
    for side, stack in (("encoder", config.encoder), ("decoder", config.decoder)):
        if stack.mixer != "attention":
            raise refuse(f"--{side}-mixer {stack.mixer}", f"{format_name} has layers of attention alone")
    if config.query_key_norm:
        raise refuse("--query-key-norm", f"{format_name} has no such norm in models of encoder and decoder")
