"""Write a file or a folder beside its place and rename it: a reader sees the old one or the new one, never a half.

It stands on the ground floor because everything above writes files.
"""

import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

__all__ = [
    "behind_links",
    "is_replaceable",
    "new_folder",
    "open_atomic",
    "remove_temporary_files",
    "sync_directory",
    "write_bytes",
    "write_text",
]

_DESCRIPTOR = re.compile(r"/(?:dev|proc/self)/fd/([0-9]{1,9})")
_TEMPORARY_NAME = re.compile(r"\..+\.[a-z0-9_]{8}\.tmp")  # as `tempfile` makes them


@contextmanager
def open_atomic(path: str | Path) -> Iterator[BinaryIO]:
    """Open a temporary file beside `path`; rename it to `path` when the block ends without an error.

    A link is replaced, not what it points to: `behind_links` gives that. What cannot be replaced is written to.

    Raises:
        OSError: the folder is missing or read-only, the disk is full; nothing is left behind.
    """
    if not is_replaceable(path):
        descriptor = _descriptor_of(path)
        with open(path if descriptor is None else descriptor, "wb", closefd=descriptor is None) as file:
            yield file
        return
    path = Path(path)
    # mkstemp makes the file readable by its owner alone; the rights of an ordinary new file are put back below.
    descriptor, temporary_name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
    temporary_path = Path(temporary_name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary_path.chmod(_rights_of(path))
        temporary_path.replace(path)
    except BaseException:
        with suppress(OSError):
            temporary_path.unlink()
        raise
    sync_directory(path.parent)


def is_replaceable(path: str | Path) -> bool:
    """Tell whether a new file may take the place of `path`: not of a pipe, a device, or what is open as a stream."""
    return (os.path.isfile(path) or not os.path.exists(path)) and _descriptor_of(path) is None


def behind_links(path: str | Path) -> Path:
    """Give the file that an output which somebody names is to replace: of a link the one that it points to.

    Links in a model folder are none such: it may share its files with another one.
    """
    return Path(os.path.realpath(path) if is_replaceable(path) else path)


@contextmanager
def new_folder(path: str | Path) -> Iterator[Path]:
    """Make a folder beside `path` to write files into; rename it to `path` when the block ends without an error.

    Raises:
        OSError: there is a folder with something in it already, or none can be made; nothing is left behind.
    """
    path = Path(path).resolve()
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent))
    try:
        temporary.chmod(_rights_of_new(0o777))
        yield temporary
        if path.exists():
            path.rmdir()
        temporary.rename(path)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    sync_directory(path.parent)


def write_bytes(path: str | Path, content: bytes) -> None:
    """Write `content` to `path` in one stroke.

    Raises:
        OSError: as `open_atomic`; `filename` says which file.
    """
    try:
        with open_atomic(path) as file:
            file.write(content)
    except OSError as error:
        if error.filename is None:  # the system does not say what it could not write to
            error.filename = str(path)
        raise


def write_text(path: str | Path, content: str) -> None:
    """Write `content` as UTF-8 to `path` in one stroke."""
    write_bytes(path, content.encode("utf-8"))


def sync_directory(path: str | Path) -> None:
    """Make renames inside the folder `path` survive a power cut, where the system can."""
    with suppress(OSError):  # some file systems (and Windows) cannot open or sync a folder
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def remove_temporary_files(folder: str | Path) -> None:
    """Remove what writers that were killed left in `folder`; nobody may be writing there."""
    with suppress(OSError):
        for path in Path(folder).iterdir():
            if _TEMPORARY_NAME.fullmatch(path.name):
                path.unlink()


def _descriptor_of(path: str | Path) -> int | None:
    """Give the open descriptor that `path` is another name of, as /dev/stdout is; None of everything else.

    What is behind it may be an ordinary file, to which somebody else has written and will write.
    """
    with suppress(OSError, ValueError):  # it is not there, or a descriptor is closed
        status = os.stat(path)
        if match := _DESCRIPTOR.fullmatch(os.path.abspath(path)):
            return int(match[1])
        return next((number for number in (1, 2) if os.path.samestat(status, os.fstat(number))), None)
    return None


def _rights_of(path: Path) -> int:
    """Permission bits that `path` has, or that a new file would get."""
    with suppress(OSError):
        return path.stat().st_mode & 0o777
    return _rights_of_new(0o666)


def _rights_of_new(wanted: int) -> int:
    """Give those of `wanted` that the user lets a new file or folder have."""
    umask = os.umask(0)
    os.umask(umask)
    return wanted & ~umask
