"""Rows of text to rows of token ids, without those that are blank or too long.

A row is a source line and its target line, or a line of raw text.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from tokenizer import Tokenizer
from transformer_core.data.lines import REPLACEMENT, is_blank

__all__ = ["Chunk", "EncodedRows", "Row", "RowEncoder", "StoredIds"]

StoredIds = NDArray[np.uint16] | NDArray[np.uint32]
Row = Sequence[str]  # source and target line, or a line of raw text


@dataclass(frozen=True)
class Chunk:
    """Some rows that stand one after the other in one text."""

    rows: list[Row]
    part: int = 0  # which text
    tag: str | None = None  # what each of its sources begins with


@dataclass(frozen=True, kw_only=True)
class EncodedRows:
    """What became of a chunk."""

    part: int
    ids: list[StoredIds]  # of each side, all kept rows one after the other
    lengths: list[NDArray[np.int64]]  # of each side, tokens of every kept row
    num_read: int
    num_blank: int
    num_long: int
    num_cut: int
    num_replaced: int  # rows with U+FFFD


class RowEncoder:
    """Tokenises rows and leaves out what is blank or too long.

    Args:
        tokenizers: of the source and of the target, or the one of raw text.
        max_length: tokens a side may have; longer pairs are dropped, longer lines of raw text are cut into pieces.
    """

    def __init__(self, tokenizers: Sequence[Tokenizer], max_length: int) -> None:
        self.tokenizers = tuple(tokenizers)
        self.max_length = max_length

    @property
    def num_sides(self) -> int:
        """2 of pairs, 1 of raw text."""
        return len(self.tokenizers)

    def encode(self, chunk: Chunk) -> EncodedRows:
        """Turn rows into ids."""
        tokenizers = list(self.tokenizers)
        if chunk.tag is not None:
            tokenizers[0] = tokenizers[0].tagged(chunk.tag)
        sides = [
            tokenizer.encode_batch(["" if is_blank(row[side]) else row[side] for row in chunk.rows])
            for side, tokenizer in enumerate(tokenizers)
        ]
        rows = [row for row in zip(*sides, strict=True) if all(row)]
        num_kept = len(rows)
        num_long = num_cut = 0
        if self.num_sides > 1:
            rows = [row for row in rows if max(map(len, row)) <= self.max_length]
            num_long = num_kept - len(rows)
        else:
            num_cut = sum(len(row[0]) > self.max_length for row in rows)
            rows = [(piece,) for row in rows for piece in self._pieces(row[0])]
        columns = [[row[side] for row in rows] for side in range(self.num_sides)]
        return EncodedRows(
            part=chunk.part,
            ids=[_joined(column, tokenizer) for column, tokenizer in zip(columns, tokenizers, strict=True)],
            lengths=[np.fromiter(map(len, column), dtype=np.int64) for column in columns],
            num_read=len(chunk.rows),
            num_blank=len(chunk.rows) - num_kept,
            num_long=num_long,
            num_cut=num_cut,
            num_replaced=sum(any(REPLACEMENT in line for line in row) for row in chunk.rows),
        )

    def _pieces(self, ids: list[int]) -> list[list[int]]:
        return [ids[start : start + self.max_length] for start in range(0, len(ids), self.max_length)]


def _joined(rows: list[list[int]], tokenizer: Tokenizer) -> StoredIds:
    """Put rows one after the other, in 16 bits where the vocabulary allows it."""
    ids = np.fromiter(chain.from_iterable(rows), dtype=np.uint32)
    return ids.astype(np.uint16) if tokenizer.vocabulary_size <= 1 << 16 else ids
