"""A small encoder that predicts masked tokens, over the words of `word_tokenizer` or the pieces of another."""

from pathlib import Path

import torch

from tests.transformer_core.decoding.random_model import word_tokenizer
from tokenizer import Tokenizer
from transformer_core.config import ModelConfig, Positions, StackConfig
from transformer_core.model import Transformer
from transformer_core.model_directory import weights_of
from transformer_core.model_files import save_architecture, write_json
from transformer_core.weight_file import write_weights

STACK = StackConfig(num_layers=2, d_model=32, num_heads=4, d_ff=48)


def masked_model(
    vocabulary: int | None = None, positions: Positions = "sinusoidal", *, norm_first: bool = True, seed: int = 5
) -> Transformer:
    """An encoder with random weights."""
    size = vocabulary or word_tokenizer().vocabulary_size
    config = ModelConfig(
        source_vocabulary_size=size,
        target_vocabulary_size=size,
        pad_id=0,
        bos_id=1,
        eos_id=2,
        encoder=STACK,
        decoder=StackConfig(num_layers=0, d_model=32, num_heads=4, d_ff=48),
        positions=positions,
        max_positions=64,
        norm_first=norm_first,
        tie_embeddings="all",
    )
    torch.manual_seed(seed)
    return Transformer(config).eval()


def save_masked_model(folder: Path, tokenizer: Tokenizer | None = None, **generation: object) -> Path:
    """Write such a model as a folder."""
    tokenizer = tokenizer or word_tokenizer()
    model = masked_model(tokenizer.vocabulary_size)
    folder.mkdir(parents=True, exist_ok=True)
    save_architecture(folder, model.config, tokenizer, tokenizer)
    write_weights(folder / "model.safetensors", weights_of(model))
    write_json(folder / "generation.json", generation)
    write_json(folder / "metadata.json", {"pretraining": {"objective": "masked", "whole_words": False}})
    return folder
