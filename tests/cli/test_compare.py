import json
import re
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cli import compare_report
from cli.commands.compare import MixerChoice
from cli.main import app
from tests.program import Outcome, run_program
from tests.training_task import write_task
from transformer_core.experiments.compare_config import MIXER_NAMES

SMALL = ["compare", "--max-length", "32", "--threads", "1", "--device", "cpu"]
TRAINED = [*SMALL, "--mixer", "attention", "--mixer", "ssru", "--max-steps", "2", "--batch-size", "500"]
TITLES = [
    "One layer: from its structure, and the numbers for n = 32, d = 128, k = 3",
    "One layer: measured as the sequence grows",
    "Receptive field: which of 65 inputs move the middle output (gradient not zero)",
    "Attention at the start of training, with its scores divided by √d_head and without",
]


def refused(*arguments: str) -> tuple[int, str]:
    """Exit code and message of a command that ends before it begins."""
    result = CliRunner().invoke(app, [*SMALL, *arguments])
    assert result.stdout == ""
    return result.exit_code, result.stderr


@pytest.fixture(scope="module")
def table() -> Outcome:
    return run_program(*SMALL)


def rows(text: str, title: str) -> dict[str, list[str]]:
    """The rows of a table by their first cell."""
    block = text.partition(title)[2].partition("\n\n")[2].partition("\n\n")[0]
    return {line.split()[0]: re.split(r"  +", line.strip())[1:] for line in block.splitlines()}


def test_the_choices_are_the_mixers() -> None:
    assert [choice.value for choice in MixerChoice] == list(MIXER_NAMES)


def test_the_table_of_the_lecture(table: Outcome) -> None:
    assert (table.code, table.stderr) == (0, "")
    text = table.stdout.decode()
    assert [title for title in TITLES if title in text] == TITLES
    assert "What they learn" not in text
    structure = rows(text, TITLES[0])
    # weights by hand: attention 4 d² + 4 d, an LSTM of d: 4 gates of 2 d² + 2 d; multiply-adds: 4 n d² + 2 n² d
    assert structure["attention"] == ["66,048", "O(n² d)", "2.36 M", "O(1)", "1", "O(1)", "1"]
    assert structure["lstm"] == ["132,096", "O(n d²)", "4.19 M", "O(n)", "32", "O(n)", "32"]
    assert structure["ssru"] == ["33,024", "O(n d²)", "1.05 M", "O(log n)", "11", "O(n)", "32"]
    assert structure["conv"] == ["98,560", "O(k n d²)", "3.15 M", "O(1)", "1", "O(n / k)", "31"]
    assert set(structure) >= set(MIXER_NAMES)
    cost = rows(text, TITLES[1])
    assert all(re.fullmatch(r"n\^-?\d+\.\d\d", cost[mixer][index]) for mixer in MIXER_NAMES for index in (-1, -3))
    reach = rows(text, TITLES[2])
    assert reach["conv"] == ["-1 … +1", "5 %", "-4 … +4", "14 %", "-2 … 0", "5 %", "-8 … 0", "14 %"]
    assert reach["bigru"] == ["-32 … +32", "100 %", "-32 … +32", "100 %", "-", "-"]
    assert reach["gru"][:2] == ["-32 … 0", "51 %"]
    scale = rows(text, TITLES[3])
    assert [scale[str(d_head)][0] for d_head in (8, 64, 512)] == ["0.90", "0.89", "0.88"]
    assert max(map(len, text.splitlines())) <= 100


def test_on_a_terminal_it_is_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    from cli.text_table import TextTable

    table = TextTable(title="One", header=["a"], rows=[["b"]])
    monkeypatch.setattr(compare_report, "tables", lambda comparison: [table])
    plain = compare_report.to_text(None)  # type: ignore[arg-type]
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    drawn = compare_report.to_text(None)  # type: ignore[arg-type]
    assert plain == "One\n\na\nb\n"
    assert "─" in drawn


def test_json_is_one_object_of_the_rows_that_are_asked_for() -> None:
    outcome = run_program(
        *SMALL, "--json", "--mixer", "conv", "--mixer", "gru", "--mixer", "conv", "--kernel-width", "5"
    )
    assert (outcome.code, outcome.stderr) == (0, "")
    assert outcome.stdout.count(b"\n") == 1
    record = json.loads(outcome.stdout)
    assert [mixer["mixer"] for mixer in record["mixers"]] == ["conv", "gru"]
    assert record["mixers"][0]["path_length"] == 16  # 31 positions in hops of 2
    assert record["stack"]["kernel_width"] == 5
    assert record["training"] is None


@pytest.mark.slow
def test_pairs_are_trained_on_and_run_again_nothing_is(tmp_path: Path) -> None:
    source, target = write_task(tmp_path)
    arguments: list[str | Path] = [
        *TRAINED,
        "-s",
        source,
        "-t",
        target,
        "-o",
        tmp_path / "mixers",
        "--plot",
        tmp_path / "figure.svg",
    ]
    first = run_program(*arguments)
    assert first.code == 0, first.stderr
    title = "What they learn: equally large, 2 updates each, seed 1"
    learned = rows(first.stdout.decode(), title)
    assert list(learned)[-3:] == ["attention", "unscaled", "ssru"]
    assert learned["attention"][1:3] == ["512", "2"]
    assert "unscaled: attention without its division by √d_head = √32; its training did not diverge" in (
        " ".join(first.stdout.decode().split())
    )
    assert (tmp_path / "figure.svg").read_bytes().startswith(b"<?xml")
    assert f"{tmp_path}/figure.svg: the figure\n" in first.stderr
    command = json.loads((tmp_path / "mixers" / "ssru" / "metadata.json").read_text(encoding="utf-8"))["command"]
    assert command == " ".join(["transduce", *map(str, arguments)])
    again = run_program(*arguments)
    assert again.code == 0
    assert again.stderr.count("is finished; --overwrite starts anew") == 3
    assert [row[:6] for row in rows(again.stdout.decode(), title).values()] == [row[:6] for row in learned.values()]


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["-s", "a", "-t", "b"], 2, "the models that are trained need a place: --output FOLDER"),
        (["-s", "a", "-o", "m"], 2, "training needs both sides: --train-src FILE and --train-tgt FILE"),
        (["-s", "a", "-t", "b", "-o", "m", "--minutes", "1", "--max-steps", "2"], 2, "give one of them"),
        (["-s", "none.src", "-t", "none.tgt", "-o", "m"], 3, "none.src: there is no such file"),
        (["--kernel-width", "4"], 2, "the encoder's kernel_width (4) must be odd"),
        (["--max-length", "31"], 2, "max_length (31) must be at least 32"),
        (["--plot", "figure.gif"], 2, "figure.gif: a figure is a .png or a .svg"),
        (["--plot", "none/figure.png"], 3, "none/figure.png: there is no folder"),
        (["--mixer", "grus"], 2, "did you mean 'gru'?"),
    ],
)
def test_what_cannot_be_is_one_line(
    arguments: list[str], code: int, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert refused(*arguments)[0] == code
    line = refused(*arguments)[1]
    assert message in line
    assert line.startswith("transduce: error: ")
    assert line.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_options_of_training_without_pairs_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRANSDUCE_COMPARE_MAX_STEPS", "3")
    _, said = refused(
        *("--tokenizer", "t.json", "--plot", "no.pdf", "--batch-size", "7", "--metric", "bleu", "--overwrite"),
        *("-o", "mixers", "--seed", "3"),
    )
    assert said.splitlines()[0] == (
        "transduce: warning: without --train-src and --train-tgt nothing is trained: "
        "--output, --tokenizer, --overwrite, --max-steps, --metric, --batch-size will do nothing"
    )


def test_without_matplotlib_the_extra_is_named_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    assert refused("--plot", "figure.png") == (
        2,
        "transduce: error: --plot needs a package: pip install 'transduce[plots]'\n",
    )
