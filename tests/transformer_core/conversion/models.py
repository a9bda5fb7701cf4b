"""Small random models that behave like trained ones, written as model folders."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path

import torch
from torch import Tensor, nn

from tests.transformer_core.decoding.random_model import random_lines
from tokenizer import Tokenizer, TokenizerConfig, TrainedKind, train_tokenizer
from transformer_core.config import ModelConfig, StackConfig
from transformer_core.conversion.export_ctranslate2 import NEVER
from transformer_core.decoding.config import BatchConfig, SearchConfig
from transformer_core.decoding.translation import Translation
from transformer_core.decoding.translator import Translator
from transformer_core.model import DecoderLayer, Transformer
from transformer_core.model_directory import LoadedModel, load_model, weights_of
from transformer_core.model_files import save_architecture, write_json
from transformer_core.weight_file import write_weights

LINES = [*random_lines(24, seed=9, longest=8), "a <eos> b <pad>", "Ünknown wörds"]
MAX_LENGTH = 30  # lines that reach it are not compared: what happens there differs from tool to tool
STACK = StackConfig(num_layers=2, d_model=32, num_heads=4, d_ff=48)


@cache
def tokenizer(kind: TrainedKind = "bpe") -> Tokenizer:
    size = 330 if kind in ("bpe", "byte-bpe") else 80
    return train_tokenizer(random_lines(300, seed=2), TokenizerConfig(kind=kind, vocabulary_size=size))


def sharpen(model: Transformer, seed: int = 3) -> Transformer:
    """Draw every weight anew, so that logits are far apart and an end comes after a few tokens."""
    torch.manual_seed(seed)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if name.endswith("bias") and name != "output_projection.bias":
                weight.normal_(std=0.1)
            elif "norm" in name:
                weight.uniform_(0.5, 1.5)
        last_norm(model).weight.normal_(std=2.0)  # else a tied output repeats its input
    return model.eval()


def last_norm(model: Transformer) -> nn.LayerNorm | nn.RMSNorm:
    last = model.decoder.layers[-1]
    assert isinstance(last, DecoderLayer)
    norm = model.decoder.final_norm if model.config.norm_first else last.feed_forward_residual.norm
    assert isinstance(norm, nn.LayerNorm | nn.RMSNorm)
    return norm


def ended(translations: Sequence[Translation]) -> list[int]:
    """The lines of which every hypothesis came to its end by itself, and so the search did."""
    return [
        index
        for index, found in enumerate(translations)
        if not any(hypothesis.is_truncated for hypothesis in found.hypotheses)
    ]


def let_end(loaded: LoadedModel) -> None:
    """Favour the end token until many translations come to their end, different ones."""
    end = loaded.model.output_projection.weight[loaded.model.config.eos_id].detach()
    for _ in range(20):
        found = [search(loaded, beam_size) for beam_size in (1, 4)]
        texts = [{of_beam[index].text for index in ended(of_beam)} for of_beam in found]
        if min(map(len, texts)) >= 4:
            return
        with torch.no_grad():
            if loaded.model.output_projection.bias is not None:
                loaded.model.output_projection.bias[loaded.model.config.eos_id] += 1
            else:
                last_norm(loaded.model).bias.add_(end / end.norm())
    raise AssertionError("it never ends")


def save_model(
    folder: Path,
    source: Tokenizer,
    target: Tokenizer | None = None,
    generation: Mapping[str, object] | None = None,
    values: Mapping[str, object] | None = None,
) -> LoadedModel:
    """Write a model folder and read it again."""
    target = target or source
    config = ModelConfig(
        source_vocabulary_size=source.vocabulary_size,
        target_vocabulary_size=target.vocabulary_size,
        pad_id=source.pad_id,
        bos_id=source.bos_id,
        eos_id=source.eos_id,
        **{"encoder": STACK, "decoder": STACK, **(values or {})},  # type: ignore[arg-type]
    )
    folder.mkdir(parents=True, exist_ok=True)
    save_architecture(folder, config, source, target)
    write_json(folder / "generation.json", generation or {})
    write_weights(folder / "model.safetensors", sharp_weights(config, source, target))
    return load_model(folder)


@cache
def sharp_weights(config: ModelConfig, source: Tokenizer, target: Tokenizer) -> dict[str, Tensor]:
    """Draw the weights of a model that ends; looking for them takes seconds, and many tests want the same."""
    torch.manual_seed(3)
    model = sharpen(Transformer(config))
    let_end(LoadedModel(model=model, source_tokenizer=source, target_tokenizer=target, generation={}, metadata={}))
    return weights_of(model)


def untrained(values: Mapping[str, object]) -> LoadedModel:
    """Make a model of the architecture that `values` say, as it is before training."""
    tokens = tokenizer()
    config = ModelConfig(
        source_vocabulary_size=tokens.vocabulary_size,
        target_vocabulary_size=tokens.vocabulary_size,
        pad_id=tokens.pad_id,
        bos_id=tokens.bos_id,
        eos_id=tokens.eos_id,
        **{"encoder": STACK, "decoder": STACK, **values},  # type: ignore[arg-type]
    )
    model = Transformer(config).eval()
    return LoadedModel(model=model, source_tokenizer=tokens, target_tokenizer=tokens, generation={}, metadata={})


def never_writing_special_tokens(loaded: LoadedModel) -> LoadedModel:
    """The same model, but that special tokens have no probability, as in what is exported.

    A trained model hardly gives them any; a random one does.
    """
    config, tokens = loaded.model.config, loaded.target_tokenizer
    model = Transformer(replace(config, output_bias=True)).eval()
    weights = weights_of(loaded.model)
    bias = weights.get("output_projection.bias", torch.zeros(config.target_vocabulary_size)).clone()
    bias[tokens.unwritten_ids] = NEVER
    model.load_state_dict(weights | {"output_projection.bias": bias}, strict=False)
    return replace(loaded, model=model)


def search(loaded: LoadedModel, beam_size: int) -> list[Translation]:
    """Translate as other tools do, with all hypotheses."""
    return translate(loaded, beam_size=beam_size, n_best=beam_size, early_stopping=True)


def translate(loaded: LoadedModel, lines: Sequence[str] = LINES, **search: object) -> list[Translation]:
    config = SearchConfig(**{"max_length": MAX_LENGTH, "max_length_ratio": 1000.0, **search})  # type: ignore[arg-type]
    translator = Translator(loaded.model, loaded.source_tokenizer, loaded.target_tokenizer, config, BatchConfig())
    return translator.translate(lines)
