"""training.toml: the effective options of a run, in the form that -c of `transduce train` or `pretrain` reads.

Its keys are the long names of the options, with _ for -. On resume the options asked for are held against it: one
that would change what the run computes is named and refused, and what is not asked for is as it was.
"""

import reprlib
import tomllib
from collections.abc import Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, TypeVar, get_args

import tomli_w

from tokenizer.atomic_file import write_text
from transformer_core.errors import ConfigError, ModelError
from transformer_core.experiments.config import ArchitectureConfig, PretrainingConfig
from transformer_core.experiments.text_config import DataConfig, RawTextConfig
from transformer_core.json_record import fits
from transformer_core.model_files import read_text
from transformer_core.training.adaptation_config import AdaptationConfig
from transformer_core.training.config import TrainingConfig

__all__ = [
    "FREE_OPTIONS",
    "OPTION_NAMES",
    "TRAINING_FILE",
    "option_name",
    "option_values",
    "read_training_file",
    "recall_options",
    "refuse_changes",
    "write_training_file",
]

# Fields whose option has another name.
OPTION_NAMES = {
    "prepared": "data",
    "tags": "tag",
    "learning_rate": "lr",
    "vocabulary_size": "vocab_size",
    "num_layers": "layers",
    "num_encoder_layers": "enc_layers",
    "num_decoder_layers": "dec_layers",
    "encoder_d_model": "enc_d_model",
    "decoder_d_model": "dec_d_model",
    "num_heads": "heads",
    "num_key_value_heads": "kv_heads",
    "d_ff": "ffn_dim",
    "encoder_d_ff": "enc_ffn_dim",
    "decoder_d_ff": "dec_ffn_dim",
}

# Options that say when a run stops and what it keeps and shows, not what it computes: they may change on resume.
FREE_OPTIONS = frozenset(
    {"max_time", "patience", "log_every", "save_every", "keep_last", "threads", "fsdp", "shortlist"}
)
# So may these, where neither the learning rate nor dropout looks at the end.
LIMITS = frozenset({"max_steps", "max_epochs"})
ENDLESS_SCHEDULES = frozenset({"inverse-sqrt", "constant"})

TRAINING_FILE = "training.toml"

Config = DataConfig | RawTextConfig | PretrainingConfig | ArchitectureConfig | AdaptationConfig | TrainingConfig
_Config = TypeVar("_Config", bound=Config)


def option_values(*configs: Config) -> dict[str, Any]:
    """Give the values of config records by the keys of their options; None and empty ones are left out."""
    values: dict[str, Any] = {}
    for config in configs:
        for item in fields(config):
            value = getattr(config, item.name)
            if value is None or value == ():
                continue
            values[option_name(item.name)] = _plain(value)
    return values


def option_name(field: str) -> str:
    """The key under which an option file sets a field."""
    return OPTION_NAMES.get(field, field)


def write_training_file(folder: Path, values: Mapping[str, Any], command: str = "train") -> None:
    """Write the effective options of a run of `transduce train`, or of another command."""
    head = (
        f"# The effective options of this run; `transduce {command} -c training.toml -o NEW` starts another one like "
        "it.\n"
    )
    write_text(folder / TRAINING_FILE, head + tomli_w.dumps(dict(values)))


def read_training_file(folder: Path) -> dict[str, Any]:
    """Read the effective options of an earlier run.

    Raises:
        ModelError: the file is missing or damaged.
    """
    path = folder / TRAINING_FILE
    try:
        return tomllib.loads(read_text(path))
    except (ModelError, ValueError, RecursionError) as error:
        reason = str(error).removeprefix(f"{path}: ")
        raise ModelError(f"{path}: cannot be read ({reason}); start anew with --overwrite") from None


def refuse_changes(folder: Path, stored: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    """Hold the options asked for against those of the run in `folder`.

    Raises:
        ConfigError: one would change what the run computes.
    """
    is_endless = stored.get("lr_schedule") in ENDLESS_SCHEDULES and "final_dropout" not in stored
    free = FREE_OPTIONS | LIMITS if is_endless else FREE_OPTIONS
    for name, value in wanted.items():
        if name in free or value == "auto" or stored.get(name) == value:
            continue
        if not (name == "device" and _kind(value) == _kind(stored.get(name))):
            longer = f"; --init-from {folder} -o NEW trains its model further" if name in LIMITS else ""
            raise ConfigError(
                f"--{name.replace('_', '-')} was {_shown(stored.get(name, 'not given'))} when the run in {folder} "
                f"began and is {_shown(value)} now; give the same value to go on, or --overwrite to start anew{longer}"
            )


def recall_options(config: _Config, stored: Mapping[str, Any], folder: Path) -> _Config:
    """Fill what is not given, or left to the machine ("auto"), with what it was when the run in `folder` began.

    The limit of time is not recalled: it is one of this process. Nor is the limit of steps beside another of epochs.

    Raises:
        ModelError: training.toml holds a value that cannot be.
    """
    forgotten = {"max_time"}
    if isinstance(config, TrainingConfig) and config.max_epochs not in (None, stored.get("max_epochs")):
        forgotten.add("max_steps")
    values: dict[str, Any] = {}
    try:
        for item in fields(config):
            name = option_name(item.name)
            if name in stored and name not in forgotten and getattr(config, item.name) in (None, (), "auto"):
                values[item.name] = _recalled(stored[name], item.type, name)
        return replace(config, **values)
    except (ConfigError, TypeError, ValueError) as error:
        raise ModelError(f"{folder / TRAINING_FILE}: {error}; start anew with --overwrite") from None


def _recalled(value: object, kind: object, name: str) -> object:
    """Turn a value of TOML, which may be anything, into one of a field.

    Raises:
        TypeError: it is of another kind.
    """
    is_path = Path in get_args(kind)
    if isinstance(value, list):
        value = tuple(Path(item) if is_path else item for item in value)
    elif is_path and isinstance(value, str):
        value = Path(value)
    if not fits(value, kind):
        raise TypeError(f"{name} is {reprlib.repr(value)}, which is not of its kind")
    return value


def _shown(value: object) -> str:
    """A value as it is typed."""
    return " ".join(map(str, value)) if isinstance(value, list) else str(value)


def _kind(device: object) -> str:
    """The kind of a device: cuda for cuda:1."""
    return str(device).partition(":")[0]


def _plain(value: object) -> object:
    """Turn a value into one of TOML's; paths are made absolute, so that the file can be used from anywhere."""
    if isinstance(value, Path):
        return str(value.resolve())
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return value
