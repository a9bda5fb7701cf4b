"""What a model is before it is trained: fresh weights that follow from the seed, or those of another model.

A complete model gives everything: architecture, weights, tokenizers. A pretrained encoder gives what it has, and the
decoder is fresh, of the encoder's shape unless another one is asked for. Under another vocabulary than the model's own
the vectors of its entries are made of those that it has (experiments/vocabulary_extension.py).
"""

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path

import torch

from transformer_core.config import ModelConfig, StackConfig, TieEmbeddings
from transformer_core.data.shards import CorpusStatistics
from transformer_core.errors import ConfigError
from transformer_core.experiments.config import AUTO, ArchitectureConfig, TrainingRun
from transformer_core.experiments.recipe import PRESETS_BY_PAIRS, complete_architecture, default_dropout
from transformer_core.experiments.training_file import option_name
from transformer_core.experiments.vocabulary_choice import Tokenizers, refuse_learning, tokenizer_files
from transformer_core.experiments.vocabulary_extension import VocabularyExtension, extend_vocabulary
from transformer_core.model import Transformer
from transformer_core.model_directory import load_model, weights_of
from transformer_core.model_files import checkpoint_path, read_config, read_tokenizers
from transformer_core.training.adaptation import adapt_model, require_part
from transformer_core.training.checkpoint import set_weights
from transformer_core.training.sharding import require_splittable
from transformer_core.weight_file import require_finite

__all__ = [
    "StartingPoint",
    "TakenWeights",
    "build_model",
    "fresh_model",
    "given_tokenizers",
    "is_fine_tuning",
    "require_possible",
    "take_weights",
]

# What may be asked for beside a pretrained encoder: it does not bring them.
DECODER_FIELDS = ("num_decoder_layers", "decoder_d_model", "decoder_d_ff", "decoder_mixer")
# The tables with a row for each entry of a vocabulary: 0 of the source, 1 of the target.
VOCABULARY_SIDES = {
    "source_embedding.token_embedding.weight": 0,
    "target_embedding.token_embedding.weight": 1,
    "output_projection.weight": 1,
    "output_projection.bias": 1,
}
PARTS = {
    "source_embedding": "embeddings",
    "target_embedding": "target embeddings",
    "output_projection": "output projection",
}


@dataclass(frozen=True, kw_only=True)
class StartingPoint:
    """A model, not trained yet."""

    model: Transformer
    run: TrainingRun  # complete in what follows from the architecture
    fresh_parts: tuple[str, ...] = ()  # of a model that starts from another one: what it did not have, or not all of


@dataclass(frozen=True, kw_only=True)
class TakenWeights:
    """What was taken from a model."""

    summary: str  # in words
    fresh_parts: tuple[str, ...]  # the first words of the names of weights that were not there, or not whole


def given_tokenizers(run: TrainingRun) -> Tokenizers | None:
    """Take the tokenizers of the model to start from; None where there is none, or others are given.

    Raises:
        ConfigError: two vocabularies are given for a model that has one table for both, or something is asked of one
            that is learned.
        TokenizerFileError: a file that is given is no tokenizer.
        ModelError: the model to start from is damaged.
    """
    if run.init_from is None:
        return None
    config = read_config(run.init_from)
    own = read_tokenizers(run.init_from, config)
    files = tokenizer_files(run.data)
    if len(files) == 2 and config.tie_embeddings == "all":
        raise ConfigError(f"{run.init_from}: has one vocabulary for both sides; give --tokenizer, not one for each")
    if files:
        return None
    refuse_learning(run.data, "--init-from")
    source = own[0].with_tags(run.data.tags)
    return source, source if own[1] is own[0] else own[1]


def is_fine_tuning(run: TrainingRun) -> bool:
    """Tell whether a run moves the weights of a complete model, which wants a lower learning rate; adapters do not."""
    if run.init_from is None or run.adaptation.lora_rank is not None:
        return False
    return not read_config(run.init_from).is_encoder_only


def build_model(
    run: TrainingRun, tokenizers: Tokenizers, statistics: CorpusStatistics, say: Callable[[str], None]
) -> StartingPoint:
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
        return StartingPoint(model=fresh_model(_fresh_config(run, tokenizers), run.training.seed), run=run)
    given = read_config(folder)
    dropout = run.architecture.dropout
    if dropout is None and given.is_encoder_only:
        dropout = default_dropout(statistics, given.encoder.d_model, is_pretraining=False)
    elif dropout is None:
        dropout = given.dropout
    run = replace(run, architecture=replace(run.architecture, dropout=dropout))
    model = fresh_model(_config_like(run, given, tokenizers), run.training.seed)
    taken = take_weights(model, tokenizers, folder, run.init_checkpoint)
    say(taken.summary)
    if summary := adapt_model(model, run.adaptation, taken.fresh_parts, run.training.seed):
        say(summary)
    return StartingPoint(model=model, run=run, fresh_parts=taken.fresh_parts)


def fresh_model(config: ModelConfig, seed: int) -> Transformer:
    """Make a model with weights that follow from the seed."""
    torch.manual_seed(seed)
    return Transformer(config)


def take_weights(model: Transformer, tokenizers: Tokenizers, folder: Path, checkpoint: str = "best") -> TakenWeights:
    """Copy from a model what fits: every weight whose name and shape agree, and the vectors of known entries.

    Args:
        model: fresh.
        tokenizers: its own.
        folder: of the model to take from.
        checkpoint: which of its weights.

    Raises:
        ModelError: the folder holds no model, or a damaged one.
    """
    loaded = load_model(folder, checkpoint)
    extensions = _extensions((loaded.source_tokenizer, loaded.target_tokenizer), tokenizers)
    given, wanted = weights_of(loaded.model), weights_of(model)
    require_finite(given, str(folder))
    whole = {
        name: given[name]
        for name, weight in wanted.items()
        if name in given and VOCABULARY_SIDES.get(name) not in extensions and weight.shape == given[name].shape
    }
    tables = {
        name: extensions[side].rows(wanted[name], given[name])
        for name, side in VOCABULARY_SIDES.items()
        if side in extensions and name in wanted and name in given
    }
    set_weights(model, wanted | whole | tables)
    count = sum(weight.numel() for weight in whole.values())
    count += sum(extensions[VOCABULARY_SIDES[name]].num_known * table[0].numel() for name, table in tables.items())
    return TakenWeights(
        summary=_describe(wanted, whole.keys() | tables.keys(), f"{count:,}", folder)
        + _describe_extensions(extensions, is_joint=tokenizers[0] is tokenizers[1]),
        fresh_parts=tuple(dict.fromkeys(name.partition(".")[0] for name in wanted if name not in whole)),
    )


def _extensions(old: Tokenizers, new: Tokenizers) -> dict[int, VocabularyExtension]:
    """Look at the vocabularies that are another one: 0 the source's, 1 the target's."""
    return {side: extend_vocabulary(old[side], new[side]) for side in (0, 1) if old[side].sha256 != new[side].sha256}


def _describe(wanted: Iterable[str], taken: Collection[str], count: str, folder: Path) -> str:
    """Say of named weights what was taken, and what is fresh."""
    fresh = _parts([name for name in wanted if name not in taken])
    if not fresh:
        return f"took all weights ({count}) from {folder}"
    verb = "is" if len(fresh) == 1 and not fresh[0].endswith("s") else "are"
    return (
        f"took {' and '.join(_parts(sorted(taken)))} ({count} weights) from {folder}; "
        f"the {' and '.join(fresh)} {verb} fresh"
    )


def _describe_extensions(extensions: Mapping[int, VocabularyExtension], *, is_joint: bool) -> str:
    """Say of each new vocabulary what is old in it, as the end of a sentence."""
    if is_joint and len(set(map(str, extensions.values()))) == 1:
        return f"; of the new vocabulary {extensions[0]}"
    names = {0: "source", 1: "target"}
    return "".join(f"; of the new {names[side]} vocabulary {extension}" for side, extension in extensions.items())


def _fresh_config(run: TrainingRun, tokenizers: Tokenizers) -> ModelConfig:
    """The architecture that is asked for, over these vocabularies."""
    source, target = tokenizers
    sizes = (source.vocabulary_size, target.vocabulary_size)
    return _needed_stacks(run).model_config(sizes, _special_ids(tokenizers), is_joint=source is target)


def _needed_stacks(run: TrainingRun) -> ArchitectureConfig:
    """Leave out the decoder of a fresh model that has nothing to write."""
    is_encoder_alone = run.pretraining is not None and run.pretraining.objective == "masked"
    return run.architecture.without_decoder() if is_encoder_alone else run.architecture


def _special_ids(tokenizers: Tokenizers) -> tuple[int, int, int]:
    """Give the ids of pad, bos and eos; bos is what the decoder begins with, which imported vocabularies differ in."""
    source, target = tokenizers
    return source.pad_id, target.bos_id, source.eos_id


def require_possible(run: TrainingRun) -> None:
    """See that a new run can have the model that is asked for, whatever its text: that may be long in the making.

    Raises:
        ConfigError: sizes or parts do not fit together, or not to the model to start from.
        ModelError: that is none, or has no such weights.
    """
    config = _some_config(run) if run.init_from is None else _config_to_start_from(run, run.init_from)
    if run.training.fsdp:
        require_splittable(config)


def _some_config(run: TrainingRun) -> ModelConfig:
    """Make the architecture that is asked for, with the first preset that the text might ask for and that it suits.

    Raises:
        ConfigError: it suits none.
    """
    asked, faults = run.architecture, []
    for arch in PRESETS_BY_PAIRS if asked.arch == AUTO else (asked.arch,):
        try:
            architecture = complete_architecture(replace(asked, arch=arch), CorpusStatistics())
            some = _needed_stacks(replace(run, architecture=architecture))
            return some.model_config((3, 3), (0, 1, 2), is_joint=True)
        except ConfigError as fault:
            faults.append(fault)
    raise faults[0]


def _config_to_start_from(run: TrainingRun, folder: Path) -> ModelConfig:
    """Give the architecture of the model to start from, with the decoder that is asked for where it has none.

    Raises:
        ConfigError: another architecture is asked for, or a part that is not there.
        ModelError: it is no model, or has no such weights.
    """
    given = read_config(folder)
    checkpoint_path(folder, run.init_checkpoint)
    _refuse_architecture(run, given)
    for part in run.adaptation.parts:
        if not (given.is_encoder_only and part.stack == "decoder"):
            require_part(given, part)
    return _with_decoder(given, run.architecture)


def _refuse_architecture(run: TrainingRun, given: ModelConfig) -> None:
    """Refuse another architecture than that of a model to start from; dropout is free, and a decoder where it has none.

    Raises:
        ConfigError: another one is asked for.
    """
    free = {"dropout", *(DECODER_FIELDS if given.is_encoder_only else ())}
    usual, of_model = ArchitectureConfig(), _architecture_of(given, run.architecture)
    for item in fields(ArchitectureConfig):
        value = getattr(run.architecture, item.name)
        is_other = value != getattr(usual, item.name)
        if item.name in run.asked and item.name in of_model:
            is_other = value != of_model[item.name]
        if is_other and item.name not in free:
            option = option_name(item.name).replace("_", "-")
            raise ConfigError(f"--{option} does not go with --init-from: the model brings its architecture")


def _architecture_of(config: ModelConfig, asked: ArchitectureConfig) -> dict[str, object]:
    """Say what a model has of that which can be asked for.

    Args:
        config: of the model.
        asked: a preset may be of any name whose sizes, with the others that are asked for, are the model's.
    """
    encoder, decoder = config.encoder, config.encoder if config.is_encoder_only else config.decoder
    shared = [stack for stack in ("encoder", "decoder") if getattr(config, stack).share_layers]
    is_preset = asked.arch != AUTO and (asked.stacks()[0], asked.stacks()[1]) == (encoder, decoder)
    same = (
        *("norm_kind", "feed_forward", "activation", "positions", "sinusoid_form", "max_positions", "query_key_norm"),
        *("scale_attention", "attention_dropout", "activation_dropout"),
    )
    return {
        **{name: getattr(config, name) for name in same},
        "arch": asked.arch if is_preset else AUTO,
        **{name: _common(encoder, decoder, name) for name in ("num_layers", "d_model", "num_heads", "d_ff")},
        **{f"encoder_{name}": getattr(encoder, name) for name in ("d_model", "d_ff")},
        **{f"decoder_{name}": getattr(decoder, name) for name in ("d_model", "d_ff")},
        "num_encoder_layers": encoder.num_layers,
        "num_decoder_layers": decoder.num_layers,
        "num_key_value_heads": _common(encoder, decoder, "num_key_value_heads"),
        "share_layers": {0: "none", 1: shared[0] if shared else "", 2: "all"}[len(shared)],
        "tie_embeddings": config.tie_embeddings,
        "norm": "first" if config.norm_first else "last",
        "encoder_mixer": config.encoder.mixer,
        "decoder_mixer": config.decoder.mixer,
        "bidirectional": config.encoder.bidirectional,
        "kernel_width": config.encoder.kernel_width,
    }


def _common(encoder: StackConfig, decoder: StackConfig, name: str) -> object:
    """What both stacks have; None if they differ."""
    value = getattr(encoder, name)
    return value if getattr(decoder, name) == value else None


def _config_like(run: TrainingRun, given: ModelConfig, tokenizers: Tokenizers) -> ModelConfig:
    """The architecture of a model to start from, over these vocabularies.

    Raises:
        ConfigError: another architecture is asked for.
    """
    _refuse_architecture(run, given)
    asked = run.architecture
    assert asked.dropout is not None, "the caller completes it"
    pad_id, bos_id, eos_id = _special_ids(tokenizers)
    given = given.resized(*(tokenizer.vocabulary_size for tokenizer in tokenizers))
    given = replace(given, pad_id=pad_id, bos_id=bos_id, eos_id=eos_id)
    return replace(_with_decoder(given, asked), dropout=asked.dropout)


def _with_decoder(given: ModelConfig, asked: ArchitectureConfig) -> ModelConfig:
    """Give an encoder without a decoder one of its own shape, but for what is asked for otherwise.

    Raises:
        ConfigError: that does not fit together.
    """
    if not given.is_encoder_only:
        return given
    decoder = asked.decoder_like(given.encoder)
    tie_embeddings: TieEmbeddings = "all" if decoder.d_model == given.encoder.d_model else "decoder"
    return replace(given, decoder=decoder, tie_embeddings=tie_embeddings)


def _parts(names: list[str]) -> list[str]:
    """The parts of a model that weights belong to, in words."""
    parts = dict.fromkeys(name.partition(".")[0] for name in names)
    return [PARTS.get(part, part) for part in parts]
