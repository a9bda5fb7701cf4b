"""A command with the options of another one: `pretrain` and `distill` train, so they take what `train` takes."""

import inspect
from collections.abc import Callable, Collection, Mapping
from functools import wraps

__all__ = ["with_options_of"]


def with_options_of(
    base: Callable[..., None], without: Collection[str] = ()
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Decorate a command so that it has the parameters of `base`, but for those in `without`, beside its own.

    A parameter of its own with the name of one of `base` stands in the place of that one; the others come first. The
    command itself is called with its own; it finds the values of all in `context.params`.

        @with_options_of(train)
        def distill(context: typer.Context, teacher: Annotated[Path, typer.Argument()]) -> None:
    """

    def extend(command: Callable[..., None]) -> Callable[..., None]:
        own = inspect.signature(command).parameters
        inherited = {name: item for name, item in inspect.signature(base).parameters.items() if name not in without}
        first = [name for name, item in own.items() if item.default is item.empty or name not in inherited]
        names = [*first, *(name for name in inherited if name not in first)]

        @wraps(command)
        def extended(**values: object) -> None:
            command(**{name: values[name] for name in own})

        parameters = [_keyword({**inherited, **own}, name) for name in names]
        extended.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        extended.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
        return extended

    return extend


def _keyword(parameters: Mapping[str, inspect.Parameter], name: str) -> inspect.Parameter:
    """A parameter that is passed by its name: among those, one without a default may follow one that has one."""
    return parameters[name].replace(kind=inspect.Parameter.KEYWORD_ONLY)
