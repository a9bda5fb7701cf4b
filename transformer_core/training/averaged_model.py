"""A model made of the mean of several: find the weights, see that they belong together, write a model folder."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from transformer_core.config import ModelConfig
from transformer_core.errors import ConfigError, ModelError
from transformer_core.model_directory import shapes_of
from transformer_core.model_files import checkpoint_path, read_config, read_json, read_tokenizers, step_of
from transformer_core.new_model import NewModel, require_free, write_model
from transformer_core.provenance import describe_weights
from transformer_core.training.averaging import mean_weights
from transformer_core.weight_file import read_weights

__all__ = ["DEFAULT_LAST", "WeightsOfModel", "average_models", "find_weights", "saved_steps"]

DEFAULT_LAST = 5


@dataclass(frozen=True, kw_only=True)
class WeightsOfModel:
    """A set of weights, and the model folder that says what they are weights of."""

    folder: Path
    path: Path


def find_weights(
    models: Sequence[Path], num_last: int | None = None, checkpoints: Sequence[str] = ()
) -> list[WeightsOfModel]:
    """Find the sets of weights to average.

    Args:
        models: one model folder, of which the last saved weights are taken; or several model folders, whose best
            weights are, and checkpoint folders (MODEL/checkpoints/step-00004000).
        num_last: how many of one model folder; None: DEFAULT_LAST.
        checkpoints: those of these steps instead, or "best" or "last".

    Raises:
        ConfigError: the arguments do not go together, or name something twice.
        ModelError: a folder is none, or there are not two sets of weights.
    """
    if num_last is not None and checkpoints:
        raise ConfigError("-n and --checkpoint say the same in two ways; give one of them")
    if len(models) > 1:
        if num_last is not None or checkpoints:
            raise ConfigError("-n and --checkpoint choose among the weights of one model folder, but there are several")
        sources = [_weights_of(path) for path in models]
        _require_different([source.path for source in sources])
        return sources
    (folder,) = models
    read_config(folder)
    saved = saved_steps(folder)
    if checkpoints:
        paths = [
            saved[int(name)] if name.isdecimal() and int(name) in saved else checkpoint_path(folder, name)
            for name in checkpoints
        ]
    else:
        paths = [saved[step] for step in sorted(saved)[-(num_last or DEFAULT_LAST) :]]
    if len(paths) < 2:
        raise ModelError(f"{folder}: {len(paths)} saved weights are too few for a mean; name two models or steps")
    _require_different(paths)
    return [WeightsOfModel(folder=folder, path=path) for path in paths]


def saved_steps(folder: Path) -> dict[int, Path]:
    """Give the weights that a model folder holds by their step: snapshots, and checkpoints that are not extra."""
    checkpoints = folder / "checkpoints"
    saved = {
        step: path / "model.safetensors"
        for path in checkpoints.glob("step-*")
        if (step := step_of(path.name)) is not None and read_json(path / "state.json").get("is_extra") is False
    }
    snapshots = (checkpoints / "snapshots").glob("step-*.safetensors")
    return saved | {step: path for path in snapshots if (step := step_of(path.stem)) is not None}


def average_models(sources: Sequence[WeightsOfModel], folder: Path, command: str = "") -> None:
    """Write a model whose weights are the mean of others, whole or not at all.

    Args:
        sources: at least two; of one architecture and vocabulary.
        folder: of the new model; there is none yet, or an empty one.
        command: how it was asked for, for metadata.json.

    Raises:
        ConfigError: the folder is taken.
        ModelError: a model is damaged, or not of the architecture or vocabulary of the first.
    """
    require_free(folder)
    first = sources[0].folder
    config = read_config(first)
    source_tokenizer, target_tokenizer = read_tokenizers(first, config)
    for other in dict.fromkeys(source.folder for source in sources):
        _require_alike(other, first)
    shapes = shapes_of(config)
    mean = NewModel(
        config=config,
        source_tokenizer=source_tokenizer,
        target_tokenizer=target_tokenizer,
        weights=mean_weights(read_weights(source.path, shapes) for source in sources),
        generation=read_json(first / "generation.json"),
        origin=_origin(sources),
        shortlist_of=first,
    )
    write_model(mean, folder, command)


def _weights_of(path: Path) -> WeightsOfModel:
    """Take a model folder for its best weights, a checkpoint folder for its own."""
    is_checkpoint = not (path / "config.json").exists() and (path / "model.safetensors").exists()
    folder = path.resolve().parent.parent if is_checkpoint else path
    read_config(folder)
    return WeightsOfModel(folder=folder, path=path / "model.safetensors")


def _require_different(paths: Sequence[Path]) -> None:
    """See that nothing counts twice.

    Raises:
        ConfigError: something does.
    """
    files = [path.resolve() for path in paths]
    if twice := [path for path, file in zip(paths, files, strict=True) if files.count(file) > 1]:
        raise ConfigError(f"{twice[-1]}: is named {len(twice)} times; name every set of weights once")


def _require_alike(folder: Path, first: Path) -> None:
    """See that two models have the same tensors and mean the same by them.

    Raises:
        ModelError: they do not.
    """
    config, first_config = read_config(folder), read_config(first)
    for name, value in _architecture(config).items():
        if value != (wanted := _architecture(first_config)[name]):
            raise ModelError(f"{folder}: has {name} {value}, {first} has {wanted}; only like models have a mean")
    tokenizers, first_tokenizers = read_tokenizers(folder, config), read_tokenizers(first, first_config)
    for tokenizer, first_tokenizer in zip(tokenizers, first_tokenizers, strict=True):
        if tokenizer.sha256 != first_tokenizer.sha256:
            raise ModelError(f"{folder}: has another vocabulary than {first}; only like models have a mean")


def _architecture(config: ModelConfig) -> dict[str, Any]:
    """All that decides about tensors; dropout does not."""
    values = vars(replace(config, dropout=0.0, attention_dropout=0.0, activation_dropout=0.0))
    encoder = {f"encoder.{name}": value for name, value in vars(config.encoder).items()}
    decoder = {f"decoder.{name}": value for name, value in vars(config.decoder).items()}
    return {
        **encoder,
        **decoder,
        **{name: value for name, value in values.items() if name not in ("encoder", "decoder")},
    }


def _origin(sources: Sequence[WeightsOfModel]) -> dict[str, Any]:
    """Say where the mean comes from; its data are those of the models if they all had the same."""
    origins: list[Mapping[str, Any]] = [
        read_json(folder / "metadata.json") for folder in dict.fromkeys(source.folder for source in sources)
    ]
    origin: dict[str, Any] = {"averaged": [describe_weights(source.path) for source in sources]}
    for name in ("data", "corpus", "pretraining"):
        if all(name in each and each[name] == origins[0][name] for each in origins):
            origin[name] = origins[0][name]
    return origin
