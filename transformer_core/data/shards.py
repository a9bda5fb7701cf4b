"""A corpus as token ids on disk, memory-mapped: memory does not grow with the corpus.

A corpus is a folder: shard-00000.safetensors, … and corpus.json, which is written last and says that it is complete.
A shard holds four tensors: the ids of all its sources one after the other, the offsets at which each begins, and the
same for the targets. Ids are stored in 16 bits where the vocabulary allows it. Of raw text a shard holds the first two
alone; whoever reads it finds every line as a pair of the line with itself.

corpus.json also says what would take long to find out again: how large every shard is, and how long the longest target
of a source is. A corpus of several texts with weights keeps each in shards of its own.
"""

import re
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save as serialize

from tokenizer.atomic_file import write_bytes
from transformer_core.data.corpus_facts import CorpusFacts, CorpusStatistics, ShardFacts, read_corpus_facts
from transformer_core.data.encoding import Chunk, EncodedRows, Row, RowEncoder, StoredIds
from transformer_core.data.encoding_processes import encode_in_order
from transformer_core.errors import DataError

__all__ = [
    "Corpus",
    "CorpusStatistics",
    "NothingLeftError",
    "Part",
    "Shard",
    "ShardFacts",
    "is_corpus_file",
    "write_corpus",
]

SHARD_TOKENS = 1 << 24  # tokens of either side after which a shard is full: 32 MB a side at 16 bits
SHARD_ROWS = 1 << 20  # or pairs, if they are short: what is computed for a shard takes some 50 bytes for each
LINES_AT_ONCE = 4096  # pairs tokenised together,
CHARACTERS_AT_ONCE = 1 << 20  # or fewer, if they are long: what tokenising takes grows with their characters

ID_DTYPES = (np.uint16, np.uint32)

Offsets = NDArray[np.int64]


@dataclass(frozen=True)
class Shard:
    """Some pairs of a corpus, in the order of the text; of raw text both sides are the same arrays."""

    source_ids: StoredIds
    source_offsets: Offsets  # (pairs + 1,)
    target_ids: StoredIds
    target_offsets: Offsets

    def __len__(self) -> int:
        return len(self.source_offsets) - 1

    def source_lengths(self) -> Offsets:
        """Tokens per source, (pairs,)."""
        return np.diff(self.source_offsets)

    def target_lengths(self) -> Offsets:
        """Tokens per target, (pairs,)."""
        return np.diff(self.target_offsets)

    def source(self, index: int) -> StoredIds:
        """The ids of one source."""
        return self.source_ids[self.source_offsets[index] : self.source_offsets[index + 1]]

    def target(self, index: int) -> StoredIds:
        """The ids of one target."""
        return self.target_ids[self.target_offsets[index] : self.target_offsets[index + 1]]


class Corpus:
    """A corpus on disk; shards are mapped into memory one at a time, when they are used.

    Attributes:
        statistics: what became of the pairs when it was written.
        shards: what is known of every shard.
        longest_targets: tokens of the longest target by the length of its source; empty of raw text.
        weights: of the texts that are kept apart, their shares of the batches; none if there is one text, or all alike.
    """

    def __init__(self, folder: Path, weights: Sequence[float] = ()) -> None:
        """Open the corpus at `folder`, with other weights than it was written with if some are given.

        Raises:
            DataError: the folder is incomplete or damaged.
        """
        self.folder = folder
        facts = read_corpus_facts(folder)
        self.statistics = facts.statistics
        self.shards = facts.shards
        self.longest_targets = facts.longest_targets
        self.weights = tuple(weights) or facts.weights
        self.key = facts.key

    @property
    def num_shards(self) -> int:
        """Shards it has."""
        return len(self.shards)

    def shards_of(self, part: int) -> list[int]:
        """Give the numbers of the shards of one of the texts that are kept apart."""
        return [number for number, facts in enumerate(self.shards) if facts.part == part]

    def shard(self, number: int) -> Shard:
        """Map a shard into memory."""
        path = self.folder / _shard_name(number)
        try:
            # torch's framework maps the file; numpy's would copy it
            with safe_open(path, framework="pt") as file:
                sides = {
                    side: [file.get_tensor(f"{side}_{kind}").numpy() for kind in ("ids", "offsets")]
                    for side in ("source", "target")
                    if f"{side}_ids" in set(file.keys())
                }
            shard = Shard(*sides["source"], *sides.get("target", sides["source"]))
            _check_shard(shard, self.shards[number])
            return shard
        except (SafetensorError, OSError, ValueError, KeyError, TypeError) as error:
            raise DataError(
                f"{path}: is damaged ({error}); remove its folder, and run the command again that made it"
            ) from None


@dataclass(frozen=True)
class Part:
    """One of the texts that a corpus is made of."""

    rows: Iterable[Row]  # source and target line of each pair, or each line alone; read once
    tag: str | None = None  # what each of its sources begins with
    weight: float | None = None  # its share of the batches beside those of the others; None: no part has any


class NothingLeftError(DataError):
    """Of a text nothing is left that could be learned from."""


def write_corpus(
    folder: Path,
    parts: Sequence[Part],
    encoder: RowEncoder,
    *,
    key: str = "",
    processes: int = 1,
    progress: Callable[[int], None] | None = None,
) -> Corpus:
    """Tokenise pairs, or raw text, into shards; what lay in `folder` goes.

    Args:
        folder: where the corpus goes.
        parts: the text; parts with weights are kept apart in shards of their own, others stand one after the other.
        encoder: tokenises.
        key: what the corpus was made from; a caller compares it to know whether it can be used again.
        processes: how many tokenise at once; the files are the same for any number.
        progress: told how many rows were just read.

    Raises:
        NothingLeftError: nothing is left, or nothing of a part with a weight.
    """
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    weights = [part.weight for part in parts if part.weight is not None]
    writer = _ShardWriter(folder, encoder, is_kept_apart=bool(weights))
    with closing(encode_in_order(_chunks(parts), encoder, processes)) as encoded:
        for rows in encoded:
            writer.add(rows)
            if progress is not None:
                progress(rows.num_read)
    writer.flush()
    statistics = writer.statistics()
    if not statistics.num_pairs:
        raise NothingLeftError(
            f"no pair is left: {statistics.num_blank} have a blank side, {statistics.num_long} are longer than "
            f"{encoder.max_length} tokens; look at the files, or raise --max-length"
            if encoder.num_sides > 1
            else f"no line is left: all {statistics.num_blank} are blank; look at the files"
        )
    if missing := set(range(len(weights))) - {facts.part for facts in writer.shards}:
        raise NothingLeftError(
            f"nothing is left of corpus {min(missing) + 1} of {len(weights)}, so it can have no weight"
        )
    longest_targets = enumerate(writer.longest_targets.tolist())
    facts = CorpusFacts(
        statistics=statistics,
        shards=tuple(writer.shards),
        longest_targets={length: longest for length, longest in longest_targets if longest},
        weights=tuple(weights),
        key=key,
    )
    facts.save(folder)
    return Corpus(folder)


def _chunks(parts: Sequence[Part]) -> Iterator[Chunk]:
    """Cut the text into chunks of bounded length, whatever the length of a line."""
    for number, part in enumerate(parts):
        rows, num_characters = list[Row](), 0
        for row in part.rows:
            rows.append(row)
            num_characters += sum(map(len, row))
            if len(rows) == LINES_AT_ONCE or num_characters >= CHARACTERS_AT_ONCE:
                yield Chunk(rows, number, part.tag)
                rows, num_characters = [], 0
        if rows:
            yield Chunk(rows, number, part.tag)


class _Side:
    """The sources, or the targets, of the shard that is being collected."""

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        self.ids: list[StoredIds] = []
        self.lengths: list[Offsets] = []
        self.num_tokens = self.num_rows = 0

    def add(self, ids: StoredIds, lengths: Offsets) -> None:
        self.ids.append(ids)
        self.lengths.append(lengths)
        self.num_tokens += len(ids)
        self.num_rows += len(lengths)


class _ShardWriter:
    """Collects encoded rows and writes a shard whenever there are enough."""

    def __init__(self, folder: Path, encoder: RowEncoder, *, is_kept_apart: bool) -> None:
        self.folder = folder
        self.is_kept_apart = is_kept_apart
        self.shards: list[ShardFacts] = []
        self.longest_targets = np.zeros(0, dtype=np.int64)  # by the length of the source, up to the longest so far
        self.sides = [_Side() for _ in range(encoder.num_sides)]
        self.part = 0  # of the rows that are being collected
        self.num_blank = self.num_long = self.num_cut = self.num_replaced = 0
        self.num_tokens = [0, 0]
        self.max_lengths = [0, 0]

    def add(self, rows: EncodedRows) -> None:
        """Take rows; a shard ends with the row that fills it."""
        if self.is_kept_apart and rows.part != self.part:
            self.flush()
        self.part = rows.part
        self.num_blank += rows.num_blank
        self.num_long += rows.num_long
        self.num_cut += rows.num_cut
        self.num_replaced += rows.num_replaced
        offsets = [_offsets(lengths) for lengths in rows.lengths]
        start, num_rows = 0, len(rows.lengths[0])
        while start < num_rows:
            end = min(num_rows, self._end_of_shard(start, offsets))
            for side, places, ids, lengths in zip(self.sides, offsets, rows.ids, rows.lengths, strict=True):
                side.add(ids[places[start] : places[end]], lengths[start:end])
            start = end
            if any(side.num_tokens >= SHARD_TOKENS or side.num_rows >= SHARD_ROWS for side in self.sides):
                self.flush()

    def _end_of_shard(self, start: int, offsets: list[Offsets]) -> int:
        """Give the place after the row with which the shard would be full, if it begins at `start`."""
        by_tokens = (
            np.searchsorted(places, places[start] + SHARD_TOKENS - side.num_tokens)
            for side, places in zip(self.sides, offsets, strict=True)
        )
        return min(start + SHARD_ROWS - self.sides[0].num_rows, *map(int, by_tokens))

    def flush(self) -> None:
        """Write the rows collected so far as a shard."""
        if not self.sides[0].num_rows:
            return
        tensors: dict[str, NDArray[Any]] = {}
        columns = []
        for number, (name, side) in enumerate(zip(("source", "target"), self.sides, strict=False)):
            lengths = np.concatenate(side.lengths)
            tensors |= {f"{name}_ids": np.concatenate(side.ids), f"{name}_offsets": _offsets(lengths)}
            self.num_tokens[number] += side.num_tokens
            self.max_lengths[number] = max(self.max_lengths[number], int(lengths.max()))
            columns.append(lengths)
            side.clear()
        write_bytes(self.folder / _shard_name(len(self.shards)), serialize(tensors))
        if len(columns) > 1:
            num_more = int(columns[0].max()) + 1 - len(self.longest_targets)
            self.longest_targets = np.pad(self.longest_targets, (0, max(0, num_more)))
            np.maximum.at(self.longest_targets, columns[0], columns[1])
        longer = np.maximum(columns[0], columns[-1])
        facts = ShardFacts(
            num_pairs=len(longer), num_places=int(longer.sum()) + len(longer), longest=int(longer.max()), part=self.part
        )
        self.shards.append(facts)

    def statistics(self) -> CorpusStatistics:
        return CorpusStatistics(
            num_pairs=sum(facts.num_pairs for facts in self.shards),
            num_blank=self.num_blank,
            num_long=self.num_long,
            num_cut=self.num_cut,
            num_replaced=self.num_replaced,
            num_source_tokens=self.num_tokens[0],
            num_target_tokens=self.num_tokens[1],
            max_source_length=self.max_lengths[0],
            max_target_length=self.max_lengths[1],
        )


def _check_shard(shard: Shard, facts: ShardFacts) -> None:
    """See that the rows of a shard lie one after the other in it, and are what was written of them.

    Raises:
        ValueError: they do not.
    """
    for ids, offsets in ((shard.source_ids, shard.source_offsets), (shard.target_ids, shard.target_offsets)):
        if ids.ndim != 1 or ids.dtype not in ID_DTYPES or offsets.dtype != np.int64:
            raise ValueError("ids or offsets are of another kind")
        if offsets.shape != (facts.num_pairs + 1,):
            raise ValueError(f"it holds {offsets.size - 1} pairs, corpus.json says {facts.num_pairs}")
        if offsets[0] != 0 or offsets[-1] != len(ids) or not (np.diff(offsets) > 0).all():
            raise ValueError("its rows do not lie one after the other")


def is_corpus_file(name: str) -> bool:
    """Tell whether `write_corpus` gives files such names."""
    return re.fullmatch(r"corpus\.json|shard-\d{5,}\.safetensors|\..*", name) is not None


def _shard_name(number: int) -> str:
    return f"shard-{number:05d}.safetensors"


def _offsets(lengths: Offsets) -> Offsets:
    """Where rows of these lengths begin that stand one after the other, and where the last one ends, (rows + 1,)."""
    return np.concatenate((np.zeros(1, dtype=np.int64), np.cumsum(lengths)))
