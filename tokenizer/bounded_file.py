"""Read a small file of somebody else's whole, and never more than it may hold.

A name in a folder that came from elsewhere may be a link to /dev/zero, which has no size and no end, or a named pipe,
which nobody may ever write to.
"""

import stat
from pathlib import Path

__all__ = ["read_bounded"]

CHUNK_BYTES = 1 << 20


def read_bounded(path: Path, max_bytes: int) -> bytes:
    """Read an ordinary file.

    Raises:
        OSError: it is missing or cannot be read.
        ValueError: it is no ordinary file, or larger than `max_bytes`; the message goes on after "file: ".
    """
    if path.is_dir():
        raise ValueError("is a folder, not a file")
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        raise ValueError("is no ordinary file")
    content = bytearray()
    if status.st_size <= max_bytes:
        # part by part, because a read takes memory for all that it may get; and of what grows meanwhile, or has
        # another size than it says (in /proc), no more than that either
        with path.open("rb") as file:
            while len(content) <= max_bytes and (part := file.read(CHUNK_BYTES)):
                content += part
    if max(status.st_size, len(content)) > max_bytes:
        raise ValueError(f"is larger than {max_bytes:,} bytes")
    return bytes(content)
