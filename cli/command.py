"""The class of every command: what all of them can do, on top of Typer's.

- Long names after the first are aliases that the help does not show (`--beam` for `--beam-size`).
- -c/--config, --print-config, -q, -v, --no-color and --debug are there without being declared.
- A command that has a model's defaults (`settings.model_defaults`) is called with them in place.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from inspect import cleandoc
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_args

import typer
from typer.core import TyperArgument, TyperCommand, TyperOption

from cli import console, settings
from cli.plain_values import take_plain_values

if TYPE_CHECKING:  # Typer's own signatures speak of these; no name of its inside is needed to run
    from typer._click.core import Context, Parameter
    from typer._click.parser import _OptionParser

__all__ = ["Command", "Debug", "NoColor", "Quiet", "Verbose", "reflow", "tidy_help"]

GENERAL = "General"


def _load_config(context: typer.Context, path: Path | None) -> None:
    if path is not None and not context.resilient_parsing:
        settings.load_config(context, path)


def _be_quiet(level: int) -> None:
    if level:
        console.configure(quiet=level)


def _be_verbose(level: int) -> None:
    if level:
        console.configure(verbose=level)


def _be_colorless(is_wanted: bool) -> None:
    if is_wanted:
        console.configure(color=False)


Quiet = Annotated[
    int,
    typer.Option(
        "--quiet",
        "-q",
        count=True,
        callback=_be_quiet,
        expose_value=False,
        show_default=False,
        metavar="",
        help="Say nothing but results, warnings and errors; -qq: no warnings either.",
        rich_help_panel=GENERAL,
    ),
]
Verbose = Annotated[
    int,
    typer.Option(
        "--verbose",
        "-v",
        count=True,
        callback=_be_verbose,
        expose_value=False,
        show_default=False,
        metavar="",
        help="Say more.",
        rich_help_panel=GENERAL,
    ),
]
NoColor = Annotated[
    bool,
    typer.Option(
        "--no-color",
        callback=_be_colorless,
        expose_value=False,
        help="No colour; NO_COLOR and TERM=dumb say the same.",
        rich_help_panel=GENERAL,
    ),
]
Debug = Annotated[
    bool,
    typer.Option(
        "--debug",
        expose_value=False,
        help="Show the traceback of an error; TRANSDUCE_DEBUG=1 says the same.",
        rich_help_panel=GENERAL,
    ),
]


class Command(TyperCommand):
    """A command of transduce."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 - whatever Typer hands on
        super().__init__(*args, **kwargs)
        self.help = reflow(self.help or "")
        self.aliases: dict[str, list[str]] = {}
        for parameter in self.params:
            if isinstance(parameter, TyperOption):
                self._tidy(parameter)
            tidy_help(parameter)
            take_plain_values(parameter)
        own_names = {name for item in self.params for name in (*item.opts, *item.secondary_opts)}
        for parameter in _general_options():
            if not own_names.intersection(parameter.opts):
                self.params.append(parameter)

    def _tidy(self, option: TyperOption) -> None:
        """Keep the first long name and the short ones for the help, the other long ones as aliases."""
        long_names = [name for name in option.opts if name.startswith("--")]
        self.aliases[option.name] = long_names[1:]
        option.opts = [name for name in option.opts if name not in long_names[1:]]

    def get_help_option(self, ctx: "Context") -> TyperOption | None:
        """Show -h/--help with the other options that every command has."""
        option = super().get_help_option(ctx)
        if option is not None:
            option.rich_help_panel, option.metavar = GENERAL, ""
            take_plain_values(option)
        return option

    def make_parser(self, ctx: "Context") -> "_OptionParser":
        """Make the parser and teach it the aliases."""
        parser = super().make_parser(ctx)
        for option in self.params:
            if aliases := self.aliases.get(option.name):
                shown, option.opts = (option.opts, option.secondary_opts), aliases
                option.secondary_opts = []
                option.add_to_parser(parser, ctx)
                option.opts, option.secondary_opts = shown
        return parser

    def parse_args(self, ctx: "Context", args: list[str]) -> list[str]:
        """Parse; --print-config asks for no required option, because there is nothing to be done with it."""
        for option in self.params:
            # Typer would name the variable after the parameter of the function, which may be called otherwise.
            if isinstance(option, TyperOption) and option.allow_from_autoenv:
                option.envvar = settings.variable_of(ctx, option)
        if not _is_config_wanted(args):
            return super().parse_args(ctx, args)
        with _nothing_required(self.params):
            return super().parse_args(ctx, args)

    def invoke(self, ctx: "Context") -> Any:  # noqa: ANN401 - as Typer's
        """Complete the settings from the model's defaults; print them, or call the command with them."""
        settings.apply_model_defaults(ctx)
        if ctx.meta.pop(_PRINT_CONFIG, False):
            console.write(settings.to_toml(ctx))
            raise typer.Exit
        return super().invoke(ctx)


# What stands for a value in the help where the option itself does not say.
PLACEHOLDERS: dict[object, str] = {bool: "", int: "N", float: "NUMBER", str: "TEXT", Path: "PATH"}


def tidy_help(parameter: "Parameter") -> None:
    """Say in the help what the user types, not what Python calls it, and no variable that its option tells anyway."""
    if isinstance(parameter, TyperArgument):
        parameter.display_type_rich = lambda ctx: None  # type: ignore[method-assign]
    if not isinstance(parameter, TyperOption):
        return
    parameter.show_envvar = False
    if parameter.metavar is None:
        kind = parameter.type_descriptor
        if kind.choices is not None:
            parameter.metavar = "|".join(str(choice) for choice in kind.choices)
        elif not kind.is_tuple:
            item = kind.annotation if not kind.is_list else get_args(kind.annotation)[0]
            parameter.metavar = PLACEHOLDERS.get(item)


def reflow(text: str) -> str:
    """Join the lines of each paragraph, which the terminal breaks where it ends; list items and indented lines stay.

    Rich keeps the line breaks of a docstring, and those fit the source, not the terminal.
    """
    paragraphs = (re.sub(r"(?<=\S)\n(?![ -])", " ", paragraph) for paragraph in cleandoc(text).split("\n\n"))
    return "\n\n".join(paragraphs)


_PRINT_CONFIG = "cli.command.print_config"


def _note_print_config(context: typer.Context, is_wanted: bool) -> None:
    context.meta[_PRINT_CONFIG] = is_wanted


def _is_config_wanted(args: list[str]) -> bool:
    """Tell whether --print-config is among the arguments, before they are parsed."""
    options = args[: args.index("--")] if "--" in args else args
    return any(argument.replace("_", "-") == "--print-config" for argument in options)


@contextmanager
def _nothing_required(parameters: "list[Parameter]") -> Iterator[None]:
    """Let required parameters be left out while the block runs."""
    required = [item for item in parameters if item.required]
    for parameter in required:
        parameter.required = False
    try:
        yield
    finally:
        for parameter in required:
            parameter.required = True


@cache
def _general_options() -> "list[Parameter]":
    """The options that every command has, made by Typer from a signature like any other."""

    def command(
        config: Annotated[
            Path | None,
            typer.Option(
                "--config",
                "-c",
                metavar="FILE",
                readable=False,
                is_eager=True,
                callback=_load_config,
                expose_value=False,
                help="TOML file of option values; flags and TRANSDUCE_* variables win over it.",
                rich_help_panel=GENERAL,
            ),
        ] = None,
        print_config: Annotated[
            bool,
            typer.Option(
                "--print-config",
                callback=_note_print_config,
                expose_value=False,
                help="Print every value and where it comes from, in a form that -c reads, and end.",
                rich_help_panel=GENERAL,
            ),
        ] = False,
        quiet: Quiet = 0,
        verbose: Verbose = 0,
        no_color: NoColor = False,
        debug: Debug = False,
    ) -> None:
        """Carry the options."""

    app = typer.Typer(add_completion=False)
    app.command()(command)
    options = typer.main.get_command(app).params
    for option in options:
        tidy_help(option)
        take_plain_values(option)
    return options
