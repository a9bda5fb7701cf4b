"""`translate --engine ray` on a cluster of this machine; skipped where Ray is missing, or cannot start here."""

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.test_translate import invoke
from tests.program import Outcome, program_environment, run_program
from tests.transformer_core.decoding.random_model import random_lines, save_word_model

pytest.importorskip("ray")

LINES = [*random_lines(60, seed=8), "", *random_lines(30, seed=9), " ".join(random_lines(30))]
FLAGS = ["--buffer-size", "8", "--max-length", "12", "--threads", "1", "--greedy"]
STARTS_WITHIN_SECONDS = 120


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The variables for programs that use a cluster with two cores; it ends with the tests."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    settings = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_agent_register_timeout_ms": "120000", "OMP_NUM_THREADS": "1"}
    size = ["--num-cpus", "2", "--object-store-memory", "100000000", "--include-dashboard", "false"]
    place = ["--node-ip-address", "127.0.0.1", "--port", str(port), "--temp-dir", str(Path("/tmp", f"ray-{port}"))]
    process = subprocess.Popen(
        [sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block", *size, *place],
        env=program_environment(**settings),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    variables = {**settings, "RAY_ADDRESS": f"127.0.0.1:{port}", "CLUSTER": str(process.pid)}
    try:
        probe_code = "import ray; ray.init(log_to_driver=False); print(ray.cluster_resources()['CPU'])"
        ends_at = time.monotonic() + STARTS_WITHIN_SECONDS
        while True:
            environment = program_environment(**variables)
            probing = [sys.executable, "-c", probe_code]
            if subprocess.run(probing, env=environment, capture_output=True, check=False).returncode == 0:
                break
            if time.monotonic() > ends_at or process.poll() is not None:
                pytest.skip("Ray does not start here")
        yield variables
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(timeout=60)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_word_model(tmp_path_factory.mktemp("ray") / "model", max_source_length=40)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("ray") / "source"
    path.write_text("".join(f"{line}\n" for line in LINES), encoding="utf-8")
    return path


def translate(cluster: dict[str, str], *arguments: str | Path) -> Outcome:
    return run_program("translate", *FLAGS, "--engine", "ray", *arguments, variables=cluster, timeout_seconds=300)


@pytest.mark.slow
def test_a_cluster_writes_what_one_process_does(
    cluster: dict[str, str], model: Path, source: Path, tmp_path: Path
) -> None:
    flags: list[str | Path] = ["-m", model, "-i", source, "-i", source, "--format", "jsonl"]
    one, found = invoke(*flags, *FLAGS), translate(cluster, *flags, "-o", tmp_path / "out")
    assert found.code == one[0] == 0, found.stderr
    assert (tmp_path / "out").read_text(encoding="utf-8") == one[1]
    assert found.stderr == one[2]
    assert os.listdir(tmp_path) == ["out"]


@pytest.mark.slow
def test_faults_are_said_as_by_one_process(cluster: dict[str, str], model: Path, source: Path, tmp_path: Path) -> None:
    flags: list[str | Path] = ["-m", model, "-i", source, "--long-input", "error"]
    one, found = invoke(*flags, *FLAGS), translate(cluster, *flags)
    assert (found.code, found.stdout.decode(), found.stderr) == one
    assert found.code == 3
    found = translate(cluster, "-m", model, "-i", source, "--workers", "3")
    assert found.code == 2
    assert "the Ray cluster has room for 2 workers with 1 CPU each; give fewer --workers" in found.stderr


@pytest.mark.slow
def test_what_a_worker_that_died_had_to_do_is_done_again(
    cluster: dict[str, str], model: Path, source: Path, tmp_path: Path
) -> None:
    many = tmp_path / "many"
    many.write_text(source.read_text(encoding="utf-8") * 30, encoding="utf-8")
    flags: list[str | Path] = ["-m", model, "-i", many, *FLAGS]
    where = ["-o", tmp_path / "out", "--resume", "--engine", "ray", "-qq"]
    process = subprocess.Popen(
        [sys.executable, "-m", "cli", "translate", *map(str, [*flags, *where])],
        env=program_environment(**cluster),
        stderr=subprocess.PIPE,
    )
    part = tmp_path / "out.part"
    while process.poll() is None and not (part.exists() and part.stat().st_size):
        time.sleep(0.01)
    assert kill_an_actor(int(cluster["CLUSTER"]))
    _, stderr = process.communicate(timeout=300)
    assert process.returncode == 0, stderr.decode()
    assert (tmp_path / "out").read_text(encoding="utf-8") == invoke(*flags)[1]


def kill_an_actor(cluster: int) -> bool:
    """Kill one of our workers; Ray names their processes by the class and the method."""
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            process = int(path.parent.name)
            if re.match(rb"ray::Worker\b", path.read_bytes()) and os.getsid(process) == cluster:
                os.kill(process, signal.SIGKILL)
                return True
        except OSError:
            continue
    return False


def test_a_cluster_that_is_not_there_is_one_line(model: Path, source: Path) -> None:
    variables = {"RAY_ADDRESS": "127.0.0.1:1"}
    outcome = run_program(
        "translate", "-m", model, "-i", source, "--engine", "ray", variables=variables, timeout_seconds=300
    )
    assert outcome.code == 2
    assert outcome.stderr.startswith("transduce: error: there is no Ray cluster at RAY_ADDRESS (")
    assert outcome.stderr.count("\n") == 1
