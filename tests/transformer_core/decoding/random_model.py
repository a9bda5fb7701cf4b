"""A small model with random weights that behaves like a trained one: sharp, and done after a few tokens."""

import random
from functools import cache
from pathlib import Path

import torch

from tokenizer import Tokenizer, TokenizerConfig, train_tokenizer
from transformer_core.config import ModelConfig, Positions, StackConfig
from transformer_core.model import Transformer
from transformer_core.model_directory import weights_of
from transformer_core.model_files import save_architecture, write_json
from transformer_core.weight_file import write_weights

WORDS = tuple(f"{first}{second}" for first in "bdfgklmnprst" for second in ("a", "e", "i", "o", "u"))


def random_lines(count: int, seed: int = 0, longest: int = 12) -> list[str]:
    source = random.Random(seed)
    return [" ".join(source.choices(WORDS, k=source.randrange(1, longest + 1))) for _ in range(count)]


@cache
def word_tokenizer() -> Tokenizer:
    return train_tokenizer([" ".join(WORDS)], TokenizerConfig(kind="word", vocabulary_size=len(WORDS) + 5))


def random_model(vocabulary: int, positions: Positions = "sinusoidal", seed: int = 3) -> Transformer:
    """A model over ids 0 (pad), 1 (bos), 2 (eos) and up."""
    stack = StackConfig(num_layers=2, d_model=32, num_heads=4, d_ff=48)
    config = ModelConfig(
        source_vocabulary_size=vocabulary,
        target_vocabulary_size=vocabulary,
        pad_id=0,
        bos_id=1,
        eos_id=2,
        encoder=stack,
        decoder=stack,
        positions=positions,
        max_positions=64,
        tie_embeddings="none",
    )
    torch.manual_seed(seed)
    model = Transformer(config).eval()
    with torch.no_grad():
        model.output_projection.weight *= 3
        model.output_projection.weight[2] *= 1.3
    return model


def word_model(positions: Positions = "sinusoidal") -> Transformer:
    """A random model over the words of `word_tokenizer`."""
    return random_model(word_tokenizer().vocabulary_size, positions)


def save_word_model(folder: Path, positions: Positions = "sinusoidal", **generation: object) -> Path:
    """Write such a model as a folder, `generation` as its decoding defaults."""
    model = word_model(positions)
    folder.mkdir(parents=True, exist_ok=True)
    save_architecture(folder, model.config, word_tokenizer(), word_tokenizer())
    write_weights(folder / "model.safetensors", weights_of(model))
    write_json(folder / "generation.json", generation)
    return folder
