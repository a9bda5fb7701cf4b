import hashlib
import os
from pathlib import Path

import pytest

from transformer_core.errors import DataError
from transformer_core.provenance import describe_file, describe_software, is_unchanged


def test_a_file_is_described_by_its_hash(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(b"some text\n")
    assert describe_file(path) == {
        "path": str(path),
        "bytes": 10,
        "modified_ns": path.stat().st_mtime_ns,
        "sha256": hashlib.sha256(b"some text\n").hexdigest(),
    }


def test_what_is_no_file_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="missing: there is no such file"):
        describe_file(tmp_path / "missing")
    with pytest.raises(DataError, match="is a folder; training reads its data more than once, so name a file"):
        describe_file(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(DataError, match="pipe: is no plain file"):
        describe_file(tmp_path / "pipe")


def test_a_file_is_unchanged_while_its_text_is(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("one\n")
    recorded = [describe_file(path)]
    assert is_unchanged(recorded, [path])
    os.utime(path, ns=(1, 1))  # copied, say: another time, the same text
    assert is_unchanged(recorded, [path])
    path.write_text("two\n")
    assert not is_unchanged(recorded, [path])
    path.unlink()
    assert not is_unchanged(recorded, [path])
    assert not is_unchanged(recorded, [])
    assert is_unchanged([], [])


def test_software_has_versions() -> None:
    assert set(describe_software()) == {"transduce", "torch", "python"}
