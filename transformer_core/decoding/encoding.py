"""Lines to token ids, as the model is to see them: what is blank has none."""

from collections.abc import Sequence
from typing import Protocol

from transformer_core.data.lines import is_blank

__all__ = ["TextEncoder", "encode_lines"]


class TextEncoder(Protocol):
    """Turns lines into ids: a Tokenizer, or what looks like one from here."""

    def encode(self, line: str) -> list[int]:
        """Turn a line into ids."""

    def encode_batch(self, lines: Sequence[str]) -> list[list[int]]:
        """Turn lines into ids; the same as `encode` on each."""


def encode_lines(encoder: TextEncoder, lines: Sequence[str]) -> list[list[int]]:
    """Turn lines into ids; a blank one into none, though a tokenizer may have tokens for white space."""
    return encoder.encode_batch(["" if is_blank(line) else line for line in lines])
