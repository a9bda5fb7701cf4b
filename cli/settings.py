"""Where the value of an option comes from: flag > environment > configuration file > model's defaults > built-in.

- a flag on the command line;
- the environment variable TRANSDUCE_COMMAND_OPTION (TRANSDUCE_TRANSLATE_BEAM_SIZE);
- the TOML file named by -c: `beam_size = 4`, one key per option, the long name with _ or -;
- what the model was saved with, for a command that says where that stands (`model_defaults`);
- the default in the command's signature.

`to_toml` writes every value with its origin, in a form that -c reads; --print-config prints it.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, get_args

import typer
from typer.core import TyperArgument, TyperOption

from cli.suggestions import did_you_mean
from transformer_core.errors import ConfigError, ModelError

if TYPE_CHECKING:  # Typer's own signatures speak of these; no name of its inside is needed to run
    from typer._click.core import Context, Parameter

__all__ = [
    "apply_model_defaults",
    "build",
    "is_given",
    "key_of",
    "load_config",
    "model_defaults",
    "origin_of",
    "rank_of",
    "to_toml",
    "variable_of",
]

_Record = TypeVar("_Record")
_Function = TypeVar("_Function", bound=Callable[..., object])

BUILT_IN = "built-in default"
MODEL_DEFAULTS_FILE = "generation.json"
_META_KEY = "cli.settings"


@dataclass
class _Sources:
    """What is remembered of one run of a command."""

    config_path: Path | None = None  # the file given with -c
    from_model: set[str] = field(default_factory=set)  # parameters that have the model's value


def build(record: type[_Record], values: Mapping[str, object], **overrides: object) -> _Record:
    """Make a config dataclass from the options of the same names; `overrides` are fields named otherwise.

    Whatever is None or an empty list was not given, and the dataclass's own default holds. Lists become tuples.

        config = build(SearchConfig, context.params, beam_size=1)
    """
    names = {item.name for item in fields(record) if item.init}  # type: ignore[arg-type]
    given = {name: value for name, value in {**values, **overrides}.items() if name in names or name in overrides}
    return record(
        **{
            name: tuple(value) if isinstance(value, list) else value
            for name, value in given.items()
            if value is not None and value != [] and value != ()
        }
    )


def model_defaults(read: Callable[[Mapping[str, Any]], Mapping[str, object]]) -> Callable[[_Function], _Function]:
    """Decorate a command whose model brings defaults: `read` takes the parsed options and returns them by name.

    They fill the options that nobody has set before the command is called; names that are no option are left out.

        @model_defaults(lambda options: read_generation(options["model"]))
        def translate(model: options.Model, beam_size: BeamSize = SearchConfig.beam_size) -> None:
    """

    def mark(function: _Function) -> _Function:
        function.read_model_defaults = read  # type: ignore[attr-defined]
        return function

    return mark


def apply_model_defaults(context: "Context") -> None:
    """Put the model's defaults where only the built-in default stands; do nothing if the model is not named.

    Raises:
        ModelError: a value does not fit its option.
    """
    read = getattr(context.command.callback, "read_model_defaults", None)
    if read is None or any(item.required and not context.params.get(item.name) for item in _shown(context)):
        return
    values = read(context.params)
    for parameter in _shown(context):
        value = values.get(parameter.name)
        if value is None or is_given(context, parameter.name):
            continue
        try:
            context.params[parameter.name] = parameter.process_value(context, value)
        except typer.TyperException as error:
            raise ModelError(f"{MODEL_DEFAULTS_FILE}: {parameter.name}: {error.message}") from None
        _sources(context).from_model.add(parameter.name)


def load_config(context: "Context", path: Path) -> None:
    """Read a TOML file of option values and let them stand behind flags and environment.

    Raises:
        ConfigError: the file cannot be read, is not TOML, has a key that is no option of the command or is there twice,
            or a value of another kind than the option's.
    """
    import tomllib

    try:
        values = tomllib.loads(path.read_bytes().decode("utf-8-sig"))
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror})") from None
    except (ValueError, RecursionError) as error:  # not UTF-8, or not TOML
        raise ConfigError(f"{path}: is not TOML ({error})") from None
    keys = {key_of(item): item for item in _shown(context)}
    found: dict[str, object] = {}
    for key, value in values.items():
        name = key.replace("-", "_")
        if name not in keys:
            raise ConfigError(f"{path}: unknown key {key!r}{did_you_mean(name, keys)}")
        parameter = keys[name]
        if parameter.name in found:
            raise ConfigError(f"{path}: {name} is given twice, with _ and with -")
        found[parameter.name] = _fitting(value, parameter, f"{path}: {key}")
    context.default_map = found
    _sources(context).config_path = path


def is_given(context: "Context", name: str) -> bool:
    """Tell whether somebody set the option `name`: a flag, the environment or a configuration file."""
    source = context.get_parameter_source(name)
    return source is not None and source.name != "DEFAULT"


def origin_of(context: "Context", name: str) -> str:
    """Say in a few words where the value of the option `name` comes from."""
    source = context.get_parameter_source(name)
    match source.name if source is not None else "DEFAULT":
        case "COMMANDLINE":
            return "command line"
        case "ENVIRONMENT":
            parameters = context.command.get_params(context)  # with those that every command has
            return variable_of(context, next(item for item in parameters if item.name == name))
        case "DEFAULT_MAP":
            return str(_sources(context).config_path)
        case _:
            return MODEL_DEFAULTS_FILE if name in _sources(context).from_model else BUILT_IN


def rank_of(context: "Context", name: str) -> int:
    """How far up in the precedence of settings the value of an option stands; 0 where nobody has set it."""
    source = context.get_parameter_source(name)
    set_by = ("DEFAULT_MAP", "ENVIRONMENT", "COMMANDLINE")
    if source is not None and source.name in set_by:
        return 2 + set_by.index(source.name)
    return 1 if name in _sources(context).from_model else 0


def variable_of(context: "Context", parameter: "Parameter") -> str:
    """The environment variable that sets an option."""
    return f"{context.auto_envvar_prefix}_{key_of(parameter).upper()}"


def to_toml(context: "Context") -> str:
    """Every option of the running command with its value and origin, as TOML that -c reads."""
    lines = []
    for parameter in _shown(context):
        key, value = key_of(parameter), _plain(context.params.get(parameter.name))
        if value is None or value == []:
            missing = "required" if parameter.required else "not set"
            lines.append(f"# {key} =  # {missing}")
        else:
            lines.append(f"{key} = {_literal(value)}  # {origin_of(context, parameter.name)}")
    return "\n".join(lines) + "\n"


def key_of(parameter: "Parameter") -> str:
    """What the option is called in a configuration file: its long name, with underscores."""
    long_names = [name for name in parameter.opts if name.startswith("--")]
    return long_names[0][2:].replace("-", "_") if long_names else parameter.name


def _shown(context: "Context") -> "list[Parameter]":
    """The parameters that belong to the command itself; what every command has is no setting of it."""
    return [item for item in context.command.params if item.expose_value]


def _sources(context: "Context") -> _Sources:
    sources = context.meta.setdefault(_META_KEY, _Sources())
    assert isinstance(sources, _Sources)
    return sources


def _fitting(value: object, parameter: "Parameter", where: str) -> object:
    """Check the shape of a TOML value; what it says is checked by Typer like a flag's."""
    assert isinstance(parameter, TyperOption | TyperArgument)
    is_flag = isinstance(parameter, TyperOption) and parameter.is_flag
    takes_many = parameter.nargs != 1 or (isinstance(parameter, TyperOption) and parameter.multiple)
    if isinstance(value, dict):
        raise ConfigError(f"{where} is a table, but an option has one value")
    if is_flag != isinstance(value, bool):
        raise ConfigError(f"{where} must be {'true or false' if is_flag else 'a value, not true or false'}")
    if is_flag:
        return value
    if isinstance(value, list) and not takes_many:
        raise ConfigError(f"{where} is a list, but the option takes one value")
    if value == []:
        raise ConfigError(f"{where} is an empty list; leave the key out where there is nothing to say")
    items = value if isinstance(value, list) else [value]
    annotation = parameter.type_descriptor.annotation
    takes_number = (get_args(annotation) or (annotation,))[0] in (int, float)
    for item in items:
        if isinstance(item, bool) or not isinstance(item, (int, float, str) if takes_number else str):
            kind = "a number" if takes_number else "text, in quotes"
            raise ConfigError(f"{where} must be {kind}, not {item!s:.100}")
    return items if takes_many else value


def _literal(value: object) -> str:
    """A TOML value on one line."""
    import tomli_w

    if isinstance(value, list):
        return f"[{', '.join(_literal(item) for item in value)}]"
    return tomli_w.dumps({"key": value}).removeprefix("key = ").rstrip("\n")


def _plain(value: object) -> object:
    """The value in the types that TOML has."""
    match value:
        case Enum():
            return value.value
        case Path():
            return str(value)
        case list() | tuple():
            return [_plain(item) for item in value]
        case _:
            return value
