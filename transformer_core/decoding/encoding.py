"""Lines to token ids, as the model is to see them: what is blank has none, and what is too long comes in pieces."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from transformer_core.data.lines import is_blank
from transformer_core.decoding.config import LongInput
from transformer_core.decoding.long_input import split_text

__all__ = ["TextEncoder", "TextPiece", "cut_line", "encode_lines"]


class TextEncoder(Protocol):
    """Turns lines into ids: a Tokenizer, or what looks like one from here."""

    def encode(self, line: str) -> list[int]:
        """Turn a line into ids."""

    def encode_batch(self, lines: Sequence[str]) -> list[list[int]]:
        """Turn lines into ids; the same as `encode` on each."""


@dataclass(frozen=True, kw_only=True)
class TextPiece:
    """A line, or the part of one that the model sees at once."""

    separator: str  # what stands between the piece before and this one
    text: str
    token_ids: list[int]  # not empty


def encode_lines(encoder: TextEncoder, lines: Sequence[str]) -> list[list[int]]:
    """Turn lines into ids; a blank one into none, though a tokenizer may have tokens for white space."""
    return encoder.encode_batch(["" if is_blank(line) else line for line in lines])


def cut_line(
    encoder: TextEncoder, line: str, token_ids: list[int], max_tokens: int, long_input: LongInput
) -> list[TextPiece]:
    """Cut a line into pieces of at most so many tokens; a blank one into none.

    Args:
        encoder: of the line.
        line: as it was read.
        token_ids: of the whole line.
        max_tokens: that a piece may have.
        long_input: whether a line that has more is split, or its end is left out.
    """
    if len(token_ids) <= max_tokens or long_input != "split":
        pieces = [TextPiece(separator="", text=line, token_ids=token_ids[:max_tokens])]
    else:
        encode = encoder.encode
        pieces = [
            TextPiece(separator=separator, text=text, token_ids=encode(text)[:max_tokens])
            for separator, text in split_text(line, max_tokens, lambda text: len(encode(text)))
        ]
    return [piece for piece in pieces if piece.token_ids]  # white space at an end may be a piece of its own
