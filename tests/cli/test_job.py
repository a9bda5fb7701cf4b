"""`torchrun … -m cli train`: the same model, the same files and the same words as from one process."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.program import Outcome, program_environment, run_program
from tests.training_task import TINY_RUN, metrics_without_times, write_lines, write_task
from transformer_core.model_files import read_json

TORCHRUN = [sys.executable, "-m", "torch.distributed.run"]
ONE_NODE = ["--standalone", "--nproc-per-node", "2"]
LONG_RUN = [*TINY_RUN, "--max-steps", "150", "--patience", "0"]


Job = subprocess.Popen[str]


def start(*arguments: str | Path, launch: list[str] = ONE_NODE, inside: tuple[str, ...] = ()) -> Job:
    """Start `transduce` in a job of two processes."""
    return subprocess.Popen(
        [*inside, *TORCHRUN, *launch, "-m", "cli", *map(str, arguments)],
        env=program_environment(OMP_NUM_THREADS="1"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process: Job, timeout_seconds: float = 120) -> Outcome:
    """Wait for a job, which may not hang."""
    stdout, stderr = process.communicate(timeout=timeout_seconds)
    return Outcome(process.returncode, stdout.encode(), stderr)


def said_by_us(outcome: Outcome) -> list[str]:
    """The lines of the program among those of torchrun."""
    return [line for line in outcome.stderr.splitlines() if line.startswith("transduce: ")]


def wait_for(path: Path, process: Job) -> None:
    while not path.exists():
        assert process.poll() is None, process.communicate()
        time.sleep(0.005)


def worker(process: Job, rank: int) -> int:
    """The process of a rank of a running job, on the machine of this test."""
    for path in Path("/proc").glob("[0-9]*"):
        try:
            parent = int(re.sub(r".*\) . ", "", (path / "stat").read_text()).split()[0])
            if parent == process.pid and f"\0RANK={rank}\0" in f"\0{(path / 'environ').read_text()}":
                return int(path.name)
        except OSError:
            continue
    raise AssertionError(f"there is no rank {rank}")


def files_of(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


@pytest.fixture(scope="module")
def task(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    source, target = write_task(tmp_path_factory.mktemp("task"))
    return ["-s", str(source), "-t", str(target)]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, task: list[str]) -> Path:
    """What one process makes of the same batches."""
    folder = tmp_path_factory.mktemp("whole") / "model"
    outcome = run_program("train", *task, "-o", folder, *LONG_RUN, "--accumulate", "2")
    assert outcome.code == 0, outcome.stderr
    return folder


def require_same(model: Path, whole: Path) -> None:
    """The sum of two numbers is the same in any order, so two processes equal one to the last bit."""
    assert files_of(model) == files_of(whole)
    for name in files_of(whole):
        if name.endswith(".safetensors") or name in ("config.json", "generation.json", "tokenizer.json"):
            assert (model / name).read_bytes() == (whole / name).read_bytes(), name
    assert metrics_without_times(model) == metrics_without_times(whole)
    one, other = (read_json(folder / "metadata.json")["training"] for folder in (model, whole))
    assert {**one, "seconds": 0} == {**other, "seconds": 0}


@pytest.mark.slow
def test_a_job_leaves_and_says_what_one_process_does(tmp_path: Path, task: list[str], whole: Path) -> None:
    outcome = finish(start("train", *task, "-o", tmp_path / "model", *LONG_RUN))
    assert outcome.code == 0, outcome.stderr
    assert outcome.stdout == b""
    lines = outcome.stderr.splitlines()
    assert "up to 150 steps; fp32 on cpu with 1 threads in each of 2 processes, seed 1" in outcome.stderr
    for line in ("valid at step 5 ", "step 3/150 ", "all 150 steps are done", "learned a joint word vocabulary"):
        assert len([said for said in lines if said.startswith(line)]) == 1, line
    assert not said_by_us(outcome)
    require_same(tmp_path / "model", whole)
    again = finish(start("train", *task, "-o", tmp_path / "model", *LONG_RUN))
    assert again.code == 0
    assert again.stderr.count("is finished; --overwrite starts anew") == 1


@pytest.mark.slow
@pytest.mark.parametrize("rank", [0, 1])
def test_after_a_kill_torchrun_starts_all_again_from_the_last_checkpoint(
    tmp_path: Path, task: list[str], whole: Path, rank: int
) -> None:
    model = tmp_path / "model"
    if rank:  # what the job overwrites is what was there before it
        assert run_program("train", *task, "-o", model, *TINY_RUN).code == 0
        (model / "checkpoints" / "LATEST").unlink()
    process = start("train", *task, "-o", model, *LONG_RUN, "--overwrite", launch=[*ONE_NODE, "--max-restarts", "1"])
    wait_for(model / "checkpoints" / "LATEST", process)
    os.kill(worker(process, rank), signal.SIGKILL)
    outcome = finish(process)
    assert outcome.code == 0, outcome.stderr
    assert "going on from step " in outcome.stderr
    require_same(model, whole)


@pytest.mark.slow
def test_after_a_kill_the_job_ends_and_one_process_goes_on(tmp_path: Path, task: list[str], whole: Path) -> None:
    model = tmp_path / "model"
    process = start("train", *task, "-o", model, *LONG_RUN)
    wait_for(model / "checkpoints" / "LATEST", process)
    os.kill(worker(process, 1), signal.SIGKILL)
    assert finish(process, 60).code == 1
    alone = run_program("train", *task, "-o", model, *LONG_RUN)
    assert alone.code == 0, alone.stderr
    assert "going on from step " in alone.stderr
    require_same(model, whole)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_to_torchrun_saves_and_the_same_command_goes_on(
    tmp_path: Path, task: list[str], whole: Path, number: int
) -> None:
    model = tmp_path / "model"
    process = start("train", *task, "-o", model, *LONG_RUN)
    wait_for(model / "checkpoints" / "LATEST", process)
    process.send_signal(number)
    outcome = finish(process)
    assert outcome.code != 0
    step = int((model / "checkpoints" / "LATEST").read_text()[5:])
    line = f"interrupted at step {step}; everything is saved, the same command goes on from there"
    assert said_by_us(outcome) == [f"transduce: warning: {line}"]
    outcome = finish(start("train", *task, "-o", model, *LONG_RUN))
    assert outcome.code == 0, outcome.stderr
    require_same(model, whole)


@pytest.mark.slow
def test_an_error_names_the_rank_and_leaves_nothing(tmp_path: Path) -> None:
    source = write_lines(tmp_path / "train.src", ["a b", "c"])
    target = write_lines(tmp_path / "train.tgt", ["b a"])
    outcome = finish(start("train", "-s", source, "-t", target, "-o", tmp_path / "model", *TINY_RUN), 60)
    assert outcome.code != 0
    lines = said_by_us(outcome)
    assert lines[0].startswith("transduce: error: rank 0 of 2: "), outcome.stderr
    lost = "transduce: error: rank 1 of 2: another process of the job has ended"
    assert all(line.startswith(lost) for line in lines[1:])
    assert not (tmp_path / "model").exists()


@pytest.fixture
def hosts() -> Iterator[list[str]]:
    """Two hosts on one machine: network namespaces, joined by a cable."""
    names = [f"transduce-{os.getpid()}-{number}" for number in (1, 2)]

    def ip(*words: str) -> None:
        subprocess.run(["ip", *words], check=True, capture_output=True, text=True)

    if shutil.which("ip") is None:
        pytest.skip("there is no command ip")
    try:
        try:
            for name in names:
                ip("netns", "add", name)
            ip("link", "add", "cable", "netns", names[0], "type", "veth", "peer", "name", "cable", "netns", names[1])
            for number, name in enumerate(names, 1):
                ip("-n", name, "address", "add", f"10.213.71.{number}/24", "dev", "cable")
                ip("-n", name, "link", "set", "cable", "up")
                ip("-n", name, "link", "set", "lo", "up")
        except subprocess.CalledProcessError as error:
            pytest.skip(f"no network namespaces can be made here: {error.stderr.strip()}")
        yield names
    finally:
        for name in names:
            subprocess.run(["ip", "netns", "delete", name], check=False, capture_output=True)


@pytest.mark.slow
def test_two_hosts_train_one_model(tmp_path: Path, task: list[str], whole: Path, hosts: list[str]) -> None:
    model = tmp_path / "model"
    processes = [
        start(
            "train",
            *task,
            "-o",
            model,
            *LONG_RUN,
            launch=[
                *("--nnodes", "2", "--nproc-per-node", "1", "--node-rank", str(number)),
                *("--master-addr", "10.213.71.1", "--master-port", "29400"),
            ],
            inside=("ip", "netns", "exec", host, "env", "GLOO_SOCKET_IFNAME=cable"),
        )
        for number, host in enumerate(hosts)
    ]
    outcomes = [finish(process) for process in processes]
    assert [outcome.code for outcome in outcomes] == [0, 0], "\n".join(outcome.stderr for outcome in outcomes)
    assert "all 150 steps are done" in outcomes[0].stderr
    assert "steps are done" not in outcomes[1].stderr, "only the first process speaks"
    require_same(model, whole)
