"""Bytes of a file or of standard input: opened, unpacked, and aware of when the other side pauses."""

import errno
import os
import select
import stat
import sys
from io import UnsupportedOperation
from pathlib import Path
from typing import BinaryIO, Protocol, cast

from transformer_core.data.compression import COMPRESSED_CHUNK_BYTES, Decompressor, is_compressed
from transformer_core.errors import DataError

__all__ = ["STANDARD_STREAM", "ByteInput", "ByteSource"]

STANDARD_STREAM = "-"  # the path that means standard input or standard output

_CHUNK_BYTES = 1 << 16  # what a pipe holds on Linux
# An input pauses when nothing comes for this long: time enough for the program before us in the pipe to fill it again,
# too short for somebody who waits for an answer to notice.
_PAUSE_SECONDS = 0.005


class ByteSource(Protocol):
    """Where a LineReader has its bytes from: a ByteInput, or what looks like one from here."""

    name: str

    def read(self) -> bytes | None:
        """What is there, waiting for it if there is nothing yet; None at the end."""

    def pauses(self) -> bool:
        """Whether reading on would have to wait."""

    def close(self) -> None:
        """Close what was opened."""


class ByteInput:
    """Reads a file or standard input, unpacked where the suffix asks for it.

    Args:
        path: a file, or "-" for standard input.

    Attributes:
        name: what messages call the input: the path, or "standard input".

    Raises:
        DataError: it cannot be opened.
    """

    def __init__(self, path: str | Path) -> None:
        self.name = "standard input" if str(path) == STANDARD_STREAM else str(path)
        self._file, self._is_ours = _open(path, self.name)
        self._decompressor = Decompressor(path) if is_compressed(path) else None
        self._chunk_bytes = COMPRESSED_CHUNK_BYTES if self._decompressor else _CHUNK_BYTES
        self._descriptor: int | None = None
        try:
            self._descriptor = self._file.fileno()
        except UnsupportedOperation:  # a stand-in for standard input, in a test for example
            self._can_pause = False
        else:
            self._can_pause = not stat.S_ISREG(os.fstat(self._descriptor).st_mode)

    def read(self) -> bytes | None:
        """What is there, waiting for it if there is nothing yet; None at the end.

        Raises:
            DataError: the input cannot be read or is damaged.
        """
        try:
            data = self._read_some()
        except OSError as error:
            raise _cannot_read(self.name, error) from error
        if self._decompressor is None:
            return data or None
        if data:
            return self._decompressor.feed(data)
        self._decompressor.finish()
        return None

    def pauses(self) -> bool:
        """Whether reading on would have to wait."""
        if not self._can_pause or self._descriptor is None:
            return False
        try:
            readable, _, _ = select.select([self._descriptor], [], [], _PAUSE_SECONDS)
        except (OSError, ValueError):  # Windows cannot ask a pipe; nor can anyone about a descriptor over 1023
            return True
        return not readable

    def close(self) -> None:
        """Close the file; standard input stays open."""
        if self._is_ours:
            self._file.close()

    def _read_some(self) -> bytes:
        if self._descriptor is None:
            return self._file.read(self._chunk_bytes)
        while True:
            try:
                return os.read(self._descriptor, self._chunk_bytes)
            except BlockingIOError:  # another owner of the terminal or pipe has made it non-blocking
                select.select([self._descriptor], [], [])


def _open(path: str | Path, name: str) -> tuple[BinaryIO, bool]:
    """Open `path` for reading; also tell whether it is ours to close."""
    if str(path) == STANDARD_STREAM:
        if sys.stdin is None:
            raise _cannot_read(name, OSError(errno.EBADF, os.strerror(errno.EBADF)))
        return sys.stdin.buffer, False
    try:
        file = open(path, "rb", buffering=0)  # noqa: SIM115  the caller closes it
    except (OSError, ValueError) as error:  # ValueError: a NUL character in the name
        raise _cannot_read(name, error) from error
    return cast(BinaryIO, file), True


def _cannot_read(name: str, error: OSError | ValueError) -> DataError:
    match error:
        case FileNotFoundError():
            return DataError(f"{name}: there is no such file; check the path")
        case IsADirectoryError():
            return DataError(f"{name}: is a folder; name a file in it")
        case PermissionError():
            return DataError(f"{name}: you may not read it; check its rights")
        case OSError(errno=errno.EBADF):
            return DataError(f"{name} is closed; name a file or pipe the text in")
        case OSError():
            return DataError(f"{name}: cannot be read ({error.strerror or error}); check the path and the disk")
        case _:
            return DataError(f"{name!r}: cannot be read ({error}); check the path")
