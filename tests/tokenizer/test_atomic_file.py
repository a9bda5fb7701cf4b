import os
import stat
from pathlib import Path

import pytest

from tokenizer.atomic_file import open_atomic, remove_temporary_files, write_bytes, write_text


def test_a_file_is_there_when_it_is_whole_and_not_before(tmp_path: Path) -> None:
    path = tmp_path / "out"
    with open_atomic(path) as file:
        file.write(b"half")
        file.flush()
        assert not path.exists()
    assert path.read_bytes() == b"half"
    assert list(tmp_path.iterdir()) == [path]


def test_a_fault_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "out"
    write_text(path, "old\n")
    with pytest.raises(KeyboardInterrupt), open_atomic(path) as file:
        file.write(b"new")
        raise KeyboardInterrupt
    assert path.read_text() == "old\n"
    assert list(tmp_path.iterdir()) == [path]


def test_text_is_utf_8_and_lines_end_as_they_are(tmp_path: Path) -> None:
    write_text(tmp_path / "out", "é\r\n\u2028\n")
    assert (tmp_path / "out").read_bytes() == "é\r\n\u2028\n".encode()


@pytest.mark.skipif(os.name == "nt", reason="rights are POSIX's")
def test_a_file_has_the_rights_of_a_new_one_or_keeps_its_own(tmp_path: Path) -> None:
    path, plain = tmp_path / "out", tmp_path / "plain"
    plain.touch()
    write_bytes(path, b"")
    assert path.stat().st_mode == plain.stat().st_mode
    path.chmod(0o600)
    write_bytes(path, b"again")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_an_error_names_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left") as caught:
        write_bytes(tmp_path / "out", b"x")
    assert caught.value.filename == str(tmp_path / "out")
    assert not list(tmp_path.iterdir())


def test_what_a_killed_writer_left_can_be_removed(tmp_path: Path) -> None:
    """And nothing else: a file of the user's that looks a little like it stays."""
    block = open_atomic(tmp_path / "out")
    block.__enter__()
    (left,) = tmp_path.iterdir()
    content = left.name
    others = [".hidden", "out.tmp", ".out.tmp", ".out.short.tmp", "x.abcdefgh.tmp"]
    for name in others:
        (tmp_path / name).touch()
    remove_temporary_files(tmp_path)
    assert not (tmp_path / content).exists()
    assert {path.name for path in tmp_path.iterdir()} == set(others)
    remove_temporary_files(tmp_path / "missing")
    with pytest.raises(FileNotFoundError):
        block.__exit__(None, None, None)
