"""The program as a whole: its table, its help, --version, completion, and command lines that do not parse."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from benchmarks.startup import LIMIT, measure_startup
from cli.lazy_group import Entry
from cli.main import COMMANDS, LIBRARY_SETTINGS, app, main
from tests.program import program_environment, run_program
from tests.test_layers import HEAVY

LEAVES = [(entry,) for entry in COMMANDS if not entry.entries] + [
    (entry, child) for entry in COMMANDS for child in entry.entries
]


def complete(words: str, folder: Path | None = None) -> list[str]:
    """What bash offers for the last word."""
    variables = {
        "_TRANSDUCE_COMPLETE": "complete_bash",
        "COMP_WORDS": words,
        "COMP_CWORD": str(len(words.split(" ")) - 1),
    }
    return run_program(variables=variables, folder=folder).stdout.decode().split()


def test_the_libraries_beneath_torch_are_set_up_but_for_what_the_user_set(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[str, str | None] = {}
    monkeypatch.setattr(
        "cli.main.run", lambda _: seen.update({name: os.environ.get(name) for name in LIBRARY_SETTINGS})
    )
    for name in LIBRARY_SETTINGS:
        monkeypatch.setenv(name, "of the user")  # and put back
    main()
    assert set(seen.values()) == {"of the user"}
    for name in LIBRARY_SETTINGS:
        monkeypatch.delenv(name)
    main()
    assert seen == LIBRARY_SETTINGS


def test_a_width_of_none_is_that_of_no_terminal() -> None:
    assert run_program("--help", variables={"COLUMNS": "0"}) == run_program("--help", variables={"COLUMNS": ""})


@pytest.mark.parametrize("flag", ["--help", "-h"])
def test_the_help_imports_nothing_heavy(flag: str) -> None:
    code = (
        "import sys\nfrom cli.main import app\nfrom typer.testing import CliRunner\n"
        f"result = CliRunner().invoke(app, [{flag!r}])\nassert result.exit_code == 0\n"
        f"print(*sorted(set(sys.modules) & set({HEAVY!r})))"
    )
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=program_environment(), check=True
    )
    assert run.stdout.split() == []


@pytest.mark.slow
def test_the_help_takes_little_more_time_than_that_of_an_empty_program() -> None:
    # The best of three: what else the machine does can only add to it.
    assert min(figures["transduce --help"] / figures["empty"] for figures in map(measure_startup, (5, 5, 5))) <= LIMIT


def test_the_help_of_no_command_loads_torch() -> None:
    words = [[entry.name for entry in entries] for entries in LEAVES]
    code = (
        "import sys\nfrom cli.main import app\nfrom typer.testing import CliRunner\n"
        f"for words in {words!r}:\n"
        "    result = CliRunner().invoke(app, [*words, '--help'])\n"
        "    assert result.exit_code == 0, (words, result.stderr)\n"
        "    assert 'torch' not in sys.modules, words\n"
    )
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=program_environment(), check=False
    )
    assert run.stderr == ""


@pytest.mark.parametrize("entries", LEAVES, ids=lambda entries: " ".join(entry.name for entry in entries))
def test_a_command_says_what_it_does(entries: tuple[Entry, ...]) -> None:
    result = CliRunner().invoke(app, [*(entry.name for entry in entries), "-h"])
    assert result.exit_code == 0
    name = " ".join(entry.alias_of or entry.name for entry in entries)
    assert f"Usage: transduce {name} [OPTIONS]" in " ".join(result.stdout.split()).replace("root ", "transduce ")


def test_without_a_command_comes_the_help_and_a_usage_code() -> None:
    run = run_program()
    assert run.code == 2
    assert b"translate" in run.stdout
    assert run.stderr == ""


def test_version() -> None:
    run = run_program("--version")
    assert (run.code, run.stderr) == (0, "")
    assert run.stdout.startswith(b"transduce ")
    assert run.stdout.count(b"\n") == 1


def test_version_tells_more_when_asked() -> None:
    for arguments in (["--version", "-v"], ["-v", "--version"]):
        lines = run_program(*arguments).stdout.decode().splitlines()
        assert [line.split()[0] for line in lines] == ["transduce", "Python", "torch", "device"]


def test_version_warns_of_a_package_that_is_not_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "cli.version.metadata.packages_distributions", lambda: {"tokenizer": ["stranger", "transduce"], "cli": []}
    )
    result = CliRunner().invoke(app, ["--version"])
    assert result.exit_code == 0
    assert "the package 'tokenizer' is also installed by stranger" in result.stderr
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["trian"], "no such command 'trian'; did you mean 'train'? (see 'transduce --help')"),
        (["inspect", "modle"], "no such command 'modle'; did you mean 'model'? (see 'transduce inspect --help')"),
        (["--verbos"], "no such option '--verbos'; did you mean '--verbose'? (see 'transduce --help')"),
        (["-v"], "missing command (see 'transduce --help')"),
        (["xyzzy"], "no such command 'xyzzy' (see 'transduce --help')"),
        (["translate", "--path", "m"], "no such option '--path'; fairseq's --path is --model here"),
        (["translate", "--beem-size", "3"], "no such option '--beem-size'; did you mean '--beam-size'?"),
        (["translate"], "--model is missing"),
        (["translate", "-m"], "option '-m' requires an argument"),
        (["translate", "-m", "x", "-b", "many"], "--beam-size: must be a valid integer"),
        (["translate", "-m", "x", "-b", "0"], "--beam-size: must be greater than or equal to 1"),
        (
            ["translate", "-m", "x", "--format", "jsonn"],
            "--format: 'jsonn' is not one of text, tsv, jsonl, moses; did you",
        ),
        (["translate", "-m", "x", "--device", "gpu"], "--device: 'gpu' is no device; use auto, cpu, cuda"),
    ],
)
def test_a_command_line_that_does_not_parse_is_one_line(arguments: list[str], line: str) -> None:
    run = run_program(*arguments)
    assert run.code == 2
    assert run.stderr.startswith(f"transduce: error: {line}")
    assert run.stderr.count("\n") == 1
    assert run.stdout == b""


def test_options_before_and_after_the_command_and_underscores() -> None:
    for arguments in (["-qq", "translate", "--print_config"], ["translate", "-qq", "--no-color", "--print-config"]):
        run = run_program(*arguments)
        assert (run.code, run.stderr) == (0, "")
        assert b"beam_size = 5  # built-in default" in run.stdout


def test_a_list_in_the_environment_has_spaces_between_its_values_and_colons_between_paths() -> None:
    variables = {"TRANSDUCE_EVALUATE_METRICS": "bleu ter", "TRANSDUCE_EVALUATE_INPUT": "one.hyp:two.hyp"}
    printed = run_program("evaluate", "--print-config", variables=variables).stdout.decode()
    assert 'metrics = ["bleu", "ter"]  # TRANSDUCE_EVALUATE_METRICS' in printed
    assert 'input = ["one.hyp", "two.hyp"]  # TRANSDUCE_EVALUATE_INPUT' in printed


def test_an_alias_is_its_command() -> None:
    variables = {"TRANSDUCE_TRANSLATE_BEAM_SIZE": "3"}
    for name in ("translate", "decode", "predict", "generate"):
        run = run_program(name, "--print-config", variables=variables)
        assert b"beam_size = 3  # TRANSDUCE_TRANSLATE_BEAM_SIZE" in run.stdout
    hidden = run_program("--help").stdout.decode()
    assert "decode" in hidden
    assert "predict" not in hidden


def test_completion() -> None:
    assert complete("transduce tra") == ["train", "translate"]
    assert complete("transduce inspect m") == ["model"]
    assert complete("transduce evaluate -m c") == ["chrf", "cer"]
    deep = ["tiny-6-2", "small-6-2", "base-6-2", "base-12-1"]
    assert complete("transduce train --arch ") == ["auto", "tiny", "small", "base", "big", *deep]
    assert complete("transduce translate --device c") == ["cpu", "cuda", "cuda:0"]
    assert "--beam-size" in complete("transduce translate --be")


def test_models_and_their_checkpoints_are_completed(tmp_path: Path) -> None:
    for name in ("en-de", "models/en-fr", "models/old/en-de", "a/b/c/d/too-deep", ".hidden", "models/old/en-de/inside"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "config.json").touch()
    (tmp_path / "empty").mkdir()
    for step in (500, 4000):
        (tmp_path / f"en-de/checkpoints/step-{step:08d}").mkdir(parents=True)
    assert complete("transduce translate -m ", tmp_path) == ["en-de", "models/en-fr", "models/old/en-de"]
    assert complete("transduce translate -m e", tmp_path) == ["en-de"]
    assert complete("transduce translate -m ./e", tmp_path) == ["./en-de"]
    assert complete("transduce score -m models/", tmp_path) == ["models/en-fr", "models/old/en-de"]
    assert complete("transduce inspect model models/o", tmp_path) == ["models/old/en-de"]
    assert complete(f"transduce train --init-from {tmp_path}/en", tmp_path) == [f"{tmp_path}/en-de"]
    assert complete("transduce translate -m missing/", tmp_path) == []
    assert complete("transduce translate -m en-de --checkpoint ", tmp_path) == ["best", "last", "500", "4000"]
    assert complete("transduce translate -m en-de --checkpoint 4", tmp_path) == ["4000"]
    assert complete("transduce translate --checkpoint ", tmp_path) == ["best", "last"]
