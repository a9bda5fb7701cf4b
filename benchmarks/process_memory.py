"""What processes hold in memory, read from /proc; so Linux is needed."""

import re
from pathlib import Path

__all__ = ["family", "memory_of"]


def memory_of(pid: int) -> dict[str, float]:
    """Read the resident memory of a process, in megabytes; nothing if it has ended.

    RssAnon is the memory that belongs to no file: nobody else has it.
    """
    try:
        status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    except OSError:
        return {}
    rows = (line.split() for line in status.splitlines() if line.startswith(("RssAnon", "RssFile")))
    return {words[0].rstrip(":"): int(words[1]) / 1024 for words in rows}


def family(pid: int) -> list[int]:
    """Name a process, those that it has started, and those that they have."""
    parents = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            words = re.sub(r"(?s).*\) . ", "", path.read_text(encoding="utf-8")).split()
        except OSError:  # it has ended
            continue
        parents[int(path.parent.name)] = int(words[0])
    found = [pid]
    for parent in found:  # it grows on the way
        found += [child for child, its_parent in parents.items() if its_parent == parent]
    return found
