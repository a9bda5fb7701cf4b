"""gz, xz and zst, told by the suffix of a file's name, in both directions.

A compressed file may consist of several members (gz), streams (xz) or frames (zst), one after the other, as
`cat a.gz b.gz` makes them; all of them are read. A file that ends in the middle of one is an error, never a short text.
"""

import gzip
import shlex
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Protocol, cast

from transformer_core.errors import DataError

__all__ = ["COMPRESSED_CHUNK_BYTES", "Decompressor", "is_compressed", "open_compressor"]

# A few bytes can stand for very many (zst packs 128 KiB into four), so compressed input is fed in small pieces: what
# one of them becomes, 128 MiB at worst, has to fit into memory.
COMPRESSED_CHUNK_BYTES = 1 << 12
_XZ_MEMORY_BYTES = 1 << 29  # xz -9 needs 65 MiB to unpack; a file that asks for more than this is hostile
_FORMAT_NAMES = {".gz": "gzip", ".xz": "xz", ".zst": "Zstandard"}
_UNPACKERS = {".xz": "xz -dk", ".zst": "zstd -d --long=31"}  # take what memory a file asks for


class _Stream(Protocol):
    """What zlib, lzma and zstandard have in common: unpacks one member, stream or frame."""

    @property
    def eof(self) -> bool: ...

    @property
    def unused_data(self) -> bytes: ...

    def decompress(self, data: bytes, /) -> bytes: ...


class Decompressor:
    """Unpacks one file, piece by piece.

    Args:
        path: name of the file; its suffix tells the format.
    """

    def __init__(self, path: str | Path) -> None:
        self._path = str(path)
        self._suffix = Path(path).suffix.lower()
        self._stream: _Stream | None = None
        self._has_begun = False

    def feed(self, data: bytes) -> bytes:
        """Unpack the next bytes of the file.

        Raises:
            DataError: the bytes are not of the format that the suffix announces, or are damaged.
        """
        pieces = []
        try:
            while True:
                if self._stream is None:
                    if self._has_begun:
                        data = data.lstrip(b"\0")  # gz and xz files may be padded with zeros
                    if not data:
                        break
                    self._stream, self._has_begun = self._new_stream(), True
                pieces.append(self._stream.decompress(data))
                if not self._stream.eof:
                    break
                data, self._stream = self._stream.unused_data, None
        except MemoryError:
            raise
        except Exception as error:  # zlib.error, lzma.LZMAError, zstandard.ZstdError: no common ancestor but this one
            if self._suffix in _UNPACKERS and "memory" in _reason(error).lower():  # as of `zstd --long=31`
                raise DataError(
                    f"{self._path}: takes more memory to unpack than a file may ({_reason(error)}); unpack it first: "
                    f"{_UNPACKERS[self._suffix]} {shlex.quote(self._path)}"
                ) from error
            raise DataError(
                f"{self._path}: is damaged or no {_FORMAT_NAMES[self._suffix]} file ({_reason(error)}); "
                f"copy it again, or drop the suffix {self._suffix} if it is plain text"
            ) from error
        return b"".join(pieces)

    def finish(self) -> None:
        """Say that the file has ended.

        Raises:
            DataError: it ended too early.
        """
        if self._stream is not None or not self._has_begun:
            raise DataError(
                f"{self._path}: the {_FORMAT_NAMES[self._suffix]} file ends too early; copy it again in full"
            )

    def _new_stream(self) -> _Stream:
        match self._suffix:
            case ".gz":
                return cast(_Stream, zlib.decompressobj(wbits=zlib.MAX_WBITS | 16))
            case ".xz":
                import lzma

                return lzma.LZMADecompressor(format=lzma.FORMAT_XZ, memlimit=_XZ_MEMORY_BYTES)
            case _:
                import zstandard

                return cast(_Stream, zstandard.ZstdDecompressor().decompressobj())


def is_compressed(path: str | Path) -> bool:
    """Tell whether the name `path` ends in .gz, .xz or .zst."""
    return Path(path).suffix.lower() in _FORMAT_NAMES


@contextmanager
def open_compressor(file: BinaryIO, path: str | Path) -> Iterator[BinaryIO]:
    """Wrap `file` so that it receives what is written in the format that the suffix of `path` names.

    The same text gives the same bytes: no time and no file name is stored.
    """
    match Path(path).suffix.lower():
        case ".gz":
            with gzip.GzipFile(filename="", mode="wb", fileobj=file, mtime=0) as packed:
                yield cast(BinaryIO, packed)
        case ".xz":
            import lzma

            with lzma.LZMAFile(file, mode="wb") as packed:
                yield cast(BinaryIO, packed)
        case ".zst":
            import zstandard

            with zstandard.ZstdCompressor().stream_writer(file, closefd=False) as packed:
                yield cast(BinaryIO, packed)
        case _:
            yield file


def _reason(error: Exception) -> str:
    """The library's own words, on one line."""
    return " ".join(str(error).split()) or type(error).__name__
