"""`translate` among other programs: co-processes, pipes that nobody reads or that do not block, and terminals."""

import os
import pty
import select
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.program import program_environment
from tests.transformer_core.decoding.random_model import random_lines, save_word_model, word_model, word_tokenizer
from transformer_core.decoding.config import SearchConfig
from transformer_core.decoding.translator import Translator

GREEDY = ["--greedy", "--max-length", "12", "--threads", "1"]
SILENT = [*GREEDY, "-qq"]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_word_model(tmp_path_factory.mktemp("pipes") / "model")


def translations(lines: list[str]) -> list[str]:
    tokenizer = word_tokenizer()
    search = SearchConfig(beam_size=1, max_length=12)
    return [found.text for found in Translator(word_model(), tokenizer, tokenizer, search).translate(lines)]


def start(model: Path, *arguments: str, stdin: int, stdout: int, **variables: str) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(
        [sys.executable, "-m", "cli", "translate", "-m", str(model), *arguments],
        env=program_environment(**variables),
        stdin=stdin,
        stdout=stdout,
        stderr=subprocess.PIPE,
    )


def test_a_file_that_grows_is_answered_line_by_line(model: Path, tmp_path: Path) -> None:
    growing = tmp_path / "growing"
    growing.write_text("")
    tail = subprocess.Popen(["tail", "-n", "+1", "-f", growing], stdout=subprocess.PIPE)
    assert tail.stdout is not None
    process = start(model, *SILENT, stdin=tail.stdout.fileno(), stdout=subprocess.PIPE)
    assert process.stdout is not None
    try:
        # one line, then many at once, then one again
        for lines in (["ba be"], random_lines(300), ["da"]):
            with growing.open("a") as file:
                file.write("".join(f"{line}\n" for line in lines))
            for translation in translations(lines):
                assert process.stdout.readline().decode() == f"{translation}\n"
    finally:
        tail.kill()
        tail.communicate()
    assert process.stdout.read() == b""
    assert process.communicate()[1] == b""
    assert process.returncode == 0


@pytest.mark.parametrize("unbuffered", ["", "1"])  # PYTHONUNBUFFERED leaves standard output without a buffer
def test_pipes_that_do_not_block_lose_nothing(model: Path, unbuffered: str) -> None:
    lines = random_lines(6000, longest=3)
    (their_input, our_output), (our_input, their_output) = os.pipe(), os.pipe()
    for descriptor in (their_input, their_output):
        os.set_blocking(descriptor, False)
    process = start(model, *SILENT, stdin=their_input, stdout=their_output, PYTHONUNBUFFERED=unbuffered)
    os.close(their_input)
    os.close(their_output)
    feeder = subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=our_output)
    os.close(our_output)
    assert feeder.stdin is not None
    pid = os.fork()
    if pid == 0:  # a writer of its own, because we read slowly
        feeder.stdin.write("".join(f"{line}\n" for line in lines).encode())
        feeder.stdin.close()
        os._exit(0)
    feeder.stdin.close()
    time.sleep(5)  # the pipe fills up meanwhile
    found = b""
    while chunk := os.read(our_input, 1 << 16):
        found += chunk
    os.close(our_input)
    os.waitpid(pid, 0)
    feeder.wait()
    assert process.communicate()[1] == b""
    assert process.returncode == 0
    assert found.decode().split("\n")[:-1] == translations(lines)


@pytest.mark.parametrize(
    ("command", "code", "message"),
    [
        ("< in > /dev/full", 1, "transduce: error: standard output: the disk is full"),
        ("< in >&-", 1, "transduce: error: standard output: standard output is closed"),
        ("-i in -o /dev/full", 1, "transduce: error: /dev/full: the disk is full"),
        ("-i in -o missing/out", 2, "transduce: error: missing: no such folder; make it first"),
        ("-i in -o missing/out --resume", 2, "transduce: error: missing: no such folder; make it first"),
        ("-i in -o in/out", 2, "transduce: error: in: no such folder"),
        ("<&-", 3, "transduce: error: standard input is closed; name a file or pipe the text in"),
        ("-i in | head -n 1 > out", 141, ""),
    ],
)
def test_an_end_that_is_missing_is_one_line(model: Path, tmp_path: Path, command: str, code: int, message: str) -> None:
    (tmp_path / "in").write_text("".join(f"{line}\n" for line in random_lines(3000)))
    translate, pipe, rest = command.partition(" | ")
    script = f"{{ {sys.executable} -m cli translate -m {model} {' '.join(SILENT)} --buffer-size 64 {translate}; "
    script += f"echo $? > code; }}{pipe}{rest}"
    process = subprocess.run(
        ["sh", "-c", script], cwd=tmp_path, env=program_environment(), capture_output=True, check=False, timeout=120
    )
    assert int((tmp_path / "code").read_text()) == code, process.stderr
    lines = process.stderr.decode().splitlines()
    assert len(lines) == (1 if message else 0)
    assert "".join(lines).startswith(message)
    assert {path.name for path in tmp_path.iterdir()} <= {"in", "code", "out"}


class Session:
    """A person at a terminal, who types and reads."""

    def __init__(self, model: Path, **variables: str) -> None:
        self.controller, terminal = pty.openpty()
        self.process = start(model, *GREEDY, stdin=terminal, stdout=terminal, TERM="xterm", **variables)
        os.close(terminal)
        self.read_until(lambda text: text.endswith("> "))

    def read_until(self, is_enough: Callable[[str], bool]) -> str:
        text = b""
        while not is_enough(text.decode("utf-8", "replace")):
            ready, _, _ = select.select([self.controller], [], [], 60)
            assert ready, text
            text += os.read(self.controller, 1 << 10)
        return text.decode()

    def type(self, text: str) -> str:
        """Type; returns what the terminal shows until the next prompt."""
        os.write(self.controller, text.encode())
        return self.read_until(lambda shown: shown.endswith("> ") and "\n" in shown)

    def leave(self) -> bytes:
        os.write(self.controller, b"\x04")
        said = self.process.communicate(timeout=60)[1]
        os.close(self.controller)
        assert self.process.returncode == 0
        return said


def test_what_was_typed_comes_back_in_the_next_session(model: Path, tmp_path: Path) -> None:
    pytest.importorskip("readline")
    first, second = translations(["ba be", "da do é"])
    session = Session(model, XDG_STATE_HOME=str(tmp_path))
    assert first in session.type("ba be\n")
    assert second in session.type("da do é\n")
    assert b"Ctrl-D ends" in session.leave()
    history = tmp_path / "transduce" / "history"
    assert history.read_text() == "ba be\nda do é\n"
    assert history.stat().st_mode & 0o077 == 0
    session = Session(model, XDG_STATE_HOME=str(tmp_path))
    assert first in session.type("\x1b[A\x1b[A\n")
    session.leave()
    assert history.read_text() == "ba be\nda do é\nba be\n"


def test_without_a_place_for_it_nothing_is_kept(model: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    session = Session(model, XDG_STATE_HOME=str(tmp_path / "file"))
    assert translations(["ba be"])[0] in session.type("ba be\n")
    assert b"rror" not in session.leave()
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
