"""Run the program with its results on a terminal, as a user sees them."""

import os
import pty
import re
import subprocess
import sys
from pathlib import Path

from tests.program import program_environment

__all__ = ["run_on_terminal", "without_colors"]


def run_on_terminal(*arguments: str | Path, columns: int = 80, has_color: bool = False) -> str:
    """Run `transduce` on a terminal of so many columns; gives what it wrote to stdout. It must succeed in silence."""
    controller, terminal = pty.openpty()
    environment = program_environment(COLUMNS=str(columns), NO_COLOR="" if has_color else "1", TERM="xterm-256color")
    process = subprocess.Popen(
        [sys.executable, "-m", "cli", *map(str, arguments)],
        stdin=subprocess.DEVNULL,
        stdout=terminal,
        stderr=subprocess.PIPE,
        env=environment,
    )
    os.close(terminal)
    written = b""
    try:
        while chunk := os.read(controller, 1 << 16):
            written += chunk
    except OSError:  # how Linux says that the other side was closed
        pass
    os.close(controller)
    _, said = process.communicate(timeout=60)
    assert (process.returncode, said) == (0, b"")
    return written.decode("utf-8").replace("\r\n", "\n")


def without_colors(text: str) -> str:
    """The text without the codes for colours."""
    return re.sub("\x1b\\[[0-9;]*m", "", text)
