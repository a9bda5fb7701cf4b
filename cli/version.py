"""What --version says: our version, what we run on, and whether our packages are our own.

The packages have short names (`cli`, `tokenizer`), which another distribution in the same site-packages may have too.
"""

import importlib
import platform
from importlib import metadata
from pathlib import Path

from cli import console

__all__ = ["PACKAGES", "describe_version"]

PACKAGES = ("cli", "tokenizer", "transformer_core")


def describe_version() -> str:
    """The lines of --version; warns if one of our packages belongs to somebody else."""
    _warn_of_strangers()
    lines = [f"{console.PROGRAM} {_installed_version()}"]
    if console.is_verbose():
        lines += _describe_machine()
    return "".join(f"{line}\n" for line in lines)


def _installed_version() -> str:
    try:
        return metadata.version(console.PROGRAM)
    except metadata.PackageNotFoundError:
        return "(not installed)"


def _describe_machine() -> list[str]:
    import torch

    from transformer_core.device import choose_device

    device = choose_device("auto")
    name = f"cuda ({torch.cuda.get_device_name()})" if device.type == "cuda" else device.type
    return [
        f"Python {platform.python_version()} on {platform.platform()}",
        f"torch {torch.__version__}, {torch.get_num_threads()} threads",
        f"device {name}",
    ]


def _warn_of_strangers() -> None:
    """Compare who installed our packages, and where they lie, with what should be."""
    home = Path(__file__).resolve().parent.parent
    owners = metadata.packages_distributions()
    for package in PACKAGES:
        strangers = sorted(set(owners.get(package, ())) - {console.PROGRAM})
        file = importlib.import_module(package).__file__
        if strangers:
            console.warn(
                f"the package {package!r} is also installed by {', '.join(strangers)}; "
                f"install {console.PROGRAM} into an environment of its own (pipx install {console.PROGRAM})"
            )
        elif file is None or Path(file).resolve().parent.parent != home:
            console.warn(f"the package {package!r} comes from {file}, not from {home}; another one hides ours")
