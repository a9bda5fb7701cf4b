import gzip
import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import tokenizers

from tests.program import program_environment, run_program
from tests.tokenizer.examples import LINES, ODD_LINES, trained
from tokenizer import KINDS, Kind, Tokenizer, TokenizerConfig

# Lines as a file can hold them: a "\r" at the end belongs to the line end, a mark at the start is a byte order mark.
FILE_LINES = [line for line in ODD_LINES if not line.endswith("\r") and "\n" not in line]


def write(path: Path, lines: list[str]) -> Path:
    path.write_bytes("".join(f"{line}\n" for line in lines).encode())
    return path


@pytest.fixture
def text(tmp_path: Path) -> Path:
    return write(tmp_path / "text.txt", LINES)


@pytest.fixture
def bpe(tmp_path: Path) -> Path:
    path = tmp_path / "bpe.json"
    trained("bpe").save(path)
    return path


# --- train


def test_train_writes_what_the_library_call_does(text: Path, tmp_path: Path) -> None:
    for kind in KINDS:
        output = tmp_path / f"{kind}.json"
        run = run_program("tokenizer", "train", "-i", text, "-o", output, "--vocab-size", "900", "--kind", kind)
        assert (run.code, run.stdout) == (0, b"")
        assert f"{output}: {kind}, {trained(kind).vocabulary_size} entries" in run.stderr
        assert output.read_text(encoding="utf-8") == trained(kind).to_json()


def test_a_joint_vocabulary_comes_from_several_files(tmp_path: Path) -> None:
    first, second = write(tmp_path / "a.txt", LINES[:200]), tmp_path / "b.txt.gz"
    second.write_bytes(gzip.compress("".join(f"{line}\n" for line in LINES[200:]).encode()))
    output = tmp_path / "joint.json"
    run = run_program("tokenizer", "train", "-i", first, "-i", second, "-o", output, "--vocab-size", "900")
    assert run.code == 0
    assert output.read_text(encoding="utf-8") == trained("bpe").to_json()


def test_options_and_standard_streams(text: Path) -> None:
    arguments = ["--vocab-size", "900", "--normalization", "nfkc", "--lowercase"]
    run = run_program("tokenizer", "train", "-i", "-", "-o", "-", *arguments, stdin=text.read_bytes())
    assert run.code == 0
    assert run.stdout.decode() == trained("bpe", normalization="nfkc", lowercase=True).to_json()


def test_the_defaults_are_those_of_the_configuration(text: Path, tmp_path: Path) -> None:
    run = run_program("tokenizer", "train", "-i", text, "-o", tmp_path / "x.json", "--print-config")
    for value in (f"vocab_size = {TokenizerConfig.vocabulary_size}", 'kind = "bpe"', 'normalization = "nfc"'):
        assert value.encode() in run.stdout
    assert not (tmp_path / "x.json").exists()


def test_a_text_that_cannot_fill_the_vocabulary_warns_only_if_the_size_was_asked_for(tmp_path: Path) -> None:
    text, output = write(tmp_path / "small.txt", ["walk twice", "jump left"]), tmp_path / "x.json"
    run = run_program("tokenizer", "train", "-i", text, "-o", output, "--kind", "word", "--vocab-size", "100")
    assert run.code == 0
    assert f"warning: {output}: word, 9 entries, not 100: the text has no more to learn" in run.stderr
    run = run_program("tokenizer", "train", "-i", text, "-o", output, "--kind", "word")
    assert "warning" not in run.stderr
    assert f"{output}: word, 9 entries, all that the text has to learn" in run.stderr
    assert Tokenizer.load(output).vocabulary_size == 9


def test_a_link_stays_a_link(text: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("file")
    run = run_program("tokenizer", "train", "-i", text, "-o", tmp_path / "link", "--vocab-size", "900")
    assert run.code == 0
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "file").read_text(encoding="utf-8") == trained("bpe").to_json()


def test_a_named_pipe_is_written_to_and_not_replaced(text: Path, tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    received: list[str] = []
    reader = threading.Thread(target=lambda: received.append(pipe.read_text(encoding="utf-8")), daemon=True)
    reader.start()
    run = run_program("tokenizer", "train", "-i", text, "-o", pipe, "--vocab-size", "900")
    reader.join(timeout=30)
    assert run.code == 0
    assert received == [trained("bpe").to_json()]
    assert pipe.is_fifo()


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["-i", "missing.txt"], 3, "missing.txt"),
        (["-i", "."], 3, "."),
        (["-i", "empty.txt"], 3, "empty.txt: there is no text to learn a vocabulary from: there are no lines"),
        (["-i", "empty.txt", "-i", "-"], 3, "empty.txt, standard input: there is no text to learn a vocabulary from"),
        (["-i", "blank.txt"], 3, "blank.txt: there is no text to learn a vocabulary from: every line is blank"),
        (["-i", "latin1.txt"], 3, "latin1.txt:2: is not UTF-8"),
        (["-i", "text.txt", "--vocab-size", "260"], 2, "vocabulary_size (260) must be between 261 and"),
        (["-i", "text.txt", "--vocab-size", "265"], 2, "vocabulary_size (265) is too small: bpe needs"),
        (["-i", "text.txt", "--vocab-size", "10", "--kind", "unigram"], 2, "is too small: unigram needs"),
        (["-i", "text.txt", "--vocab-size", "many"], 2, "--vocab-size: must be a valid integer"),
        (["-i", "text.txt", "--kind", "bep"], 2, "did you mean 'bpe'?"),
        (["-i", "text.txt", "--normalization", "nfkd"], 2, "nfkd"),
        (["-i", "-", "-i", "-"], 2, "standard input (-) can be only one of the files"),
        ([], 2, "--input"),
        (["-i", "text.txt", "-o", "nowhere/x.json"], 2, "nowhere: no such folder"),
        (["-i", "text.txt", "-o", "."], 2, ".: is a folder; name the file to write"),
        (["-i", "text.txt", "-o", "x.json.gz"], 2, "x.json.gz: no tokenizer is read packed; give -o x.json"),
        (["-i", "text.txt", "-o", "/dev/full"], 1, "/dev/full: the disk is full"),
    ],
)
def test_what_cannot_be_trained_ends_in_one_line_and_leaves_nothing(
    arguments: list[str], code: int, message: str, text: Path, tmp_path: Path
) -> None:
    write(tmp_path / "empty.txt", [])
    write(tmp_path / "blank.txt", ["", "  "])
    (tmp_path / "latin1.txt").write_bytes("fine\nna\xefve\n".encode("latin-1"))
    before = sorted(tmp_path.iterdir())
    output = [] if "-o" in arguments else ["-o", "x.json"]
    run = run_program("tokenizer", "train", *arguments, *output, folder=tmp_path)
    assert (run.code, run.stdout) == (code, b"")
    (line,) = run.stderr.splitlines()
    assert line.startswith("transduce: error: ")
    assert message in line
    assert sorted(tmp_path.iterdir()) == before


def test_wrong_bytes_can_be_replaced(tmp_path: Path) -> None:
    (tmp_path / "latin1.txt").write_bytes(b"fine\nna\xefve\n")
    files = ["-i", str(tmp_path / "latin1.txt"), "-o", str(tmp_path / "x.json")]
    run = run_program("tokenizer", "train", *files, "--kind", "char", "--errors", "replace")
    assert run.code == 0
    assert "warning: " in run.stderr
    assert "latin1.txt: 1 line with bytes that are not UTF-8: U+FFFD stands in their place" in run.stderr
    assert "\ufffd" in Tokenizer.load(tmp_path / "x.json").tokens(range(5, 12))


# --- encode and decode


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("form", [[], ["--ids"]])
def test_encoded_and_decoded_lines_are_those_of_the_library_call(kind: Kind, form: list[str], tmp_path: Path) -> None:
    tokenizer, path = trained(kind), tmp_path / "tokenizer.json"
    tokenizer.save(path)
    text = "".join(f"{line}\n" for line in FILE_LINES).encode()
    encoded = run_program("tokenizer", "encode", "-t", path, *form, stdin=text)
    assert (encoded.code, encoded.stderr) == (0, "")
    rows = tokenizer.encode_batch(
        [line.removeprefix("\ufeff") if n == 0 else line for n, line in enumerate(FILE_LINES)]
    )
    written = [" ".join(map(str, row) if form else tokenizer.tokens(row)) for row in rows]
    assert encoded.stdout.decode().removesuffix("\n").split("\n") == written
    decoded = run_program("tokenizer", "decode", "-t", path, *form, stdin=encoded.stdout)
    assert (decoded.code, decoded.stderr) == (0, "")
    assert decoded.stdout.decode().removesuffix("\n").split("\n") == tokenizer.decode_batch(rows)
    if kind in ("bpe", "byte-bpe"):
        assert decoded.stdout.decode() == "".join(f"{tokenizer.normalize(line)}\n" for line in FILE_LINES)


def test_tokens_are_shown_with_spaces_between(bpe: Path) -> None:
    run = run_program("tokenizer", "encode", "-t", bpe, stdin=b"A man, a  man\n\n")
    assert run.stdout.decode() == "▁A ▁man , ▁a ▁ ▁man\n\n"


def test_tokens_of_bytes_are_shown_as_gpt_2_writes_them(tmp_path: Path) -> None:
    trained("byte-bpe").save(tmp_path / "bytes.json")
    shown = run_program("tokenizer", "encode", "-t", tmp_path / "bytes.json", stdin="▁ x é\n".encode()).stdout
    assert shown.decode().replace(" ", "") == "ĠâĸģĠxĠÃ©\n"
    back = run_program("tokenizer", "decode", "-t", tmp_path / "bytes.json", stdin=shown)
    assert back.stdout.decode() == "▁ x é\n"


def test_files_in_and_out(bpe: Path, text: Path, tmp_path: Path) -> None:
    ids, back = tmp_path / "text.ids.gz", tmp_path / "back.txt"
    assert run_program("tokenizer", "encode", "-t", bpe, "-i", text, "-o", ids, "--ids").code == 0
    assert run_program("tokenizer", "decode", "-t", bpe, "-i", ids, "-o", back, "--ids").code == 0
    assert back.read_text(encoding="utf-8") == "".join(f"{trained('bpe').normalize(line)}\n" for line in LINES)


def test_an_output_without_a_place_is_a_usage_error(bpe: Path, text: Path, tmp_path: Path) -> None:
    run = run_program("tokenizer", "encode", "-t", bpe, "-i", text, "-o", "nowhere/x", folder=tmp_path)
    assert (run.code, run.stdout) == (2, b"")
    said = "nowhere: no such folder; make it first, or write elsewhere with -o"
    assert run.stderr == f"transduce: error: {said}\n"


def test_a_co_process_gets_its_answer_before_it_sends_the_next_line(bpe: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "cli", "tokenizer", "encode", "-t", str(bpe)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=program_environment(),
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        for line, answer in ((b"A man\n", "▁A ▁man\n"), (b"\n", "\n"), (b"a man\n", "▁a ▁man\n")):
            process.stdin.write(line)
            process.stdin.flush()
            assert process.stdout.readline().decode() == answer
        process.stdin.close()
    assert process.returncode == 0


@pytest.mark.parametrize(
    ("form", "stdin", "message"),
    [
        ([], "▁A ▁man\n▁A ▁man zzz\n", "standard input:2: 'zzz' is no token of this vocabulary"),
        ([], "17 18\n", "--ids reads numbers"),
        (["--ids"], "5 6\n5 x\n", "standard input:2: is not a line of numbers; without --ids, tokens are read"),
        (["--ids"], "5 6\n1_0\n", "standard input:2: is not a line of numbers"),
        (["--ids"], "+5\n", "standard input:1: is not a line of numbers"),
        (["--ids"], "٣\n", "standard input:1: is not a line of numbers"),
        (["--ids"], "5 99999\n", "standard input:1: 99999 is no id of this vocabulary, whose ids go from 0 to 551"),
        (["--ids"], "-1\n", "standard input:1: -1 is no id"),
    ],
)
def test_what_cannot_be_decoded_is_named_with_its_line(form: list[str], stdin: str, message: str, bpe: Path) -> None:
    run = run_program("tokenizer", "decode", "-t", bpe, *form, stdin=stdin.encode())
    assert run.code == 3
    (line,) = run.stderr.splitlines()
    assert message in line


def test_the_lines_before_one_that_cannot_be_decoded_are_answered(bpe: Path, tmp_path: Path) -> None:
    run = run_program("tokenizer", "decode", "-t", bpe, stdin="▁A ▁man\n\nzzz\n▁a ▁man\n".encode())
    assert (run.code, run.stdout) == (3, b"A man\n\n")
    source, target = write(tmp_path / "in.txt", ["▁A", "zzz"]), tmp_path / "out.txt"
    assert run_program("tokenizer", "decode", "-t", bpe, "-i", source, "-o", target).code == 3
    assert not target.exists()


@pytest.mark.parametrize("command", ["encode", "decode"])
def test_a_file_that_is_no_tokenizer_has_exit_code_4(command: str, text: Path, tmp_path: Path) -> None:
    for path, message in ((text, "is not JSON"), (tmp_path, "is a folder"), (tmp_path / "no.json", "no such file")):
        run = run_program("tokenizer", command, "-t", path, stdin=b"a\n")
        assert (run.code, run.stdout) == (4, b"")
        (line,) = run.stderr.splitlines()
        assert message in line


def test_special_tokens_in_ids_vanish_and_text_that_spells_them_stays(bpe: Path) -> None:
    ids = " ".join(map(str, [1, *trained("bpe").encode("<eos> <pad>"), 2, 0, 0]))
    run = run_program("tokenizer", "decode", "-t", bpe, "--ids", stdin=f"{ids}\n".encode())
    assert run.stdout == b"<eos> <pad>\n"


# --- info


def test_info_says_what_a_tokenizer_is(bpe: Path) -> None:
    run = run_program("tokenizer", "info", bpe)
    assert (run.code, run.stderr) == (0, "")
    lines = dict(line.split(maxsplit=1) for line in run.stdout.decode().splitlines())
    assert lines["kind"] == "bpe"
    assert lines["normalization"] == "nfc"
    assert lines["special"] == "tokens  <pad> 0, <bos> 1, <eos> 2, <unk> 3, <mask> 4"
    assert lines["sha256"] == trained("bpe").sha256


def test_info_in_json_has_stable_keys(bpe: Path, text: Path) -> None:
    run = run_program("tokenizer", "info", bpe, "--json")
    facts = json.loads(run.stdout)
    assert list(facts) == [
        "file",
        "kind",
        "vocabulary_size",
        "normalization",
        "lowercase",
        "special_tokens",
        "round_trip",
        "sha256",
    ]
    assert facts["vocabulary_size"] == tokenizers.Tokenizer.from_file(str(bpe)).get_vocab_size()
    check = json.loads(run_program("tokenizer", "info", bpe, "--json", "--check", text).stdout)["check"]
    assert (check["text"], check["num_lines"], check["num_inexact"]) == (str(text), len(LINES), 0)
    assert check["tokens_per_line"] == check["num_tokens"] / len(LINES)
    assert check["examples"] == []


def test_check_counts_and_shows_what_changes(tmp_path: Path) -> None:
    path, text = tmp_path / "word.json", write(tmp_path / "text.txt", ["A man", "A zebra", "A  man", "\x01", "A man"])
    trained("word").save(path)
    run = run_program("tokenizer", "info", path, "--check", text)
    assert run.code == 0
    shown = run.stdout.decode()
    assert "unknown tokens  2 (22.22 %), in 2 lines" in shown  # 2 of 2 + 2 + 2 + 1 + 2 tokens
    assert "not exact       3 lines (60.00 %)" in shown
    assert "  line 2: 'A zebra' became 'A ⁇'\n" in shown
    assert "  line 3: 'A  man' became 'A man'\n" in shown
    assert "  line 4: '\\x01' became '⁇'\n" in shown
    check = json.loads(run_program("tokenizer", "info", path, "--check", text, "--json").stdout)["check"]
    assert check["examples"][0] == {"line_number": 2, "normalized": "A zebra", "decoded": "A ⁇", "num_unknown": 1}


def test_check_cuts_long_lines_around_the_change(tmp_path: Path) -> None:
    path = tmp_path / "char.json"
    trained("char").save(path)
    text = write(tmp_path / "text.txt", ["a" * 500 + "¤" + "b" * 500, *["¤" * 100] * 9])
    shown = run_program("tokenizer", "info", path, "--check", text).stdout.decode()
    assert "  line 1: …'aaaaaaaaaa¤bbbbbbbbbb'… became …'aaaaaaaaaa⁇bbbbbbbbbb'…\n" in shown
    assert f"  line 2: '{'¤' * 40}'… became '{'⁇' * 40}'…\n" in shown
    assert "  and 5 more lines\n" in shown


def test_check_of_an_empty_file(bpe: Path, tmp_path: Path) -> None:
    run = run_program("tokenizer", "info", bpe, "--check", write(tmp_path / "empty.txt", []))
    assert run.code == 0
    assert b"0.0 per line" in run.stdout


# --- The command as a whole


def test_nothing_heavy_is_loaded(bpe: Path) -> None:
    code = (
        "import sys\nfrom typer.testing import CliRunner\nfrom cli.main import app\n"
        f"result = CliRunner().invoke(app, ['tokenizer', 'info', {str(bpe)!r}])\n"
        "assert result.exit_code == 0, result.output\n"
        "print(*sorted({'torch', 'sacrebleu', 'sentencepiece', 'transformers'} & set(sys.modules)))"
    )
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=program_environment(), check=True
    )
    assert run.stdout.split() == []


def test_a_reader_that_goes_away_ends_it_quietly(bpe: Path, text: Path) -> None:
    command = f'"{sys.executable}" -m cli tokenizer encode -t "{bpe}" -i "{text}" | head -1; echo ${{PIPESTATUS[0]}}'
    run = subprocess.run(["bash", "-c", command], capture_output=True, text=True, env=program_environment(), check=True)
    assert run.stderr == ""
    assert run.stdout.splitlines()[-1] in ("0", "141")
