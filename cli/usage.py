"""One line for a command line that does not parse: what is wrong with it, and what was meant."""

from typing import TYPE_CHECKING

import typer
from typer.core import TyperGroup, TyperOption

from cli.suggestions import did_you_mean, foreign_name

if TYPE_CHECKING:  # Typer's own messages carry these; no name of its inside is needed to run
    from typer._click.core import Context, Parameter

__all__ = ["describe_usage_error"]


def describe_usage_error(error: typer.TyperException) -> str:
    """The line for an error that Typer raised while it read the command line; "" if all is said already."""
    if type(error).__name__ == "NoArgsIsHelpError":  # a group without a command: its help was printed
        return ""
    context: Context | None = getattr(error, "ctx", None)
    parameter: Parameter | None = getattr(error, "param", None)
    if isinstance(error, typer.BadParameter) and parameter is not None:
        text = _describe_value(error, parameter, context)
    elif hasattr(error, "possibilities"):  # an option that does not exist
        text = _describe_option(str(getattr(error, "option_name", "")), context)
    else:
        text = _sentence(error.format_message()) + _nearest_command(error, context)
    return f"{text} (see '{_path(context)} --help')" if context is not None else text


def _describe_option(name: str, context: "Context | None") -> str:
    """An option that the command does not have."""
    parameters = context.command.get_params(context) if context is not None else []
    names = [shown for item in parameters for shown in (*item.opts, *item.secondary_opts)]
    hint = foreign_name(name, names) or did_you_mean(name, [shown for shown in names if shown.startswith("--")])
    return f"no such option {name!r}{hint}"


def _describe_value(error: typer.BadParameter, parameter: "Parameter", context: "Context | None") -> str:
    """A value that its option does not take, or a value that is missing."""
    is_option = isinstance(parameter, TyperOption)
    label = max(parameter.opts, key=len) if is_option else (parameter.metavar or parameter.name.upper())
    choices = [str(choice) for choice in getattr(parameter, "type_descriptor").choices or ()]  # noqa: B009 - untyped
    if type(error).__name__ == "MissingParameter":
        return f"{label} is missing" + (f"; it is one of {', '.join(choices)}" if choices else "")
    where = ""
    if context is not None:
        from cli.settings import origin_of

        origin = origin_of(context, parameter.name)
        where = "" if origin == "command line" else f" (from {origin})"
    value = _quoted(error.message)
    if choices and value is not None:
        return f"{label}{where}: {value!r} is not one of {', '.join(choices)}{did_you_mean(value, choices)}"
    return f"{label}{where}: {_sentence(error.message)}"


def _nearest_command(error: typer.TyperException, context: "Context | None") -> str:
    """The command that was meant, if the error is about one."""
    word = _quoted(error.message)
    if context is None or word is None or not isinstance(context.command, TyperGroup):
        return ""
    visible = [name for name, command in context.command.commands.items() if not command.hidden]
    return did_you_mean(word, visible)


def _quoted(message: str) -> str | None:
    """The word that a message of Typer's puts between quotes first."""
    parts = message.split("'")
    return parts[1] if len(parts) > 2 else None


def _sentence(message: str) -> str:
    """A message of Typer's in our form: no capital, no full stop, and "input" is an option of ours."""
    text = " ".join(message.split()).rstrip(".").replace("Input should be", "must be")
    return text[:1].lower() + text[1:]


def _path(context: "Context") -> str:
    """The words that lead to the command: "transduce tokenizer train"."""
    names = []
    node: Context | None = context
    while node is not None:
        names.append(node.info_name or "")
        node = node.parent
    return " ".join(reversed(names))
