"""Values that need no converter: what an option was given is taken as it stands, where one can see that it fits.

Typer has pydantic convert the value of every option, which takes longer to load than Typer itself. Most values are
plain, though: the option's own default, "5" for a number, a text, a path. These are converted here; every other one,
whatever is wrong with it included, goes to Typer's converter, which says in its own words what it thinks of it.
"""

import re
from collections.abc import Sequence
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args, get_origin

from typer.core import TyperArgument, TyperOption

if TYPE_CHECKING:  # Typer's own signatures speak of these; no name of its inside is needed to run
    from typer._click.core import Context, Parameter
    from typer._coercion import RuntimeParam
    from typer.models import ParameterInfo

__all__ = ["take_plain_values"]

_NOT_PLAIN = object()
_NUMBERS: dict[type, str] = {int: r"-?[0-9]{1,18}", float: r"-?[0-9]{1,18}(\.[0-9]{1,18})?"}


def take_plain_values(parameter: "Parameter") -> None:
    """Let an option or argument take plain values without a converter."""
    if isinstance(parameter, TyperOption | TyperArgument) and "get_runtime_param" not in vars(parameter):
        plain = _PlainFirst(parameter)
        parameter.get_runtime_param = lambda: plain  # type: ignore[method-assign, assignment, return-value]


class _PlainFirst:
    """Stands where Typer asks for a converter."""

    def __init__(self, parameter: TyperOption | TyperArgument) -> None:
        self._parameter = parameter
        self._converter = parameter.get_runtime_param  # made when it is first asked for

    def coerce(self, value: object, param: "Parameter", ctx: "Context") -> Any:  # noqa: ANN401 - as Typer's
        """Convert a value."""
        plain = self._plain(value)
        if plain is not _NOT_PLAIN:
            return plain
        converter: RuntimeParam = self._converter()
        return converter.coerce(value, param=param, ctx=ctx)  # type: ignore[arg-type]

    def _plain(self, value: object) -> object:
        parameter, kind = self._parameter, self._parameter.type_descriptor
        is_many = getattr(parameter, "multiple", False) or parameter.nargs == -1
        if value is None:
            return () if is_many else None
        if kind.file_annotation is not None:
            return _NOT_PLAIN
        if (parser := kind.parameter_info.parser) is not None:
            try:
                return parser(value) if isinstance(value, str) and not is_many else _NOT_PLAIN
            except Exception:
                return _NOT_PLAIN
        annotation: Any = kind.annotation
        if get_origin(annotation) is list and is_many and isinstance(value, list | tuple):
            item_kind = get_args(annotation)[0]
            items = [plain_value(item, item_kind, kind.choices or (), kind.parameter_info) for item in value]
            return _NOT_PLAIN if _NOT_PLAIN in items else items
        return plain_value(value, annotation, kind.choices or (), kind.parameter_info)


def plain_value(value: object, kind: object, choices: Sequence[object], info: "ParameterInfo") -> object:
    """Convert one value, or give _NOT_PLAIN.

    Args:
        value: a text from outside, or a default.
        kind: what the option's annotation says.
        choices: the only values there are; () where there are others.
        info: what else was said of the option.
    """
    if choices:
        names = {choice.value if isinstance(choice, Enum) else choice: choice for choice in choices}
        return names.get(value.value if isinstance(value, Enum) else value, _NOT_PLAIN)
    if kind in (int, float) and isinstance(kind, type):
        return _plain_number(value, kind, info)
    if kind is str:
        return value if isinstance(value, str) else _NOT_PLAIN
    is_checked = (
        info.exists or info.readable or info.writable or info.resolve_path or not (info.file_okay and info.dir_okay)
    )
    if kind is Path and isinstance(value, str | Path) and not is_checked:
        return Path(value)
    return _NOT_PLAIN


def _plain_number(value: object, kind: type, info: "ParameterInfo") -> object:
    if isinstance(value, str) and re.fullmatch(_NUMBERS[kind], value):
        value = kind(value)
    if type(value) is not kind or info.clamp:
        return _NOT_PLAIN
    assert isinstance(value, int | float)
    is_within = (info.min is None or value >= info.min) and (info.max is None or value <= info.max)
    return value if is_within else _NOT_PLAIN
