import errno
import json
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from transformer_core.data.resumable_output import open_resumable
from transformer_core.errors import ConfigError, DataError

JOB = {"model": "x", "beam_size": 5}
WINDOWS = [["a", "b"], ["c", "ö"], ["e"]]


class Killed(BaseException):
    pass


def write(path: Path, job: dict[str, object] = JOB, *, kill_after: int = 99) -> int:
    """Write the windows that are missing; die after so many lines. Gives how many windows were written."""
    written = num_lines = 0
    with open_resumable(path, job) as writer:
        if writer is None:
            return 0
        done = writer.num_records
        for window in WINDOWS:
            if done >= len(window):
                done -= len(window)
                continue
            assert done == 0, "windows begin where they began"
            for line in window:
                if num_lines == kill_after:
                    writer.flush()
                    raise Killed
                writer.write_line(line)
                num_lines += 1
            writer.commit(len(window))
            written += 1
    return written


WHOLE = "a\nb\nc\nö\ne\n".encode()


@pytest.mark.parametrize("kills", [[0], [1], [2], [3], [4], [1, 1, 1], [0, 3, 0, 1], [4, 0]], ids=str)
def test_whatever_kills_it_the_output_is_the_same(tmp_path: Path, kills: list[int]) -> None:
    path = tmp_path / "out"
    for number in kills:
        with pytest.raises(Killed):
            write(path, kill_after=number)
        assert not path.exists()
    write(path)
    assert path.read_bytes() == WHOLE
    assert os.listdir(tmp_path) == ["out"]


def test_windows_that_are_done_are_not_done_again(tmp_path: Path) -> None:
    with pytest.raises(Killed):
        write(tmp_path / "out", kill_after=3)
    assert write(tmp_path / "out") == 2


@pytest.mark.parametrize("cut", range(1, 40))
def test_a_journal_that_was_cut_anywhere_is_good_up_to_its_last_whole_line(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "out"
    with pytest.raises(Killed):
        write(path, kill_after=4)
    journal = tmp_path / "out.part.journal"
    journal.write_bytes(journal.read_bytes()[:-cut])
    write(path)
    assert path.read_bytes() == WHOLE


@pytest.mark.parametrize("size", [None, 0, 1, 3, 4, 5, 8])
def test_a_file_that_is_shorter_than_its_journal_says_has_lost_windows(tmp_path: Path, size: int | None) -> None:
    path, part = tmp_path / "out", tmp_path / "out.part"
    with pytest.raises(Killed):
        write(path, kill_after=4)
    if size is None:
        part.unlink()
    else:
        os.truncate(part, size)
    write(path)
    assert path.read_bytes() == WHOLE


def test_a_kill_before_the_file_gets_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def die(self: Path, target: Path) -> Path:
        raise Killed

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(Path, "replace", die)
        write(tmp_path / "out")
    assert write(tmp_path / "out") == 0
    assert (tmp_path / "out").read_bytes() == WHOLE


def test_a_kill_after_it_has_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def die(self: Path) -> None:
        raise Killed

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(Path, "unlink", lambda self, missing_ok=False: None if missing_ok else die(self))
        write(tmp_path / "out")
    assert write(tmp_path / "out") == 0
    assert (tmp_path / "out").read_bytes() == WHOLE
    assert os.listdir(tmp_path) == ["out"]


def test_another_job_does_not_go_on_with_it(tmp_path: Path) -> None:
    with pytest.raises(Killed):
        write(tmp_path / "out", kill_after=3)
    with pytest.raises(
        ConfigError, match=r"was begun with another beam_size; give the same to go on, or remove out\.part"
    ):
        write(tmp_path / "out", {**JOB, "beam_size": 4})
    assert write(tmp_path / "out") == 2


def test_the_target_of_a_link_is_written_and_the_link_stays(tmp_path: Path) -> None:
    link, file = tmp_path / "link", tmp_path / "folder" / "file"
    file.parent.mkdir()
    link.symlink_to("folder/file")
    with pytest.raises(Killed):
        write(link, kill_after=3)
    with pytest.raises(ConfigError, match=r"folder/file: was begun with another beam_size; .* remove file\.part"):
        write(link, {**JOB, "beam_size": 4})
    assert write(link) == 2
    assert link.is_symlink()
    assert file.read_bytes() == WHOLE
    assert os.listdir(file.parent) == ["file"]
    link.unlink()
    link.symlink_to("nowhere/file")
    with pytest.raises(FileNotFoundError) as caught:
        write(link)
    assert caught.value.filename == str(link)


def test_what_cannot_be_written_is_named_for_the_output(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(OSError, match="missing/out") as caught:
        write(tmp_path / "missing" / "out")
    assert caught.value.filename == str(tmp_path / "missing" / "out")

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError) as caught:
        write(tmp_path / "out")
    assert (caught.value.errno, caught.value.filename) == (errno.ENOSPC, str(tmp_path / "out"))
    monkeypatch.undo()
    write(tmp_path / "out")
    assert (tmp_path / "out").read_bytes() == WHOLE


@pytest.fixture
def at_work(tmp_path: Path) -> Iterator[Path]:
    with open_resumable(tmp_path / "out", JOB) as writer:
        assert writer is not None
        yield tmp_path / "out"


def test_two_processes_do_not_write_one_output(at_work: Path) -> None:
    with pytest.raises(ConfigError, match="another process is writing it"), open_resumable(at_work, JOB):
        pass


def test_what_was_complete_and_is_gone_is_made_again(tmp_path: Path) -> None:
    path = tmp_path / "out"
    journal = tmp_path / "out.part.journal"
    journal.write_bytes(HEAD + b"2 4\n4 9\n5 11\ncomplete\n")
    assert write(path) == len(WINDOWS)
    assert path.read_bytes() == WHOLE
    assert not journal.exists()


HEAD = json.dumps(JOB, sort_keys=True).encode() + b"\n"


@pytest.mark.parametrize(
    ("journal", "number"),
    [
        (b"garbage\n", 1),
        (b"[1]\n", 1),
        (b"[" * 100_000 + b"\n", 1),
        (b"\xff\xfe\n", 1),
        (b"complete\n", 1),
        (HEAD + b"two four\n", 2),
        (HEAD + b"2 4\n2\n", 3),
        (HEAD + b"2 -4\n", 2),
        (HEAD + b"2 4 6\n", 2),
        (HEAD + b"2\r4\n", 2),
        (HEAD + b"complete\n2 4\n", 2),
        (HEAD + b"2 " + b"9" * 10_000 + b"\n", 2),
        (HEAD + HEAD, 2),
    ],
    ids=lambda value: str(value)[:30],
)
def test_a_damaged_journal_is_one_line_and_touches_nothing(tmp_path: Path, journal: bytes, number: int) -> None:
    path, part = tmp_path / "out", tmp_path / "out.part"
    part.write_bytes(WHOLE)
    part.with_name("out.part.journal").write_bytes(journal)
    with pytest.raises(DataError, match=rf"out\.part\.journal:{number}: is damaged; remove out\.part and"):
        write(path)
    assert part.read_bytes() == WHOLE
    assert part.with_name("out.part.journal").read_bytes() == journal


@settings(deadline=None, max_examples=60)
@given(data=st.data())
def test_whatever_is_lost_of_both_files_the_output_is_the_same(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("lost")
    path, part, journal = folder / "out", folder / "out.part", folder / "out.part.journal"
    for kill_after in data.draw(st.lists(st.integers(0, 4), max_size=4)):
        with suppress(Killed):
            write(path, kill_after=kill_after)
        for file in (part, journal):
            if file.exists() and data.draw(st.booleans()):
                file.write_bytes(file.read_bytes()[: data.draw(st.integers(0, 60))])
    path.unlink(missing_ok=True)
    write(path)
    assert path.read_bytes() == WHOLE
    assert os.listdir(folder) == ["out"]
