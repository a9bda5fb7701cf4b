"""Dataclasses from parsed JSON, which may hold anything: a model folder or a socket may be damaged or hostile."""

import reprlib
from dataclasses import fields, is_dataclass
from types import NoneType, UnionType
from typing import Any, Literal, TypeGuard, TypeVar, Union, get_args, get_origin

from transformer_core.errors import ConfigError

__all__ = ["build_record", "fits"]

MAX_EXACT = 1 << 53  # an integer above may be no float, or another one
_Record = TypeVar("_Record")


def build_record(record: type[_Record], values: object, where: str) -> _Record:
    """Make a record, those inside it too; lists become tuples where its fields are tuples.

    Args:
        record: a dataclass.
        values: what was parsed.
        where: what messages call the values.

    Raises:
        ConfigError: a key is unknown or missing, or a value has another type than its field.
    """
    if not isinstance(values, dict):
        raise ConfigError(f"{where} must be a JSON object")
    known = {item.name: item.type for item in fields(record)}  # type: ignore[arg-type]
    if unknown := sorted(set(values) - set(known)):
        raise ConfigError(f"unknown key {reprlib.repr(unknown[0])} in {where}")
    found = {}
    for key, value in values.items():
        try:
            found[key] = _fitting(value, known[key], key)
        except TypeError:
            raise ConfigError(f"{key} is {reprlib.repr(value)}, which is not of its kind") from None
    try:
        return record(**found)
    except TypeError as error:  # a required key is missing
        raise ConfigError(f"{where}: {error}") from None


def _fitting(value: object, kind: Any, name: str) -> object:  # noqa: ANN401 - a type as it stands in an annotation
    """Give a JSON value the type of a field.

    Raises:
        ConfigError: in a record inside something is wrong.
        TypeError: it has another type.
    """
    if get_origin(kind) in (Union, UnionType):  # something or None
        return None if value is None else _fitting(value, get_args(kind)[0], name)
    if isinstance(kind, type) and is_dataclass(kind) and isinstance(value, dict):
        return build_record(kind, value, name)
    if get_origin(kind) is tuple and isinstance(value, list | tuple):
        kinds = get_args(kind)
        kinds = (kinds[0],) * len(value) if kinds[-1] is Ellipsis else kinds
        if len(kinds) != len(value):
            raise TypeError
        return tuple(_fitting(item, item_kind, name) for item, item_kind in zip(value, kinds, strict=True))
    if not fits(value, kind):
        raise TypeError
    return value


def _is_integer(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool)


def fits(value: object, kind: object) -> bool:
    """Tell whether a value out of a file has the type of a field."""
    if get_origin(kind) in (Union, UnionType):
        return any(fits(value, choice) for choice in get_args(kind))
    if kind is NoneType:
        return value is None
    if get_origin(kind) is Literal:
        return isinstance(value, str)
    if get_origin(kind) is tuple:
        return isinstance(value, tuple) and all(fits(item, get_args(kind)[0]) for item in value)
    if kind is float:
        return isinstance(value, float) or (_is_integer(value) and abs(value) <= MAX_EXACT)
    if kind is int:
        return _is_integer(value)
    kind = get_origin(kind) or kind  # dict[str, object]: what is inside is the reader's to look at
    return isinstance(kind, type) and isinstance(value, kind)
