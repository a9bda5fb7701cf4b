"""`translate --workers`: several processes, the output of one."""

import os
import re
import select
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from tests.cli.test_translate import invoke
from tests.program import program_environment
from tests.transformer_core.decoding.random_model import random_lines, save_word_model, word_model, word_tokenizer
from transformer_core.config import StackConfig
from transformer_core.model import Transformer
from transformer_core.model_directory import weights_of
from transformer_core.model_files import save_architecture
from transformer_core.weight_file import write_weights

LINES = [*random_lines(60, seed=8), "", *random_lines(30, seed=9), " ".join(random_lines(30))]
FLAGS = ["--buffer-size", "8", "--max-length", "12", "--threads", "1"]
TWO = ["--workers", "2"]
WITHIN_SECONDS = 60


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_word_model(tmp_path_factory.mktemp("workers") / "model", max_source_length=40)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("workers") / "source"
    path.write_text("".join(f"{line}\n" for line in LINES), encoding="utf-8")
    return path


def start(model: Path, *arguments: str | Path, **streams: int) -> "subprocess.Popen[bytes]":
    command = [sys.executable, "-m", "cli", "translate", "-m", str(model), *FLAGS, *map(str, arguments)]
    stdin, stdout = streams.get("stdin"), streams.get("stdout")
    return subprocess.Popen(command, env=program_environment(), stdin=stdin, stdout=stdout, stderr=subprocess.PIPE)


def children(parents: list[int]) -> list[int]:
    """Name the processes that others have started."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            if int(re.sub(r"(?s).*\) . ", "", path.read_text()).split()[0]) in parents:
                found.append(int(path.parent.name))
        except OSError:  # it has ended
            continue
    return sorted(found)


def workers_of(process: "subprocess.Popen[bytes]", number: int = 2) -> list[int]:
    """Wait for so many forks of what a program has started, and name them; before them what they are forks of."""
    ends_at = time.monotonic() + WITHIN_SECONDS
    while time.monotonic() < ends_at:
        hosts = children([process.pid])
        if len(workers := children(hosts)) == number:
            return hosts + workers
        time.sleep(0.01)
    raise AssertionError(f"there are no {number} workers")


def require_gone(workers: list[int]) -> None:
    ends_at = time.monotonic() + WITHIN_SECONDS
    while left := [worker for worker in workers if Path(f"/proc/{worker}").exists()]:
        assert time.monotonic() < ends_at, f"{left} live on"
        time.sleep(0.01)


@pytest.mark.slow
@pytest.mark.parametrize(
    "flags",
    [
        ["--greedy"],
        ["-b", "3", "--n-best", "2", "--format", "moses"],
        ["--format", "tsv", "--alignments"],
        ["--format", "jsonl", "--per-token", "--sample"],
    ],
    ids=" ".join,
)
def test_two_write_what_one_does(model: Path, source: Path, tmp_path: Path, flags: list[str]) -> None:
    """In every form, from two files, to standard output; warnings are the same, too."""
    other = tmp_path / "other"
    other.write_text("ba be\n\nbi\n" * 7, encoding="utf-8")
    arguments: list[str | Path] = ["-m", model, "-i", source, "-i", other, *FLAGS, *flags]
    one, two = invoke(*arguments), invoke(*arguments, *TWO)
    assert two == one
    assert one[0] == 0
    assert "too long for the model" in one[2]


def test_what_json_asks_for_a_line_goes_along(model: Path, tmp_path: Path) -> None:
    rows = [
        '{"id": 12345678901234567890.10, "text": "ba be", "target_prefix": "da"}',
        '{"text": "bi", "avoid": ["go"]}',
    ]
    path = tmp_path / "rows"
    path.write_text("".join(f"{row}\n" for row in rows * 10), encoding="utf-8")
    arguments: list[str | Path] = ["-m", model, "-i", path, "--input-format", "jsonl", *FLAGS]
    one, two = invoke(*arguments), invoke(*arguments, *TWO)
    assert two == one
    assert '"id": 12345678901234567890.10' in two[1]
    assert '"translation": "da' in two[1]


@pytest.mark.slow
def test_parts_and_resumed_parts_are_those_of_one(model: Path, source: Path, tmp_path: Path) -> None:
    whole = invoke("-m", model, "-i", source, *FLAGS)[1]
    parts = [tmp_path / "1", tmp_path / "2"]
    for number, part in enumerate(parts, 1):
        arguments: list[str | Path] = ["-i", source, "-o", part, "--shard", f"{number}/2", "--resume"]
        process = start(model, *arguments, *TWO)
        while process.poll() is None and not (tmp_path / f"{number}.part").exists():
            time.sleep(0.001)
        process.kill()
        process.communicate()
        assert invoke("-m", model, *FLAGS, *arguments, "--workers", str(number))[0] == 0
    assert "".join(part.read_text(encoding="utf-8") for part in parts) == whole
    assert sorted(os.listdir(tmp_path)) == ["1", "2"]


def test_a_line_is_answered_before_the_next_is_there(model: Path) -> None:
    process = start(model, "--greedy", *TWO, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdin is not None and process.stdout is not None
    for line in (b"ba be\n", b"\n", b"di\n"):
        process.stdin.write(line)
        process.stdin.flush()
        assert select.select([process.stdout], [], [], WITHIN_SECONDS)[0], "there is no answer"
        assert process.stdout.readline().endswith(b"\n")
    assert process.communicate()[0] == b""
    assert process.returncode == 0


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "code", "line"),
    [
        (signal.SIGKILL, 5, "transduce: error: a process that translated was killed, perhaps for want of memory; use"),
        (signal.SIGTERM, 1, "transduce: error: a process that translated was ended by SIGTERM; run the same command"),
    ],
)
def test_a_worker_that_dies_ends_the_job(model: Path, tmp_path: Path, number: int, code: int, line: str) -> None:
    process = start(model, "-o", tmp_path / "out", *TWO, stdin=subprocess.PIPE)
    workers = workers_of(process)
    assert process.stdin is not None
    os.kill(workers[1], number)
    _, stderr = process.communicate(input=b"ba be\n" * 1000, timeout=WITHIN_SECONDS)
    assert process.returncode == code
    assert stderr.decode().startswith(line)
    assert stderr.count(b"\n") == 1
    require_gone(workers)
    assert not os.listdir(tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "code", "line"),
    [
        (signal.SIGINT, 130, b"transduce: warning: interrupted\n"),
        (signal.SIGTERM, 143, b"transduce: warning: terminated\n"),
        (signal.SIGKILL, -9, b""),
    ],
)
def test_a_signal_ends_the_workers_too(model: Path, number: int, code: int, line: bytes) -> None:
    """Though the input has not ended; killed, the program can end nobody, but they notice."""
    process = start(model, *TWO, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdin is not None and process.stdout is not None
    workers = workers_of(process)
    process.stdin.write(b"ba be\n")
    process.stdin.flush()
    assert process.stdout.readline()
    process.send_signal(number)
    assert process.wait(timeout=WITHIN_SECONDS) == code
    assert process.communicate()[1] == line
    require_gone(workers)


def test_nobody_who_reads_ends_the_workers_quietly(model: Path) -> None:
    process = start(model, *TWO, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdin is not None and process.stdout is not None
    workers = workers_of(process)
    process.stdout.close()
    process.stdin.write(b"ba be\n")
    process.stdin.flush()
    assert process.wait(timeout=WITHIN_SECONDS) == 141
    process.stdin.close()
    assert process.stderr is not None
    with process.stderr:
        assert process.stderr.read() == b""
    require_gone(workers)


def test_the_weights_are_there_once(tmp_path: Path) -> None:
    """Also those that decoding has laid out anew: of these a worker holds nothing of its own."""
    stack, folder = StackConfig(num_layers=2, d_model=512, num_heads=4, d_ff=2048), tmp_path / "wide"
    config = replace(word_model().config, encoder=stack, decoder=stack)
    folder.mkdir()
    save_architecture(folder, config, word_tokenizer(), word_tokenizer())
    write_weights(folder / "model.safetensors", weights_of(Transformer(config)))
    size = (folder / "model.safetensors").stat().st_size
    process = start(folder, "--greedy", *TWO, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    workers = workers_of(process)[1:]
    assert process.stdin is not None and process.stdout is not None
    for _ in range(20):  # for both of them
        process.stdin.write(b"ba be\n")
        process.stdin.flush()
        assert process.stdout.readline()
    rows = [row for worker in workers for row in Path(f"/proc/{worker}/smaps_rollup").read_text().split("\n")]
    own = sum(int(row.split()[1]) * 1024 for row in rows if row.startswith("Private_Dirty"))
    process.communicate()
    assert size > 1 << 25
    assert own < size / 2


def test_what_a_worker_finds_fault_with_is_said_as_by_one(model: Path, source: Path, tmp_path: Path) -> None:
    """The file and the line are named, what came before is written, and the code is that of the fault."""
    flags = ["--long-input", "error", *FLAGS]
    one, two = (invoke("-m", model, "-i", source, *flags, *more) for more in ([], TWO))
    assert two == one
    assert two[0] == 3
    assert f"{source}:{len(LINES)}: has " in two[2]
    (tmp_path / "broken").mkdir()
    for name in ("config.json", "tokenizer.json"):
        (tmp_path / "broken" / name).write_bytes((model / name).read_bytes())
    code, stdout, stderr = invoke("-m", tmp_path / "broken", *FLAGS, *TWO)
    assert (code, stdout) == (4, "")
    assert re.fullmatch(r"transduce: error: .*model.safetensors: is missing; .*\n", stderr)


def test_without_ray_it_says_what_to_install(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.delitem(sys.modules, "transformer_core.ray_workers", raising=False)
    code, stdout, stderr = invoke("-m", model, "--engine", "ray")
    assert (code, stdout) == (2, "")
    assert "--engine ray needs Ray: pip install 'transduce[ray]'" in stderr
