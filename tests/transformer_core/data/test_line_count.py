import gzip
import os
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from transformer_core.data.line_count import count_lines
from transformer_core.data.lines import LineReader


@settings(deadline=None)
@given(content=st.binary(max_size=40) | st.text("a\n\r").map(str.encode))
def test_as_many_as_are_read(content: bytes, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.getbasetemp() / "counted"
    path.write_bytes(b"." + content)
    with LineReader(path, errors="replace") as reader:
        assert count_lines([path, path]) == 2 * len(list(reader))


def test_standard_input_counts_from_where_it_stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "in").write_bytes(b"a\nb\nc")
    with (tmp_path / "in").open() as stream:
        os.lseek(stream.fileno(), 2, os.SEEK_SET)
        monkeypatch.setattr(sys, "stdin", stream)
        assert count_lines(["-"]) == 2
        assert count_lines([tmp_path / "in", "-"]) == 5
        assert list(LineReader("-")) == ["b", "c"]
        monkeypatch.undo()


def test_what_would_have_to_be_unpacked_or_waited_for_is_not_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "plain").write_bytes(b"a\n")
    (tmp_path / "in.gz").write_bytes(gzip.compress(b"a\n"))
    os.mkfifo(tmp_path / "pipe")
    for name in ("in.gz", "pipe", "missing"):
        assert count_lines([tmp_path / "plain", tmp_path / name]) is None
    reading_end, writing_end = os.pipe()
    with os.fdopen(reading_end, "r") as stream:
        monkeypatch.setattr(sys, "stdin", stream)
        assert count_lines(["-"]) is None
        monkeypatch.undo()
    os.close(writing_end)
