"""How many lines there are to come, where that can be known before they are read."""

import os
import stat
import sys
from collections.abc import Sequence
from pathlib import Path

from transformer_core.data.byte_input import STANDARD_STREAM
from transformer_core.data.compression import is_compressed

__all__ = ["count_lines"]

_CHUNK_BYTES = 1 << 20


def count_lines(paths: Sequence[str | Path]) -> int | None:
    """Count the lines of plain files; None if one is packed, or no file: then they would have to be unpacked first.

    Standard input counts from where it stands, if it is a file.
    """
    counts = [_count(path) for path in paths]
    return None if None in counts else sum(count or 0 for count in counts)


def _count(path: str | Path) -> int | None:
    try:
        if str(path) == STANDARD_STREAM:
            return _count_from(sys.stdin.fileno(), os.lseek(sys.stdin.fileno(), 0, os.SEEK_CUR))
        if is_compressed(path) or not Path(path).is_file():
            return None
        with open(path, "rb", buffering=0) as file:
            return _count_from(file.fileno(), 0)
    except (OSError, AttributeError, ValueError):  # a pipe cannot seek, and a stand-in has no descriptor
        return None


def _count_from(descriptor: int, place: int) -> int | None:
    """Count without moving the place at which somebody else reads."""
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        return None
    num_lines, last = 0, b"\n"
    while chunk := os.pread(descriptor, _CHUNK_BYTES, place):
        num_lines += chunk.count(b"\n")
        place, last = place + len(chunk), chunk[-1:]
    return num_lines + (last != b"\n")
