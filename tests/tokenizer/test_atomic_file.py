import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from tests.program import program_environment
from tokenizer.atomic_file import (
    behind_links,
    new_folder,
    open_atomic,
    remove_temporary_files,
    write_bytes,
    write_text,
)


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


@pytest.mark.parametrize(
    ("name", "descriptor"),
    [("/dev/stdout", 1), ("/dev/fd/1", 1), ("/dev/stderr", 2), ("/dev/fd/5", 5), ("link", 1), ("log", 1)],
)
def test_what_is_open_as_a_stream_keeps_what_it_has(tmp_path: Path, name: str, descriptor: int) -> None:
    """And whoever has opened it goes on behind what we have written."""
    (tmp_path / "link").symlink_to("/dev/stdout")
    program = f"from tokenizer.atomic_file import write_text; write_text({name!r}, 'ours ')"
    script = f'{{ printf "head " >&{descriptor}; "$0" -c "$1"; printf tail >&{descriptor}; }} {descriptor}> log'
    subprocess.run(["bash", "-c", script, sys.executable, program], cwd=tmp_path, env=program_environment(), check=True)
    assert (tmp_path / "log").read_text() == "head ours tail"


def test_the_target_of_a_link_is_written_and_the_link_stays_where_that_is_asked_for(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("folder/file")
    (tmp_path / "folder").mkdir()
    write_text(behind_links(tmp_path / "link"), "x")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "folder" / "file").read_text() == "x"
    assert [path.name for path in (tmp_path / "folder").iterdir()] == ["file"]
    write_text(tmp_path / "link", "y")  # as in a model folder whose files are another one's
    assert not (tmp_path / "link").is_symlink()
    assert (tmp_path / "folder" / "file").read_text() == "x"


def test_a_pipe_is_written_to_and_not_replaced(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = subprocess.Popen(["cat", pipe], stdout=subprocess.PIPE)
    write_text(pipe, "through")
    assert reader.communicate(timeout=10)[0] == b"through"
    assert pipe.is_fifo()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_device_is_named() -> None:
    with pytest.raises(OSError, match="/dev/full"):
        write_text("/dev/full", "x")
    assert Path("/dev/full").is_char_device()


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


def test_a_folder_is_there_when_it_is_whole_and_not_before(tmp_path: Path) -> None:
    path, others = tmp_path / "below" / "out", tmp_path / "below" / ".out.tmp"
    others.mkdir(parents=True)
    (others / "file").touch()  # somebody's, though it looks like one of ours
    with new_folder(path) as temporary:
        write_text(temporary / "file", "whole")
        assert not path.exists()
    assert (path / "file").read_text() == "whole"
    assert path.stat().st_mode == others.stat().st_mode
    assert {entry.name for entry in path.parent.iterdir()} == {"out", ".out.tmp"}
    assert (others / "file").exists()


def test_a_fault_leaves_no_folder(tmp_path: Path) -> None:
    for fault in (KeyboardInterrupt, OSError):
        with pytest.raises(fault), new_folder(tmp_path / "out"):
            raise fault
    full = tmp_path / "full"
    full.mkdir()
    (full / "file").touch()
    with pytest.raises(OSError, match="not empty"), new_folder(full):
        pass
    assert list(tmp_path.iterdir()) == [full]
