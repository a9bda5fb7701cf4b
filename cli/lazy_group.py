"""A group whose commands are imported when they are called, not before: the help of the program loads none of them."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any

import typer
from typer.core import TyperCommand, TyperGroup

from cli.command import Command, tidy_help
from cli.edge import error_edge
from cli.plain_values import take_plain_values

if TYPE_CHECKING:  # Typer's own signatures speak of these; no name of its inside is needed to run
    from typer._click.core import Command as AnyCommand
    from typer._click.core import Context, Parameter

__all__ = ["EdgeGroup", "Entry", "LazyGroup"]


@dataclass(frozen=True)
class Entry:
    """A row of the table of commands."""

    name: str  # as typed
    summary: str  # its line in the help of the program
    panel: str | None = None  # under which heading of that help
    alias_of: str | None = None  # the command it stands for, whose name it takes in messages and in the environment
    is_hidden: bool = False  # works, but is not shown
    module: str = ""  # in cli/commands, if not called like the command
    attribute: str = ""  # its function, if not called like the module; or a typer.Typer with further commands
    entries: tuple["Entry", ...] = ()  # or the table of a group


class EdgeGroup(TyperGroup):
    """A group that lets no exception out: it prints the line and raises typer.Exit with the code of the kind.

    Typer's own main() and its test runner both call `make_context` and `invoke`, so they behave alike.
    """

    def make_context(
        self,
        info_name: str | None,
        args: list[str],
        parent: "Context | None" = None,
        **extra: Any,  # noqa: ANN401 - as Typer's
    ) -> "Context":
        """Parse the options before the command."""
        with error_edge():
            return super().make_context(info_name, args, parent, **extra)

    def invoke(self, ctx: "Context") -> Any:  # noqa: ANN401 - as Typer's
        """Find, parse and call the command."""
        with error_edge():
            return super().invoke(ctx)

    def get_params(self, ctx: "Context") -> "list[Parameter]":
        """Tidy the options, Typer's own among them, and let them take plain values."""
        options = super().get_params(ctx)
        for option in options:
            tidy_help(option)
            take_plain_values(option)
        return options


class LazyGroup(EdgeGroup):
    """A group that knows its commands from a table."""

    def __init__(self, **attributes: Any) -> None:  # noqa: ANN401 - whatever Typer hands on
        super().__init__(**attributes)
        self.entries: dict[str, Entry] = {}

    def add_entries(self, entries: Iterable[Entry]) -> None:
        """Take in a table; a command stands as a placeholder with its line of help until it is called."""
        for entry in entries:
            self.entries[entry.name] = entry
            self.commands[entry.name] = TyperCommand(
                name=entry.name, help=entry.summary, hidden=entry.is_hidden, rich_help_panel=entry.panel
            )

    def resolve_command(self, ctx: "Context", args: list[str]) -> "tuple[str | None, AnyCommand | None, list[str]]":
        """Import the command that is called."""
        name, command, rest = super().resolve_command(ctx, args)
        entry = self.entries.get(name or "")
        if entry is None or command is None:
            return name, command, rest
        return entry.alias_of or name, load(entry), rest


def load(entry: Entry) -> "AnyCommand":
    """Import what an entry names and make a command, or a group of commands, of it."""
    if entry.entries:
        lazy_group = LazyGroup(name=entry.name, help=entry.summary, no_args_is_help=True, suggest_commands=False)
        lazy_group.add_entries(entry.entries)
        return lazy_group
    name = entry.alias_of or entry.name
    module = entry.module or name
    target: typer.Typer | Callable[..., object] = getattr(
        import_module(f"cli.commands.{module}"), entry.attribute or module
    )
    if isinstance(target, typer.Typer):
        target.info.cls = EdgeGroup
        for command in target.registered_commands:
            command.cls = Command
        group = typer.main.get_group(target)
        group.no_args_is_help, group.suggest_commands = True, False
        return group
    app = typer.Typer(add_completion=False, rich_markup_mode="rich")
    app.command(name, cls=Command)(target)
    return typer.main.get_command(app)
