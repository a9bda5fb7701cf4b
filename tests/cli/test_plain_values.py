"""Plain values are taken without pydantic, as Typer's own converter would have taken them; the rest is its business."""

import subprocess
import sys
from enum import Enum
from pathlib import Path
from typing import Annotated, Literal

import pytest
import typer
from typer.testing import CliRunner

from cli.command import Command
from tests.program import program_environment


class Choice(Enum):
    one = "1"
    two = "2"


found: dict[str, object] = {}


def command(
    number: Annotated[int, typer.Option("--number", min=1, max=9)] = 5,
    ratio: Annotated[float, typer.Option("--ratio", min=0)] = 1.0,
    text: Annotated[str, typer.Option("--text")] = "",
    path: Annotated[Path | None, typer.Option("--path", readable=False)] = None,
    kind: Annotated[Literal["a", "b"], typer.Option("--kind")] = "a",
    choices: Annotated[list[Choice] | None, typer.Option("--choice")] = None,
    numbers: Annotated[list[int] | None, typer.Option("--numbers")] = None,
    even: Annotated[int, typer.Option("--even", parser=lambda text: int(text) * 2)] = 4,
    is_on: Annotated[bool, typer.Option("--on/--off")] = False,
) -> None:
    """Note what was given."""
    found.update(locals())


def outcome(arguments: list[str], *, plain: bool) -> tuple[int, str, dict[str, object]]:
    app = typer.Typer(add_completion=False)
    app.command(cls=Command if plain else None)(command)
    found.clear()
    run = CliRunner().invoke(app, arguments)
    return run.exit_code, run.output.partition("Error")[2], dict(found)


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["--number", "9", "--ratio", "2", "--text", "7", "--path", "p/q", "--kind", "b", "--on"],
        ["--choice", "1", "--choice", "2", "--numbers", "3", "--numbers", "-4", "--even", "3", "--ratio", "0.25"],
        ["--number", "10"],
        ["--number", "0"],
        ["--number", " 7"],
        ["--number", "7.0"],
        ["--number", "1_0"],
        ["--number", "x"],
        ["--ratio", "-0.5"],
        ["--ratio", "1e3"],
        ["--ratio", "nan"],
        ["--kind", "c"],
        ["--choice", "one"],
        ["--numbers", "x"],
        ["--even", "x"],
    ],
)
def test_values_are_those_of_typer(arguments: list[str]) -> None:
    assert outcome(arguments, plain=True) == outcome(arguments, plain=False)


def test_plain_values_load_no_pydantic() -> None:
    code = (
        "import sys, typer\n"
        "from tests.cli.test_plain_values import Command, command\n"
        "sys.modules.pop('pydantic', None)\n"
        "before = set(sys.modules)\n"
        "app = typer.Typer(add_completion=False)\n"
        "app.command(cls=Command)(command)\n"
        "app(['--number', '3', '--ratio', '2', '--choice', '1', '--path', 'x', '--even', '2'], standalone_mode=False)\n"
        "print('pydantic' in set(sys.modules) - before)"
    )
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=program_environment(), check=False
    )
    assert run.stdout == "False\n", run.stderr
