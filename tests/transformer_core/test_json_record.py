"""Records from JSON: what fits is taken, and whatever does not is a ConfigError that names it."""

from dataclasses import dataclass
from typing import Literal

import pytest

from transformer_core.errors import ConfigError
from transformer_core.json_record import build_record


@dataclass(frozen=True, kw_only=True)
class Inner:
    size: int


@dataclass(frozen=True, kw_only=True)
class Outer:
    inner: Inner
    names: tuple[str, ...] = ()
    pairs: tuple[tuple[int, int], ...] = ()
    kind: Literal["a", "b"] | None = None
    limit: int | None = None
    ratio: float = 1.0
    rest: dict[str, object] | None = None


def test_records_and_tuples_inside_are_built() -> None:
    values: object = {
        "inner": {"size": 3},
        "names": ["x"],
        "pairs": [[0, 1]],
        "kind": "a",
        "limit": None,
        "rest": {"k": []},
    }
    expected = Outer(inner=Inner(size=3), names=("x",), pairs=((0, 1),), kind="a", rest={"k": []})
    assert build_record(Outer, values, "it") == expected


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([], "it must be a JSON object"),
        ({}, "it: .*inner"),
        ({"inner": 3}, "inner is 3, which is not of its kind"),
        ({"inner": {"size": True}}, "size is True"),
        ({"inner": {"size": 1}, "names": "x"}, "names is 'x'"),
        ({"inner": {"size": 1}, "names": [1]}, r"names is \[1\]"),
        ({"inner": {"size": 1}, "pairs": [[1]]}, r"pairs is \[\[1\]\]"),
        ({"inner": {"size": 1}, "kind": 4}, "kind is 4"),
        ({"inner": {"size": 1}, "limit": "1"}, "limit is '1'"),
        ({"inner": {"size": 1}, "ratio": 10**400}, "ratio is 1000"),
        ({"inner": {"size": 1}, "ratio": True}, "ratio is True"),
        ({"inner": {"size": 1, "depth": 2}}, "unknown key 'depth' in inner"),
    ],
)
def test_what_does_not_fit_is_named(values: object, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build_record(Outer, values, "it")
