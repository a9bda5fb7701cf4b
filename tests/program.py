"""Run the program in a process of its own, as a user does."""

import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

__all__ = ["REPOSITORY", "Outcome", "program_environment", "run_program"]

REPOSITORY = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Outcome:
    """What a run of the program left."""

    code: int  # exit code; negative: killed by that signal
    stdout: bytes
    stderr: str


def program_environment(**variables: str) -> dict[str, str]:
    """The environment for a run: this checkout is importable from every folder, nothing is coloured or inherited."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("TRANSDUCE_")}
    return {**inherited, "PYTHONPATH": str(REPOSITORY), "COLUMNS": "100", "NO_COLOR": "1", **variables}


def run_program(
    *arguments: str | Path,
    stdin: bytes = b"",
    folder: str | Path | None = None,
    variables: Mapping[str, str] | None = None,
    timeout_seconds: float = 120,
) -> Outcome:
    """Run `transduce` with the arguments and wait for it; `variables` are added to the environment."""
    process = subprocess.run(
        [sys.executable, "-m", "cli", *map(str, arguments)],
        input=stdin,
        capture_output=True,
        cwd=folder,
        env=program_environment(**(variables or {})),
        timeout=timeout_seconds,
        check=False,
    )
    return Outcome(process.returncode, process.stdout, process.stderr.decode("utf-8"))
