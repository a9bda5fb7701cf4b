import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.cli.test_train import invoke, train
from tests.program import program_environment
from tests.training_task import TINY_RUN, reversed_strings, write_lines, write_task
from transformer_core.model_files import read_json, write_json


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a model, and lines."""
    folder = tmp_path_factory.mktemp("place")
    source, target = write_task(folder)
    train("-s", source, "-t", target, "-o", folder / "teacher", *TINY_RUN)
    return folder


def test_one_command_makes_a_student(place: Path, tmp_path: Path) -> None:
    student = tmp_path / "student"
    options = [*TINY_RUN, "--max-steps", "4", "--d-model", "8", "--beam-size", "2"]
    code, stdout, stderr = invoke("distill", place / "teacher", "-s", place / "train.src", "-o", student, *options)
    assert (code, stdout) == (0, "")
    said = stderr.splitlines()
    assert said[0].startswith("the teacher translated 200 lines into ")
    assert said[0].endswith(" pairs (beam 2, length penalty avg 1)")
    assert said[-1].startswith(f"all 4 steps are done; the model is in {student}: transduce translate -m {student}")
    assert read_json(student / "metadata.json")["teacher"]["search"]["beam_size"] == 2
    _, shown, _ = invoke("inspect", "model", student)
    assert f"taught by           {place}/teacher (sha256 " in shown
    code, _, stderr = invoke("distill", place / "teacher", "-s", place / "train.src", "-o", student, *options)
    assert (code, stderr) == (0, f"training of {student} is finished; --overwrite starts anew\n")


def test_the_teacher_searches_as_it_was_saved_to(place: Path, tmp_path: Path) -> None:
    teacher = shutil.copytree(place / "teacher", tmp_path / "teacher")
    write_json(teacher / "generation.json", {"max_length_ratio": 1.5, "beam_size": 3, "max_length": 40, "seed": 9})
    arguments: list[str | Path] = ["-s", place / "train.src", "-o", tmp_path / "student", "--print-config"]
    code, stdout, stderr = invoke("distill", teacher, *arguments)
    assert (code, stderr) == (0, "")
    assert "beam_size = 3  # generation.json" in stdout
    assert "max_length = 256  # built-in default" in stdout, "that of training pairs"
    assert "seed = 1  # built-in default" in stdout
    write_json(teacher / "generation.json", {"greedy": True})
    assert "beam_size = 1  # generation.json" in invoke("distill", teacher, *arguments)[1]


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["nobody", "-s", "train.src"], 4, "nobody: does not exist"),
        (["teacher", "-s", "none"], 3, "none: there is no such file"),
        (["teacher", "-s", "train.src", "-t", "short.tgt"], 3, "train.src has 200 lines but short.tgt has 3"),
        (["teacher", "-s", "train.src", "--n-best", "9"], 2, "n_best (9) must not exceed beam_size (5)"),
        (["teacher"], 2, "--train-src is missing"),
        (["-s", "train.src"], 2, "TEACHER is missing"),
    ],
)
def test_every_error_is_one_line_and_leaves_nothing(
    place: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], code: int, message: str
) -> None:
    monkeypatch.chdir(place)
    write_lines(place / "short.tgt", ["a", "b", "c"])
    found, stdout, stderr = invoke("distill", *arguments, "-o", "student")
    assert (found, stdout, stderr.count("\n")) == (code, "", 1), stderr
    assert message in stderr
    assert not (place / "student").exists()


NUM_LINES = 2500


def arguments(place: Path, folder: Path) -> list[str]:
    """A long text for a quick search."""
    if not (place / "long.src").exists():
        write_lines(place / "long.src", reversed_strings(NUM_LINES, seed=7)[0])
    run = [*TINY_RUN, "--max-steps", "2", "--beam-size", "2", "-o", str(folder)]
    return ["distill", str(place / "teacher"), "-s", str(place / "long.src"), *run]


@pytest.fixture(scope="module")
def whole(place: Path) -> Path:
    """A student whose teacher was never interrupted."""
    assert invoke(*arguments(place, place / "whole"))[0] == 0
    return place / "whole"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGKILL, -signal.SIGKILL)]
)
def test_a_signal_while_the_teacher_translates_costs_little(
    place: Path, whole: Path, tmp_path: Path, number: signal.Signals, code: int
) -> None:
    student = tmp_path / "student"
    process = subprocess.Popen(
        [sys.executable, "-m", "cli", "-q", *arguments(place, student)],
        env=program_environment(),
        stderr=subprocess.PIPE,
    )
    progress = student / "distilled" / "progress.json"
    while not progress.exists():
        assert process.poll() is None, process.communicate()
        time.sleep(0.002)
    process.send_signal(number)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == code
    num_lines = json.loads(progress.read_text())["num_lines"]
    assert 0 < num_lines < NUM_LINES
    if number != signal.SIGKILL:
        assert stderr.decode() == (
            f"transduce: warning: interrupted after {num_lines:,} of {NUM_LINES:,} lines were translated; the same "
            "command goes on from there\n"
        )
    found, _, said = invoke(*arguments(place, student))
    assert found == 0, said
    assert f"going on after {num_lines:,} lines that " in said
    for name in ("distilled/train.src", "distilled/train.tgt", "model.safetensors"):
        assert (student / name).read_bytes() == (whole / name).read_bytes()
