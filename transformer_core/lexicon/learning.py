"""Learn a shortlist from a corpus of token ids: IBM model 1, cut to the likeliest translations of every source token.

Memory is bounded whatever the corpus, and so is time: of a corpus with more links than MAX_LINKS pairs are left out,
evenly over all of it.
"""

from collections.abc import Callable, Iterator

import numpy as np
import torch
from numpy.typing import NDArray

from tokenizer import Tokenizer
from transformer_core.data.shards import Corpus, Shard
from transformer_core.errors import DataError
from transformer_core.lexicon.config import ShortlistConfig
from transformer_core.lexicon.ibm_model_1 import Integers, Links, TranslationTable, train_ibm_model_1
from transformer_core.lexicon.shortlist import Shortlist

__all__ = ["NUM_ITERATIONS", "learn_shortlist"]

NUM_ITERATIONS = 4  # of EM: after the first few, hardly a candidate changes
MAX_LINKS = 1 << 28  # target tokens times source tokens, over all pairs: some half a million pairs of sentences
LINKS_AT_ONCE = 1 << 20


def learn_shortlist(
    corpus: Corpus,
    tokenizers: tuple[Tokenizer, Tokenizer],
    config: ShortlistConfig | None = None,
    advance: Callable[[int], None] = lambda count: None,
) -> Shortlist:
    """Learn which target tokens the source tokens of a corpus may need.

    Args:
        corpus: pairs.
        tokenizers: of the source and the target ids.
        config: how many; ShortlistConfig() if not given.
        advance: told how many pairs were just read; all of them are read once in each iteration.

    Raises:
        DataError: the corpus is damaged, or of another vocabulary.
    """
    config = config or ShortlistConfig()
    num_sources, num_targets = (tokenizer.vocabulary_size for tokenizer in tokenizers)
    shards = _Shards(corpus, num_sources, num_targets)

    def read_links() -> Iterator[Links]:
        for links, num_pairs in shards.links():
            advance(num_pairs)
            yield links

    table = train_ibm_model_1(read_links, num_targets, NUM_ITERATIONS)
    keys = np.union1d(_best_keys(table, num_sources, config.best), _copied_keys(*tokenizers))
    offsets = np.searchsorted(keys, np.arange(num_sources + 1) * num_targets)
    always = np.union1d(_special_ids(tokenizers[1]), _most_frequent(shards.target_counts(), config.frequent))
    return Shortlist(
        offsets=torch.from_numpy(offsets.astype(np.int64)),
        candidates=torch.from_numpy((keys % num_targets).astype(np.int32)),
        always=torch.from_numpy(always.astype(np.int32)),
    )


class _Shards:
    """A corpus as links."""

    def __init__(self, corpus: Corpus, num_sources: int, num_targets: int) -> None:
        self._corpus = corpus
        self._num_sources = num_sources
        self._num_targets = num_targets
        self._target_counts = np.zeros(num_targets, dtype=np.int64)
        num_links = 0
        for shard in self._shards():
            num_links += int((shard.source_lengths() * shard.target_lengths()).sum())
            self._target_counts += np.bincount(shard.target_ids, minlength=num_targets)
        self._share = min(1.0, MAX_LINKS / max(1, num_links))

    def target_counts(self) -> Integers:
        """How often every target token occurs, (target vocabulary,)."""
        return self._target_counts

    def links(self) -> Iterator[tuple[Links, int]]:
        """Give the links of the pairs that are learned from, some pairs at a time, and how many pairs those are."""
        first = 0  # number of the shard's first pair in the corpus
        for shard in self._shards():
            numbers = first + np.arange(len(shard) + 1)
            rows = np.diff(np.floor(numbers * self._share)).nonzero()[0]
            first += len(shard)
            sizes = np.cumsum((shard.source_lengths()[rows] + 1) * shard.target_lengths()[rows])
            for part in np.split(rows, np.flatnonzero(np.diff(sizes // LINKS_AT_ONCE)) + 1):
                if len(part):
                    yield self._links_of(shard, part), len(part)

    def _links_of(self, shard: Shard, rows: Integers) -> Links:
        target_places = _ranges(shard.target_offsets[rows], shard.target_lengths()[rows])
        targets = shard.target_ids[target_places].astype(np.int64)
        row_of_target = np.repeat(rows, shard.target_lengths()[rows])
        num_links = shard.source_lengths()[row_of_target]
        sources = shard.source_ids[_ranges(shard.source_offsets[row_of_target], num_links)].astype(np.int64)
        places = np.arange(len(targets))
        of_tokens = sources * self._num_targets + np.repeat(targets, num_links)
        of_null = self._num_sources * self._num_targets + targets
        return Links(np.concatenate((of_tokens, of_null)), np.concatenate((np.repeat(places, num_links), places)))

    def _shards(self) -> Iterator[Shard]:
        for number in range(self._corpus.num_shards):
            shard = self._corpus.shard(number)
            for ids, size in ((shard.source_ids, self._num_sources), (shard.target_ids, self._num_targets)):
                if int(ids.max()) >= size:
                    raise DataError(f"{self._corpus.folder}: holds the id {ids.max()}, but the vocabulary has {size}")
            yield shard


def _ranges(starts: Integers, lengths: Integers) -> Integers:
    """Give start, start + 1, … of each of some ranges, one range after the other."""
    shifts = starts - (np.cumsum(lengths) - lengths)
    places: Integers = np.arange(int(lengths.sum())) + np.repeat(shifts, lengths)
    return places


def _best_keys(table: TranslationTable, num_sources: int, count: int) -> Integers:
    """Give the keys of the most probable translations of each source token; of equal ones the lower id first."""
    order = np.lexsort((table.targets, -table.probabilities, table.sources))
    sources = table.sources[order]
    rank = np.arange(len(order)) - np.searchsorted(sources, sources)
    is_kept = (rank < count) & (sources < num_sources) & (table.probabilities[order] > 0)
    return table.keys[order[is_kept]]


def _copied_keys(source: Tokenizer, target: Tokenizer) -> Integers:
    """Give the keys of the source tokens beside the target tokens that look the same: names and numbers are copied."""
    target_ids = {piece: index for index, piece in enumerate(target.raw_pieces)}
    return np.array(
        [
            index * target.vocabulary_size + target_ids[piece]
            for index, piece in enumerate(source.raw_pieces)
            if piece in target_ids
        ],
        dtype=np.int64,
    )


def _special_ids(target: Tokenizer) -> NDArray[np.int64]:
    return np.array([target.pad_id, target.bos_id, target.eos_id, target.unk_id, target.mask_id])


def _most_frequent(counts: Integers, number: int) -> Integers:
    """Give the ids that occur most often, the lower one first where two do equally often."""
    ids = np.argsort(-counts, kind="stable")[:number]
    return ids[counts[ids] > 0]
