"""`serve` as a program, and `translate --socket`: the same options, the same output, without torch."""

import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cli.main import app
from tests.program import program_environment, run_program
from tests.transformer_core.decoding.random_model import random_lines, save_word_model

TEXT = "".join(f"{line}\n" for line in [*random_lines(30), "", "ba " * 30]).encode() + b"ba \xff be\n"


@contextmanager
def serving(*arguments: str | Path, path: Path) -> Iterator["subprocess.Popen[bytes]"]:
    process = subprocess.Popen(
        [sys.executable, "-m", "cli", "serve", *map(str, arguments), "--socket", str(path), "--threads", "1"],
        env=program_environment(),
        stderr=subprocess.PIPE,
    )
    try:
        while not path.exists():
            assert process.poll() is None, process.stderr.read() if process.stderr else ""
            time.sleep(0.05)
        yield process
    finally:
        process.kill()
        process.communicate()


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_word_model(tmp_path_factory.mktemp("serve") / "model", max_length=9, beam_size=3, max_source_length=20)


@pytest.fixture(scope="module")
def warm(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    path = tmp_path_factory.mktemp("warm") / "s"
    with serving(model, path=path):
        yield path


def invoke(*arguments: str | Path, stdin: bytes) -> tuple[int, str, str]:
    """Exit code, standard output and standard error of `translate`, in this process."""
    run = CliRunner().invoke(app, ["translate", *map(str, arguments)], input=stdin)
    return run.exit_code, run.stdout, run.stderr


JSON_LINES = b'{"text": "ba be", "avoid": ["du"], "id": 7}\n{"text": "da", "target_prefix": "ba"}\n'


@pytest.mark.parametrize(
    ("flags", "stdin"),
    [
        ([], TEXT),
        (["--json", "--per-token", "--n-best", "3", "--alignments", "--beam-size", "4"], TEXT),
        (["--sample", "--n-best", "4", "--mbr", "chrf", "--format", "tsv", "--seed", "5"], TEXT),
        (["--input-format", "jsonl", "--constraint", "be", "--buffer-size", "1"], JSON_LINES),
        (["--long-input", "error"], TEXT),  # exit code 3, and the line's place
        (["--errors", "strict"], TEXT),
        (["--n-best", "9"], TEXT),  # exit code 2
        (["--tag", "xx"], TEXT),
        (["--input-format", "tsv", "--column", "3"], TEXT),
        (["-i", "nowhere"], b""),
    ],
)
def test_the_same_output_warnings_and_code(model: Path, warm: Path, flags: list[str], stdin: bytes) -> None:
    here = invoke("-m", model, *flags, stdin=stdin)
    assert invoke("--socket", warm, *flags, stdin=stdin) == here
    assert here[1] or here[2]


def test_it_loads_neither_torch_nor_anything_else_that_takes_time(warm: Path) -> None:
    code = (
        "import sys; from cli.main import app\n"
        f"try: app(['translate', '--socket', {str(warm)!r}])\n"
        "except SystemExit as end: assert not end.code\n"
        "print(*{'torch', 'numpy', 'tokenizers', 'safetensors', 'pydantic', 'rich', 'tomllib'} & set(sys.modules))"
    )
    run = subprocess.run(
        [sys.executable, "-c", code], input=b"ba be\n", capture_output=True, env=program_environment(), check=True
    )
    first, second = run.stdout.splitlines()
    assert first
    assert second == b""


def test_each_line_is_answered_at_once(warm: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "cli", "translate", "--socket", str(warm)],
        env=program_environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    for _ in range(3):
        process.stdin.write(b"ba be\n")
        process.stdin.flush()
        assert process.stdout.readline().endswith(b"\n")
    process.stdin.close()
    assert process.wait() == 0
    process.stdout.close()


def test_a_run_is_resumed_by_the_weights_that_the_server_has(model: Path, warm: Path, tmp_path: Path) -> None:
    (tmp_path / "in").write_bytes(TEXT)
    for _ in range(2):
        code, _, said = invoke("--socket", warm, "--resume", "-i", tmp_path / "in", "-o", tmp_path / "out", stdin=b"")
        assert code == 0, said
    assert (tmp_path / "out").read_text() == invoke("-m", model, stdin=TEXT)[1]


@pytest.mark.parametrize(
    ("flags", "code", "message"),
    [
        (["-m", "m", "--socket", "{warm}"], 2, "--model (command line) says nothing to the server at --socket"),
        (["--device", "cpu", "--socket", "{warm}"], 2, "--device (command line) says nothing"),
        (["--threads", "2", "--socket", "{warm}"], 2, "--threads (command line) says nothing"),
        (["--checkpoint", "last", "--socket", "{warm}"], 2, "--checkpoint (command line) says nothing"),
        (["--socket", "nowhere"], 4, "nowhere: no server listens there; start one with `transduce serve MODEL"),
        ([], 2, "--model is missing: name a model folder (-m), or the --socket of `transduce serve`"),
    ],
)
def test_fault_is_one_line_and_a_code(warm: Path, flags: list[str], code: int, message: str) -> None:
    found, _, said = invoke(*[flag.format(warm=warm) for flag in flags], stdin=b"ba\n")
    assert found == code
    assert message in said
    assert said.count("\n") == 1


@pytest.mark.parametrize(("sent", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_ends_it_and_its_socket(model: Path, tmp_path: Path, sent: signal.Signals, code: int) -> None:
    path = tmp_path / "s"
    with serving(model, "--permissions", "0660", path=path) as process:
        assert stat.S_IMODE(path.stat().st_mode) == 0o660
        process.send_signal(sent)
        assert process.wait(60) == code
        assert process.stderr is not None
        said = process.stderr.read().decode().splitlines()
    assert not path.exists()
    assert said[0] == f"serving {model} at {path}; Ctrl-C ends"
    assert said[1:] == ["transduce: warning: ended; every request that had come is answered"]


def test_what_serve_refuses(model: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("precious")
    refused: list[tuple[list[str | Path], int, str]] = [
        ([model, "--socket", tmp_path / "file"], 2, "is there already and is no socket"),
        ([model, "--socket", tmp_path / "s", "--permissions", "rw"], 2, "is no set of permission bits"),
        ([tmp_path / "none", "--socket", tmp_path / "s"], 4, "does not exist"),
    ]
    for arguments, code, message in refused:
        run = run_program("serve", *arguments)
        assert run.code == code, run.stderr
        assert message in run.stderr
        assert run.stderr.count("\n") == 1
    assert not (tmp_path / "s").exists()
