"""Corpora of numbers: a line like "7 12 300" is the ids 7, 12 and 300."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import cast

from tokenizer import Tokenizer
from transformer_core.data.encoding import RowEncoder
from transformer_core.data.shards import Corpus, Part, write_corpus

Pair = tuple[list[int], list[int]]


class NumberTokenizer:
    """Reads ids from a line, as far as shards ask a tokenizer for anything."""

    def __init__(self, vocabulary_size: int) -> None:
        self.vocabulary_size = vocabulary_size

    def encode_batch(self, lines: Sequence[str]) -> list[list[int]]:
        return [[int(word) for word in line.split()] for line in lines]


def write_numbers(folder: Path, pairs: Iterable[Pair], *, vocabulary_size: int = 1000, max_length: int = 100) -> Corpus:
    tokenizer = cast(Tokenizer, NumberTokenizer(vocabulary_size))
    lines = ((" ".join(map(str, source)), " ".join(map(str, target))) for source, target in pairs)
    return write_corpus(folder, [Part(lines)], RowEncoder((tokenizer, tokenizer), max_length))


def write_lines(folder: Path, lines: Iterable[list[int]], *, vocabulary_size: int = 1000) -> Corpus:
    """A corpus of raw text."""
    tokenizer = cast(Tokenizer, NumberTokenizer(vocabulary_size))
    return write_corpus(folder, [Part((" ".join(map(str, line)),) for line in lines)], RowEncoder((tokenizer,), 100))


def read_numbers(corpus: Corpus) -> list[Pair]:
    """All pairs in the order in which they stand."""
    return [
        (shard.source(index).tolist(), shard.target(index).tolist())
        for shard in map(corpus.shard, range(corpus.num_shards))
        for index in range(len(shard))
    ]
