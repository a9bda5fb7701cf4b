import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import closing
from itertools import count, repeat
from pathlib import Path

import numpy as np
import pytest

from tests.transformer_core.decoding.random_model import random_lines, word_tokenizer
from tokenizer import TokenizerConfigError
from transformer_core.data import encoding_processes, shards
from transformer_core.data.encoding import Chunk, EncodedRows, RowEncoder
from transformer_core.data.encoding_processes import encode_in_order
from transformer_core.data.shards import Part, write_corpus
from transformer_core.errors import OutOfMemoryError
from transformer_core.worker_processes import ITEMS_PER_WORKER


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[subprocess.Popen[bytes]]:
    """The processes that were started; they are so from the first chunk on."""
    monkeypatch.setattr(encoding_processes, "CHUNKS_ALONE", 0)
    found: list[subprocess.Popen[bytes]] = []

    class Recorded(subprocess.Popen[bytes]):
        def __init__(self, *arguments: object, **options: object) -> None:
            super().__init__(*arguments, **options)  # type: ignore[call-overload]
            found.append(self)

    monkeypatch.setattr(subprocess, "Popen", Recorded)
    return found


def encoder() -> RowEncoder:
    tokenizer = word_tokenizer().with_tags(["de"])
    return RowEncoder((tokenizer, tokenizer), 9)


def chunks(num_chunks: int) -> Iterator[Chunk]:
    for number in range(num_chunks):
        lines = random_lines(20 + number, seed=number)
        yield Chunk(list(zip(lines, ["", *lines[1:]], strict=True)), number % 2, "de" if number % 3 else None)


def same(one: EncodedRows, other: EncodedRows) -> bool:
    arrays = zip([*one.ids, *one.lengths], [*other.ids, *other.lengths], strict=True)
    return all(np.array_equal(*pair) and pair[0].dtype == pair[1].dtype for pair in arrays) and all(
        getattr(one, name) == getattr(other, name)
        for name in ("part", "num_read", "num_blank", "num_long", "num_cut", "num_replaced")
    )


@pytest.mark.parametrize("processes", [1, 2, 3])
@pytest.mark.parametrize("num_chunks", [0, 1, 2, 9])
def test_what_comes_out_is_the_same_in_the_same_order(
    started: list[subprocess.Popen[bytes]], processes: int, num_chunks: int
) -> None:
    expected = [encoder().encode(chunk) for chunk in chunks(num_chunks)]
    found = list(encode_in_order(chunks(num_chunks), encoder(), processes))
    assert len(found) == len(expected)
    assert all(map(same, found, expected))
    assert len(started) == (processes if processes > 1 and num_chunks else 0)
    assert all(worker.returncode is not None for worker in started)


def test_a_short_text_starts_no_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subprocess, "Popen", None)
    assert len(list(encode_in_order(chunks(4), encoder(), 2))) == 4


def test_the_files_are_the_same_byte_for_byte(
    started: list[subprocess.Popen[bytes]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shards, "LINES_AT_ONCE", 16)
    monkeypatch.setattr(shards, "SHARD_TOKENS", 90)
    lines = random_lines(200, longest=14)
    rows = [list(zip(part, reversed(part), strict=True)) for part in (lines[:150], lines[150:])]
    for processes in (1, 2):
        parts = [Part(rows[0], "de", 3.0), Part(rows[1], None, 1.0)]
        write_corpus(tmp_path / str(processes), parts, encoder(), processes=processes)
    names = sorted(path.name for path in (tmp_path / "1").iterdir())
    assert len(names) > 4
    assert names == sorted(path.name for path in (tmp_path / "2").iterdir())
    for name in names:
        assert (tmp_path / "1" / name).read_bytes() == (tmp_path / "2" / name).read_bytes()


def test_text_is_read_as_it_is_needed(started: list[subprocess.Popen[bytes]]) -> None:
    read = count()
    endless = (Chunk([("ba", "be")], next(read)) for _ in repeat(None))
    with closing(encode_in_order(endless, encoder(), 2)) as encoded:
        assert [next(encoded).part for _ in range(5)] == list(range(5))
    assert next(read) <= 5 + 2 * ITEMS_PER_WORKER + 1
    assert all(worker.returncode is not None for worker in started)  # none is left when the reader loses interest


def test_what_goes_wrong_in_another_process_is_raised_here(started: list[subprocess.Popen[bytes]]) -> None:
    faulty = [Chunk([("ba", "be")], tag="fr") for _ in range(3)]
    with pytest.raises(TokenizerConfigError, match="no tag <2fr>"):
        list(encode_in_order(faulty, encoder(), 2))
    assert all(worker.returncode is not None for worker in started)


def test_a_process_that_is_killed_is_named(started: list[subprocess.Popen[bytes]]) -> None:
    def rows() -> Iterator[Chunk]:
        for number, chunk in enumerate(chunks(20)):
            if number == 10:
                os.kill(started[0].pid, signal.SIGKILL)
            yield chunk

    with pytest.raises(OutOfMemoryError, match="a process that tokenised was killed"):
        list(encode_in_order(rows(), encoder(), 2))
    assert all(worker.returncode is not None for worker in started)
