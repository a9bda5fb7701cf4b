"""corpus.json: what has to be known of a corpus without opening its shards, and what would take long to find out again.

It may be damaged; whatever is read has been checked.
"""

import json
import math
import reprlib
from dataclasses import asdict, dataclass
from itertools import chain
from pathlib import Path

from tokenizer.atomic_file import write_text
from tokenizer.bounded_file import read_bounded
from transformer_core.errors import DataError

__all__ = ["CorpusFacts", "CorpusStatistics", "ShardFacts", "read_corpus_facts"]

FILE_NAME = "corpus.json"
MAX_FILE_BYTES = 1 << 26  # a hundred bytes for every shard
MAX_COUNT = 1 << 48  # of tokens; nobody has written as many


@dataclass(frozen=True, kw_only=True)
class CorpusStatistics:
    """What became of the pairs."""

    num_pairs: int = 0  # kept
    num_blank: int = 0  # dropped: nothing but white space on one side
    num_long: int = 0  # dropped: more than max_length tokens on one side
    num_cut: int = 0  # lines of raw text with more tokens than that: cut into pieces, which are kept as lines
    num_replaced: int = 0  # with U+FFFD in the place of bytes that are not UTF-8; dropped ones are counted, too
    num_source_tokens: int = 0  # of the kept pairs, end tokens not counted
    num_target_tokens: int = 0  # 0 of raw text, which is all source
    max_source_length: int = 0  # tokens of the longest kept source
    max_target_length: int = 0  # 0 of raw text


@dataclass(frozen=True, kw_only=True)
class ShardFacts:
    """What has to be known of a shard without opening it."""

    num_pairs: int
    num_places: int  # tokens of the longer side of every pair, one more each for bos or eos
    longest: int  # tokens of the longest side
    part: int  # which of the texts with weights it belongs to


@dataclass(frozen=True, kw_only=True)
class CorpusFacts:
    """All that corpus.json says."""

    statistics: CorpusStatistics
    shards: tuple[ShardFacts, ...]
    longest_targets: dict[int, int]  # tokens of the longest target by the length of its source; empty of raw text
    weights: tuple[float, ...]  # of the texts that are kept apart; () if there is one text, or all are alike
    key: str  # what the corpus was made from

    def save(self, folder: Path) -> None:
        """Write corpus.json."""
        content = {
            "statistics": asdict(self.statistics),
            "shards": [asdict(facts) for facts in self.shards],
            "longest_targets": {str(length): longest for length, longest in self.longest_targets.items()},
            "weights": list(self.weights),
            "key": self.key,
        }
        write_text(folder / FILE_NAME, json.dumps(content, indent=2) + "\n")

    def check(self) -> None:
        """See that what was read can be, and that its parts agree.

        Raises:
            ValueError: it cannot.
        """
        records = (asdict(self.statistics), *map(asdict, self.shards))
        for count in chain(*(record.values() for record in records), *self.longest_targets.items()):
            if type(count) is not int or not 0 <= count <= MAX_COUNT:
                raise ValueError(f"{reprlib.repr(count)} is no count")
        if not self.shards or any(
            not (facts.num_pairs and facts.longest and facts.num_places) for facts in self.shards
        ):
            raise ValueError("a shard is empty, or there is none")
        if 0 in self.longest_targets:
            raise ValueError("a source of no token has a target")
        if any(not 0 < weight < math.inf for weight in self.weights):
            raise ValueError("a weight is not above 0")
        if self.weights and {facts.part for facts in self.shards} != set(range(len(self.weights))):
            raise ValueError("its shards are not of its texts")
        if not isinstance(self.key, str):
            raise ValueError("its key is no text")


def read_corpus_facts(folder: Path) -> CorpusFacts:
    """Read the corpus.json of a folder.

    Raises:
        DataError: it is missing or damaged.
    """
    try:
        content = json.loads(read_bounded(folder / FILE_NAME, MAX_FILE_BYTES))
        facts = CorpusFacts(
            statistics=CorpusStatistics(**content["statistics"]),
            shards=tuple(ShardFacts(**shard) for shard in content["shards"]),
            longest_targets={int(length): count for length, count in content["longest_targets"].items()},
            weights=tuple(map(float, content["weights"])),
            key=content["key"],
        )
        facts.check()
    except (OSError, ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        reason = f"{FILE_NAME} lacks {error}" if isinstance(error, KeyError) else str(error)
        raise DataError(
            f"{folder}: is no complete corpus ({reason}); remove it, and run the command again that made it"
        ) from None
    return facts
