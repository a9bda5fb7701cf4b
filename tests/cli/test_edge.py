import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from cli.edge import EXIT_CODES
from cli.lazy_group import EdgeGroup
from tests.program import program_environment, run_program
from tokenizer.errors import TokenizerConfigError, TokenizerDataError, TokenizerFileError
from transformer_core.errors import (
    ConfigError,
    DataError,
    Interrupted,
    ModelError,
    OutOfMemoryError,
    TrainingError,
    TransduceError,
)

FAULTS: list[tuple[BaseException, int, str]] = [
    (ConfigError("d_model (500) must be\ndivisible"), 2, "transduce: error: d_model (500) must be divisible"),
    (TokenizerConfigError("no kind"), 2, "transduce: error: no kind"),
    (DataError("a.txt:3: is not UTF-8"), 3, "transduce: error: a.txt:3: is not UTF-8"),
    (TokenizerDataError("too little text"), 3, "transduce: error: too little text"),
    (ModelError("no config.json"), 4, "transduce: error: no config.json"),
    (TokenizerFileError("no tokenizer"), 4, "transduce: error: no tokenizer"),
    (OutOfMemoryError("line 3 does not fit"), 5, "transduce: error: line 3 does not fit"),
    (TrainingError("diverged"), 1, "transduce: error: diverged"),
    (Interrupted(15, "saved at step 9"), 143, "transduce: warning: saved at step 9"),
    (Interrupted(2, "saved at step 9"), 130, "transduce: warning: saved at step 9"),
    (KeyboardInterrupt(), 130, "transduce: warning: interrupted"),
    (MemoryError(), 5, "transduce: error: out of memory"),
    (RuntimeError("CUDA out of memory. Tried to allocate"), 5, "transduce: error: out of memory"),
    (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"), 5, "transduce: error: out of memory"),
    (OSError(errno.ENOSPC, "No space left on device", "out.txt"), 1, "transduce: error: out.txt: the disk is full"),
    (OSError(errno.ENOSPC, "No space left on device"), 1, "transduce: error: cannot write: the disk is full"),
    (
        PermissionError(errno.EACCES, "Permission denied", "/etc/.out.txt.a1b2c3d4.tmp"),
        1,
        "transduce: error: /etc/out.txt: permission denied",
    ),
    (BrokenPipeError(errno.EPIPE, "Broken pipe"), 141, ""),
    (ValueError("surprise"), 1, "transduce: error: this is a fault of transduce, not yours: ValueError: surprise"),
    (typer.BadParameter("no such thing"), 2, "transduce: error: invalid value: no such thing"),
    (typer.Exit(7), 7, ""),
]


def raising(fault: BaseException) -> typer.Typer:
    """A program whose command raises, two groups deep."""
    app, group = typer.Typer(cls=EdgeGroup), typer.Typer()

    @group.command()
    def fail() -> None:
        typer.echo("before")
        raise fault

    @group.command()
    def other() -> None:
        """Make a group of it."""

    app.add_typer(group, name="group")
    return app


@pytest.mark.parametrize(("fault", "code", "line"), FAULTS, ids=lambda value: type(value).__name__)
def test_every_fault_has_its_code_and_one_line(fault: BaseException, code: int, line: str) -> None:
    result = CliRunner().invoke(raising(fault), ["group", "fail"])
    assert result.exit_code == code
    assert result.stdout == "before\n"
    assert result.stderr.startswith(line)
    assert result.stderr.count("\n") == (1 if line else 0)
    assert "Traceback" not in result.stderr


def test_every_class_of_the_trees_has_a_code() -> None:
    def leaves(kind: type[Exception]) -> set[type[Exception]]:
        return {kind} | {leaf for child in kind.__subclasses__() for leaf in leaves(child)}

    ours = {kind for kind in leaves(TransduceError) if kind.__module__ == "transformer_core.errors"}
    without = {kind.__name__ for kind in ours - set(EXIT_CODES)}
    assert without == {"LineError", "TrainingError", "Interrupted"}  # the code of their base, and that of the signal


def test_debug_shows_the_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRANSDUCE_DEBUG", "1")
    result = CliRunner().invoke(raising(ValueError("surprise")), ["group", "fail"])
    assert "Traceback" in result.stderr
    assert result.stderr.splitlines()[-1].startswith("transduce: error: this is a fault of transduce")


@pytest.mark.parametrize(("value", "is_wanted"), [("1", True), ("On", True), ("0", False), ("off", False), ("", False)])
def test_the_environment_asks_for_tracebacks_as_for_any_flag(
    value: str, is_wanted: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRANSDUCE_DEBUG", value)
    assert ("Traceback" in CliRunner().invoke(raising(ValueError()), ["group", "fail"]).stderr) == is_wanted


# --- the whole way out, in processes of their own

PROGRAM = """
import sys, time
import typer
from cli import console
from cli.edge import run
from cli.lazy_group import EdgeGroup
from tokenizer.atomic_file import open_atomic
from transformer_core.errors import ConfigError

app = typer.Typer(cls=EdgeGroup)

@app.command()
def lines(count: int):
    for number in range(count):
        console.write_line("x" * 100)

@app.command()
def speak(count: int):
    for number in range(count):
        console.warn("x" * 100)
        with console.progress("working") as advance:
            advance(1)
        console.write_line("result")
    raise ConfigError("no more")

@app.command()
def wait(path: str):
    with open_atomic(path) as file:
        file.write(b"half")
        console.write_line("ready")
        console.flush()
        time.sleep(60)

@app.command()
def load(folder: str):
    sys.path.insert(0, folder)
    import slow
    time.sleep(60)

run(app)
"""
# As torch, whose C code goes on without the module that it imports when that is broken off.
SLOW_MODULE = """
import os, sys, time
try:
    os.kill(os.getpid(), {number})
    time.sleep(0.3)
    print("whole", file=sys.stderr, flush=True)
except BaseException:
    print("half", file=sys.stderr, flush=True)
"""


def start(
    *arguments: str, stdout: int | None = subprocess.PIPE, stderr: int | None = subprocess.PIPE
) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, *arguments],
        stdout=stdout,
        stderr=stderr,
        env=program_environment(),
    )


def test_a_reader_that_goes_away_is_no_error() -> None:
    with start("lines", "100000") as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait() == 141


@pytest.mark.skipif(os.name == "nt", reason="the pipe is POSIX's")
@pytest.mark.parametrize("arguments", [["--help"], ["evaluate", "--help"], ["tokenizer"], ["--version"]])
def test_a_reader_of_the_help_that_goes_away_is_no_error(arguments: list[str]) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "cli", *arguments]
    process = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, env=program_environment(), check=False)
    os.close(writer)
    assert (process.returncode, process.stderr) == (141, b"")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="the system has no /dev/full")
@pytest.mark.parametrize("count", ["1", "100000"])
def test_a_full_disk_under_stdout_is_one_line(count: str) -> None:
    with open("/dev/full", "wb") as full, start("lines", count, stdout=full.fileno()) as process:
        assert process.stderr is not None
        assert process.stderr.read() == b"transduce: error: cannot write: the disk is full\n"
        assert process.wait() == 1


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="the system has no /dev/full")
@pytest.mark.parametrize("count", [1, 200])
def test_what_cannot_be_said_changes_neither_results_nor_exit_code(count: int) -> None:
    with open("/dev/full", "wb") as full, start("speak", str(count), stderr=full.fileno()) as process:
        assert process.stdout is not None
        assert process.stdout.read() == b"result\n" * count
        assert process.wait() == 2


@pytest.mark.skipif(os.name == "nt", reason="the pipe is POSIX's")
def test_a_reader_of_messages_that_goes_away_takes_nothing_with_it() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with start("speak", "200", stderr=writer) as process:
        os.close(writer)
        assert process.stdout is not None
        assert process.stdout.read() == b"result\n" * 200
        assert process.wait() == 2


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="the system has no /dev/full")
def test_the_help_into_a_full_disk_is_one_line() -> None:
    with open("/dev/full", "wb") as full:
        process = subprocess.run(
            [sys.executable, "-m", "cli", "-h"],
            stdout=full,
            stderr=subprocess.PIPE,
            env=program_environment(),
            check=False,
        )
    assert process.stderr == b"transduce: error: cannot write: the disk is full\n"
    assert process.returncode == 1


@pytest.mark.skipif(os.name == "nt", reason="signals are POSIX's")
@pytest.mark.parametrize(
    ("number", "code", "word"),
    [
        (signal.SIGTERM, 143, b"terminated"),
        (signal.SIGHUP, 129, b"terminated"),
        (signal.SIGINT, 130, b"interrupted"),
    ],
)
def test_a_signal_leaves_no_half_written_file(tmp_path: Path, number: int, code: int, word: bytes) -> None:
    with start("wait", str(tmp_path / "out")) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == b"ready\n"
        process.send_signal(number)
        assert process.stderr.read() == b"transduce: warning: " + word + b"\n"
        assert process.wait() == code
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(os.name == "nt", reason="signals are POSIX's")
def test_a_signal_that_is_ignored_stays_ignored(tmp_path: Path) -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does
    try:
        process = start("wait", str(tmp_path / "out"))
    finally:
        signal.signal(signal.SIGHUP, before)
    with process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        process.send_signal(signal.SIGHUP)
        process.send_signal(signal.SIGTERM)
        assert process.wait() == 143


@pytest.mark.skipif(os.name == "nt", reason="signals are POSIX's")
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_breaks_no_import_off(tmp_path: Path, number: int, code: int) -> None:
    (tmp_path / "slow.py").write_text(SLOW_MODULE.format(number=int(number)), encoding="utf-8")
    with start("load", str(tmp_path)) as process:
        assert process.stderr is not None
        assert process.stderr.readline() == b"whole\n"
        assert process.stderr.read().startswith(b"transduce: warning: ")
        assert process.wait() == code


@pytest.mark.skipif(os.name == "nt", reason="signals are POSIX's")
def test_ctrl_c_while_the_program_is_loaded_says_nothing() -> None:
    code = "import signal; import cli.__main__; signal.raise_signal(signal.SIGINT)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, env=program_environment(), check=False)
    assert (run.returncode, run.stdout, run.stderr) == (-signal.SIGINT, b"", b"")


@pytest.mark.skipif(os.name == "nt", reason="the shell is POSIX's")
@pytest.mark.parametrize(("redirection", "code"), [(">&-", 1), ("2>&-", 0), ("<&-", 0)])
def test_a_closed_stream_is_no_traceback(redirection: str, code: int) -> None:
    command = f"{sys.executable} -m cli inspect --help {redirection}"
    process = subprocess.run(["sh", "-c", command], capture_output=True, env=program_environment(), check=False)
    assert process.returncode == code
    assert b"Traceback" not in process.stderr
    assert process.stderr.count(b"\n") == (1 if code else 0)


@pytest.mark.skipif(os.name == "nt", reason="the shell is POSIX's")
@pytest.mark.parametrize("others", ["", ">&-"])
def test_a_closed_standard_input_is_not_an_empty_one(others: str, tmp_path: Path) -> None:
    (tmp_path / "references").write_text("a\n", encoding="utf-8")
    command = f"{sys.executable} -m cli evaluate references <&- {others}"
    process = subprocess.run(
        ["sh", "-c", command], capture_output=True, cwd=tmp_path, env=program_environment(), check=False
    )
    assert process.returncode == 3
    assert process.stderr == b"transduce: error: standard input is closed; name a file or pipe the text in\n"


def test_output_is_utf_8_whatever_the_locale() -> None:
    run = run_program("café", variables={"LC_ALL": "C", "PYTHONIOENCODING": "latin-1"})
    assert run.code == 2
    assert "no such command 'café'" in run.stderr
