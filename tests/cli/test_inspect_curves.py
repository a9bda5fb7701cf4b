import json
import math
import re
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cli.main import app
from tests.terminal import run_on_terminal, without_colors
from tests.transformer_core.inspection.test_curves import step_record, validation_record, write_run


@pytest.fixture
def runs(tmp_path: Path) -> list[str]:
    """Two runs that went differently, one of them cut off in the middle of a line."""
    one: list[dict[str, object] | str] = [
        *(step_record(step) for step in range(10, 110, 10)),
        validation_record(50, "bleu", bleu=20.0),
        validation_record(100, "bleu", bleu=25.5),
    ]
    two: list[dict[str, object] | str] = [
        step_record(10, loss=None),
        step_record(20, loss=7.5, learning_rate=3e-5),
        '{"type": "st',
    ]
    return [str(write_run(tmp_path / "one", one)), str(write_run(tmp_path / "two", two))]


def invoke(*arguments: str | Path) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, ["inspect", "curves", *map(str, arguments)])
    return result.exit_code, result.stdout_bytes.decode(), result.stderr


def results(*arguments: str | Path) -> str:
    code, stdout, stderr = invoke(*arguments)
    assert (code, stderr) == (0, "")
    return stdout


def test_in_a_pipe_it_is_a_table(runs: list[str]) -> None:
    rows = [line.split("\t") for line in results(*runs).split("\n")[:-1]]
    assert rows[0] == ["run", "split", "step", "loss", "bleu", "learning_rate", "tokens_per_second"]
    assert rows[1] == ["one", "training", "10", "100", "", "0.001", "5000"]
    assert rows[11:13] == [
        ["one", "validation", "50", "2", "20", "", ""],
        ["one", "validation", "100", "2", "25.5", "", ""],
    ]
    assert rows[13:] == [
        ["two", "training", "10", "", "", "0.001", "5000"],
        ["two", "training", "20", "7.5", "", "3e-05", "5000"],
    ]


@pytest.mark.parametrize(("axis", "name", "place"), [("epoch", "epoch", "0.5"), ("time", "seconds", "5")])
def test_metric_and_axis_are_chosen(runs: list[str], axis: str, name: str, place: str) -> None:
    rows = results(*runs, "--metric", "bleu", "--metric", "gradient-norm", "--x", axis).split("\n")
    assert rows[0] == f"run\tsplit\t{name}\tbleu\tgradient_norm"
    assert f"one\tvalidation\t{place}\t20\t" in rows
    assert f"one\ttraining\t{place}\t\t1" in rows


def test_json_is_one_object(runs: list[str]) -> None:
    text = results(*runs, "--metric", "loss", "--json")
    assert text.count("\n") == 1
    values = json.loads(text)
    assert values["x"] == "step"
    assert [(curve["run"], curve["metric"], curve["split"]) for curve in values["curves"]] == [
        ("one", "loss", "training"),
        ("one", "loss", "validation"),
        ("two", "loss", "training"),
    ]
    assert values["curves"][1] | {"run": ""} == {
        "run": "",
        "metric": "loss",
        "split": "validation",
        "x": [50, 100],
        "y": [2, 2],
    }
    assert values["curves"][2]["y"] == [None, 7.5]
    assert not any(math.isnan(value) for curve in values["curves"] for value in curve["x"])


@pytest.mark.parametrize(("columns", "has_color"), [(80, False), (140, True)])
def test_on_a_terminal_there_is_a_plot_per_metric(runs: list[str], columns: int, has_color: bool) -> None:
    shown = run_on_terminal("inspect", "curves", *runs, columns=columns, has_color=has_color)
    assert ("\x1b[38;5;" in shown) == has_color
    lines = without_colors(shown).split("\n")
    assert all(len(line) <= columns for line in lines)
    titles = [" ".join(line.split()) for line in lines if re.search("loss|bleu|rate|second", line)]
    if columns == 80:
        assert titles == ["loss", "bleu", "learning rate", "tokens per second"]
    else:
        assert titles == ["loss bleu", "learning rate tokens per second"]
    legend = [line[:40].strip() for line in lines[14:17]]
    assert legend == ["a one training  10", "A one validation  2", "b two training  7.5"]


def test_figures_and_pages_are_files(runs: list[str], tmp_path: Path) -> None:
    figure, page = tmp_path / "curves.svg", tmp_path / "curves.html"
    assert results(*runs, "--x", "time", "--plot", figure, "--html", page) == ""
    assert ">tokens per second<" in figure.read_text(encoding="utf-8")
    text = page.read_text(encoding="utf-8")
    assert "<title>Training curves of one, two</title>" in text
    assert '"start":"time"' in text and '"metrics":["loss","bleu","learning_rate","tokens_per_second"]' in text


def test_what_is_missing_is_said_and_the_rest_shown(runs: list[str], tmp_path: Path) -> None:
    empty = write_run(tmp_path / "empty", [])
    damaged = write_run(tmp_path / "damaged", ["nonsense\n", step_record(10)])
    code, stdout, stderr = invoke(*runs, empty, damaged)
    assert (code, stdout.count("\n")) == (0, 1 + 12 + 2 + 1)
    assert stderr.split("\n")[:-1] == [
        f"transduce: warning: {empty}/metrics.jsonl: holds no numbers yet",
        f"transduce: warning: {damaged}/metrics.jsonl: 1 line is no record and was left out",
    ]


@pytest.mark.parametrize(
    ("arguments", "code", "line"),
    [
        ([], 2, "RUN... is missing"),
        (["missing"], 4, "missing: does not exist; name a folder written by `transduce train -o`"),
        (["."], 4, "metrics.jsonl: is missing or cannot be read; training writes it into the model folder"),
        (["empty"], 3, "empty/metrics.jsonl: holds no numbers yet; training writes them as it goes"),
        (["one", "--metric", "chrf"], 2, "no run has the metric 'chrf'; there are loss, perplexity, learning_rate,"),
        (["one", "--x", "hour"], 2, "--x: 'hour' is not one of step, epoch, time"),
        (["timeless", "--x", "time"], 3, "no run says at which time its numbers were; take another --x"),
        (["one", "--plot", "curves.gif"], 2, "curves.gif: a figure is a .png or a .svg"),
        (["one", "--html", "curves.png"], 2, "curves.png: a page is a .html"),
        (["one", "--html", "no/curves.html"], 3, "no/curves.html: there is no folder "),
    ],
)
def test_what_cannot_be_is_said_in_one_line(
    runs: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], code: int, line: str
) -> None:
    monkeypatch.chdir(tmp_path)
    write_run(tmp_path / "empty", [])
    write_run(tmp_path / "timeless", [step_record(10, elapsed_seconds=None)])
    found, stdout, stderr = invoke(*arguments)
    assert (found, stdout) == (code, "")
    assert stderr.startswith("transduce: error: ") and line in stderr
    assert stderr.count("\n") == 1


def test_without_matplotlib_the_extra_is_named(runs: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    code, _, stderr = invoke(*runs, "--plot", "curves.png")
    assert (code, stderr) == (2, "transduce: error: --plot needs a package: pip install 'transduce[plots]'\n")
