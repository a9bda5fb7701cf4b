r"""An output that a killed program can go on with: nothing lost, nothing doubled, the same bytes in the end.

    out.part          what has been written so far
    out.part.journal  what it is of, and after every window of the input how far it had come: "records bytes\n"

A window counts once its line of the journal is whole, which is written after the window, and the file is as long as it
says (after a power failure, or where somebody has removed it, it may not be). What stands behind the last counted
window is cut off when the output is gone on with, and that window computed again. In the end out.part gets its name,
and the journal goes.
"""

import fcntl
import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from tokenizer.atomic_file import sync_directory
from transformer_core.data.lines import LineWriter, blaming
from transformer_core.errors import ConfigError, DataError

__all__ = ["ResumableWriter", "open_resumable"]

COMPLETE = b"complete\n"  # the last line of the journal, before the file gets its name

_PLACE = re.compile(rb"([0-9]{1,18}) ([0-9]{1,18})\n")  # records and bytes


class ResumableWriter(LineWriter):
    """Writes lines, and notes how far it has come."""

    def __init__(self, file: BinaryIO, name: str, journal: BinaryIO, num_records: int) -> None:
        super().__init__(file, name, has_begun=num_records > 0)
        self.num_records = num_records
        self._journal = journal
        self._data = file

    def commit(self, num_records: int) -> None:
        """Count what has been written as the results of so many more records.

        Raises:
            OSError: the disk is full.
        """
        super().commit(num_records)
        with blaming(self.name):
            self._journal.write(f"{self.num_records} {self._data.tell()}\n".encode())
            self._journal.flush()


@contextmanager
def open_resumable(path: Path, job: Mapping[str, object]) -> Iterator[ResumableWriter | None]:
    """Open an output, or go on with what an earlier run has left of it.

    Args:
        path: of an ordinary file; it appears when the block ends without an error.
        job: all that decides about the output, as JSON can hold it.

    Yields:
        The writer; None where the output is complete already.

    Raises:
        ConfigError: another job has begun this output, or is at it now.
        DataError: the journal is damaged.
        OSError: it cannot be written.
    """
    name = str(path)
    if path.is_symlink():  # its target is written, and what is left of an earlier run lies beside that
        path = Path(os.path.realpath(path))
    part = path.with_name(f"{path.name}.part")
    journal_path = path.with_name(f"{path.name}.part.journal")
    with ExitStack() as stack:
        with blaming(name):
            journal = stack.enter_context(journal_path.open("a+b"))
            lines = _begin(path, part, journal, job)
            is_complete = lines[-1] == COMPLETE
            if not is_complete:
                places = _places(lines[1:], part, journal_path)
                size = part.stat().st_size if part.exists() else 0
                num_records, num_bytes = next(place for place in reversed(places) if place[1] <= size)
                file = stack.enter_context(part.open("ab"))
                file.truncate(num_bytes)
                file.seek(num_bytes)
        try:
            yield None if is_complete else ResumableWriter(file, name, journal, num_records)
        except BaseException as error:
            with suppress(OSError):  # of a full disk, say, closing fails too; what failed first is told
                stack.__exit__(type(error), error, error.__traceback__)
            raise
        with blaming(name):
            if not is_complete:
                file.flush()
                os.fsync(file.fileno())
                journal.write(COMPLETE)
                journal.flush()
            if part.exists():
                part.replace(path)
                sync_directory(path.resolve().parent)
            journal_path.unlink()
            stack.close()


def _begin(path: Path, part: Path, journal: BinaryIO, job: Mapping[str, object]) -> list[bytes]:
    """Lock a journal and give its lines; a new one is begun.

    Raises:
        ConfigError: another job has begun this output, or is at it now.
        DataError: the journal is none.
    """
    try:
        fcntl.flock(journal, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise ConfigError(f"{path}: another process is writing it") from None
    head = json.dumps(job, sort_keys=True).encode() + b"\n"
    lines = _whole_lines(journal)
    if lines == [head, *lines[1:-1], COMPLETE] and not (part.exists() or path.exists()):
        journal.truncate(0)  # somebody has removed what was complete
        lines = []
    if not lines:
        part.unlink(missing_ok=True)
        journal.write(head)
        journal.flush()
        return [head]
    if lines[0] != head:
        raise ConfigError(_difference(path, part, Path(journal.name), _read_job(lines[0], part, journal.name), job))
    return lines


def _read_job(line: bytes, part: Path, journal_name: str) -> dict[str, object]:
    """Read the first line of a journal: what it is of.

    Raises:
        DataError: it is none.
    """
    try:
        job = json.loads(line)
    except (ValueError, RecursionError):
        job = None
    if not isinstance(job, dict):
        raise _damaged(part, Path(journal_name), 1)
    return job


def _whole_lines(journal: BinaryIO) -> list[bytes]:
    """Read the lines of a journal, and cut off one that was not written to its end."""
    journal.seek(0)
    content = journal.read()
    whole = content[: content.rfind(b"\n") + 1]
    journal.truncate(len(whole))
    return [line + b"\n" for line in whole.split(b"\n")[:-1]]


def _places(lines: Sequence[bytes], part: Path, journal_path: Path) -> list[tuple[int, int]]:
    """Give records and bytes of every window that was counted, after those of none.

    They may go back, where windows were lost and computed again.

    Raises:
        DataError: a line of the journal is none.
    """
    places = [(0, 0)]
    for number, line in enumerate(lines, 2):
        match = _PLACE.fullmatch(line)
        if match is None:
            raise _damaged(part, journal_path, number)
        places.append((int(match[1]), int(match[2])))
    return places


def _damaged(part: Path, journal_path: Path, number: int) -> DataError:
    return DataError(f"{journal_path}:{number}: is damaged; remove {part.name} and {journal_path.name} to start anew")


def _difference(
    path: Path, part: Path, journal_path: Path, before: Mapping[str, object], now: Mapping[str, object]
) -> str:
    """Say what is not as it was when an output was begun."""
    names = sorted(name for name in {*before, *now} if before.get(name) != now.get(name))
    return (
        f"{path}: was begun with another {' and '.join(names)}; give the same to go on, or remove {part.name} and "
        f"{journal_path.name} to start anew"
    )
