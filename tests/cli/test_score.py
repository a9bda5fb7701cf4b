import json
import math
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cli.main import app
from tests.program import program_environment
from tests.transformer_core.decoding.random_model import random_lines, save_word_model, word_model, word_tokenizer
from transformer_core.decoding.config import SearchConfig
from transformer_core.decoding.scoring import PairScore, Scorer

SOURCES = [*random_lines(20), "", "ba", ""]
TARGETS = [*random_lines(20, seed=1), "", "", "be"]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_word_model(tmp_path_factory.mktemp("score") / "model")


@pytest.fixture
def pair(tmp_path: Path) -> list[str]:
    return [
        "--src",
        write(tmp_path / "source.txt", SOURCES),
        "--tgt",
        write(tmp_path / "target.txt", TARGETS),
    ]


def write(path: Path, lines: list[str]) -> str:
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return str(path)


def invoke(*arguments: str | Path, stdin: bytes = b"") -> tuple[int, str, str]:
    result = CliRunner().invoke(app, ["score", *map(str, arguments)], input=stdin)
    return result.exit_code, result.stdout_bytes.decode(), result.stderr


def results(*arguments: str | Path) -> list[str]:
    code, stdout, stderr = invoke(*arguments)
    assert code == 0, stderr
    assert stderr == ""
    return stdout.split("\n")[:-1]


def expected(config: SearchConfig | None = None) -> list[PairScore]:
    return Scorer(word_model(), word_tokenizer(), word_tokenizer(), config).score(
        list(zip(SOURCES, TARGETS, strict=True))
    )


def test_one_number_for_every_pair(model: Path, pair: list[str]) -> None:
    found = [float(line) for line in results("-m", model, *pair)]
    assert found == pytest.approx([pair_score.log_probability for pair_score in expected()], abs=1e-5)
    assert found[20] == 0.0
    assert all(math.isfinite(value) for value in found)
    assert [float(line) for line in results("-m", model, *pair, "--buffer-size", "3")] == pytest.approx(found, abs=1e-5)


def test_lines_with_replaced_bytes_are_counted(model: Path, tmp_path: Path) -> None:
    (tmp_path / "source.txt").write_bytes(b"ba\nb\xff\nba\n")
    pair = ["--src", str(tmp_path / "source.txt"), "--tgt", write(tmp_path / "target.txt", ["ba", "be", "bi"])]
    code, stdout, stderr = invoke("-m", model, *pair, "--errors", "replace")
    assert (code, stdout.count("\n")) == (0, 3)
    assert stderr == "transduce: warning: 1 line with bytes that are not UTF-8: U+FFFD stands in their place\n"
    code, stdout, stderr = invoke("-m", model, *pair)
    assert code == 3 and "source.txt:2: is not UTF-8" in stderr
    valid = write(tmp_path / "valid.txt", ["ba", "b\ufffd", "ba"])
    assert invoke("-m", model, "-s", valid, "-t", valid, "--errors", "replace")[::2] == (0, "")


def test_normalize_prints_the_score(model: Path, pair: list[str]) -> None:
    found = [float(line) for line in results("-m", model, *pair, "--normalize", "--lenpen", "0.7")]
    config = SearchConfig(length_penalty=0.7)
    assert found == pytest.approx([pair_score.score for pair_score in expected(config)], abs=1e-5)


def test_per_token(model: Path, pair: list[str]) -> None:
    for line, pair_score in zip(results("-m", model, *pair, "--per-token"), expected(), strict=True):
        total, *cells = line.split("\t")
        assert float(total) == pytest.approx(pair_score.log_probability, abs=1e-5)
        assert cells[::2] == word_tokenizer().tokens(list(pair_score.token_ids))
        assert [float(cell) for cell in cells[1::2]] == pytest.approx(pair_score.token_log_probabilities, abs=1e-5)


def test_json(model: Path, pair: list[str]) -> None:
    records = [json.loads(line) for line in results("-m", model, *pair, "--json", "--per-token")]
    for record, pair_score in zip(records, expected(), strict=True):
        assert list(record) == ["log_probability", "score", "num_tokens", "tokens", "token_log_probabilities"]
        assert record["log_probability"] == pytest.approx(pair_score.log_probability, abs=1e-5)
        assert record["score"] == pytest.approx(pair_score.score, abs=1e-5)
        assert record["num_tokens"] == len(record["tokens"]) == len(record["token_log_probabilities"])
    assert list(json.loads(results("-m", model, *pair, "--json")[0])) == ["log_probability", "score", "num_tokens"]


def test_summary_is_the_only_output(model: Path, pair: list[str]) -> None:
    scores = expected()
    num_tokens = sum(len(pair_score.token_ids) for pair_score in scores)
    total = sum(pair_score.log_probability for pair_score in scores)
    rows = dict(line.split("\t") for line in results("-m", model, *pair, "--summary"))
    assert list(rows) == ["perplexity", "log_probability", "num_tokens", "num_lines"]
    assert float(rows["perplexity"]) == pytest.approx(math.exp(-total / num_tokens), rel=1e-5)
    assert int(rows["num_tokens"]) == num_tokens
    assert int(rows["num_lines"]) == len(scores)
    record = json.loads("".join(results("-m", model, *pair, "--summary", "--json")))
    assert record["log_probability"] == pytest.approx(total, abs=1e-3)


def test_scores_what_translate_printed(model: Path, tmp_path: Path) -> None:
    lines = random_lines(25, seed=9)
    source = write(tmp_path / "source.txt", lines)
    flags = ["-m", str(model), "--max-length", "12", "-i", source, "--json"]
    translated = CliRunner().invoke(app, ["translate", *flags])
    records = [json.loads(line) for line in translated.stdout.splitlines()]
    target = write(tmp_path / "target.txt", [record["translation"] for record in records])
    for record, line in zip(records, results("-m", model, "--src", source, "--tgt", target, "--json"), strict=True):
        found = json.loads(line)
        assert found["log_probability"] == pytest.approx(record["log_probability"], abs=1e-4)
        assert found["score"] == pytest.approx(record["score"], abs=1e-4)


def test_faults_are_one_line_and_a_code(model: Path, tmp_path: Path) -> None:
    three, two = write(tmp_path / "three", ["ba"] * 3), write(tmp_path / "two", ["ba"] * 2)
    blank = write(tmp_path / "blank", ["", ""])
    latin = tmp_path / "latin"
    latin.write_bytes(b"ba\n\xe4\nba\n")
    for flags, code, message in (
        (["-s", three, "-t", two], 3, f"{three} has 3 lines but {two} has 2"),
        (["-s", two, "-t", three], 3, f"{two} has 2 lines but {three} has 3"),
        (["-s", "none", "-t", two], 3, "none: there is no such file"),
        (["-s", three, "-t", str(latin)], 3, f"{latin}:2: is not UTF-8"),
        (["-s", "-", "-t", "-"], 2, "standard input (-) can be only one of the files"),
        (["-s", two, "-t", two, "--summary", "--per-token"], 2, "--summary prints nothing but totals"),
        (["-s", blank, "-t", blank, "--summary"], 3, f"{blank}: holds no token"),
        (["-s", two], 2, "--tgt is missing"),
    ):
        found, _, stderr = invoke("-m", model, *flags, "-o", tmp_path / "out.txt")
        assert found == code, stderr
        assert stderr.startswith(f"transduce: error: {message}"), stderr
        assert len(stderr.splitlines()) == 1
        assert not (tmp_path / "out.txt").exists()
    assert invoke("-m", tmp_path, "-s", two, "-t", two)[0] == 4


def test_one_side_may_be_standard_input(model: Path, pair: list[str]) -> None:
    text = "".join(f"{line}\n" for line in TARGETS).encode()
    code, stdout, _ = invoke("-m", model, "--src", pair[1], "--tgt", "-", stdin=text)
    assert code == 0
    assert stdout.split("\n")[:-1] == results("-m", model, *pair)


def test_pairs_before_a_fault_are_scored(model: Path, tmp_path: Path) -> None:
    rows = write(tmp_path / "rows", ["ba\tbe", "bi\tbo", "broken"])
    code, stdout, stderr = invoke("-m", model, "-s", rows, "--input-format", "tsv")
    assert (code, stdout.count("\n")) == (3, 2)
    assert "rows:3: has 1 column" in stderr


def test_pairs_before_a_line_too_long_are_scored(tmp_path: Path) -> None:
    model = save_word_model(tmp_path / "model", "learned")
    source = write(tmp_path / "source", ["ba", "be", "ba " * 64, "bi"])
    code, stdout, stderr = invoke("-m", model, "-s", source, "-t", write(tmp_path / "target", ["ba"] * 4))
    assert (code, stdout.count("\n")) == (3, 2)
    assert f"{source}:3: has 64 tokens" in stderr


def test_coprocess_gets_its_answer_before_it_sends_the_next_pair(model: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "cli", "score", "-m", str(model), "-s", "-", "--input-format", "tsv"],
        env=program_environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    scorer = Scorer(word_model(), word_tokenizer(), word_tokenizer())
    for pair in (("ba be", "bi"), ("", ""), ("da", "do du")):
        process.stdin.write("\t".join(pair).encode() + b"\n")
        process.stdin.flush()
        (expected,) = scorer.score([pair])
        assert float(process.stdout.readline()) == pytest.approx(expected.log_probability, abs=1e-5)
    _, stderr = process.communicate()
    assert process.returncode == 0, stderr
