"""Processes that are killed or asked to end, and what the same command makes of what they left."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.program import program_environment, run_program
from tests.training_task import TINY_RUN, metrics_without_times, write_task

# Long enough to be hit: a step takes a few milliseconds.
OPTIONS = [*TINY_RUN, "--max-steps", "150", "--metric", "exact", "--patience", "0"]
RESULTS = ("model.safetensors", "config.json", "tokenizer.json", "generation.json", "training.toml")

# Imports all that training needs, once, and then forks a process for every run: starting Python and torch each time
# would take most of the test's time. A run is killed by SIGKILL at a random moment, again and again, until one ends.
KILLER = """
import os, random, signal, sys, time
import torch._dynamo  # which the first optimizer would load
from cli.main import main
from cli.commands import train
from transformer_core.experiments import train_from_text

seed, model, arguments = int(sys.argv[1]), sys.argv[2], sys.argv[3:]
choose = random.Random(seed)

def start():
    process = os.fork()
    if process == 0:
        sys.argv = ["transduce", "-q", "train", *arguments]
        main()
    return process

def size():
    path = os.path.join(model, "metrics.jsonl")
    return os.path.getsize(path) if os.path.exists(path) else 0

def latest():
    try:
        with open(os.path.join(model, "checkpoints", "LATEST")) as file:
            return int(file.read()[5:])
    except FileNotFoundError:
        return 0

for number in range(200):
    before, process = size(), start()
    ended, status = 0, 0
    if number < 40:
        began_at = time.monotonic()
        if number % 4:  # let it get into the loop; else it is hit while it prepares
            while not ended and size() <= before and time.monotonic() - began_at < 2:
                time.sleep(0.001)
                ended, status = os.waitpid(process, os.WNOHANG)
        if not ended:
            time.sleep(choose.random() * 0.05)
            os.kill(process, signal.SIGKILL)
    if not ended:
        _, status = os.waitpid(process, 0)
    if os.WIFEXITED(status):
        sys.exit(os.WEXITSTATUS(status))
    print(latest(), flush=True)
"""


@pytest.fixture(scope="module")
def task(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    source, target = write_task(tmp_path_factory.mktemp("task"))
    return ["-s", str(source), "-t", str(target)]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, task: list[str]) -> Path:
    """The model of a run that nobody disturbed."""
    folder = tmp_path_factory.mktemp("whole") / "model"
    outcome = run_program("train", *task, "-o", folder, *OPTIONS)
    assert outcome.code == 0, outcome.stderr
    return folder


def require_same(model: Path, whole: Path) -> None:
    for name in RESULTS:
        assert (model / name).read_bytes() == (whole / name).read_bytes(), name
    assert metrics_without_times(model) == metrics_without_times(whole)
    checkpoints = [sorted((folder / "checkpoints").rglob("*.safetensors")) for folder in (model, whole)]
    for one, other in zip(*checkpoints, strict=True):
        assert one.relative_to(model) == other.relative_to(whole)
        assert one.read_bytes() == other.read_bytes()
    assert not [path for path in model.rglob(".*")], "something half written stayed behind"


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system cannot fork")
@pytest.mark.parametrize("seed", [1, 2])
def test_a_run_that_was_killed_again_and_again_ends_as_one_that_was_not(
    tmp_path: Path, task: list[str], whole: Path, seed: int
) -> None:
    model = tmp_path / "model"
    run = subprocess.run(
        [sys.executable, "-c", KILLER, str(seed), str(model), *task, "-o", str(model), *OPTIONS],
        env=program_environment(),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    steps = [int(step) for step in run.stdout.split()]  # of the newest checkpoint after each kill
    assert len(steps) >= 5
    assert len(set(steps) - {0}) >= 3, "the kills hit training"
    assert steps == sorted(steps)
    require_same(model, whole)


def start(model: Path, task: list[str]) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(
        [sys.executable, "-m", "cli", "-q", "train", *task, "-o", str(model), *OPTIONS],
        env=program_environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def wait_for(path: Path, process: "subprocess.Popen[bytes]") -> None:
    while not path.exists():
        assert process.poll() is None, process.communicate()
        time.sleep(0.002)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGKILL, -signal.SIGKILL)]
)
def test_a_signal_ends_a_run_with_its_code_and_the_same_command_goes_on(
    tmp_path: Path, task: list[str], whole: Path, number: int, code: int
) -> None:
    model = tmp_path / "model"
    process = start(model, task)
    wait_for(model / "checkpoints" / "LATEST", process)
    process.send_signal(number)
    stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == code
    assert stdout == b""
    if number != signal.SIGKILL:
        step = int((model / "checkpoints" / "LATEST").read_text()[5:])
        line = f"interrupted at step {step}; everything is saved, the same command goes on from there"
        assert stderr.decode() == f"transduce: warning: {line}\n"
    outcome = run_program("train", *task, "-o", model, *OPTIONS)
    assert outcome.code == 0, outcome.stderr
    assert "going on from step " in outcome.stderr
    require_same(model, whole)


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_while_the_text_is_prepared_leaves_nothing(
    tmp_path: Path, task: list[str], number: int, code: int
) -> None:
    model = tmp_path / "model"
    for name in ("train.src", "train.tgt"):
        (tmp_path / name).write_text("a b c d e f g h\n" * 400_000)
    process = start(model, ["-s", str(tmp_path / "train.src"), "-t", str(tmp_path / "train.tgt")])
    wait_for(model, process)
    process.send_signal(number)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == code
    assert stderr.count(b"\n") == 1
    assert {path.name for path in tmp_path.iterdir()} == {"train.src", "train.tgt"}
