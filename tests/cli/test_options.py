"""The options of every command are data beside this file, so that a new one is a visible decision.

After such a decision: python -m tests.cli.test_options > tests/cli/options.json
"""

import json
import re
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest
from typer.core import TyperCommand, TyperGroup, TyperOption

from cli.command import Command
from cli.foreign_options import FOREIGN_OPTIONS
from cli.lazy_group import Entry, load
from cli.main import COMMANDS

OPTIONS_FILE = Path(__file__).with_name("options.json")

GENERAL = ["--config -c", "--print-config", "--quiet -q", "--verbose -v", "--no-color", "--debug"]


def commands(entries: tuple[Entry, ...] = COMMANDS, path: str = "") -> Iterator[tuple[str, TyperCommand]]:
    """Every command by the words that call it."""
    for entry in entries:
        name = f"{path} {entry.name}".strip()
        if entry.alias_of is not None:
            continue
        if entry.entries:
            yield from commands(entry.entries, name)
            continue
        if find_spec(f"cli.commands.{entry.module or entry.name}") is None:
            continue  # tests/cli/test_main.py says so, once
        command = load(entry)
        children = command.commands.items() if isinstance(command, TyperGroup) else [("", command)]
        for child_name, child in children:
            assert isinstance(child, TyperCommand)
            yield f"{name} {child_name}".strip(), child


def spell(command: TyperCommand) -> list[str]:
    """The arguments and options of a command as typed, aliases in parentheses."""
    spelled = []
    for item in command.params:
        if not item.expose_value:
            continue
        if not isinstance(item, TyperOption):
            spelled.append(item.name)
            continue
        names = " ".join(sorted((*item.opts, *item.secondary_opts), key=lambda name: not name.startswith("--")))
        aliases = command.aliases[item.name] if isinstance(command, Command) else []
        spelled.append(f"{names} ({' '.join(aliases)})" if aliases else names)
    return spelled


def all_options() -> dict[str, list[str]]:
    """What the data file holds."""
    return {name: spell(command) for name, command in commands()}


def test_the_options_are_those_that_were_decided_on() -> None:
    assert all_options() == json.loads(OPTIONS_FILE.read_text(encoding="utf-8"))


COMMANDS_BY_NAME = dict(commands())
OPTIONS = {
    f"{name} {option.name}": option
    for name, command in COMMANDS_BY_NAME.items()
    for option in command.params
    if isinstance(option, TyperOption) and option.expose_value
}


@pytest.mark.parametrize("name", OPTIONS)
def test_an_option_keeps_the_conventions(name: str) -> None:
    option = OPTIONS[name]
    assert option.help, "says what it does"
    assert option.help.endswith((".", ".)")), "in a sentence"
    assert not re.search(r"(?<!\\)\[[a-z]", option.help), "has no brackets: Rich takes them for markup and drops them"
    assert option.rich_help_panel, "stands under a heading"
    long_names = [name for name in (*option.opts, *option.secondary_opts) if name.startswith("--")]
    assert long_names, "has a long name"
    assert not any("_" in name or name != name.lower() for name in long_names), "in kebab-case"
    if "Path" in str(option.type_descriptor.annotation):
        assert not option.type_descriptor.parameter_info.readable, "leaves it to the library whether a file can be read"


@pytest.mark.parametrize("name", COMMANDS_BY_NAME)
def test_every_command_has_the_general_options_and_clashes_with_none(name: str) -> None:
    command = COMMANDS_BY_NAME[name]
    general = [" ".join(item.opts) for item in command.params if not item.expose_value]
    assert general == GENERAL
    names = [shown for item in command.params for shown in (*item.opts, *item.secondary_opts)]
    assert len(names) == len(set(names))


def test_what_other_tools_call_an_option_leads_to_one_of_ours() -> None:
    accepted = [set(re.findall(r"--[\w-]+", " ".join(spell(command)))) for command in COMMANDS_BY_NAME.values()]
    for foreign, (_, ours) in FOREIGN_OPTIONS.items():
        for name in re.findall(r"--[\w-]+", ours):
            assert any(name in names for names in accepted), f"no command has {name}, named for {foreign}"
        if ours.startswith("--"):
            name = ours.split()[0]
            assert any(name in names and foreign not in names for names in accepted), f"{foreign} is an alias"


if __name__ == "__main__":
    sys.stdout.write(json.dumps(all_options(), indent=2) + "\n")
