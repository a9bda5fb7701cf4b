import gzip
import json
import os
import pty
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cli.main import app
from tests.program import program_environment, run_program
from tests.transformer_core.decoding.random_model import random_lines, save_word_model, word_model, word_tokenizer
from transformer_core.decoding.config import BatchConfig, SearchConfig
from transformer_core.decoding.translation import Translation
from transformer_core.decoding.translator import Translator
from transformer_core.model_files import write_json

MAX_LENGTH = ["--max-length", "12"]
LINES = [*random_lines(30), "", "  ", *random_lines(10, seed=5)]
TEXT = "".join(f"{line}\n" for line in LINES).encode()


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_word_model(tmp_path_factory.mktemp("translate") / "model")


def invoke(*arguments: str | Path, stdin: bytes = TEXT, **variables: str) -> tuple[int, str, str]:
    """Run the command in this process: exit code, stdout, stderr."""
    result = CliRunner().invoke(app, ["translate", *map(str, arguments)], input=stdin, env=variables)
    return result.exit_code, result.stdout_bytes.decode(), result.stderr


def results(*arguments: str | Path, stdin: bytes = TEXT, **variables: str) -> list[str]:
    """The lines of stdout of a run that went well."""
    code, stdout, stderr = invoke(*arguments, stdin=stdin, **variables)
    assert code == 0, stderr
    assert stdout.endswith("\n") or not stdout
    return stdout.split("\n")[:-1]


def expected(config: SearchConfig, lines: list[str] = LINES, **batching: object) -> list[Translation]:
    tokenizer = word_tokenizer()
    return Translator(word_model(), tokenizer, tokenizer, config, BatchConfig(**batching)).translate(lines)  # type: ignore[arg-type]


def texts(config: SearchConfig, lines: list[str] = LINES, **batching: object) -> list[str]:
    return [translation.text for translation in expected(config, lines, **batching)]


@pytest.mark.parametrize(
    ("flags", "config"),
    [
        (["--greedy"], SearchConfig(beam_size=1, max_length=12)),
        ([], SearchConfig(max_length=12)),
        (["-b", "3", "--lenpen", "0.5"], SearchConfig(beam_size=3, length_penalty=0.5, max_length=12)),
        (["--length-penalty-type", "gnmt"], SearchConfig(length_penalty_type="gnmt", max_length=12)),
        (["--min-length", "6"], SearchConfig(min_length=6, max_length=12)),
        (["--ban-unk"], SearchConfig(ban_unk=True, max_length=12)),
        (
            ["--sample", "--temperature", "0.8", "--top-k", "9", "--top-p", "0.9", "--seed", "4"],
            SearchConfig(sample=True, beam_size=1, temperature=0.8, top_k=9, top_p=0.9, seed=4, max_length=12),
        ),
    ],
    ids=str,
)
def test_one_line_out_for_every_line_in(model: Path, flags: list[str], config: SearchConfig) -> None:
    found = results("-m", model, *flags, *MAX_LENGTH)
    assert found == texts(config)
    assert found[30:32] == ["", ""]


def test_windows_and_batches_change_nothing(model: Path) -> None:
    whole = results("-m", model, *MAX_LENGTH)
    for flags in (["--buffer-size", "7"], ["--batch-type", "sentences", "--batch-size", "1"], ["--batch-size", "30"]):
        assert results("-m", model, *MAX_LENGTH, *flags) == whole
    sampled = results("-m", model, "--sample", *MAX_LENGTH)
    assert results("-m", model, "--sample", *MAX_LENGTH, "--buffer-size", "7") == sampled


def test_lines_end_at_newlines_alone(model: Path) -> None:
    found = results("-m", model, *MAX_LENGTH, stdin="\ufeffba be\r\nda\u2028de \x0b do\nbi".encode())
    assert found == texts(SearchConfig(max_length=12), ["ba be", "da\u2028de \x0b do", "bi"])


def test_no_lines_in_no_lines_out(model: Path) -> None:
    assert invoke("-m", model, stdin=b"") == (0, "", "")


def test_tsv(model: Path) -> None:
    rows = [line.split("\t") for line in results("-m", model, *MAX_LENGTH, "--format", "tsv")]
    for row, translation in zip(rows, expected(SearchConfig(max_length=12)), strict=True):
        assert row[0] == translation.text
        assert float(row[1]) == pytest.approx(translation.score, abs=1e-4)
        assert float(row[2]) == pytest.approx(translation.log_probability, abs=1e-4)
    best = results("-m", model, *MAX_LENGTH, "--format", "tsv", "--n-best", "2")
    assert [line.split("\t")[:3] for line in best] == rows
    assert {len(line.split("\t")) for line in best} == {3, 6}


def test_jsonl(model: Path) -> None:
    records = [json.loads(line) for line in results("-m", model, *MAX_LENGTH, "--json")]
    for record, translation in zip(records, expected(SearchConfig(max_length=12)), strict=True):
        assert list(record) == ["translation", "score", "log_probability", "truncated"]
        assert record["translation"] == translation.text
        assert record["score"] == pytest.approx(translation.score, abs=1e-4)
        assert record["log_probability"] == pytest.approx(translation.log_probability, abs=1e-4)
        assert record["truncated"] is translation.is_truncated
    assert any(record["truncated"] for record in records)
    best = [json.loads(line) for line in results("-m", model, *MAX_LENGTH, "--format", "jsonl", "--n-best", "3")]
    for record, single in zip(best, records, strict=True):
        assert {key: record[key] for key in single} == single
        assert record["translations"][0] == record["translation"]
        assert record["scores"] == sorted(record["scores"], reverse=True)
        assert len(record["translations"]) == len(record["log_probabilities"])


def test_files_in_and_out(model: Path, tmp_path: Path) -> None:
    source, target = tmp_path / "in.txt.gz", tmp_path / "out.txt.gz"
    source.write_bytes(gzip.compress(TEXT))
    assert invoke("-m", model, "-i", source, "-o", target, "--greedy", *MAX_LENGTH)[:2] == (0, "")
    found = gzip.decompress(target.read_bytes()).decode().split("\n")[:-1]
    assert found == texts(SearchConfig(beam_size=1, max_length=12))


def test_truncations_splits_and_bad_bytes_are_counted(model: Path) -> None:
    code, stdout, stderr = invoke(
        "-m", save_limits(model), "--greedy", "--max-length", "3", stdin=b"ba be bi bo bu\nda \xff de\n\n"
    )
    assert code == 0
    assert stdout.count("\n") == 3
    assert "line 1 too long for the model: translated in pieces and joined" in stderr
    assert "1 line with bytes that are not UTF-8: U+FFFD stands in their place" in stderr
    # how many of the two lines a random model ends by itself is chance; the first it does not
    assert re.search(r"(line 1|lines \(1, 2\)) cut off at the length limit: --max-length-ratio", stderr)
    assert all(line.startswith("transduce: warning: ") for line in stderr.splitlines())
    stderr = invoke("-m", save_limits(model), "--greedy", stdin=b"ba be bi bo bu\n" * 1200)[2]
    assert "1,200 lines (1, 2, 3, 4, 5, ...) too long for the model" in stderr
    assert invoke("-m", model, "-qq", "--max-length", "3")[2] == ""


def save_limits(model: Path) -> Path:
    """The model, but made for 4 tokens at once, and with other defaults."""
    folder = save_word_model(model.parent / "limits", max_source_length=4, beam_size=2, max_length_ratio=1.0)
    return folder


def test_long_input_is_split_cut_or_refused(model: Path) -> None:
    limited = save_limits(model)
    line = b"ba be bi bo bu da de di\n"
    whole = results("-m", limited, *MAX_LENGTH, stdin=line)
    halves = results("-m", limited, *MAX_LENGTH, stdin=b"ba be bi bo\nbu da de di\n")
    assert whole == [" ".join(halves)]
    code, stdout, stderr = invoke("-m", limited, "--json", "--long-input", "truncate", *MAX_LENGTH, stdin=line)
    assert json.loads(stdout)["translation"] == halves[0]
    assert json.loads(stdout)["truncated"] is True
    assert "line 1 too long for the model: translated without the end" in stderr
    code, stdout, stderr = invoke("-m", limited, "--long-input", "error", stdin=b"ba\n" + line)
    assert code == 3
    assert stdout == results("-m", limited, stdin=b"ba\n")[0] + "\n"  # the line before it is answered
    assert stderr.startswith("transduce: error: standard input:2: has 8 tokens, more than the 4 ")


def test_models_defaults_stand_behind_everything_else(model: Path, tmp_path: Path) -> None:
    limited = save_limits(model)
    config = tmp_path / "config.toml"
    config.write_text("beam_size = 3\n")

    def setting(*flags: str | Path, **variables: str) -> str:
        lines = results("-m", limited, "--print-config", *flags, stdin=b"", **variables)
        return next(line for line in lines if line.startswith("beam_size"))

    assert setting() == "beam_size = 2  # generation.json"
    assert setting("-c", config) == f"beam_size = 3  # {config}"
    assert setting("-c", config, TRANSDUCE_TRANSLATE_BEAM_SIZE="4").startswith("beam_size = 4")
    assert setting("-c", config, "-b", "5", TRANSDUCE_TRANSLATE_BEAM_SIZE="4") == "beam_size = 5  # command line"
    two = texts(SearchConfig(beam_size=2, max_length_ratio=1.0), max_source_length=4)
    assert results("-m", limited) == two
    assert results("-m", limited, "--greedy") == texts(
        SearchConfig(beam_size=1, max_length_ratio=1.0), max_source_length=4
    )


def test_beam_on_the_command_line_overrules_a_greedy_configuration(model: Path, tmp_path: Path) -> None:
    config = tmp_path / "config.toml"
    config.write_text("greedy = true\n")
    greedy = texts(SearchConfig(beam_size=1, max_length=12))
    assert results("-m", model, "-c", config, *MAX_LENGTH) == greedy
    assert results("-m", model, "-c", config, "-b", "4", *MAX_LENGTH) == texts(SearchConfig(beam_size=4, max_length=12))
    assert results("-m", model, "--greedy", *MAX_LENGTH, TRANSDUCE_TRANSLATE_BEAM_SIZE="4") == greedy


@pytest.mark.parametrize(
    ("flags", "code", "message"),
    [
        (["--greedy", "-b", "7"], 2, "--greedy keeps no beam, but --beam-size is 7"),
        (["--sample", "-b", "7"], 2, "--sample keeps no beam, but --beam-size is 7"),
        (["--greedy", "--sample"], 2, "--greedy and --sample contradict each other"),
        (["--n-best", "3"], 2, "--n-best 3 needs --format tsv, jsonl or moses"),
        (["--n-best", "6", "--json"], 2, "n_best (6) must not exceed beam_size (5)"),
        (["--json", "--format", "tsv"], 2, "--json and --format tsv contradict each other"),
        (["--temperature", "0.5"], 2, "temperature needs sample"),
        (["--top-p", "1.5", "--sample"], 2, "top_p (1.5) must be above 0 and at most 1"),
        (["--max-length", "3", "--min-length", "4"], 2, "max_length (3) must be at least 1 and at least min_length"),
        (["--max-length-ratio", "0"], 2, "max_length_ratio (0.0) must be above 0"),
        (["--length-penalty", "nan"], 2, "length_penalty (nan)"),
        (["--beam-size", "0"], 2, "--beam-size"),
        (["--device", "cuda:99"], 2, "this machine has no device 'cuda:99'"),
        (["-i", "missing.txt"], 3, "missing.txt: there is no such file"),
        (["-i", "."], 3, ".: is a folder"),
        (["--errors", "strict"], 3, "standard input:2: is not UTF-8"),
        (["--checkpoint", "7"], 4, "has no checkpoint 7"),
    ],
)
def test_fault_is_one_line_and_a_code(model: Path, flags: list[str], code: int, message: str) -> None:
    found, stdout, stderr = invoke("-m", model, *flags, stdin=b"ba\n\xff\n")
    assert found == code, stderr
    assert "strict" in flags or stdout == ""
    assert stderr.startswith("transduce: error: ")
    assert message in stderr
    assert len(stderr.splitlines()) == 1


def test_damaged_model_is_one_line(model: Path, tmp_path: Path) -> None:
    code, _, stderr = invoke("-m", tmp_path / "none")
    assert (code, len(stderr.splitlines())) == (4, 1)
    broken = save_word_model(tmp_path / "broken", max_source_length="many")
    code, _, stderr = invoke("-m", broken)
    assert (code, len(stderr.splitlines())) == (4, 1)
    assert "max_source_length" in stderr
    (broken / "generation.json").write_text('{"beam_size": "wide"}')
    code, _, stderr = invoke("-m", broken)
    assert (code, len(stderr.splitlines())) == (4, 1)
    assert "beam_size" in stderr


def test_a_model_says_how_it_is_decoded_and_nothing_else(model: Path, tmp_path: Path) -> None:
    precious, secret = tmp_path / "precious", tmp_path / "secret"
    precious.write_text("mine\n")
    secret.write_text("ba\n")
    options = {"output": str(precious), "input": [str(secret)], "format": "jsonl", "threads": 1 << 20, "resume": True}
    hostile = save_word_model(tmp_path / "hostile")
    write_json(hostile / "generation.json", {**options, "max_length": 12})
    assert results("-m", hostile) == results("-m", model, *MAX_LENGTH)
    assert precious.read_text() == "mine\n"
    printed = results("-m", hostile, "--print-config", stdin=b"")
    assert [line for line in printed if line.endswith("# generation.json")] == ["max_length = 12  # generation.json"]


def test_it_is_said_whose_options_cannot_be(model: Path, tmp_path: Path) -> None:
    hostile = save_word_model(tmp_path / "hostile", length_penalty=-1.0)
    code, _, stderr = invoke("-m", hostile)
    assert (code, stderr.count("\n")) == (4, 1)
    assert stderr.startswith("transduce: error: generation.json: length_penalty (-1.0) must be between 0 and 50")
    assert invoke("-m", hostile, "--length-penalty", "1")[0] == 0
    grouped = save_word_model(tmp_path / "grouped", beam_groups=2, beam_size=4)
    code, _, stderr = invoke("-m", grouped, "-b", "3")
    assert (code, stderr) == (2, "transduce: error: beam_groups (2) must divide beam_size (3)\n")
    warm = save_word_model(tmp_path / "warm", temperature=0.5, beam_size=1)
    assert invoke("-m", warm, "--sample", *MAX_LENGTH)[0] == 0
    assert invoke("-m", warm, *MAX_LENGTH)[0] == 4


def test_failure_leaves_no_half_written_file(model: Path, tmp_path: Path) -> None:
    target = tmp_path / "out.txt"
    code, _, _ = invoke("-m", model, "-o", target, "--errors", "strict", "--buffer-size", "1", stdin=b"ba\n\xff\n")
    assert code == 3
    assert list(tmp_path.iterdir()) == []


# --- In processes of their own


def start(model: Path, *arguments: str, stdin: int = subprocess.PIPE) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "cli", "translate", "-m", str(model), *arguments],
        env=program_environment(),
        stdin=stdin,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def test_coprocess_gets_its_answer_before_it_sends_the_next_line(model: Path) -> None:
    process = start(model, "--greedy", *MAX_LENGTH)
    assert process.stdin is not None
    assert process.stdout is not None
    lines = ["ba be bi", "", "da do"]
    for line, translation in zip(lines, texts(SearchConfig(beam_size=1, max_length=12), lines), strict=True):
        process.stdin.write(f"{line}\n".encode())
        process.stdin.flush()
        assert process.stdout.readline().decode() == f"{translation}\n"
    _, stderr = process.communicate()
    assert process.returncode == 0, stderr


def test_interrupted_after_its_first_lines_it_has_written_them(model: Path) -> None:
    for number, code in ((signal.SIGINT, 130), (signal.SIGTERM, 143)):
        process = start(model, "--greedy", *MAX_LENGTH)
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(b"ba be bi\n")
        process.stdin.flush()
        assert process.stdout.readline()
        process.send_signal(number)
        _, stderr = process.communicate(timeout=30)
        assert process.returncode == code
        assert b"Traceback" not in stderr


def test_reader_that_goes_away_ends_it_quietly(model: Path) -> None:
    with start(model, "--greedy", *MAX_LENGTH, "--buffer-size", "1") as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdin.write(b"ba be bi\n")
        process.stdin.flush()
        assert process.stdout.readline()
        process.stdout.close()
        process.stdin.write(b"ba\n" * 50)
        process.stdin.close()
        assert process.stderr.read() == b""
        assert process.wait(timeout=30) == 141


def test_on_a_terminal_it_prompts_and_answers_until_ctrl_d(model: Path) -> None:
    controller, terminal = pty.openpty()
    process = start(model, "--greedy", *MAX_LENGTH, stdin=terminal)
    os.close(terminal)
    assert process.stdout is not None
    (translation,) = texts(SearchConfig(beam_size=1, max_length=12), ["ba be"])
    os.write(controller, b"ba be\n")
    assert process.stdout.readline().decode() == f"{translation}\n"
    os.write(controller, b"ba be\n")
    assert process.stdout.readline().decode() == f"{translation}\n"
    time.sleep(0.1)
    os.write(controller, b"\x04")
    stdout, stderr = process.communicate(timeout=30)
    os.close(controller)
    assert process.returncode == 0
    assert stdout == b""
    assert stderr.decode().startswith("type a line and press Enter for its translation; Ctrl-D ends\n> > > \n")


def test_verbose_says_how_fast_and_how(model: Path) -> None:
    outcome = run_program("translate", "-m", model, "-v", "--seed", "3", "--sample", *MAX_LENGTH, stdin=b"ba\n\n")
    assert outcome.code == 0
    assert "2 lines (1 blank), " in outcome.stderr
    assert "tokens/s (sampling, temperature 1, top-k 0, top-p 1, seed 3)" in outcome.stderr
