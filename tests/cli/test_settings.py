from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import pytest
import typer
from typer.testing import CliRunner, Result

from cli import decoding_options, options, settings
from cli.command import Command, reflow
from cli.lazy_group import EdgeGroup
from cli.main import app as whole_program


@dataclass(frozen=True, kw_only=True)
class SearchConfig:
    beam_size: int = 5
    length_penalty: float = 1.0
    names: tuple[str, ...] = ("none",)
    max_length: int | None = None
    width: int = 3


def read_generation(values: Mapping[str, Any]) -> Mapping[str, object]:
    assert values["model"] is not None
    return {"beam_size": 7, "length_penalty": "much" if values["model"] == Path("bad") else 0.5, "unknown": 1}


app = typer.Typer(cls=EdgeGroup, context_settings={"auto_envvar_prefix": "TRANSDUCE"})


@app.callback()
def program() -> None:
    """Hold the command."""


@app.command(cls=Command)
@settings.model_defaults(read_generation)
def search(
    context: typer.Context,
    model: options.Model,
    beam_size: decoding_options.BeamSize = SearchConfig.beam_size,
    length_penalty: decoding_options.LengthPenalty = SearchConfig.length_penalty,
    max_length: Annotated[int | None, typer.Option("--max-length")] = SearchConfig.max_length,
    names: Annotated[list[str] | None, typer.Option("--names")] = None,
    errors: options.Errors = "strict",
    greedy: Annotated[bool, typer.Option("--greedy")] = False,
    output: options.Output = options.STANDARD_STREAM,
    device: options.Device = "auto",
) -> None:
    """Show what arrives."""
    config = settings.build(SearchConfig, context.params, width=4)
    typer.echo(f"{config} {errors} {greedy} {settings.is_given(context, 'beam_size')} {beam_size} {length_penalty}")


def run(*arguments: str, environment: Mapping[str, str] | None = None) -> Result:
    return CliRunner().invoke(app, ["search", *arguments], env=environment)


def config_file(folder: Path, text: str) -> str:
    path = folder / "run.toml"
    path.write_text(text, encoding="utf-8")
    return str(path)


def test_a_flag_wins_over_environment_over_file_over_model_over_built_in(tmp_path: Path) -> None:
    path = config_file(tmp_path, "beam_size = 3\nlength-penalty = 0.25\n")
    environment = {"TRANSDUCE_SEARCH_BEAM_SIZE": "2"}
    for arguments, variables, beam_size, length_penalty in [
        (["-m", "x", "-c", path, "-b", "1"], environment, 1, 0.25),
        (["-m", "x", "-c", path], environment, 2, 0.25),
        (["-m", "x", "-c", path], {}, 3, 0.25),
        (["-m", "x"], {}, 7, 0.5),
    ]:
        result = run(*arguments, environment=variables)
        assert result.exit_code == 0, result.stderr
        assert f"beam_size={beam_size}, length_penalty={length_penalty}" in result.stdout
    assert "beam_size = 5  # built-in default" in run("--print-config").stdout


def test_print_config_names_every_origin_and_reads_back(tmp_path: Path) -> None:
    path = config_file(tmp_path, 'errors = "replace"\nnames = ["a b", "ü\\"]"]\n')
    printed = run(
        "-m", "x", "-c", path, "--beam", "1", "--print-config", environment={"TRANSDUCE_SEARCH_GREEDY": "1"}
    ).stdout
    assert printed.splitlines() == [
        'model = "x"  # command line',
        "beam_size = 1  # command line",
        "length_penalty = 0.5  # generation.json",
        "# max_length =  # not set",
        f'names = ["a b", "ü\\"]"]  # {path}',
        f'errors = "replace"  # {path}',
        "greedy = true  # TRANSDUCE_SEARCH_GREEDY",
        'output = "-"  # built-in default',
        'device = "auto"  # built-in default',
    ]
    again = run("-c", config_file(tmp_path, printed), "--print-config").stdout
    strip = [line.rpartition("#")[0] for line in printed.splitlines() if not line.startswith("#")]
    assert strip == [line.rpartition("#")[0] for line in again.splitlines() if not line.startswith("#")]


def test_print_config_asks_for_no_required_option_and_runs_nothing() -> None:
    result = run("--print-config")
    assert result.exit_code == 0
    assert result.stdout.startswith("# model =  # required\nbeam_size = 5  # built-in default\n")
    assert run().exit_code == 2  # and the command still requires it


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("beem_size = 3", "unknown key 'beem_size'; did you mean 'beam_size'?"),
        ("[search]\nbeam_size = 3", "unknown key 'search'"),
        ("beam_size = [3]", "beam_size is a list, but the option takes one value"),
        ("beam_size = true", "beam_size must be a value, not true or false"),
        ("beam_size = {a = 1}", "beam_size is a table, but an option has one value"),
        ("greedy = 1", "greedy must be true or false"),
        ("beam_size = ", "is not TOML"),
        ("beam_size = 0", "greater than or equal to 1"),
        ('errors = "replac"', "did you mean 'replace'?"),
        ("quiet = 1", "unknown key 'quiet'"),
        ("names = []", "names is an empty list; leave the key out"),
        ('names = [["a"]]', "names must be text, in quotes, not ['a']"),
        ('names = ["a", 3]', "names must be text, in quotes, not 3"),
        ("names = [{a = 1}]", "names must be text, in quotes, not {'a': 1}"),
        ("errors = 13", "errors must be text, in quotes, not 13"),
        ("device = 3", "device must be text, in quotes, not 3"),
        ("output = 1979-05-27", "output must be text, in quotes, not 1979-05-27"),
        ("beam_size = 1979-05-27", "beam_size must be a number, not 1979-05-27"),
        ("beam_size = 1\nbeam-size = 2", "beam_size is given twice, with _ and with -"),
    ],
)
def test_a_faulty_file_is_named_in_one_line(tmp_path: Path, text: str, message: str) -> None:
    path = config_file(tmp_path, text)
    result = run("-m", "x", "-c", path)
    assert result.exit_code == 2
    assert result.stderr.count("\n") == 1
    assert path in result.stderr
    assert message in result.stderr


def test_a_missing_file_and_a_folder_are_usage_errors(tmp_path: Path) -> None:
    assert run("-m", "x", "-c", str(tmp_path / "none.toml")).exit_code == 2
    assert run("-m", "x", "-c", str(tmp_path)).exit_code == 2


def test_a_wrong_value_in_the_environment_names_the_variable() -> None:
    result = run("-m", "x", environment={"TRANSDUCE_SEARCH_BEAM_SIZE": "many"})
    assert result.exit_code == 2
    assert "--beam-size (from TRANSDUCE_SEARCH_BEAM_SIZE)" in result.stderr


@pytest.mark.parametrize(
    "variable", ["VERBOSE", "QUIET", "DEBUG", "NO_COLOR", "HELP", "EVALUATE_VERBOSE", "EVALUATE_HELP"]
)
def test_a_wrong_value_of_an_option_that_every_command_has_is_one_line(variable: str) -> None:
    name = variable.removeprefix("EVALUATE_").lower().replace("_", "-")
    result = CliRunner().invoke(whole_program, ["evaluate", "ref", "-i", "hyp"], env={f"TRANSDUCE_{variable}": "maybe"})
    assert result.exit_code == 2
    assert result.stderr.startswith(f"transduce: error: --{name} (from TRANSDUCE_{variable}): must be a valid ")
    assert result.stderr.count("\n") == 1


def test_a_wrong_value_in_the_model_is_the_model_s_fault() -> None:
    result = run("-m", "bad")
    assert result.exit_code == 4
    assert "generation.json: length_penalty: " in result.stderr


def test_build_leaves_what_was_not_given_to_the_dataclass() -> None:
    values = {"beam_size": 2, "names": [], "max_length": None, "stranger": 1}
    assert settings.build(SearchConfig, values) == SearchConfig(beam_size=2)
    assert settings.build(SearchConfig, {"names": ["a"]}, width=9) == SearchConfig(names=("a",), width=9)
    with pytest.raises(TypeError):
        settings.build(SearchConfig, values, stranger=1)


def test_aliases_work_and_are_not_shown() -> None:
    assert "beam_size=4" in run("-m", "x", "--num-beams", "4").stdout
    help_text = run("--help").stdout
    assert "--beam-size" in help_text
    assert "--num-beams" not in help_text


def test_help_is_broken_where_the_terminal_ends() -> None:
    text = """Say
    it.

    - one
    - two
      goes on

        transduce example
        transduce example
    """
    assert reflow(text) == "Say it.\n\n- one\n- two\n  goes on\n\n    transduce example\n    transduce example"
