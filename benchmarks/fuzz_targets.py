"""What fuzz.py feeds with damaged and hostile files: every reader of text, and every file of a model or a run.

A target has seeds, the good files that are mutated, and `run`, which may raise what the project says that such a file
raises, and nothing else. Those that are commands run as they do from a shell, with the exit codes that they may have.
"""

import gzip
import json
import lzma
import os
import random
import shlex
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import zstandard

from benchmarks.fuzz_foreign_models import FOREIGN_FILES, import_with, seed_of_foreign
from benchmarks.fuzz_mutation import (
    Mutation,
    mutate_arrays,
    mutate_bytes,
    mutate_json,
    mutate_json_lines,
    mutate_packed,
    mutate_text,
    mutate_weights,
)
from benchmarks.fuzz_serving import ask_server, listen_to_server, seeds_of_answers, seeds_of_questions

__all__ = ["TARGETS", "Fault", "Target", "prepare"]

LINES = [
    "a b c d",
    "",
    "Grüße,\u2028 \x85 \x0b\x0c\x1c\x1d\x1e 世界 👩‍👩‍👧 z̸̛͇a̷͕l̵g̶o",
    "\u202eabc\u202c <eos> ▁a ##b <0x41> [MASK]",
    " \t x\ty",
    "\r",
]
TEXT = "\n".join(LINES).encode()
TASK = "--tokenizer-kind word --layers 1 --d-model 16 --heads 2 --ffn-dim 16 --precision fp32 --threads 1 --device cpu"
RUN = f"{TASK} --batch-size 100 --valid-every 1 --save-every 1 --log-every 1 --lr 0.01 --lr-schedule constant"


class Fault(Exception):
    """A command ended as it must not; the message is what it said."""


@dataclass(frozen=True)
class Target:
    """A file that is read, and who reads it."""

    seeds: Callable[[Path], Sequence[bytes]]  # of the folder that `prepare` has filled
    run: Callable[[bytes, Path], None]  # of the content of the file, and that folder
    mutate: Mutation


def prepare(folder: Path) -> None:
    """Make what targets begin with: a text, a model, a run that goes on, prepared text, and translations to resume."""
    source = random.Random(1)
    rows = [source.choices("abcdefgh", k=source.randrange(1, 8)) for _ in range(60)]
    (folder / "train.src").write_text("".join(f"{' '.join(row)}\n" for row in rows), encoding="utf-8")
    (folder / "train.tgt").write_text("".join(f"{' '.join(reversed(row))}\n" for row in rows), encoding="utf-8")
    with _inside(folder):
        _command(f"train -s train.src -t train.tgt -o model {RUN} --max-steps 2 --shortlist")
        _command(f"train -s train.src -t train.tgt -o begun {RUN} --max-steps 2 --max-time 1e-9")
        _command("prepare -s train.src -t train.tgt -o prepared --tokenizer-kind word")
        _command("quantize model -o quantized --to int8")


# --- Readers of text


def read_text(data: bytes, folder: Path, *, suffix: str = "") -> None:
    """Read lines strictly and with replacement: the same lines where both come to the end, and as many as there are."""
    from transformer_core.data.lines import LineReader, open_output
    from transformer_core.errors import DataError

    path = folder / f"text{suffix}"
    path.write_bytes(data)
    with LineReader(path, errors="replace") as reader:
        lines = list(reader)
    text = data.removeprefix(b"\xef\xbb\xbf")
    ends = text.count(b"\n") + (not text.endswith(b"\n") and bool(text))
    assert suffix or len(lines) == ends, "as many lines as there are"
    copy = folder / f"copy{suffix}"
    with open_output(copy) as writer:
        for line in lines:
            writer.write_line(line)
    with LineReader(copy) as again:
        assert list(again) == lines, "what is written reads back"
    try:
        with LineReader(path) as strict:
            assert list(strict) == lines
    except DataError as error:
        if "is not UTF-8" not in str(error):
            raise


def read_records(data: bytes, folder: Path, *, form: str, columns: Sequence[str]) -> None:
    """Read rows or objects, strictly and not, one by one and in windows."""
    from transformer_core.data.json_lines import join_object, split_object
    from transformer_core.data.records import SOURCE_KEYS, Record, RecordForm, RecordReader
    from transformer_core.data.tsv import join_row
    from transformer_core.errors import DataError

    path = folder / "records"
    path.write_bytes(data)
    wanted = RecordForm(form, tuple(columns), asks=tuple(columns) == SOURCE_KEYS)  # type: ignore[arg-type]
    records: list[Record] = []
    fault = None
    try:
        with RecordReader([path], wanted, errors="replace") as reader:
            records.extend(reader)
    except DataError as error:
        fault = str(error)
    in_windows = []
    try:
        with RecordReader([path], wanted, errors="replace") as reader:
            for window in reader.windows(3):
                in_windows += window
    except DataError as error:
        # what a line has to hear that is broken beneath a thousand brackets depends on the depth of the stack
        assert fault is not None and str(error).split(": ")[0] == fault.split(": ")[0]
    assert in_windows == records, "windows change nothing"
    for record in records:
        if form == "jsonl":
            again = split_object(join_object(record.members, {}))
            assert {key: member.value for key, member in again.items()} == {
                key: member.value for key, member in record.members.items()
            }, "what is passed on is as it was"
        elif record.cells != ("",) * len(record.cells):
            assert join_row(record.cells).split("\t") == list(record.cells)
    if fault is not None:
        raise DataError(fault)


def seeds_of_text(pack: Callable[[bytes], bytes] = bytes) -> Callable[[Path], Sequence[bytes]]:
    """Give texts that are hard to read, packed."""
    return lambda folder: [pack(text) for text in (TEXT, b"\xef\xbb\xbfa\r\nb\r\n", b"a\nb", b"\n\n", b"caf\xe9\n\xc3")]


def seeds_of_rows(folder: Path) -> Sequence[bytes]:
    """Give rows of TSV."""
    return [b"a\tb c\td\n\nx\ty\tz\n", b"a\tb\n\xc3\t\n", "ü\tb\u2028\n".encode()]


def seeds_of_objects(folder: Path) -> Sequence[bytes]:
    """Give JSON lines."""
    rows = [
        {"text": "a b", "id": 7},
        {"text": "é\u2028", "target_prefix": "b", "constraints": ["a", "b c"], "avoid": ["x"], "more": [1.5e3, None]},
    ]
    return ["".join(f"{json.dumps(row)}\n" for row in rows).encode(), b'{"text": "\\ud800", "n": 1e999}\n\n{}\n']


def seeds_of_guides(folder: Path) -> Sequence[bytes]:
    """Give JSON lines that ask something of their translations."""
    rows = [
        {"text": "a b c", "target_prefix": "b"},
        {"text": "c d", "constraints": ["a", "b c"]},
        {"text": "e", "avoid": ["x", "a b"], "target_prefix": "", "constraints": []},
    ]
    return ["".join(f"{json.dumps(row)}\n" for row in rows).encode()]


# --- Tokenizers


def read_tokenizer(data: bytes, folder: Path) -> None:
    """Load a tokenizer and use it."""
    from tokenizer import Tokenizer

    path = folder / "some.json"
    path.write_bytes(data)
    tokenizer = Tokenizer.load(path)
    ids = tokenizer.encode_batch(LINES)
    assert all(0 <= index < tokenizer.vocabulary_size for row in ids for index in row)
    tokenizer.decode_batch(ids)
    tokenizer.tokens(range(tokenizer.vocabulary_size))
    assert tokenizer.word_edges is not None and tokenizer.tags is not None
    assert len(tokenizer.merges) + len(tokenizer.scored_pieces) >= 0


def seeds_of_tokenizers(folder: Path) -> Sequence[bytes]:
    """Learn a tokenizer of every kind."""
    from tokenizer import KINDS, TokenizerConfig, train_tokenizer

    configs = [TokenizerConfig(kind=kind, vocabulary_size=400) for kind in KINDS]
    return [train_tokenizer(LINES * 3, config).to_json().encode() for config in configs]


# --- Commands


def run_command(data: bytes, folder: Path, *, file: str, commands: Sequence[str], codes: frozenset[int]) -> None:
    """Put a file into its place and run commands, each beginning with the folder as it was."""
    whole, work = folder / file.partition("/")[0], folder / "work"
    for command in commands:
        shutil.rmtree(work, ignore_errors=True)
        if whole.is_dir():
            shutil.copytree(whole, work / whole.name)
        else:
            work.mkdir()
        (work / file).write_bytes(data)
        with _inside(work):
            _command(command, codes)


def seed_of(file: str) -> Callable[[Path], Sequence[bytes]]:
    """Give the file as the program wrote it."""
    return lambda folder: [(folder / file).read_bytes()]


def seeds_of_journals(folder: Path) -> Sequence[bytes]:
    """Give journals of `translate --resume`."""
    return [b'{"a": 1}\n20 200\n40 400\n', b'{"a": 1}\n', b"", b'{"a": 1}\n20 200\ncomplete\n', b'{"a": 2}\n1 2\n']


def read_journal(data: bytes, folder: Path) -> None:
    """Go on with an output, whatever its journal says."""
    from transformer_core.data.resumable_output import open_resumable
    from transformer_core.errors import ConfigError

    path = folder / "resumed"
    path.unlink(missing_ok=True)
    path.with_name("resumed.part").write_bytes(b"x\n" * 500)
    path.with_name("resumed.part.journal").write_bytes(data)
    try:
        with open_resumable(path, {"a": 1}) as writer:
            if writer is not None:
                assert writer.num_records >= 0
                writer.write_line("y")
                writer.commit(1)
    except ConfigError as error:
        if "was begun with another" not in str(error):
            raise
    else:
        assert path.exists()


def read_distilled(data: bytes, folder: Path) -> None:
    """Read how far a teacher came."""
    from transformer_core.experiments.distilled_text import DistilledText

    path = folder / "student" / "distilled" / "progress.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    DistilledText.load(folder / "student")


def seed_of_distilled(folder: Path) -> Sequence[bytes]:
    """Give a progress.json."""
    facts = {"path": "/x/train.src", "sha256": "0" * 64, "bytes": 12}
    content = {
        "teacher": {"path": "/x", "files": {"model.safetensors": "0" * 64}},
        "search": {"tag": None, "beam_size": 5, "n_best": 1, "length_penalty": 1.0, "length_penalty_type": "avg"},
        "data": {"train_src": [facts], "train_tgt": []},
        **{"num_lines": 3, "num_pairs": 3, "num_left_out": 0, "source_bytes": 9, "target_bytes": 9},
        "is_complete": False,
    }
    return [json.dumps(content).encode()]


def _command(line: str, codes: frozenset[int] = frozenset({0})) -> None:
    """Run a command in this process.

    Raises:
        Fault: it ended otherwise than it may, or said more than one line of error.
    """
    from typer.testing import CliRunner

    from cli import console
    from cli.main import app

    console.reset()
    result = CliRunner().invoke(app, shlex.split(line), input="a b c\n\nh h h h\n")
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    errors = [part for part in result.stderr.split("\n") if part.startswith("transduce: error: ")]
    said = errors[0] if errors else ""
    is_plain = all(character.isprintable() for character in said) and len(said) < 3000
    if result.exit_code not in codes or len(errors) != (result.exit_code != 0) or not is_plain:
        raise Fault(f"{line.split()[0]} ended with {result.exit_code}: {ascii(said[:600])[1:-1]} ({len(errors)} lines)")


@contextmanager
def _inside(folder: Path) -> Iterator[None]:
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


OK, BAD_DATA, BAD_MODEL = frozenset({0}), frozenset({0, 3}), frozenset({0, 4})
USE = ("translate -m model --threads 1", "inspect model model", "inspect model model --json")
GO_ON = f"train -s ../train.src -t ../train.tgt -o begun {RUN} --max-steps 2"


def _file(file: str, commands: Sequence[str], codes: frozenset[int], mutate: Mutation) -> Target:
    return Target(seed_of(file), partial(run_command, file=file, commands=commands, codes=codes), mutate)


def _go_on(file: str, mutate: Mutation, codes: frozenset[int] = BAD_MODEL) -> Target:
    return _file(f"begun/{file}", [GO_ON], codes, mutate)


def _foreign(kind: str, file: str) -> Target:
    mutations = {".json": mutate_json, ".safetensors": mutate_weights}
    mutate = mutate_arrays if file == "model.bin" else mutations.get(Path(file).suffix, mutate_bytes)
    return Target(seed_of_foreign(kind, file), partial(import_with, kind=kind, file=file), mutate)


def _input(form: str, command: str, seeds: Callable[[Path], Sequence[bytes]], mutate: Mutation) -> Target:
    run = partial(run_command, file=f"input.{form}", commands=[command], codes=frozenset({0, 2, 3}))
    return Target(seeds, run, mutate)


def _prepared(file: str, mutate: Mutation) -> Target:
    return _file(f"prepared/{file}", [f"train --data prepared -o new {NEW}"], frozenset({0, 3, 4}), mutate)


NEW = f"{RUN.replace('--tokenizer-kind word ', '')} --max-steps 1"

TRANSLATE = "translate -m ../model --threads 1 --max-length 5"
TARGETS: dict[str, Target] = {
    "lines": Target(seeds_of_text(), read_text, mutate_bytes),
    "gz": Target(seeds_of_text(gzip.compress), partial(read_text, suffix=".gz"), mutate_packed(".gz")),
    "xz": Target(seeds_of_text(lzma.compress), partial(read_text, suffix=".xz"), mutate_packed(".xz")),
    "zst": Target(
        seeds_of_text(zstandard.ZstdCompressor().compress), partial(read_text, suffix=".zst"), mutate_packed(".zst")
    ),
    "tsv": Target(seeds_of_rows, partial(read_records, form="tsv", columns=("2",)), mutate_text),
    "jsonl": Target(seeds_of_objects, partial(read_records, form="jsonl", columns=("text",)), mutate_text),
    "tokenizer": Target(seeds_of_tokenizers, read_tokenizer, mutate_json),
    "journal": Target(seeds_of_journals, read_journal, mutate_text),
    "progress.json": Target(seed_of_distilled, read_distilled, mutate_json),
    "config.json": _file("model/config.json", USE, BAD_MODEL, mutate_json),
    "tokenizer.json": _file("model/tokenizer.json", USE, BAD_MODEL, mutate_json),
    "model.safetensors": _file("model/model.safetensors", USE, BAD_MODEL, mutate_weights),
    "shortlist.safetensors": _file(
        "model/shortlist.safetensors", ["translate -m model --shortlist --threads 1"], BAD_MODEL, mutate_weights
    ),
    "generation.json": _file("model/generation.json", USE, BAD_MODEL, mutate_json),
    "metadata.json": _file("model/metadata.json", USE, BAD_MODEL, mutate_json),
    "metrics.jsonl": _file("model/metrics.jsonl", ["inspect curves model"], frozenset({0, 3, 4}), mutate_text),
    "state.json": _go_on("checkpoints/step-00000001/state.json", mutate_json),
    "LATEST": _go_on("checkpoints/LATEST", mutate_bytes),
    "optimizer.safetensors": _go_on("checkpoints/step-00000001/optimizer.safetensors", mutate_weights),
    # a changed option is said to be changed, which is a usage error, and a changed path names another text
    "training.toml": _go_on("training.toml", mutate_text, frozenset({0, 2, 3, 4})),
    "metadata of a run": _go_on("metadata.json", mutate_json, frozenset({0, 2, 4})),
    "corpus of a run": _go_on("data/train/corpus.json", mutate_json, frozenset({0, 3, 4})),
    "prepared.json": _prepared("prepared.json", mutate_json),
    "corpus.json": _prepared("train/corpus.json", mutate_json),
    "shard": _prepared("train/shard-00000.safetensors", mutate_weights),
    "quantized weights": _file(
        "quantized/model.safetensors",
        [USE[0].replace("-m model", "-m quantized"), "inspect model quantized"],
        BAD_MODEL,
        mutate_weights,
    ),
    "guided jsonl": _input(
        "jsonl", f"{TRANSLATE} -b 2 -i input.jsonl --input-format jsonl", seeds_of_guides, mutate_json_lines
    ),
    "tsv columns": _input(
        "tsv", f"{TRANSLATE} --greedy -i input.tsv --input-format tsv --columns 2", seeds_of_rows, mutate_text
    ),
    "pairs of tsv": _input(
        "tsv", "score -m ../model --threads 1 -s input.tsv --input-format tsv", seeds_of_rows, mutate_text
    ),
    "serve": Target(seeds_of_questions, ask_server, mutate_json_lines),
    "client": Target(seeds_of_answers, listen_to_server, mutate_json_lines),
    **{f"import {kind} {file}": _foreign(kind, file) for kind, files in FOREIGN_FILES.items() for file in files},
    "options.toml": Target(
        lambda folder: [b'beam_size = 3\nlength-penalty = 0.6\ninput = ["a", "b"]\ngreedy = false\n'],
        partial(
            run_command,
            file="options.toml",
            commands=["translate -m ../model -c options.toml --print-config"],
            codes=frozenset({0, 2}),
        ),
        mutate_text,
    ),
}
