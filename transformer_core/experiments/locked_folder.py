"""A folder that one process at a time writes into."""

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from transformer_core.errors import ConfigError

__all__ = ["locked_folder", "require_folder_name"]

SECONDS_TO_WAIT = 3.0  # workers of a process that was killed hold its lock until they notice that it is gone


@contextmanager
def locked_folder(folder: Path, what: str) -> Iterator[None]:
    """Make a folder, if there is none, and keep others out of it as long as the block lasts (flock(2)).

    Where the file system cannot lock a folder, nobody is kept out. If the block fails, a folder that was made for it
    goes, if it is empty.

    Args:
        folder: may be there or not.
        what: goes into it, for messages.

    Raises:
        ConfigError: it is no name of a folder, or another process writes there.
        OSError: it cannot be made.
    """
    require_folder_name(folder, what)
    is_new, descriptor = not folder.exists(), None
    try:
        descriptor = _locked(folder)
        yield
    except BaseException:
        if is_new:
            with suppress(OSError):
                if descriptor is None:  # a signal came before it was locked: by now it may be another's
                    descriptor = os.open(folder, os.O_RDONLY)
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                folder.rmdir()
        raise
    finally:
        if descriptor is not None:
            os.close(descriptor)


def require_folder_name(folder: Path, what: str) -> None:
    """See that a folder may have this name.

    Raises:
        ConfigError: a file has it, or a part of it; or it is not UTF-8, in which all that is written there is.
    """
    try:
        os.fspath(folder).encode("utf-8")
    except UnicodeEncodeError:
        raise ConfigError(f"{os.fspath(folder)!a}: its name is not UTF-8; name another folder for {what}") from None
    for path in (folder, *folder.parents):
        if path.exists() and not path.is_dir():
            raise ConfigError(f"{path}: is a file; name a folder for {what}")


def _locked(folder: Path) -> int:
    """Open and lock a folder that is there when it is locked.

    Raises:
        ConfigError: another process keeps it locked.
    """
    give_up_at = time.monotonic() + SECONDS_TO_WAIT
    while (descriptor := _lock(folder)) is None:
        if time.monotonic() > give_up_at:
            raise ConfigError(f"{folder}: another process is writing there; wait for it, or end it")
        time.sleep(0.1)
    return descriptor


def _lock(folder: Path) -> int | None:
    """Make, open and lock a folder; None where another process has it locked, or had and removed it."""
    folder.mkdir(parents=True, exist_ok=True)
    descriptor, is_ours = os.open(folder, os.O_RDONLY), False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        is_ours = os.path.samestat(os.fstat(descriptor), folder.stat())
    except (BlockingIOError, FileNotFoundError):
        pass
    except OSError:  # of a network, say, which cannot lock a folder
        is_ours = True
    finally:
        if not is_ours:
            os.close(descriptor)
    return descriptor if is_ours else None
