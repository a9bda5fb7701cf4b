"""What a model is before it is trained: fresh weights that follow from the seed, or those of another model.

A complete model gives everything: architecture, weights, tokenizers. A pretrained encoder gives what it has, and the
decoder is fresh, of the encoder's shape unless another one is asked for.
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from tokenizer import Tokenizer
from transformer_core.config import ModelConfig, TieEmbeddings
from transformer_core.data.shards import CorpusStatistics
from transformer_core.errors import ConfigError
from transformer_core.experiments.config import ArchitectureConfig, TrainingRun
from transformer_core.experiments.corpus_preparation import TextConfig, Tokenizers, tokenizer_files
from transformer_core.experiments.recipe import complete_architecture, default_dropout
from transformer_core.experiments.training_file import option_values
from transformer_core.model import Transformer
from transformer_core.model_directory import load_model, weights_of
from transformer_core.model_files import read_config, read_tokenizers
from transformer_core.training.checkpoint import set_weights

__all__ = ["build_model", "compare_tokenizers", "fresh_model", "given_tokenizers", "is_fine_tuning", "take_weights"]

# What may be asked for beside a pretrained encoder: it does not bring them.
DECODER_FIELDS = ("num_decoder_layers", "decoder_d_model", "decoder_d_ff", "decoder_mixer")
PARTS = {
    "source_embedding": "embeddings",
    "target_embedding": "target embeddings",
    "output_projection": "output projection",
}


def given_tokenizers(run: TrainingRun) -> Tokenizers | None:
    """Take the tokenizers of the model to start from; those given must be the same."""
    if run.init_from is None:
        return None
    tokenizers = read_tokenizers(run.init_from, read_config(run.init_from))
    compare_tokenizers(run.data, tokenizers, run.init_from)
    return tokenizers


def compare_tokenizers(data: TextConfig, tokenizers: Tokenizers, folder: Path) -> None:
    """Hold the tokenizers that are given against those of a model.

    Raises:
        ConfigError: one is another.
    """
    for place, path in enumerate(tokenizer_files(data)):
        if not path.exists():
            continue
        given = Tokenizer.load(path) if place else Tokenizer.load(path).with_tags(data.tags)
        if given.sha256 != tokenizers[place].sha256:
            raise ConfigError(f"{path}: is not the tokenizer of {folder}; leave it out, the model brings its own")


def is_fine_tuning(run: TrainingRun) -> bool:
    """Tell whether a run starts from a complete model, which wants a lower learning rate."""
    return run.init_from is not None and not read_config(run.init_from).is_encoder_only


def build_model(
    run: TrainingRun, tokenizers: Tokenizers, statistics: CorpusStatistics, say: Callable[[str], None]
) -> tuple[Transformer, TrainingRun]:
    """Make the model of a new run, and complete the run by what its architecture is.

    Raises:
        ConfigError: the architecture is not possible, or another one than that of the model to start from.
        ModelError: the model to start from is damaged.
    """
    is_pretraining = run.pretraining is not None
    folder = run.init_from
    if folder is None:
        architecture = complete_architecture(run.architecture, statistics, is_pretraining=is_pretraining)
        run = replace(run, architecture=architecture)
        return fresh_model(_fresh_config(run, tokenizers), run.training.seed), run
    given = read_config(folder)
    dropout = run.architecture.dropout
    if dropout is None:
        dropout = default_dropout(statistics, is_pretraining=False) if given.is_encoder_only else given.dropout
    run = replace(run, architecture=replace(run.architecture, dropout=dropout))
    model = fresh_model(_config_like(given, run.architecture), run.training.seed)
    say(take_weights(model, folder))
    return model, run


def fresh_model(config: ModelConfig, seed: int) -> Transformer:
    """Make a model with weights that follow from the seed."""
    torch.manual_seed(seed)
    return Transformer(config)


def take_weights(model: Transformer, folder: Path) -> str:
    """Copy from a model what fits: every weight whose name and shape agree; say what that was.

    Raises:
        ModelError: the folder holds no model, or a damaged one.
    """
    wanted = weights_of(model)
    weights = {
        name: weight
        for name, weight in weights_of(load_model(folder).model).items()
        if name in wanted and wanted[name].shape == weight.shape
    }
    set_weights(model, wanted | weights)
    count = sum(weight.numel() for weight in weights.values())
    fresh = _parts([name for name in wanted if name not in weights])
    if not fresh:
        return f"took all weights ({count:,}) from {folder}"
    verb = "is" if len(fresh) == 1 and not fresh[0].endswith("s") else "are"
    return (
        f"took {' and '.join(_parts(sorted(weights)))} ({count:,} weights) from {folder}; "
        f"the {' and '.join(fresh)} {verb} fresh"
    )


def _fresh_config(run: TrainingRun, tokenizers: Tokenizers) -> ModelConfig:
    """The architecture that is asked for, over these vocabularies."""
    architecture = run.architecture
    if run.pretraining is not None and run.pretraining.objective == "masked":
        architecture = architecture.without_decoder()
    source, target = tokenizers
    sizes = (source.vocabulary_size, target.vocabulary_size)
    special_ids = (source.pad_id, source.bos_id, source.eos_id)
    return architecture.model_config(sizes, special_ids, is_joint=source is target)


def _config_like(given: ModelConfig, asked: ArchitectureConfig) -> ModelConfig:
    """The architecture of a model to start from; only dropout may be another, and the decoder where it has none.

    Raises:
        ConfigError: another architecture is asked for.
    """
    free: dict[str, Any] = {"dropout": None}
    if given.is_encoder_only:
        free |= dict.fromkeys(DECODER_FIELDS)
    usual = option_values(ArchitectureConfig())
    for name, value in option_values(replace(asked, **free)).items():
        if usual.get(name) != value:
            raise ConfigError(
                f"--{name.replace('_', '-')} does not go with --init-from: the model brings its architecture"
            )
    assert asked.dropout is not None, "the caller completes it"
    if not given.is_encoder_only:
        return replace(given, dropout=asked.dropout)
    decoder = asked.decoder_like(given.encoder)
    tie_embeddings: TieEmbeddings = "all" if decoder.d_model == given.encoder.d_model else "decoder"
    return replace(given, decoder=decoder, tie_embeddings=tie_embeddings, dropout=asked.dropout)


def _parts(names: list[str]) -> list[str]:
    """The parts of a model that weights belong to, in words."""
    parts = dict.fromkeys(name.partition(".")[0] for name in names)
    return [PARTS.get(part, part) for part in parts]
