import io
import os
import pty
import sys
import time
from pathlib import Path

import pytest

from cli import console
from cli.training_display import training_display


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def test_results_and_words_go_different_ways(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    console.write_line("größer\r")
    console.write('{"a": 1}\n')
    console.info("reading")
    console.warn("odd")
    console.error("two\nlines")
    console.flush()
    out, err = capfdbinary.readouterr()
    assert out == "größer\r\n".encode() + b'{"a": 1}\n'
    assert err == b"reading\ntransduce: warning: odd\ntransduce: error: two lines\n"


def test_what_was_printed_before_comes_before(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    sys.stdout.write("first\n")
    console.write_line("second")
    sys.stdout.write("third\n")
    console.flush()
    assert capfdbinary.readouterr().out == b"first\nsecond\nthird\n"


@pytest.mark.parametrize(
    ("quiet", "verbose", "is_on", "said"),
    [
        (0, 0, True, ["info", "warning", "error"]),
        (0, 1, True, ["info", "detail", "warning", "error"]),
        (1, 0, True, ["warning", "error"]),
        (2, 0, True, ["error"]),
        (0, 1, False, ["error"]),
    ],
)
def test_levels(capsys: pytest.CaptureFixture[str], quiet: int, verbose: int, is_on: bool, said: list[str]) -> None:
    console.configure(quiet=quiet, verbose=verbose)
    if not is_on:
        console.take_place("", is_first=False)
    console.info("info")
    console.detail("detail")
    console.warn("x")
    console.error("x")
    lines = [line.removeprefix("transduce: ").removesuffix(": x") for line in capsys.readouterr().err.splitlines()]
    assert lines == said


def test_no_level_falls(capsys: pytest.CaptureFixture[str]) -> None:
    console.configure(quiet=2, verbose=2)
    console.configure(quiet=1, verbose=1)
    console.warn("x")
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("variables", "wanted", "colored"),
    [
        ({"TERM": "xterm"}, True, True),
        ({"TERM": "xterm", "NO_COLOR": "1"}, True, False),
        ({"TERM": "dumb"}, True, False),
        ({"TERM": "xterm"}, False, False),
    ],
)
def test_color_only_on_a_willing_terminal(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], wanted: bool, colored: bool
) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    console.configure(color=wanted)
    console.warn("odd")
    assert ("\x1b" in terminal.getvalue()) is colored


def test_no_color_away_from_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    console.warn("odd")
    assert "\x1b" not in capsys.readouterr().err


def test_progress_away_from_a_terminal_is_a_line_now_and_then(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter([0.0, 10.0, 31.0, 40.0, 62.0])
    monkeypatch.setattr(time, "monotonic", lambda: next(clock))
    with console.progress("reading", total=4000, unit="lines") as advance:
        for _ in range(4):
            advance(1000)
    assert capsys.readouterr().err == "reading: 2,000 of 4,000 lines\nreading: 4,000 of 4,000 lines\n"


def test_progress_on_a_terminal_is_a_bar_that_goes_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    with console.progress("reading", total=10) as advance:
        advance(10)
        console.warn("above the bar")
    text = terminal.getvalue()
    assert "reading" in text
    assert "10/10" in text
    assert "transduce: " in text
    assert "above the bar" in text
    assert "\x1b[2K" in text  # the bar's line is erased at the end


def test_a_long_message_above_a_display_stays_one_line_after_a_bar_inside(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "40")
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    path = "/".join(["folder"] * 20)
    with training_display(Path()) as listener:
        with console.progress("reading", total=10) as advance:
            advance(10)
        listener.on_message(f"held back: {path}")
    assert f"held back: {path}\n" in terminal.getvalue()


def test_no_progress_when_quiet_nor_over_results_on_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setattr(sys, "stdout", Terminal())
    with console.progress("translating", writes_results=True) as advance:
        advance(1)
    console.configure(quiet=1)
    with console.progress("reading") as advance:
        advance(1)
    assert terminal.getvalue() == ""


def test_a_result_on_a_terminal_is_there_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    main_side, program_side = pty.openpty()
    with open(program_side, "w", encoding="utf-8", newline="\n") as stream:
        monkeypatch.setattr(sys, "stdout", stream)
        console.write_line("now")
        assert os.read(main_side, 100) == b"now\r\n"  # the terminal adds the carriage return
        monkeypatch.undo()
    os.close(main_side)


def test_what_would_move_the_cursor_is_spelled_out(capsys: pytest.CaptureFixture[str]) -> None:
    console.error("a\x1b[2Jb\r\nc \u202ed\x85e\x9bf ü")
    console.warn("\x1b]0;title\x07")
    console.info("two\nlines\x08")
    assert capsys.readouterr().err == (
        "transduce: error: a\\x1b[2Jb c \\u202ed e\\x9bf ü\ntransduce: warning: \\x1b]0;title\\x07\ntwo\nlines\\x08\n"
    )


def test_an_error_is_a_line_that_can_be_read(capsys: pytest.CaptureFixture[str]) -> None:
    console.error("\x1b" * 1_000_000)
    assert capsys.readouterr().err == "transduce: error: " + "\\x1b" * 500 + "…\n"


def test_half_a_character_in_a_result_is_replaced(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    console.write_line("a\ud800b" + os.fsdecode(b"\xe9"))  # the last is a byte of a file's name
    console.flush()
    assert capfdbinary.readouterr().out == "a\ufffdb".encode() + b"\xe9\n"
