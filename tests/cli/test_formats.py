"""TSV and JSON lines, in and out, as the commands read and write them."""

import gzip
import json
import lzma
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard
from typer.testing import CliRunner

from cli.main import app
from tests.training_task import TINY_RUN, reversed_strings, write_lines
from tests.transformer_core.decoding.random_model import random_lines, save_word_model

LINES = random_lines(12)
GREEDY = ["--greedy", "--max-length", "12"]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_word_model(tmp_path_factory.mktemp("formats") / "model")


def invoke(*arguments: object, stdin: str = "") -> tuple[int, str, str]:
    result = CliRunner().invoke(app, list(map(str, arguments)), input=stdin.encode())
    return result.exit_code, result.stdout_bytes.decode(), result.stderr


def results(*arguments: object, stdin: str = "") -> list[str]:
    code, stdout, stderr = invoke(*arguments, stdin=stdin)
    assert code == 0, stderr
    return stdout.split("\n")[:-1]


def lines_of(*lines: str) -> str:
    return "".join(f"{line}\n" for line in lines)


@pytest.fixture(scope="module")
def translations(model: Path) -> list[str]:
    return results("translate", "-m", model, *GREEDY, stdin=lines_of(*LINES))


def test_a_column_is_translated_and_the_others_stay_in_place(model: Path, translations: list[str]) -> None:
    rows = [f"id{number}\t{line}\tlast" for number, line in enumerate(LINES)]
    tsv = ["translate", "-m", model, *GREEDY, "--input-format", "tsv", "--columns", "2"]
    found = [line.split("\t") for line in results(*tsv, stdin=lines_of(*rows))]
    assert [row[:3] for row in found] == [[f"id{n}", text, "last"] for n, text in enumerate(translations)]
    assert {len(row) for row in found} == {5}
    assert results(*tsv, "--format", "text", stdin=lines_of(*rows)) == translations
    objects = [json.loads(line) for line in results(*tsv, "--json", stdin=lines_of(*rows))]
    assert [item["columns"] for item in objects] == [row.split("\t") for row in rows]


def test_objects_keep_what_nobody_asked_for(model: Path, translations: list[str]) -> None:
    given = [f'{{"id": {n}, "big": 1e400, "text": {json.dumps(line)}}}' for n, line in enumerate(LINES)]
    jsonl = ["translate", "-m", model, *GREEDY, "--input-format", "jsonl"]
    found = results(*jsonl, stdin=lines_of(*given))
    assert [json.loads(line)["translation"] for line in found] == translations
    assert all(new.startswith(old[:-1] + ", ") for old, new in zip(given, found, strict=True))
    again = results(*jsonl, "--columns", "translation", stdin=lines_of(*found))
    assert [json.loads(line)["id"] for line in again] == list(range(len(LINES)))
    assert results(*jsonl, "--format", "text", stdin=lines_of(*given)) == translations


def test_blank_for_blank_in_every_format(model: Path) -> None:
    for format, stdin in (("text", "\n \n"), ("tsv", "\na\tb\n\t\n"), ("jsonl", '\n{"text": " "}\n')):
        command = ["translate", "-m", model, *GREEDY, "--input-format", format, "--format", "jsonl"]
        found = [json.loads(line)["translation"] for line in results(*command, stdin=stdin)]
        assert [text for text in found if not text] == [""] * 2
        assert len(found) == stdin.count("\n")


def test_moses_lists_the_hypotheses_of_every_line(model: Path, translations: list[str]) -> None:
    flags = ["translate", "-m", model, "--max-length", "12", "--format", "moses"]
    found = [line.split(" ||| ") for line in results(*flags, "--n-best", "3", stdin=lines_of(*LINES))]
    assert {int(row[0]) for row in found} == set(range(len(LINES)))
    assert [int(row[0]) for row in found] == sorted(int(row[0]) for row in found)
    assert all(len(row) == 4 for row in found)
    greedy = results(*flags, "--greedy", stdin=lines_of(*LINES))
    assert [line.split(" ||| ")[1] for line in greedy] == translations


def test_several_files_are_read_one_after_the_other(model: Path, translations: list[str], tmp_path: Path) -> None:
    pack: dict[str, Callable[[bytes], bytes]] = {
        "a.gz": gzip.compress,
        "b.xz": lzma.compress,
        "c.zst": zstandard.ZstdCompressor().compress,
    }
    for (name, compress), part in zip(pack.items(), (LINES[:5], LINES[5:6], LINES[6:]), strict=True):
        (tmp_path / name).write_bytes(compress(lines_of(*part).encode()))
    inputs = [word for name in pack for word in ("-i", tmp_path / name)]
    assert results("translate", "-m", model, *GREEDY, *inputs) == translations
    sample = ["--sample", "--max-length", "12", "--seed", "7"]
    joined = results("translate", "-m", model, *sample, stdin=lines_of(*LINES))
    assert results("translate", "-m", model, *sample, *inputs) == joined
    for name in ("out.gz", "out.xz", "out.zst", "out.txt"):
        assert results("translate", "-m", model, *GREEDY, *inputs, "-o", tmp_path / name) == []
        assert results("translate", "-m", model, *GREEDY, "-i", tmp_path / name) != []
    assert gzip.decompress((tmp_path / "out.gz").read_bytes()).decode() == lines_of(*translations)


def test_a_message_names_the_line_of_its_file(model: Path, tmp_path: Path) -> None:
    write_lines(tmp_path / "first", LINES[:3])
    write_lines(tmp_path / "second", ["ba", " ".join(["ba"] * 2000)])
    inputs = ["-i", tmp_path / "first", "-i", tmp_path / "second"]
    code, stdout, stderr = invoke("translate", "-m", model, *GREEDY, *inputs, "--long-input", "error")
    assert (code, stdout.count("\n")) == (3, 4)  # the lines before it are translated
    assert stderr.startswith(f"transduce: error: {tmp_path / 'second'}:2: has 2000 tokens")


@pytest.mark.parametrize(
    ("format", "line", "message"),
    [
        ("jsonl", "{", "is broken JSON (expected a key in quotes at column 2)"),
        ("jsonl", "[]", "is no JSON object"),
        ("jsonl", "{}", 'has no key "text"'),
        ("jsonl", '{"text": 5}', '"text" is a number, not text'),
        ("jsonl", '{"text": "a", "text": "b"}', 'has the key "text" twice'),
        ("jsonl", '{"text": "a", "constraints": "b"}', '"constraints" is no list of phrases'),
        ("jsonl", '{"text": ' + "[" * 200_000, "is nested too deeply"),
        ("jsonl", '{"text": Infinity}', "has Infinity, which is no JSON"),
        ("tsv", "a\tb", "has 2 columns, but the rows before have 3"),
    ],
    ids=lambda value: value[:30],
)
def test_a_bad_line_is_named_after_the_good_ones(
    model: Path, tmp_path: Path, format: str, line: str, message: str
) -> None:
    good = {"jsonl": '{"text": "ba be"}', "tsv": "ba be\tb\tc"}[format]
    path, target = tmp_path / "in", tmp_path / "out"
    path.write_text(lines_of(good, good, line, good))
    command = ["translate", "-m", model, *GREEDY, "--input-format", format, "-i", path]
    code, stdout, stderr = invoke(*command)
    assert (code, stdout.count("\n")) == (3, 2)
    assert stderr.startswith(f"transduce: error: {path}:3: {message}")
    assert stderr.count("\n") == 1
    assert invoke(*command, "-o", target)[0] == 3
    assert not target.exists()


def test_half_a_character_is_what_errors_says(model: Path) -> None:
    jsonl = ["translate", "-m", model, *GREEDY, "--input-format", "jsonl"]
    stdin = '{"text": "ba \\ud800", "other": "\\udfff"}\n'
    code, stdout, stderr = invoke(*jsonl, stdin=stdin)
    assert (code, stdout[: len(stdin) - 2]) == (0, stdin[:-2])
    assert "1 line with bytes that are not UTF-8" in stderr
    code, stdout, stderr = invoke(*jsonl, "--errors", "strict", stdin=stdin)
    assert (code, stdout) == (3, "")
    assert "standard input:1: has half a character" in stderr


def test_score_reads_both_sides_from_one_file(model: Path, tmp_path: Path) -> None:
    pairs = list(zip(LINES, reversed(LINES), strict=True))
    write_lines(tmp_path / "src", [source for source, _ in pairs])
    write_lines(tmp_path / "tgt", [target for _, target in pairs])
    write_lines(tmp_path / "rows", [f"x\t{target}\t{source}" for source, target in pairs])
    expected = results("score", "-m", model, "-s", tmp_path / "src", "-t", tmp_path / "tgt")
    tsv = ["--input-format", "tsv", "--columns", "3", "--columns", "2"]
    assert results("score", "-m", model, "-s", tmp_path / "rows", *tsv) == expected
    objects = lines_of(*(json.dumps({"id": s, "text": s, "translation": t}) for s, t in pairs))
    found = results("score", "-m", model, "-s", "-", "--input-format", "jsonl", "--json", stdin=objects)
    assert [json.loads(line)["id"] for line in found] == [source for source, _ in pairs]
    assert [json.loads(line)["log_probability"] for line in found] == [float(line) for line in expected]
    code, _, stderr = invoke("score", "-m", model, "-s", tmp_path / "src")
    assert (code, stderr) == (
        2,
        "transduce: error: --tgt is missing; one file holds both sides with --input-format tsv or jsonl\n",
    )


def test_what_translate_writes_score_reads(model: Path) -> None:
    given = lines_of(*(json.dumps({"text": line}) for line in LINES))
    written = results("translate", "-m", model, *GREEDY, "--input-format", "jsonl", stdin=given)
    scored = results("score", "-m", model, "-s", "-", "--input-format", "jsonl", "--json", stdin=lines_of(*written))
    for before, after in zip(map(json.loads, written), map(json.loads, scored), strict=True):
        assert after["translation"] == before["translation"]
        if not before["truncated"]:
            assert after["log_probability"] == pytest.approx(before["log_probability"], abs=1e-4)


def test_tokens_are_those_of_score(model: Path) -> None:
    given = lines_of(*(json.dumps({"text": line}) for line in LINES))
    jsonl = ["--input-format", "jsonl", "--per-token"]
    written = results("translate", "-m", model, *GREEDY, *jsonl, stdin=given)
    scored = results("score", "-m", model, "-s", "-", "--json", *jsonl, stdin=lines_of(*written))
    for before, after in zip(map(json.loads, written), map(json.loads, scored), strict=True):
        if not before["truncated"]:
            assert after["tokens"] == before["tokens"]
            assert after["token_log_probabilities"] == pytest.approx(before["token_log_probabilities"], abs=1e-4)


def test_evaluate_reads_columns(tmp_path: Path) -> None:
    write_lines(tmp_path / "ref", LINES)
    write_lines(tmp_path / "other", list(reversed(LINES)))
    write_lines(tmp_path / "hyp", [f"{line} ba" for line in LINES])
    metrics = ["-m", "chrf", "-m", "wer", "-b"]
    one = results("evaluate", tmp_path / "ref", "-i", tmp_path / "hyp", *metrics)
    two = results("evaluate", tmp_path / "ref", tmp_path / "other", "-i", tmp_path / "hyp", *metrics)
    rows = lines_of(*(f"{line} ba\t{line}\t{other}" for line, other in zip(LINES, reversed(LINES), strict=True)))
    (tmp_path / "rows").write_text(rows)
    tsv = ["--input-format", "tsv", *metrics]
    assert results("evaluate", "-", *tsv, stdin=rows) == one
    assert results("evaluate", tmp_path / "rows", "-i", tmp_path / "rows", *tsv) == one
    columns = [word for number in "123" for word in ("--columns", number)]
    assert results("evaluate", tmp_path / "rows", "-i", tmp_path / "rows", *tsv, *columns) == two
    assert results("evaluate", "-", *tsv, *columns, stdin=rows) == two
    objects = [json.dumps({"translation": f"{line} ba"}) for line in LINES]
    write_lines(tmp_path / "refs", [json.dumps({"reference": line}) for line in LINES])
    jsonl = ["--input-format", "jsonl", *metrics]
    assert results("evaluate", tmp_path / "refs", *jsonl, stdin=lines_of(*objects)) == one
    code, _, stderr = invoke("evaluate", tmp_path / "rows", *tsv, "--columns", "1", stdin=rows)
    assert (code, "--columns is given 1 times" in stderr) == (2, True)
    code, _, stderr = invoke("evaluate", tmp_path / "refs", *jsonl, stdin=lines_of(*objects, "[]"))
    assert (code, "standard input:13: is no JSON object" in stderr) == (3, True)


def test_train_learns_the_same_from_one_file(tmp_path: Path) -> None:
    sources, targets = reversed_strings(200)
    write_lines(tmp_path / "src", sources)
    write_lines(tmp_path / "tgt", targets)
    write_lines(tmp_path / "rows", [f"{target}\tx\t{source}" for source, target in zip(sources, targets, strict=True)])
    write_lines(
        tmp_path / "objects",
        [json.dumps({"text": source, "translation": target}) for source, target in zip(sources, targets, strict=True)],
    )
    tiny = [*TINY_RUN, "--max-steps", "4", "--valid-every", "2", "--metric", "exact"]
    inputs = {
        "text": ["-s", tmp_path / "src", "-t", tmp_path / "tgt"],
        "tsv": ["-s", tmp_path / "rows", "--input-format", "tsv", "--columns", "3", "--columns", "1"],
        "jsonl": ["-s", tmp_path / "objects", "--input-format", "jsonl"],
        "given": ["-s", tmp_path / "objects", "--valid-src", tmp_path / "objects", "--input-format", "jsonl"],
    }
    for name, files in inputs.items():
        assert invoke("train", *files, "-o", tmp_path / name, *tiny)[0] == 0
    weights = {name: (tmp_path / name / "model.safetensors").read_bytes() for name in inputs}
    assert weights["text"] == weights["tsv"] == weights["jsonl"]
    # the same command finds its run again
    code, _, stderr = invoke("train", *inputs["jsonl"], "-o", tmp_path / "jsonl", *tiny)
    assert (code, "is finished" in stderr) == (0, True)
    assert invoke("prepare", *inputs["given"], "-o", tmp_path / "prepared")[0] == 0
    assert (tmp_path / "prepared" / "validation-copy.src").read_text() == lines_of(*sources)
    write_lines(tmp_path / "broken", ["{}"])
    code, _, stderr = invoke(
        "train", "-s", tmp_path / "broken", "--input-format", "jsonl", "-o", tmp_path / "no", *tiny
    )
    assert (code, stderr) == (
        3,
        f'transduce: error: {tmp_path / "broken"}:1: has no key "text"; --columns names the key that holds the text\n',
    )
