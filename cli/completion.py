"""What a shell completes: model folders, and the checkpoints of the model that is named already."""

import os
from pathlib import Path

import typer

__all__ = ["complete_checkpoint", "complete_model"]

MAX_DEPTH = 3  # folders below the one that was typed
MAX_FOLDERS = 2000  # looked at: completing must not take longer than typing


def complete_model(incomplete: str) -> list[str]:
    """The model folders whose path begins like that: a folder with a config.json, here or some folders below."""
    typed = Path(incomplete)
    start = incomplete if incomplete.endswith("/") else str(typed.parent)
    waiting = [(start, 0)]
    found: list[str] = []
    for number, (folder, depth) in enumerate(waiting):
        if number >= MAX_FOLDERS:
            break
        for path in _folders(folder):
            name = path if incomplete.startswith("./") or not path.startswith("./") else path[2:]
            if not (name.startswith(incomplete) or incomplete.startswith(f"{name}/")):
                continue
            if os.path.isfile(os.path.join(path, "config.json")):
                found.append(name)
            elif depth + 1 < MAX_DEPTH:
                waiting.append((path, depth + 1))
    return sorted(found)


def complete_checkpoint(context: typer.Context, incomplete: str) -> list[str]:
    """The names that every model has, and the steps that the model of the command has kept."""
    model = context.params.get("model")
    if isinstance(model, list | tuple):  # of several the first
        model = model[0] if model else None
    steps: list[int] = []
    if model is not None:
        names = (os.path.basename(path) for path in _folders(os.path.join(str(model), "checkpoints")))
        steps = sorted(int(name[5:]) for name in names if name.startswith("step-") and name[5:].isdecimal())
    return [name for name in ("best", "last", *map(str, steps)) if name.startswith(incomplete)]


def _folders(folder: str) -> list[str]:
    """The folders in a folder that are not hidden; none where it cannot be read."""
    try:
        with os.scandir(folder) as entries:
            return [
                os.path.join(folder, entry.name)
                for entry in entries
                if not entry.name.startswith(".") and entry.is_dir()
            ]
    except OSError:
        return []
