"""Asks for line after line where somebody types them."""

import sys
from collections.abc import Iterator

from cli import console

__all__ = ["prompted"]

PROMPT = "> "


def prompted(windows: Iterator[list[str]], invitation: str) -> Iterator[list[str]]:
    """Give windows of typed lines, with a prompt on stderr before each, until Ctrl-D.

    Args:
        windows: of standard input.
        invitation: what is said first: what to type, and how to end.
    """
    console.info(invitation)
    while True:
        _say(PROMPT)
        window = next(windows, None)
        if window is None:
            _say("\n")
            return
        yield window


def _say(text: str) -> None:
    if not console.is_quiet():
        sys.stderr.write(text)
        sys.stderr.flush()
