"""Small architectures to test parts of."""

from dataclasses import replace

from transformer_core.config import ModelConfig, StackConfig

__all__ = ["small_config", "small_stack"]

BASE = ModelConfig(
    source_vocabulary_size=30,
    target_vocabulary_size=30,
    pad_id=0,
    bos_id=1,
    eos_id=2,
    tie_embeddings="decoder",
    dropout=0.0,
)


def small_stack(**values: object) -> StackConfig:
    """Two layers, d_model 12, 3 heads, d_ff 10, with what is given otherwise."""
    stack = StackConfig(num_layers=2, d_model=12, num_heads=3, d_ff=10)
    return replace(stack, **values)  # type: ignore[arg-type]


def small_config(stack: StackConfig | None = None, **values: object) -> ModelConfig:
    """Such stacks as encoder and decoder, no dropout, with what is given otherwise."""
    stack = stack or small_stack()
    return replace(BASE, **{"encoder": stack, "decoder": stack, **values})  # type: ignore[arg-type]
