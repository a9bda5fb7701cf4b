"""What --overwrite replaces waits in a hidden folder until what comes in its place is there."""

import shutil
from collections.abc import Iterable
from pathlib import Path

__all__ = ["discard", "put_back", "set_aside"]

ASIDE = ".replaced.tmp"


def set_aside(folder: Path, names: Iterable[str]) -> None:
    """Move entries of a folder, paths below it, into its hidden folder; the last one says that all of it is there.

    What was left there by a process that was killed stays, unless it is older than what is moved now.
    """
    *_, last = names = list(names)
    if (folder / last).exists() and (folder / ASIDE / last).exists():
        discard(folder)
    for name in names:
        path, target = folder / name, folder / ASIDE / name
        if path.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            path.rename(target)


def put_back(folder: Path) -> None:
    """Give the folder what was set aside."""
    if (folder / ASIDE).is_dir():
        _move(folder / ASIDE, folder)


def discard(folder: Path) -> None:
    """Remove what was set aside."""
    shutil.rmtree(folder / ASIDE, ignore_errors=True)


def _move(source: Path, target: Path) -> None:
    """Move what a folder holds into another, where folders of the same name become one."""
    for path in source.iterdir():
        place = target / path.name
        if path.is_dir() and place.is_dir():
            _move(path, place)
        else:
            path.rename(place)
    source.rmdir()
