import gzip
import json
import os
import pty
import subprocess
import sys
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cli.main import app
from tests.program import program_environment, run_program
from tests.transformer_core.decoding.masked_model import masked_model, save_masked_model
from tests.transformer_core.decoding.random_model import save_word_model, word_model, word_tokenizer
from tests.transformer_core.decoding.test_filling import masked_lines
from transformer_core.decoding.config import SearchConfig
from transformer_core.decoding.filling import FilledLine, Filler, Rewriter
from transformer_core.model_files import write_json

LINES = [*masked_lines(), "  ", "ba <mask>", "no mask\there"]
TEXT = "".join(f"{line}\n" for line in LINES).encode()


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_masked_model(tmp_path_factory.mktemp("fill") / "model")


@pytest.fixture
def denoising(tmp_path: Path) -> Path:
    folder = save_word_model(tmp_path / "denoising", max_length_ratio=2.0)
    write_json(folder / "metadata.json", {"pretraining": {"objective": "denoising", "whole_words": False}})
    return folder


def invoke(*arguments: str | Path, stdin: bytes = TEXT, **variables: str) -> tuple[int, str, str]:
    """Run the command in this process: exit code, stdout, stderr."""
    result = CliRunner().invoke(app, ["fill", *map(str, arguments)], input=stdin, env=variables)
    return result.exit_code, result.stdout_bytes.decode(), result.stderr


def results(*arguments: str | Path, stdin: bytes = TEXT) -> list[str]:
    """The lines of stdout of a run that went well."""
    code, stdout, stderr = invoke(*arguments, stdin=stdin)
    assert code == 0, stderr
    assert stderr == ""
    return stdout.split("\n")[:-1]


def filled(top_k: int = 1) -> list[FilledLine]:
    return Filler(masked_model(), word_tokenizer(), top_k).fill(LINES)


def test_one_line_out_for_every_line_in(model: Path) -> None:
    found = results("-m", model)
    assert found == [line.text for line in filled()]
    assert len(found) == len(LINES)
    for before, after in zip(LINES, found, strict=True):
        assert (after == before) == ("<mask>" not in before)
        assert len(before.split()) == len(after.split())


def test_windows_and_batches_change_nothing(model: Path) -> None:
    for flags in (["--buffer-size", "3"], ["--batch-type", "sentences", "--batch-size", "1"], ["--batch-size", "30"]):
        assert results("-m", model, *flags) == results("-m", model)


def test_files_in_and_out(model: Path, tmp_path: Path) -> None:
    (tmp_path / "in.gz").write_bytes(gzip.compress(TEXT))
    assert results("-m", model, "-i", tmp_path / "in.gz", "-o", tmp_path / "out.gz", stdin=b"") == []
    assert gzip.decompress((tmp_path / "out.gz").read_bytes()).decode().split("\n")[:-1] == results("-m", model)


@pytest.mark.parametrize(("flags", "top_k"), [(["--top-k", "3"], 3), (["-k", "1"], 1), ([], 5)])
def test_candidates_in_columns(model: Path, flags: list[str], top_k: int) -> None:
    for row, line in zip(results("-m", model, "--format", "tsv", *flags), filled(top_k), strict=True):
        text, *cells = row.split("\t")
        assert text == line.text.replace("\t", " ")
        expected = [candidate for candidates in line.masks for candidate in candidates]
        assert len(cells) == 2 * len(expected)
        assert cells[::2] == [candidate.token for candidate in expected]
        assert [float(cell) for cell in cells[1::2]] == pytest.approx([one.probability for one in expected], abs=2e-6)


@pytest.mark.parametrize("flags", [["--format", "jsonl"], ["--json"]])
def test_candidates_as_json(model: Path, flags: list[str]) -> None:
    for row, line in zip(results("-m", model, *flags, "-k", "2"), filled(2), strict=True):
        assert json.loads(row) == {
            "text": line.text,
            "masks": [
                [{"token": one.token, "probability": pytest.approx(one.probability, abs=2e-6)} for one in candidates]
                for candidates in line.masks
            ],
        }


def test_long_lines_and_bytes_that_are_no_text_are_counted(tmp_path: Path) -> None:
    model = save_masked_model(tmp_path / "model", max_source_length=3)
    code, stdout, stderr = invoke("-m", model, stdin=b"ba be bi <mask>\nba <mask>\n\xff <mask>\nba be bi bo bu\n")
    assert (code, stdout.count("\n")) == (0, 4)
    assert stderr.splitlines() == [
        "transduce: warning: 1 line with bytes that are not UTF-8: U+FFFD stands in their place",
        "transduce: warning: line 1 too long for the model: seen in pieces",
    ]


def test_a_denoising_model_writes_the_line_anew(denoising: Path) -> None:
    config = SearchConfig(max_length_ratio=2.0)
    expected = Rewriter(word_model(), word_tokenizer(), config).fill(LINES)
    found = invoke("-m", denoising)[1].split("\n")[:-1]
    assert found == [line.text for line in expected]
    (row,) = [json.loads(row) for row in invoke("-m", denoising, "--json", stdin=b"no mask\n")[1].split("\n")[:-1]]
    assert row == {"text": "no mask", "masks": []}


def test_what_cannot_be_is_one_line(model: Path, denoising: Path, tmp_path: Path) -> None:
    translating = save_word_model(tmp_path / "translating")
    faults: list[tuple[list[str | Path], int, str]] = [
        (["-m", tmp_path / "missing"], 4, "missing: does not exist"),
        (
            ["-m", translating],
            4,
            "translating: was trained to translate, not to fill masks; `transduce pretrain` makes",
        ),
        (["-m", model, "--top-k", "3"], 2, "--top-k 3 needs --format tsv or jsonl"),
        (["-m", model, "--json", "--format", "tsv"], 2, "--json and --format tsv contradict each other"),
        (["-m", model, "-k", "0", "--json"], 2, "--top-k: must be greater than or equal to 1"),
        (["-m", denoising, "--top-k", "3", "--json"], 2, "--top-k 3 needs a masked model, but"),
        (["-m", model, "-i", tmp_path / "no-text"], 3, "no-text: there is no such file"),
        (["-m", model, "--errors", "strict"], 3, "standard input:1: is not UTF-8"),
        ([], 2, "--model is missing"),
    ]
    for arguments, expected_code, message in faults:
        code, stdout, stderr = invoke(*arguments, stdin=b"\xff\n")
        assert (code, stdout, stderr.count("\n")) == (expected_code, "", 1)
        assert message in stderr


@pytest.mark.parametrize("command", [["translate"], ["score", "-s", "-", "-t", "-"]])
def test_what_needs_a_decoder_refuses_an_encoder(model: Path, command: list[str], tmp_path: Path) -> None:
    (tmp_path / "text").write_text("ba\n")
    arguments = [word if word != "-" else str(tmp_path / "text") for word in command]
    result = CliRunner().invoke(app, [*arguments, "-m", str(model)], input="ba\n")
    assert (result.exit_code, result.stdout) == (4, "")
    assert result.stderr == (
        f"transduce: error: {model}: is a pretrained encoder without a decoder; `transduce fill -m {model}` predicts "
        f"masked tokens, and `transduce train --init-from {model}` makes a model of it that writes\n"
    )


def test_inspect_says_what_it_is(model: Path) -> None:
    stdout = CliRunner().invoke(app, ["inspect", "model", str(model)]).stdout
    assert (
        "decoder             none: a pretrained encoder, for `transduce fill` and `transduce train --init-from`\n"
        in stdout
    )
    assert "pretraining         objective masked, whole_words False\n" in stdout


def start(model: Path, stdin: int) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(
        [sys.executable, "-m", "cli", "fill", "-m", str(model)],
        env=program_environment(),
        stdin=stdin,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def test_through_a_pipe_an_answer_comes_before_the_next_line(model: Path) -> None:
    process = start(model, subprocess.PIPE)
    assert process.stdin is not None
    assert process.stdout is not None
    for line in ("ba <mask> bi", "", "da do"):
        process.stdin.write(f"{line}\n".encode())
        process.stdin.flush()
        (expected,) = Filler(masked_model(), word_tokenizer()).fill([line])
        assert process.stdout.readline().decode() == f"{expected.text}\n"
    _, stderr = process.communicate()
    assert (process.returncode, stderr) == (0, b"")


def test_on_a_terminal_it_prompts_and_answers_until_ctrl_d(model: Path) -> None:
    controller, terminal = pty.openpty()
    process = start(model, terminal)
    os.close(terminal)
    assert process.stdout is not None
    (expected,) = Filler(masked_model(), word_tokenizer()).fill(["ba <mask>"])
    os.write(controller, b"ba <mask>\n")
    assert process.stdout.readline().decode() == f"{expected.text}\n"
    time.sleep(0.1)
    os.write(controller, b"\x04")
    stdout, stderr = process.communicate(timeout=30)
    os.close(controller)
    assert (process.returncode, stdout) == (0, b"")
    assert stderr.decode() == "type a line with <mask> in it and press Enter; Ctrl-D ends\n> > \n"


def test_its_help_loads_no_torch() -> None:
    code = "import sys, cli.commands.fill, cli.commands.pretrain; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], env=program_environment(), check=False).returncode == 0
    assert b"<mask>" in run_program("fill", "--help").stdout
