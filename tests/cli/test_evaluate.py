import gzip
import json
import os
import pty
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from cli.options import MetricChoice
from tests.program import program_environment, run_program
from tests.transformer_core.evaluation.test_metrics import corpus
from transformer_core.evaluation.metrics import DEFAULT_METRICS, METRICS

METRIC_FLAGS = [word for name in METRICS for word in ("-m", name)]
JSON_KEYS = [
    "system",
    "num_lines",
    "num_references",
    "metric",
    "name",
    "score",
    "confidence_mean",
    "confidence_half_width",
    "p_value",
    "verbose_score",
    "signature",
]


def write(path: Path, lines: list[str]) -> Path:
    path.write_bytes("".join(f"{line}\n" for line in lines).encode())
    return path


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path, Path]:
    """Hypotheses, and two files of references."""
    hypotheses, references = corpus(60)
    others, _ = corpus(60, seed=1)
    hypotheses[3] = ""
    hypotheses[4] += "  \u00a0 "  # trailing spaces, which sacrebleu's command drops
    references[5] = "naïve\u2028lines \x85 stay whole"
    return (
        write(tmp_path / "hyp.txt", hypotheses),
        write(tmp_path / "ref.txt", references),
        write(tmp_path / "ref2.txt", [line.upper() for line in others]),
    )


def sacrebleu(*arguments: str | Path) -> Any:  # noqa: ANN401 - JSON
    """What sacrebleu's own command says."""
    command = [sys.executable, "-m", "sacrebleu", *map(str, arguments), "-f", "json", "-w", "9"]
    result = subprocess.run(command, capture_output=True, check=True, env=program_environment(), text=True)
    found = json.loads(result.stdout)
    return {score["name"]: score for score in (found if isinstance(found, list) else [found])}


def ours(*arguments: str | Path) -> dict[str, dict[str, Any]]:
    outcome = run_program("evaluate", *arguments, "--json", "-w", "9")
    assert outcome.code == 0, outcome.stderr
    return {score["name"]: score for score in map(json.loads, outcome.stdout.decode().splitlines())}


# --- equal to sacrebleu -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("num_references", "our_flags", "their_flags"),
    [
        (1, "", "-m bleu chrf"),
        (1, "-m bleu", ""),
        (1, "-m bleu -m chrf -m ter -lc", "-m bleu chrf ter -lc"),
        (1, "-m bleu --tokenize char --lowercase", "-m bleu --tokenize char --lowercase"),
        (1, "-m bleu -tok zh", "-m bleu -tok zh"),
        (1, "-m bleu -tok none", "-m bleu -tok none"),
        (1, "-m chrf -cw 1", "-m chrf -cw 1"),
        (1, "-m bleu -m chrf -m ter --ci", "-m bleu chrf ter --confidence"),
        (2, "-m bleu -m chrf -m ter", "-m bleu chrf ter"),
        (2, "-m bleu -tok intl -ci", "-m bleu -tok intl -ci"),
        (2, "-m chrf --chrf-word-order 2 --chrf-lowercase", "-m chrf --chrf-word-order 2 --chrf-lowercase"),
    ],
)
def test_scores_and_signatures_equal_the_command_of_sacrebleu(
    num_references: int, our_flags: str, their_flags: str, files: tuple[Path, Path, Path]
) -> None:
    hypotheses, *references = files
    references = references[:num_references]
    theirs = sacrebleu(*references, *their_flags.split(), "-i", hypotheses)
    found = ours(*references, *our_flags.split(), "-i", hypotheses)
    assert sorted(found) == sorted(theirs)
    for name, score in found.items():
        assert score["score"] == theirs[name]["score"]
        assert score["signature"] == theirs[name]["signature"]
        assert score["confidence_mean"] == theirs[name].get("confidence_mean")
        assert score["confidence_half_width"] == theirs[name].get("confidence_var")


def test_the_bare_number_equals_the_command_of_sacrebleu(files: tuple[Path, Path, Path]) -> None:
    hypotheses, reference, _ = files
    command = [sys.executable, "-m", "sacrebleu", str(reference), "-b", "-i", str(hypotheses)]
    theirs = subprocess.run(command, capture_output=True, check=True, env=program_environment()).stdout
    assert run_program("evaluate", reference, "-m", "bleu", "-b", "-i", hypotheses).stdout == theirs


def test_sentence_level_equals_the_command_of_sacrebleu(files: tuple[Path, Path, Path]) -> None:
    hypotheses, reference, other = files
    for name in ("bleu", "chrf", "ter"):
        flags = ["-sl", "-b", "-w", "4", "-m", name, "-i", str(hypotheses)]
        command = [sys.executable, "-m", "sacrebleu", str(reference), str(other), *flags]
        theirs = subprocess.run(command, capture_output=True, check=True, env=program_environment()).stdout
        assert run_program("evaluate", reference, other, *flags).stdout == theirs


# --- our own metrics, and what is written -----------------------------------------------------------------------------


def test_text_has_a_row_for_each_score_with_its_signature(tmp_path: Path) -> None:
    hypotheses = write(tmp_path / "hyp", ["L EY B AH L", "K AE T S"])
    reference = write(tmp_path / "ref", ["L AE B AH L", "K AE T"])
    outcome = run_program("evaluate", reference, "-i", hypotheses, "-m", "wer", "-m", "exact")
    # Two edits over 5 + 3 phones.
    rows = [line.split("  ") for line in outcome.stdout.decode().splitlines()]
    assert [[cell.strip() for cell in row if cell] for row in rows] == [
        ["WER", "25.0", rows[0][-1].strip()],
        ["exact", "0.0", rows[1][-1].strip()],
    ]
    assert rows[0][-1].strip().startswith("nrefs:1|case:mixed|unit:word|norm:nfc|version:")
    assert outcome.stderr == ""


def test_several_systems_are_named(files: tuple[Path, Path, Path]) -> None:
    hypotheses, reference, _ = files
    outcome = run_program("evaluate", reference, "-i", hypotheses, "-i", reference, "-m", "exact", "-m", "wer")
    rows = [line.split()[:3] for line in outcome.stdout.decode().splitlines()]
    assert [row[:2] for row in rows] == [
        [str(hypotheses), "exact"],
        [str(hypotheses), "WER"],
        [str(reference), "exact"],
        [str(reference), "WER"],
    ]
    assert [row[2] for row in rows[2:]] == ["100.0", "0.0"]


def test_json_has_stable_keys_and_full_precision(files: tuple[Path, Path, Path]) -> None:
    hypotheses, reference, _ = files
    outcome = run_program("evaluate", reference, "-i", hypotheses, *METRIC_FLAGS, "--json")
    scores = [json.loads(line) for line in outcome.stdout.decode().splitlines()]
    assert [score["metric"] for score in scores] == list(METRICS)
    for score in scores:
        assert list(score) == JSON_KEYS
        assert score["signature"].startswith("nrefs:1|")
        assert score["confidence_mean"] is None
    assert scores[0]["score"] != round(scores[0]["score"], 3)
    rounded = run_program("evaluate", reference, "-i", hypotheses, "-m", "bleu", "--json", "--width", "2")
    assert json.loads(rounded.stdout)["score"] == round(scores[0]["score"], 2)


def test_json_of_lines_numbers_them(files: tuple[Path, Path, Path]) -> None:
    hypotheses, reference, _ = files
    outcome = run_program("evaluate", reference, "-i", hypotheses, "-m", "wer", "-m", "cer", "-sl", "--json")
    scores = [json.loads(line) for line in outcome.stdout.decode().splitlines()]
    assert [(score["line"], score["metric"]) for score in scores] == [
        (number, name) for number in range(1, 61) for name in ("wer", "cer")
    ]


def test_lines_have_tabs_between_metrics_and_say_what_they_are_on_stderr(tmp_path: Path) -> None:
    reference = write(tmp_path / "ref", ["a b", "c d"])
    outcome = run_program("evaluate", reference, "-m", "wer", "-m", "exact", "-sl", stdin=b"a b\nc x\n")
    assert outcome.stdout == b"0.0\t100.0\n50.0\t0.0\n"
    assert [line.partition(":")[0] for line in outcome.stderr.splitlines()] == ["WER", "exact"]


def test_the_interval_is_repeatable_and_the_seed_moves_it(files: tuple[Path, Path, Path]) -> None:
    hypotheses, reference, _ = files
    arguments: list[str | Path] = ["evaluate", reference, "-i", hypotheses, "-m", "wer", "-ci", "-w", "6", "--seed"]
    first, again, other = (run_program(*arguments, seed).stdout.decode() for seed in ("7", "7", "8"))
    assert first == again
    assert "(μ = " in first
    assert "|bs:1000|seed:7|" in first
    assert first.split("  ")[1] != other.split("  ")[1]


def test_hypotheses_come_from_standard_input_and_from_compressed_files(files: tuple[Path, Path, Path]) -> None:
    hypotheses, reference, _ = files
    packed = reference.with_suffix(".gz")
    packed.write_bytes(gzip.compress(reference.read_bytes()))
    expected = run_program("evaluate", reference, "-i", hypotheses).stdout
    assert run_program("evaluate", packed, stdin=hypotheses.read_bytes()).stdout == expected
    assert run_program("evaluate", packed, "-i", "-", stdin=hypotheses.read_bytes()).stdout == expected
    assert run_program("evaluate", "-", "-i", hypotheses, stdin=reference.read_bytes()).stdout == expected


def test_the_choices_are_the_metrics() -> None:
    assert [choice.value for choice in MetricChoice] == list(METRICS)
    assert DEFAULT_METRICS == ("bleu", "chrf")


# --- warnings and errors ----------------------------------------------------------------------------------------------


def test_a_lowercased_system_gets_one_warning_line(tmp_path: Path) -> None:
    reference = write(tmp_path / "ref", ["Ein Mann sitzt auf der Bank ."] * 3)
    hypotheses = write(tmp_path / "hyp", ["ein mann sitzt auf der bank ."] * 3)
    outcome = run_program("evaluate", reference, "-i", hypotheses)
    assert outcome.code == 0
    assert outcome.stderr.startswith(f"transduce: warning: {hypotheses}: of the letters 0.0% are capitals")
    assert len(outcome.stderr.splitlines()) == 1
    assert run_program("evaluate", reference, "-i", hypotheses, "-m", "bleu", "-lc").stderr == ""


def test_bad_inputs_end_in_one_line_and_their_exit_code(tmp_path: Path) -> None:
    reference = write(tmp_path / "ref", ["a", "b", "c"])
    short = write(tmp_path / "short", ["a", "b"])
    empty = write(tmp_path / "empty", [])
    latin = tmp_path / "latin"
    latin.write_bytes("a\nbär\nc\n".encode("latin-1"))
    for arguments, code, message in (
        ([reference, "-i", short], 3, f"{short} has 2 lines but {reference} has 3; line N of the hypotheses"),
        ([reference, short, "-i", reference], 3, f"{reference} has 3 lines but {short} has 2;"),
        ([reference, "-i", empty], 3, f"{empty}: is empty"),
        ([empty, "-i", reference], 3, f"{empty}: is empty"),
        ([reference], 3, "standard input: is empty"),
        ([reference, "-i", latin], 3, f"{latin}:2: is not UTF-8 (byte 0xe4 at column 2)"),
        ([tmp_path / "none", "-i", reference], 3, f"{tmp_path / 'none'}: there is no such file"),
        ([tmp_path, "-i", reference], 3, f"{tmp_path}: is a folder"),
        (["-", "-i", "-"], 2, "only one file can be standard input"),
        (["-"], 2, "only one file can be standard input"),
        ([reference, "-m", "bleu", "ter"], 2, "ter is a metric, not a reference file; repeat the option"),
        ([reference, "-i", reference, "-m", "blue"], 2, "--metrics: 'blue' is not one of bleu, chrf"),
        ([reference, "-i", reference, "-tok", "13b"], 2, "--tokenize: '13b' is not one of 13a, none"),
        ([reference, "-i", reference, "-cw", "9"], 2, "chrf_word_order (9) must be 0 to 6"),
        ([reference, "-i", reference, "-sl", "--ci"], 2, "--sentence-level scores the lines of one system"),
        ([], 2, "REF is missing"),
    ):
        outcome = run_program("evaluate", *arguments)
        assert outcome.code == code, arguments
        assert outcome.stdout == b""
        assert outcome.stderr.startswith(f"transduce: error: {message}"), outcome.stderr
        assert len(outcome.stderr.splitlines()) == 1


def test_what_is_no_text_can_be_replaced_and_is_counted(tmp_path: Path) -> None:
    reference, latin, pairs = write(tmp_path / "ref", ["b\ufffdr", "c"]), tmp_path / "latin", tmp_path / "pairs"
    latin.write_bytes(b"b\xe4r\nc\n")
    said = "1 line with bytes that are not UTF-8: U+FFFD stands in their place"
    outcome = run_program("evaluate", reference, "-i", latin, "-m", "exact", "-b", "--errors", "replace")
    assert (outcome.code, outcome.stdout) == (0, b"100.0\n")
    assert outcome.stderr == f"transduce: warning: {latin}: {said}\n"
    pairs.write_text('{"translation": "a\\ud800", "reference": "a\ufffd"}\n')
    json_lines: list[str | Path] = ["evaluate", pairs, "-i", pairs, "--input-format", "jsonl", "-m", "exact", "-b"]
    outcome = run_program(*json_lines, "--errors", "replace")
    assert (outcome.code, outcome.stdout) == (0, b"100.0\n")
    assert outcome.stderr == f"transduce: warning: {pairs}: {said}\n"
    outcome = run_program(*json_lines)
    assert outcome.code == 3
    assert f"{pairs}:1: has half a character" in outcome.stderr


def test_a_terminal_with_nothing_piped_in_is_not_waited_for(tmp_path: Path) -> None:
    controller, terminal = pty.openpty()
    result = subprocess.run(
        [sys.executable, "-m", "cli", "evaluate", write(tmp_path / "ref", ["a"])],
        stdin=terminal,
        capture_output=True,
        env=program_environment(),
        timeout=60,
        check=False,
    )
    os.close(controller)
    os.close(terminal)
    assert result.returncode == 2
    assert b"there are no hypotheses: name a file with -i FILE" in result.stderr


def test_evaluate_loads_no_torch(files: tuple[Path, Path, Path]) -> None:
    hypotheses, reference, _ = files
    program = (
        "import sys\nfrom cli.main import app\n"
        "try:\n    app()\nexcept SystemExit as end:\n    assert not end.code\n"
        "sys.exit('torch' in sys.modules)\n"
    )
    command: list[str | Path] = [
        sys.executable,
        "-c",
        program,
        "evaluate",
        reference,
        "-i",
        hypotheses,
        *METRIC_FLAGS,
        "--ci",
    ]
    assert subprocess.run(command, env=program_environment(), capture_output=True, check=False).returncode == 0


def test_paired_tests_compare_every_system_with_the_first(files: tuple[Path, Path, Path]) -> None:
    hypotheses, references, _ = files
    command: list[str | Path] = ["evaluate", references, "-i", hypotheses, "-i", references, "-m", "chrf"]
    for flag in ("--paired-bs", "--paired-ar"):
        outcome = run_program(*command, flag)
        first, second = outcome.stdout.decode().splitlines()
        assert "(p = " not in first
        assert re.search(r"100\.0 \(p = 0\.0\d+\)\*", second)
        assert f"{flag[-2:]}:1" in second
        values = [json.loads(line)["p_value"] for line in run_program(*command, flag, "--json").stdout.splitlines()]
        assert values[0] is None
        assert 0 < values[1] < 0.05
    for flags, said in (
        (["--paired-bs", "--paired-ar"], "--paired-bs and --paired-ar are two tests; give one of them"),
        (["--paired-bs", "-sl"], "--paired-bs compares whole files of several systems: -i BASELINE -i OTHER"),
    ):
        outcome = run_program(*command, *flags)
        assert (outcome.code, outcome.stderr) == (2, f"transduce: error: {said}\n")
