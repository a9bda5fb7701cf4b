"""A corpus as token ids on disk, memory-mapped: memory does not grow with the corpus.

A corpus is a folder: shard-00000.safetensors, … and corpus.json, which is written last and says that it is complete.
A shard holds four tensors: the ids of all its sources one after the other, the offsets at which each begins, and the
same for the targets. Ids are stored in 16 bits where the vocabulary allows it. Of raw text a shard holds the first two
alone; whoever reads it finds every line as a pair of the line with itself.
"""

import json
import re
import shutil
from array import array
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save as serialize

from tokenizer import Tokenizer
from tokenizer.atomic_file import write_bytes, write_text
from transformer_core.data.lines import is_blank
from transformer_core.errors import DataError

__all__ = ["Corpus", "CorpusStatistics", "Shard", "is_corpus_file", "write_corpus"]

SHARD_TOKENS = 1 << 24  # tokens of either side after which a shard is full: 32 MB a side at 16 bits
LINES_AT_ONCE = 4096  # pairs tokenised together

Ids = NDArray[np.uint16] | NDArray[np.uint32]
Offsets = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class CorpusStatistics:
    """What became of the pairs."""

    num_pairs: int = 0  # kept
    num_blank: int = 0  # dropped: nothing but white space on one side
    num_long: int = 0  # dropped: more than max_length tokens on one side
    num_cut: int = 0  # lines of raw text with more tokens than that: cut into pieces, which are kept as lines
    num_source_tokens: int = 0  # of the kept pairs, end tokens not counted
    num_target_tokens: int = 0  # 0 of raw text, which is all source
    max_source_length: int = 0  # tokens of the longest kept source
    max_target_length: int = 0  # 0 of raw text


@dataclass(frozen=True)
class Shard:
    """Some pairs of a corpus, in the order of the text; of raw text both sides are the same arrays."""

    source_ids: Ids
    source_offsets: Offsets  # (pairs + 1,)
    target_ids: Ids
    target_offsets: Offsets

    def __len__(self) -> int:
        return len(self.source_offsets) - 1

    def source_lengths(self) -> Offsets:
        """Tokens per source, (pairs,)."""
        return np.diff(self.source_offsets)

    def target_lengths(self) -> Offsets:
        """Tokens per target, (pairs,)."""
        return np.diff(self.target_offsets)

    def source(self, index: int) -> Ids:
        """The ids of one source."""
        return self.source_ids[self.source_offsets[index] : self.source_offsets[index + 1]]

    def target(self, index: int) -> Ids:
        """The ids of one target."""
        return self.target_ids[self.target_offsets[index] : self.target_offsets[index + 1]]


class Corpus:
    """A corpus on disk; shards are mapped into memory one at a time, when they are used.

    Attributes:
        statistics: what became of the pairs when it was written.
        num_shards: shards it has.
    """

    def __init__(self, folder: Path) -> None:
        """Open the corpus at `folder`.

        Raises:
            DataError: the folder is incomplete or damaged.
        """
        self.folder = folder
        try:
            content = json.loads((folder / "corpus.json").read_text(encoding="utf-8"))
            self.statistics = CorpusStatistics(**content["statistics"])
            self.num_shards: int = content["num_shards"]
            self.key: str = content["key"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise DataError(f"{folder}: is no complete corpus ({error}); remove it and run again") from None

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
            return Shard(*sides["source"], *sides.get("target", sides["source"]))
        except (SafetensorError, OSError) as error:
            raise DataError(f"{path}: is damaged ({error}); remove its folder and run again") from None


def write_corpus(
    folder: Path,
    rows: Iterable[Sequence[str]],
    tokenizers: Sequence[Tokenizer],
    *,
    max_length: int,
    key: str = "",
    progress: Callable[[int], None] | None = None,
) -> Corpus:
    """Tokenise pairs, or raw text, into shards; what lay in `folder` goes.

    Args:
        folder: where the corpus goes.
        rows: source and target line of each pair, or each line alone; read once.
        tokenizers: of the source and of the target, or the one of raw text.
        max_length: tokens a side may have; longer pairs are dropped, longer lines of raw text are cut into pieces.
        key: what the corpus was made from; a caller compares it to know whether it can be used again.
        progress: told how many rows were just read.

    Raises:
        DataError: nothing is left.
    """
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    writer = _ShardWriter(folder, [_id_type(tokenizer) for tokenizer in tokenizers], max_length)
    iterator = iter(rows)
    while chunk := list(islice(iterator, LINES_AT_ONCE)):
        sides = [
            tokenizer.encode_batch(["" if is_blank(row[side]) else row[side] for row in chunk])
            for side, tokenizer in enumerate(tokenizers)
        ]
        for row in zip(*sides, strict=True):
            writer.add(row)
        if progress is not None:
            progress(len(chunk))
    writer.flush()
    statistics = writer.statistics()
    if not statistics.num_pairs:
        raise DataError(
            f"no pair is left: {statistics.num_blank} have a blank side, {statistics.num_long} are longer than "
            f"{max_length} tokens; look at the files, or raise --max-length"
            if len(tokenizers) > 1
            else f"no line is left: all {statistics.num_blank} are blank; look at the files"
        )
    content: dict[str, Any] = {"statistics": asdict(statistics), "num_shards": writer.num_shards, "key": key}
    write_text(folder / "corpus.json", json.dumps(content, indent=2) + "\n")
    return Corpus(folder)


class _Side:
    """The sources, or the targets, of the shard that is being collected."""

    def __init__(self, id_type: type[np.uint16] | type[np.uint32]) -> None:
        self.id_type = id_type
        self.clear()

    def clear(self) -> None:
        self.ids = array("I")  # one after the other
        self.lengths = array("q")

    def add(self, ids: list[int]) -> None:
        self.ids.extend(ids)
        self.lengths.append(len(ids))

    def tensors(self, name: str) -> dict[str, NDArray[Any]]:
        ends = np.cumsum(np.asarray(self.lengths, dtype=np.int64))
        return {
            f"{name}_ids": np.asarray(self.ids).astype(self.id_type),
            f"{name}_offsets": np.concatenate((np.zeros(1, dtype=np.int64), ends)),
        }


class _ShardWriter:
    """Collects pairs, or lines of raw text, and writes a shard whenever there are enough."""

    def __init__(self, folder: Path, id_types: list[type[np.uint16] | type[np.uint32]], max_length: int) -> None:
        self.folder = folder
        self.max_length = max_length
        self.num_shards = 0
        self.sides = [_Side(id_type) for id_type in id_types]
        self.num_pairs = self.num_blank = self.num_long = self.num_cut = 0
        self.num_tokens = [0, 0]
        self.max_lengths = [0, 0]

    def add(self, row: Sequence[list[int]]) -> None:
        """Take a row, or drop it, or cut it into several."""
        if not all(row):
            self.num_blank += 1
        elif max(map(len, row)) <= self.max_length:
            self._keep(row)
        elif len(row) > 1:
            self.num_long += 1
        else:
            self.num_cut += 1
            for start in range(0, len(row[0]), self.max_length):
                self._keep((row[0][start : start + self.max_length],))

    def _keep(self, row: Sequence[list[int]]) -> None:
        self.num_pairs += 1
        for side, ids in enumerate(row):
            self.sides[side].add(ids)
            self.num_tokens[side] += len(ids)
            self.max_lengths[side] = max(self.max_lengths[side], len(ids))
        if max(len(side.ids) for side in self.sides) >= SHARD_TOKENS:
            self.flush()

    def flush(self) -> None:
        """Write the pairs collected so far as a shard."""
        if not self.sides[0].lengths:
            return
        tensors: dict[str, NDArray[Any]] = {}
        for name, side in zip(("source", "target"), self.sides, strict=False):
            tensors |= side.tensors(name)
            side.clear()
        write_bytes(self.folder / _shard_name(self.num_shards), serialize(tensors))
        self.num_shards += 1

    def statistics(self) -> CorpusStatistics:
        return CorpusStatistics(
            num_pairs=self.num_pairs,
            num_blank=self.num_blank,
            num_long=self.num_long,
            num_cut=self.num_cut,
            num_source_tokens=self.num_tokens[0],
            num_target_tokens=self.num_tokens[1],
            max_source_length=self.max_lengths[0],
            max_target_length=self.max_lengths[1],
        )


def is_corpus_file(name: str) -> bool:
    """Tell whether `write_corpus` gives files such names."""
    return re.fullmatch(r"corpus\.json|shard-\d{5,}\.safetensors|\..*", name) is not None


def _shard_name(number: int) -> str:
    return f"shard-{number:05d}.safetensors"


def _id_type(tokenizer: Tokenizer) -> type[np.uint16] | type[np.uint32]:
    return np.uint16 if tokenizer.vocabulary_size <= 1 << 16 else np.uint32
