"""Where a model comes from: versions, and the hashes of the data. Imports no torch."""

import platform
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from transformer_core.data.byte_input import STANDARD_STREAM
from transformer_core.errors import DataError
from transformer_core.model_files import hash_file

__all__ = ["describe_file", "describe_software", "describe_weights", "is_unchanged"]


def describe_software() -> dict[str, str]:
    """Versions of what computes; a package that is used without being installed has none."""
    versions = {}
    for package in ("transduce", "torch"):
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            versions[package] = "not installed"
    return {**versions, "python": platform.python_version()}


def describe_weights(path: Path) -> dict[str, str]:
    """Path and hash of the weights that a model is made from."""
    return {"path": str(path.resolve()), "sha256": hash_file(path)}


def describe_file(path: Path) -> dict[str, Any]:
    """Path, size, time and hash of a data file.

    Raises:
        DataError: it is missing, no plain file, or cannot be read, or its name cannot be written down.
    """
    try:
        str(path).encode("utf-8")
    except UnicodeEncodeError:
        raise DataError(f"{str(path)!a}: its name is not UTF-8; rename it") from None
    is_stream = str(path) == STANDARD_STREAM
    if not is_stream and not path.exists():
        raise DataError(f"{path}: there is no such file")
    if is_stream or not path.is_file():
        kind = "is a folder" if path.is_dir() else "is no plain file"
        raise DataError(f"{path}: {kind}; training reads its data more than once, so name a file")
    status = path.stat()
    try:
        sha256 = hash_file(path)
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from None
    return {
        "path": str(path.resolve()),
        "bytes": status.st_size,
        "modified_ns": status.st_mtime_ns,
        "sha256": sha256,
    }


def is_unchanged(recorded: object, paths: Sequence[Path]) -> bool:
    """Tell whether files are what an earlier run recorded: by size and time, or, if those differ, by hash.

    Args:
        recorded: what `describe_file` gave of each, read from a file that may be damaged.
        paths: the files.
    """
    if not isinstance(recorded, list) or len(recorded) != len(paths):
        return False
    for before, path in zip(recorded, paths, strict=True):
        if not isinstance(before, dict) or not isinstance(before.get("sha256"), str) or not path.is_file():
            return False
        status = path.stat()
        same_status = (status.st_size, status.st_mtime_ns) == (before.get("bytes"), before.get("modified_ns"))
        if not same_status and hash_file(path) != before["sha256"]:
            return False
    return True
