"""Where words begin among token ids: what a token looks like at its two ends.

pipeline.py cuts a line into words: runs of letters, of digits or of other characters, each with the space before it.
No token reaches beyond its word, so whether a word begins at a token shows in how the token begins and how the one
before it ends; whoever wants to treat the tokens of a word alike (data/masking.py) needs no text for it.
"""

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum

from tokenizer.config import Kind
from tokenizer.special_tokens import BYTE_TOKENS, SPECIAL_TOKENS, UNK_ID
from tokenizer.tags import TAG_PATTERN

__all__ = ["Edge", "WordEdges", "find_word_edges"]

_JOINERS = "\u200c\u200d"  # Persian and Indic words hold them
_NO_CHARACTER = "\ufffd"  # what a part of a character is decoded as


class Edge(IntEnum):
    """How a token begins or ends.

    A word begins at a token whose left edge is SPACE, and at one whose left edge differs from the right edge of the
    token before, unless one of the two is OPEN.
    """

    OPEN = 0  # belongs to the word of its neighbour, whatever that is: a part of a character, a space that has ended
    LETTER = 1
    DIGIT = 2
    OTHER = 3  # any other character
    SPACE = 4  # left only: the space that a word brings with it
    CLOSED = 5  # right only: the token is a whole word


@dataclass(frozen=True, kw_only=True)
class WordEdges:
    """The edges of all tokens of a vocabulary, a byte for each id, of the values of `Edge`."""

    left: bytes
    right: bytes


def find_word_edges(kind: Kind, pieces: Sequence[str]) -> WordEdges:
    """Look at the ends of every token.

    Args:
        kind: of the tokenizer.
        pieces: the text of the tokens in the order of their ids; what is no whole character in it as U+FFFD.
    """
    edges = [_edges(kind, index, piece) for index, piece in enumerate(pieces)]
    return WordEdges(left=bytes(left for left, _ in edges), right=bytes(right for _, right in edges))


def _edges(kind: Kind, index: int, piece: str) -> tuple[Edge, Edge]:
    if index == UNK_ID:  # a whole word, or some characters of one
        return (Edge.SPACE, Edge.CLOSED) if kind in ("word", "wordpiece") else (Edge.OPEN, Edge.OPEN)
    if index < len(SPECIAL_TOKENS) or re.fullmatch(TAG_PATTERN, piece):
        return Edge.SPACE, Edge.CLOSED
    if kind == "word":
        return Edge.SPACE, Edge.CLOSED
    if kind == "bpe" and index < len(SPECIAL_TOKENS) + len(BYTE_TOKENS):
        byte = index - len(SPECIAL_TOKENS)
        piece = chr(byte) if byte < 0x80 else _NO_CHARACTER
    last = _edge(piece[-1])
    return _edge(piece[0]), Edge.OPEN if last is Edge.SPACE else last


def _edge(character: str) -> Edge:
    if character == " ":
        return Edge.SPACE
    if character == _NO_CHARACTER:
        return Edge.OPEN
    category = unicodedata.category(character)
    if category[0] in "LM" or character in _JOINERS:
        return Edge.LETTER
    return Edge.DIGIT if category[0] == "N" else Edge.OTHER
