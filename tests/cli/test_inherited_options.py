import inspect

import pytest

from cli.commands.distill import distill
from cli.commands.train import train
from cli.inherited_options import with_options_of


def base(first: int, second: str = "b", unwanted: float = 0.0, *, third: bool = False) -> None:
    """Be inherited from."""


CALLS: list[tuple[int, int, str]] = []


@with_options_of(base, without=["unwanted"])
def command(place: int, own: int = 3, second: str = "mine") -> None:
    """Do something."""
    CALLS.append((place, own, second))


def test_a_command_has_the_parameters_of_both_and_its_own_where_both_have_one() -> None:
    parameters = inspect.signature(command).parameters
    defaults = {name: item.default for name, item in parameters.items()}
    empty = inspect.Parameter.empty
    assert list(defaults.items()) == [
        ("place", empty),
        ("own", 3),
        ("first", empty),
        ("second", "mine"),
        ("third", False),
    ]
    assert inspect.get_annotations(command) == {
        "place": int,
        "own": int,
        "first": int,
        "second": str,
        "third": bool,
    }
    assert (command.__name__, command.__doc__) == ("command", "Do something.")


def test_it_is_called_with_its_own() -> None:
    command(place=1, first=2, second="s", third=True, own=4)
    assert CALLS == [(1, 4, "s")]
    with pytest.raises(KeyError):
        command(first=2)


def test_whatever_train_takes_distill_takes() -> None:
    taken, given = inspect.signature(distill).parameters, inspect.signature(train).parameters
    assert list(taken)[:2] == ["context", "teachers"]
    # a teacher's text is one, without tags, and of lines
    assert set(given) - set(taken) == {"prepared", "weights", "tags", "input_format", "columns"}
    for name in set(given) & set(taken) - {"train_src", "train_tgt", "tokenizer", "context"}:
        assert (taken[name].annotation, taken[name].default) == (given[name].annotation, given[name].default)
