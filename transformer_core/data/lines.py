r"""Bytes to lines and back: the one place that knows what a line is.

A line is UTF-8 and ends at "\n", nowhere else: "\x0b", "\x85" or "\u2028", at which `str.splitlines` would cut, stay
inside their line, so that line counts agree with `wc -l`. One "\r" before the "\n" is dropped (files from Windows), and
so is a byte order mark at the start of a file. The last line of a file may lack its "\n". Files that end in .gz, .xz or
.zst are compressed.
"""

import io
import os
import select
import sys
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Literal, Self

from transformer_core.data.byte_input import STANDARD_STREAM, ByteInput, ByteSource
from transformer_core.data.compression import open_compressor
from transformer_core.errors import ConfigError, DataError

__all__ = [
    "REPLACEMENT",
    "STANDARD_STREAM",
    "Errors",
    "LineReader",
    "LineWriter",
    "blaming",
    "is_blank",
    "open_output",
    "read_lines",
    "require_place",
]

Errors = Literal["strict", "replace"]
REPLACEMENT = "\ufffd"  # what stands in the place of bytes that are not UTF-8

# What has no end (/dev/zero) or unpacks to very much is given up before it fills the memory.
MAX_LINE_BYTES = 1 << 28

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
# What other encodings begin with: nothing of such a file is worth replacing.
_OTHER_MARKS = {
    b"\xff\xfe\x00\x00": "UTF-32",
    b"\x00\x00\xfe\xff": "UTF-32",
    b"\xff\xfe": "UTF-16",
    b"\xfe\xff": "UTF-16",
}


class LineReader:
    """Iterates over the lines of a file or of standard input; opens it at once, and closes it at its end.

    Memory is bounded by the longest line and, for `windows`, by a window. Lines before a fault are handed over first.

    Args:
        path: a file, or "-" for standard input.
        errors: what to do with bytes that are not UTF-8: "strict" raises, "replace" puts U+FFFD in their place.
        source: gives the bytes in place of the path.

    Attributes:
        name: what messages call the input: the path, or "standard input".
        line_number: lines handed over so far.
        num_invalid: lines in which bytes were replaced.

    Raises:
        DataError: here when the input cannot be opened; while iterating when it is damaged or not UTF-8.
    """

    def __init__(self, path: str | Path, *, errors: Errors = "strict", source: ByteSource | None = None) -> None:
        self._input = source or ByteInput(path)
        self.name = self._input.name
        self.line_number = 0
        self.num_invalid = 0
        self._errors = errors
        self._lines: deque[str] = deque()  # decoded, not yet handed over
        self._num_decoded = 0
        self._unfinished: list[bytes] = []  # the start of a line whose end has not been read yet
        self._num_unfinished = 0  # bytes of it
        self._failure: DataError | None = None  # raised once the lines before it have been handed over
        self._has_ended = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file; standard input stays open."""
        self._has_ended = True
        self._input.close()

    def __iter__(self) -> Iterator[str]:
        while self._wait_for_line():
            self.line_number += 1
            yield self._lines.popleft()

    def windows(self, max_lines: int) -> Iterator[list[str]]:
        """Hand over the lines in groups: full ones from a file, what there is when a pipe or a terminal pauses.

        A program that writes one line and waits for the answer gets it, while a fast one fills every window. Wherever
        it pauses, windows begin at multiples of `max_lines`, and in between only after a pause.

        Args:
            max_lines: lines in a full window.

        Yields:
            1 to `max_lines` lines.
        """
        while self._wait_for_line():
            size = max_lines - self.line_number % max_lines
            while len(self._lines) < size and not self._input.pauses() and self._read_chunk():
                pass
            window = [self._lines.popleft() for _ in range(min(size, len(self._lines)))]
            self.line_number += len(window)
            yield window

    def _wait_for_line(self) -> bool:
        """Read until there is a line to hand over; False at the end of the input."""
        while not self._lines and self._read_chunk():
            pass
        if not self._lines and self._failure is not None:
            raise self._failure
        return bool(self._lines)

    def _read_chunk(self) -> bool:
        """Read what one system call gives; False when the input has ended or failed."""
        if self._has_ended:
            return False
        try:
            chunk = self._input.read()
        except DataError as error:
            self._failure = error
            self.close()
            return False
        if chunk is None:
            rest = b"".join(self._unfinished)
            self.close()
            self._decode(rest, is_last=True)
            return False
        finished, newline, rest = chunk.rpartition(b"\n")
        if newline:
            self._unfinished.append(finished)
            block = b"".join(self._unfinished)
            self._unfinished, self._num_unfinished = ([rest] if rest else []), len(rest)
            self._decode(block, is_last=False)
        elif rest:
            self._unfinished.append(rest)
            self._num_unfinished += len(rest)
        if self._num_unfinished > MAX_LINE_BYTES and not self._has_ended:
            place = f"{self.name}:{self._num_decoded + 1}"
            self._failure = DataError(f"{place}: is longer than {MAX_LINE_BYTES >> 20} MiB, so it is no line of text")
            self.close()
        return not self._has_ended

    def _decode(self, block: bytes, *, is_last: bool) -> None:
        r"""Turn lines that are joined by "\n" into text; the last line of a file counts only if it has bytes."""
        if self._num_decoded == 0:
            block = block.removeprefix(_BYTE_ORDER_MARK)
            if encoding := next((name for mark, name in _OTHER_MARKS.items() if block.startswith(mark)), None):
                said = f"{self.name}: is {encoding}, not UTF-8; `iconv -f {encoding} -t UTF-8` converts it"
                self._failure = DataError(said)
                self.close()
                return
        if is_last and not block:
            return
        try:
            lines = block.decode("utf-8").split("\n")
        except UnicodeDecodeError:
            lines = self._decode_with_faults(block.split(b"\n"))
        self._num_decoded += len(lines)
        self._lines.extend(line.removesuffix("\r") for line in lines)

    def _decode_with_faults(self, raw_lines: Sequence[bytes]) -> list[str]:
        """Decode line by line: replace what is not UTF-8, or stop before it and keep the fault for later."""
        lines: list[str] = []
        for raw_line in raw_lines:
            try:
                lines.append(raw_line.decode("utf-8"))
            except UnicodeDecodeError as error:
                if self._errors == "strict":
                    number = self._num_decoded + len(lines) + 1
                    self._failure = DataError(
                        f"{self.name}:{number}: is not UTF-8 ({_describe(error)}); "
                        "convert the file or pass --errors replace"
                    )
                    self.close()
                    break
                self.num_invalid += 1
                lines.append(raw_line.decode("utf-8", "replace"))
        return lines


class LineWriter:
    r"""Writes lines, each ended by "\n".

    What is written reads back as it was given, but for a newline inside a text, which becomes a space so that lines
    keep their numbers. To that end a "\r" that ends a text and a U+FEFF that starts the first are written twice: a
    reader drops one. A "\r" elsewhere is an ordinary character.

    Args:
        file: receives the bytes.
        name: what messages call the output.
        has_begun: there are lines in the file already.

    Attributes:
        num_records: of the input, whose results are in the output.
    """

    def __init__(self, file: BinaryIO, name: str, *, has_begun: bool = False) -> None:
        self.name = name
        self._file = file
        self._has_begun = has_begun
        self.num_records = 0

    def write_line(self, text: str) -> None:
        """Write one line.

        Raises:
            OSError: the disk is full; BrokenPipeError: nobody reads the pipe any more.
        """
        line = text.replace("\n", " ")
        if line.endswith("\r"):
            line += "\r"
        if not self._has_begun and line.startswith("\ufeff"):
            line = "\ufeff" + line
        self._has_begun = True
        with blaming(self.name):
            # Half a surrogate pair, which JSON can smuggle in, has no place in UTF-8: it becomes a question mark.
            data = line.encode("utf-8", "replace") + b"\n"
            while data:
                try:
                    self._file.write(data)
                    break
                except BlockingIOError as error:  # another owner of the pipe has made it non-blocking
                    data = data[error.characters_written :]
                    select.select([], [self._file.fileno()], [])

    def commit(self, num_records: int) -> None:
        """Hand everything over: the results of so many more records of the input are whole.

        Raises:
            OSError: as for write_line.
        """
        self.flush()
        self.num_records += num_records

    def flush(self) -> None:
        """Hand everything over to whoever reads.

        Raises:
            OSError: as for write_line.
        """
        with blaming(self.name):
            while True:
                try:
                    return self._file.flush()
                except BlockingIOError:
                    select.select([], [self._file.fileno()], [])


@contextmanager
def open_output(path: str | Path) -> Iterator[LineWriter]:
    """Open a file, or standard output for "-", to write lines to.

    A file appears under its name when the block ends without an error, whole or not at all. What is no ordinary file
    (a named pipe, /dev/null), or has been opened by our caller (/dev/stdout), is written to directly.

    Raises:
        ConfigError: as `require_place`.
        OSError: it cannot be written to; `filename` says which. BrokenPipeError: nobody reads the pipe any more.
    """
    if str(path) == STANDARD_STREAM:
        writer = LineWriter(_buffered(sys.stdout.buffer), "standard output")
        yield writer
        writer.flush()
        return
    from tokenizer.atomic_file import (  # with it the tokenizers are loaded, which a filter may not need
        behind_links,
        open_atomic,
    )

    require_place(path)
    with ExitStack() as stack:
        with blaming(str(path)):
            file = stack.enter_context(open_atomic(behind_links(path)))
            packed = stack.enter_context(open_compressor(file, path))
        try:
            yield LineWriter(packed, str(path))
        except BaseException as error:
            with suppress(OSError):  # of a full disk, say, closing fails too; what failed first is told
                stack.__exit__(type(error), error, error.__traceback__)
            raise
        with blaming(str(path)):
            stack.close()


def require_place(path: str | Path) -> None:
    """See that an output has a place to go; good to know before the work.

    Raises:
        ConfigError: its folder is missing or cannot be written to, or it is a folder itself.
    """
    from tokenizer.atomic_file import is_replaceable

    path = Path(path)
    folder = (Path(os.path.realpath(path)) if path.is_symlink() else path).parent
    if path.is_dir():
        raise ConfigError(f"{path}: is a folder; name the file to write")
    if str(path) == STANDARD_STREAM or not is_replaceable(path):
        return
    if not folder.is_dir():
        raise ConfigError(f"{folder}: no such folder; make it first, or write elsewhere with -o")
    if not os.access(folder, os.W_OK):
        raise ConfigError(f"{folder}: cannot be written to; write elsewhere with -o")


def is_blank(line: str) -> bool:
    """Tell whether a line holds nothing to translate: no character, or white space alone."""
    return not line.strip()


def read_lines(paths: Sequence[str | Path], errors: Errors = "strict") -> Iterator[str]:
    """Yield the lines of several files, one file after the other.

    Raises:
        DataError: a file cannot be read or is not UTF-8.
    """
    for path in paths:
        with LineReader(path, errors=errors) as reader:
            yield from reader


def _buffered(stream: BinaryIO) -> BinaryIO:
    """Put a buffer before a stream that has none, as standard output where PYTHONUNBUFFERED is set.

    What has none writes a part of a line, or nothing, when a pipe is full, and only its return value says so. The
    buffer is before the same descriptor, which it leaves open when it goes.
    """
    return open(stream.fileno(), "wb", closefd=False) if isinstance(stream, io.RawIOBase) else stream


@contextmanager
def blaming(name: str) -> Iterator[None]:
    """Name the output in an OSError, which knows the temporary file or nothing."""
    try:
        yield
    except OSError as error:
        if error.errno is None:
            raise
        raise OSError(error.errno, error.strerror, name) from error


def _describe(error: UnicodeDecodeError) -> str:
    column = len(error.object[: error.start].decode("utf-8")) + 1
    description = f"byte 0x{error.object[error.start]:02x} at column {column}"
    if error.object.startswith((b"\x1f\x8b", b"\xfd7zXZ", b"\x28\xb5\x2f\xfd")):
        return f"{description}: it looks compressed, which only the suffix .gz, .xz or .zst announces"
    return description
