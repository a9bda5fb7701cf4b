"""Text of every hard kind through the commands: as many lines out as went in, and no line that ends elsewhere."""

import json
import math
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cli.main import app
from tests.program import program_environment
from tests.transformer_core.decoding.random_model import random_model
from tokenizer import KINDS, Kind, Tokenizer, TokenizerConfig, train_tokenizer
from transformer_core.model_directory import weights_of
from transformer_core.model_files import save_architecture, write_json
from transformer_core.weight_file import write_weights

QUICK = ["--greedy", "--max-length", "3", "--batch-size", "8192"]

ZALGO = "z" + "\u0338\u0347\u0317\u034a" * 300 + "a\u0315\u0321"
EMOJI = "👩\u200d👩\u200d👧\u200d👦 🏳\ufe0f\u200d🌈 👍🏽 🇩🇪 1\ufe0f⃣ ❤\ufe0f"
BIDI = "\u202eabc\u202c \u05e9\u05dc\u05d5\u05dd (1) \u2066\u05e2\u2069 \u0645\u0631\u062d\u0628\u0627\u200f!"
MARKERS = "<pad> <bos> <eos> <unk> <mask> [CLS] ##ing ▁the </s> @@ <0x0A> <2de> Ġthe \\▁"
STAYS_INSIDE = "a\x0bb\x0cc\x1cd\x1de\x1ef\x85g\u2028h\u2029i"

# Every text, and how many lines it is.
TEXTS: dict[str, tuple[bytes, int]] = {
    "separators of others": (f"{STAYS_INSIDE}\n{STAYS_INSIDE}\n".encode(), 2),
    "a lone carriage return": (b"a\rb\n\r\rc\r\n", 2),
    "Windows": (b"a\r\n\r\nb\r\n", 3),
    "mixed ends, the last one missing": (b"a\nb\r\nc\rd\r\n\ne", 5),
    "NUL and control characters": (bytes(range(32)).replace(b"\n", b"") + b"\n\x7f\x00\n", 2),
    "a byte order mark": (b"\xef\xbb\xbfa\n\xef\xbb\xbfb\n", 2),
    "nothing but a byte order mark": (b"\xef\xbb\xbf", 0),
    "nothing": (b"", 0),
    "Latin-1": ("Grüße\nä\n".encode("latin-1"), 2),
    "cut, overlong and surrogate UTF-8": (b"\xe2\x82\n\xc0\x80\xc1\xbf\n\xed\xa0\x80\n\xf4\x90\x80\x80\n\xff", 5),
    "zalgo": (f"{ZALGO}\n\n{ZALGO}\n".encode(), 3),
    "emoji": (f"{EMOJI}\n".encode(), 1),
    "both directions": (f"{BIDI}\n".encode(), 1),
    "what looks special": (f"{MARKERS}\n".encode(), 1),
    "every kind of space": (" \u00a0\u2003\u3000\t\u200b\u200d\n\t\n a  b \n".encode(), 3),
    "unassigned and private characters": ("\ufdd0\ue000\U000e0001\U0010ffff\u0378\n".encode(), 1),
}
VALID = {name: row for name, row in TEXTS.items() if name not in ("Latin-1", "cut, overlong and surrogate UTF-8")}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model whose tokenizer spells everything, with random weights."""
    folder = tmp_path_factory.mktemp("hard") / "model"
    config = TokenizerConfig(kind="byte-bpe", vocabulary_size=300, normalization="none")
    tokenizer = train_tokenizer(["the cat sat on the mat"] * 3, config)
    network = random_model(tokenizer.vocabulary_size)
    folder.mkdir()
    save_architecture(folder, network.config, tokenizer, tokenizer)
    write_weights(folder / "model.safetensors", weights_of(network))
    write_json(folder / "generation.json", {})
    return folder


def invoke(*arguments: object, stdin: bytes = b"") -> tuple[int, bytes, str]:
    result = CliRunner().invoke(app, list(map(str, arguments)), input=stdin)
    return result.exit_code, result.stdout_bytes, result.stderr


def bare_lines(text: bytes) -> list[bytes]:
    """What the lines of a text hold, by the contract and by other means than the program's."""
    lines = text.removeprefix(b"\xef\xbb\xbf").split(b"\n")
    return [line.removesuffix(b"\r") for line in (lines if lines[-1] else lines[:-1])]


@pytest.mark.parametrize("name", TEXTS)
def test_one_line_out_for_every_line_in(model: Path, name: str) -> None:
    text, num_lines = TEXTS[name]
    assert len(bare_lines(text)) == num_lines
    code, stdout, stderr = invoke("translate", "-m", model, *QUICK, stdin=text)
    assert (code, stdout.count(b"\n")) == (0, num_lines), stderr
    for line, translation in zip(bare_lines(text), stdout.split(b"\n"), strict=False):
        assert line.decode("utf-8", "replace").strip() or translation == b"", "blank for blank"
    code, stdout, _ = invoke("translate", "-m", model, *QUICK, "--format", "jsonl", stdin=text)
    assert (code, stdout.count(b"\n")) == (0, num_lines)
    assert all(json.loads(line)["translation"] is not None for line in stdout.split(b"\n")[:-1])
    assert ("not UTF-8" in stderr) == (name not in VALID)


@pytest.mark.parametrize("name", VALID)
def test_what_is_encoded_is_decoded_byte_for_byte(model: Path, name: str) -> None:
    text, num_lines = VALID[name]
    code, ids, stderr = invoke("tokenizer", "encode", "-t", model / "tokenizer.json", "--ids", stdin=text)
    assert (code, ids.count(b"\n")) == (0, num_lines), stderr
    code, stdout, _ = invoke("tokenizer", "decode", "-t", model / "tokenizer.json", "--ids", stdin=ids)
    expected = [line + (b"\r" if line.endswith(b"\r") else b"") for line in bare_lines(text)]
    assert (code, stdout.split(b"\n")[:-1]) == (0, expected)


@pytest.mark.parametrize("name", VALID)
def test_pairs_are_scored_line_by_line(model: Path, tmp_path: Path, name: str) -> None:
    text, num_lines = VALID[name]
    (tmp_path / "text").write_bytes(text)
    code, stdout, stderr = invoke("score", "-m", model, "-s", tmp_path / "text", "-t", tmp_path / "text")
    assert (code, stdout.count(b"\n")) == (0, num_lines), stderr
    assert all(float(line) <= 0 and math.isfinite(float(line)) for line in stdout.split())


@pytest.mark.parametrize("name", [name for name, (_, num_lines) in VALID.items() if num_lines])
def test_a_text_equals_itself(tmp_path: Path, name: str) -> None:
    text, num_lines = VALID[name]
    (tmp_path / "text").write_bytes(text)
    system = [tmp_path / "text", "-i", tmp_path / "text", "-m", "exact", "-m", "wer", "--score-only"]
    code, stdout, stderr = invoke("evaluate", *system)
    assert code == 0, stderr
    assert list(map(float, stdout.split())) == [100.0, 0.0]
    code, stdout, _ = invoke("evaluate", *system, "--sentence-level")
    assert (code, stdout.count(b"\n")) == (0, num_lines)


@pytest.mark.parametrize("errors", ["strict", "replace"])
@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-be", "utf-32"])
def test_another_encoding_is_named_whatever_becomes_of_wrong_bytes(
    model: Path, tmp_path: Path, encoding: str, errors: str
) -> None:
    path = tmp_path / "text"
    path.write_bytes(("\ufeff" if encoding.endswith("be") else "").encode(encoding) + "Grüße\nä\n".encode(encoding))
    said = f"transduce: error: {path}: is {encoding[:6].upper()}, not UTF-8; `iconv -f {encoding[:6].upper()} -t UTF-8`"
    for command in (
        ("translate", "-m", model, "-i", path),
        ("tokenizer", "train", "-i", path, "-o", tmp_path / "t.json"),
        ("prepare", "-s", path, "-t", path, "-o", tmp_path / "prepared"),
    ):
        code, stdout, stderr = invoke(*command, "--errors", errors)
        assert (code, stdout, stderr.count("\n")) == (3, b"", 1), stderr
        assert stderr.startswith(said)
    code, _, stderr = invoke("evaluate", path, "-i", path)
    assert (code, stderr[: len(said)]) == (3, said)


# --- long ones


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "line",
    [
        "a" * 100_000,
        "".join(chr(0x4E00 + number) for number in range(20_000)),
        "e\u0301\u0323" * 20_000,
        "a b " * 50_000,
    ],
    ids=["one token", "Han", "marks", "words"],
)
def test_a_long_line_is_encoded_in_time_that_grows_with_it(kind: Kind, line: str) -> None:
    size = {"word": 12, "char": 20, "wordpiece": 40}.get(kind, 300)
    tokenizer = train_tokenizer(["a b aa ab ba abc", "een tweé"] * 3, TokenizerConfig(kind=kind, vocabulary_size=size))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_utime
    ids = tokenizer.encode(line)
    seconds = resource.getrusage(resource.RUSAGE_SELF).ru_utime - before
    assert seconds < 5  # a tenth of a second here; what grows with the square of the length would take minutes
    if tokenizer.config.kind in ("bpe", "byte-bpe"):
        assert tokenizer.decode(ids) == tokenizer.normalize(line)


@pytest.mark.slow
def test_a_megabyte_in_one_line_takes_bounded_memory(model: Path, tmp_path: Path) -> None:
    """One line of a million bytes between two short ones; a gigabyte more than an idle process takes has to do."""
    line = "the cat sat " * 87_382
    (tmp_path / "text").write_text(f"a\n{line}\nb\n", encoding="utf-8")
    program = (
        "import resource, sys, torch, cli.main as main; from pathlib import Path\n"
        "import transformer_core.decoding.translator\n"
        "pages = int(Path('/proc/self/statm').read_text().split()[0])\n"
        "limit = pages * resource.getpagesize() + (1 << 30)\n"
        "resource.setrlimit(resource.RLIMIT_AS, (limit, limit))\n"
        "main.main()\n"
    )
    command = ["translate", "-m", model, *QUICK, "--threads", "1", "-i", tmp_path / "text"]
    for long_input, code, num_lines in (("truncate", 0, 3), ("split", 0, 3), ("error", 3, 1)):
        process = subprocess.run(
            [sys.executable, "-c", program, *map(str, command), "--long-input", long_input],
            capture_output=True,
            env=program_environment(),
            check=False,
        )
        assert (process.returncode, process.stdout.count(b"\n")) == (code, num_lines), process.stderr
        assert process.stderr.count(b"\n") <= 2


# --- rows and names


@pytest.mark.parametrize(
    ("form", "bad", "message"),
    [
        ("tsv", "a", "has 1 column, but the rows before have 2"),
        ("tsv", "a\tb\tc", "has 3 columns, but the rows before have 2"),
        ("jsonl", '{"text": "a', "is broken JSON (unterminated string starting at column 10)"),
        ("jsonl", '{"text": "a"} {"text": "b"}', "is broken JSON (expected the end of the line at column 15)"),
        ("jsonl", '{"text": "\t"}', "is broken JSON (invalid control character at column 11)"),
        ("jsonl", '{"text": "\\ud800"}', "has half a character"),
        ("jsonl", '"a"', "is no JSON object"),
    ],
)
def test_what_is_wrong_in_line_7_is_said_of_line_7(
    model: Path, tmp_path: Path, form: str, bad: str, message: str
) -> None:
    good = {"tsv": "the cat\tsat", "jsonl": '{"text": "the cat"}'}[form]
    path = tmp_path / "rows"
    path.write_text("".join(f"{line}\n" for line in [*[good] * 6, bad, good]), encoding="utf-8")
    command = ["translate", "-m", model, *QUICK, "--input-format", form, "-i", path, "--errors", "strict"]
    code, stdout, stderr = invoke(*command)
    assert (code, stdout.count(b"\n")) == (3, 6)
    assert stderr.startswith(f"transduce: error: {path}:7: {message}"), stderr
    assert stderr.count("\n") == 1


NAMES = [
    "with space",
    "-dash",
    "line\nbreak",
    "quote'\"",
    "[bold]*?",
    "ü\u202e.txt",
    "\x1b[31m",
    os.fsdecode(b"latin\xe91"),
    "x" * 250,
    "%s {} $HOME",
]


@pytest.mark.parametrize("name", NAMES, ids=ascii)
def test_files_of_any_name_are_read_written_and_named_on_one_line(model: Path, tmp_path: Path, name: str) -> None:
    text, out = tmp_path / name, tmp_path / f"{name[:200]}.out"
    text.write_bytes(b"the cat\nsat\n")
    code, _, stderr = invoke("translate", "-qq", "-m", model, *QUICK, "-i", text, "-o", out)
    assert (code, stderr) == (0, "")
    assert out.read_bytes().count(b"\n") == 2
    text.write_bytes(b"the cat\n\xff\n")
    code, _, stderr = invoke("evaluate", text, "-i", text)
    assert (code, stderr.count("\n")) == (3, 1)
    assert "is not UTF-8" in stderr
    assert all(character.isprintable() for character in stderr[:-1])


def test_the_tokenizer_of_the_model_spells_everything(model: Path) -> None:
    tokenizer = Tokenizer.load(model / "tokenizer.json")
    for text, _ in VALID.values():
        for line in bare_lines(text):
            assert tokenizer.decode(tokenizer.encode(line.decode())) == line.decode()
