"""Batches of similar length under a token budget, in an order that follows from seed and epoch alone.

Pairs of about the same length stand together, so that little of a batch is padding (random batches of translation
data are more than half padding), and the order of the batches is shuffled. About the same, not the same: a batch of one
length would teach that every sequence ends there. Any batch of any epoch can be named by two
numbers, which is what a resumed run needs to go on where it stopped.

What is computed at a time is the order of one shard, so memory does not grow with the corpus. Where texts have weights
(`Corpus.weights`), batches are drawn from them in turn (mixing.py), an epoch is as many batches as there are in all of
them together, and each text is gone through at its own pace: it begins anew when it ends, in a new order, whatever the
epoch.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import chain, count, islice
from typing import Literal, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from transformer_core.config import ModelConfig
from transformer_core.data.mixing import count_turns, turns
from transformer_core.data.padding import TokenIds, mask_of, pad_rows
from transformer_core.data.shards import Corpus, Shard, ShardFacts
from transformer_core.errors import DataError

__all__ = ["Batch", "Batching", "PlannedBatch", "collate"]

# Pairs are sorted by their length times a random number of 1 ± this. Without it a batch holds pairs of one length
# alone: a gradient then says "end here" for the whole batch, which disturbs a model that must count (SCAN) most.
LENGTH_MIXING = 0.15

# Of a corpus with more shards only so many are looked at to say how many batches it has.
MOST_COUNTED_SHARDS = 4

Indices = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Some pairs, ready for the model."""

    source: Tensor  # (batch, source_length) int64, ends with eos, padded
    source_mask: Tensor | None  # (batch, source_length) bool, True = a real token; None where all are
    target_input: Tensor  # (batch, target_length) int64, begins with bos, padded
    target_output: Tensor  # (batch, target_length) int64, ends with eos, padded
    num_target_tokens: int  # real ones, end tokens included

    def to(self, device: torch.device) -> "Batch":
        """The same batch on another device."""
        if device.type == "cpu":
            return self

        def move(tensor: Tensor) -> Tensor:
            if device.type == "cuda":  # from pinned memory a copy runs beside what is computed
                tensor = tensor.pin_memory()
            return tensor.to(device, non_blocking=True)

        return Batch(
            source=move(self.source),
            source_mask=None if self.source_mask is None else move(self.source_mask),
            target_input=move(self.target_input),
            target_output=move(self.target_output),
            num_target_tokens=self.num_target_tokens,
        )


PlannedBatch = Callable[[], Batch]  # made when it is called, by the process that it falls to


@dataclass(frozen=True, kw_only=True)
class Batching:
    """How a corpus is cut into batches."""

    batch_size: int  # in units of batch_type
    batch_type: Literal["tokens", "sentences"]  # tokens: padded tokens of the longer side, bos or eos included
    seed: int  # start of the random order
    pad_id: int
    bos_id: int
    eos_id: int
    vocabulary_sizes: tuple[int, int] | None = None  # of source and target, which no id may reach; None: any may stand
    # Texts with weights, as the last epoch left them: by the corpus, the text, and the number of its next batch.
    _begun: dict[tuple[int, int, int], Iterator[PlannedBatch]] = field(default_factory=dict, init=False, compare=False)

    @classmethod
    def of_model(
        cls, config: ModelConfig, *, batch_size: int, batch_type: Literal["tokens", "sentences"], seed: int
    ) -> Self:
        """Cut a corpus into batches for a model."""
        return cls(
            batch_size=batch_size,
            batch_type=batch_type,
            seed=seed,
            pad_id=config.pad_id,
            bos_id=config.bos_id,
            eos_id=config.eos_id,
            vocabulary_sizes=(config.source_vocabulary_size, config.target_vocabulary_size),
        )

    def epoch(self, corpus: Corpus, epoch: int, first: int = 0) -> Iterator[Batch]:
        """Give the batches of an epoch from number `first` on, in shuffled order."""
        return (planned() for planned in self.planned(corpus, epoch, first))

    def planned(self, corpus: Corpus, epoch: int, first: int = 0) -> Iterator[PlannedBatch]:
        """Give the same batches before they are made."""
        if corpus.weights:
            return self._mixed(corpus, epoch, first)
        return self._batches(self._plans(corpus, range(corpus.num_shards), epoch), first)

    def deal(self, update: Sequence[PlannedBatch], rank: int, world_size: int) -> list[Batch]:
        """Make those batches of an update that fall to one of several processes: rank, rank + world_size, and so on.

        All get as many: where weights are split, every process helps to put them together for each batch of another. A
        process to which one less falls gets one row without a target for it, which adds nothing to the update.
        """
        own = [planned() for planned in update[rank::world_size]]
        is_one_less = len(own) < len(update[::world_size])
        return [*own, self._without_target(update[0]())] if is_one_less else own

    def in_order(self, corpus: Corpus) -> Iterator[Batch]:
        """Give all pairs once, the same batches every time (validation)."""
        for shard_number in range(corpus.num_shards):
            shard = corpus.shard(shard_number)
            for indices in self._plan(shard, None):
                yield self._collate(shard, indices)

    def num_batches(self, corpus: Corpus) -> int:
        """Count the batches of the first epoch; those of another differ by a few, because it mixes other lengths.

        Of a corpus of many shards it is an estimate from some of them.
        """
        numbers = _some_shards(corpus)
        num_batches = sum(len(self._plan(corpus.shard(number), self._order("pairs", 0, number))) for number in numbers)
        share = sum(map(self._size, corpus.shards)) / sum(self._size(corpus.shards[number]) for number in numbers)
        return round(num_batches * share)

    def largest(self, corpus: Corpus) -> Batch:
        """Give the batch of the first epoch that needs the most memory: its tokens times its longer side.

        Of a corpus of many shards it is that of the shard with the longest pair, where it is most likely to be.
        """
        best: tuple[int, Shard, Indices] | None = None
        numbers: Iterable[int] = range(corpus.num_shards)
        if corpus.num_shards > MOST_COUNTED_SHARDS:
            numbers = [max(numbers, key=lambda number: corpus.shards[number].longest)]
        for number in numbers:
            shard = corpus.shard(number)
            lengths = _padded_lengths(shard)
            for indices in self._plan(shard, self._order("pairs", 0, number)):
                longest = int(lengths[indices].max())
                cost = len(indices) * longest * (longest + 64)
                if best is None or cost > best[0]:
                    best = (cost, shard, indices)
        assert best is not None, "a corpus has at least one pair"
        return self._collate(best[1], best[2])

    def _mixed(self, corpus: Corpus, epoch: int, first: int) -> Iterator[PlannedBatch]:
        """Give the batches of an epoch of texts with weights."""
        num_batches = self.num_batches(corpus)
        whole, begun = (count_turns(corpus.weights, num_turns) for num_turns in (num_batches, first))
        texts = [self._text(corpus, part, epoch * whole[part] + begun[part]) for part in range(len(corpus.weights))]
        for part in islice(turns(corpus.weights), first, num_batches):
            yield next(texts[part])
        self._begun.update({(id(corpus), part, (epoch + 1) * whole[part]): text for part, text in enumerate(texts)})

    def _text(self, corpus: Corpus, part: int, first: int) -> Iterator[PlannedBatch]:
        """Go on with one of the texts of a corpus where an epoch left off, or begin it at batch number `first`."""
        key = (id(corpus), part, first)
        return self._begun.pop(key) if key in self._begun else self._endless(corpus, part, first)

    def _endless(self, corpus: Corpus, part: int, first: int) -> Iterator[PlannedBatch]:
        """Give the batches of one of the texts of a corpus from number `first` on, pass after pass."""
        passes = (self._plans(corpus, corpus.shards_of(part), number) for number in count())
        return self._batches(chain.from_iterable(passes), first)

    def _batches(self, plans: Iterable[tuple[Shard, list[Indices]]], first: int) -> Iterator[PlannedBatch]:
        """Give the batches of planned shards from number `first` on."""
        for shard, plan in plans:
            for number in range(min(first, len(plan)), len(plan)):
                yield partial(self._collate, shard, plan[number])
            first = max(0, first - len(plan))

    def _plans(self, corpus: Corpus, numbers: Sequence[int], epoch: int) -> Iterator[tuple[Shard, list[Indices]]]:
        """Give shards in the shuffled order of an epoch, each cut into batches."""
        for place in self._order("shards", epoch, 0).permutation(len(numbers)):
            shard = corpus.shard(numbers[place])
            yield shard, self._plan(shard, self._order("pairs", epoch, numbers[place]))

    def _size(self, facts: ShardFacts) -> int:
        """What the number of batches of a shard grows with."""
        return facts.num_pairs if self.batch_type == "sentences" else facts.num_places

    def _order(self, what: Literal["shards", "pairs"], epoch: int, shard_number: int) -> np.random.Generator:
        return np.random.Generator(np.random.PCG64([self.seed, epoch, shard_number, len(what)]))

    def _plan(self, shard: Shard, order: np.random.Generator | None) -> list[Indices]:
        """Cut a shard into batches of pairs of similar length; with `order`, lengths are mixed and batches shuffled."""
        lengths = _padded_lengths(shard)
        if order is None:
            indices = np.lexsort((shard.source_lengths(), shard.target_lengths()))  # by target, then by source
        else:
            indices = np.argsort(lengths * order.uniform(1 - LENGTH_MIXING, 1 + LENGTH_MIXING, len(shard)))
        plan = np.split(indices, self._cuts(lengths[indices]))
        return plan if order is None else [plan[number] for number in order.permutation(len(plan))]

    def _cuts(self, lengths: Indices) -> list[int]:
        """Give the places at which pairs of these padded lengths are cut into batches."""
        if self.batch_type == "sentences":
            return list(range(self.batch_size, len(lengths), self.batch_size))
        cuts: list[int] = []
        start = 0
        while True:
            # the first pair is at least so long, so no more than these fit
            window = lengths[start : start + max(1, self.batch_size // int(lengths[start]))]
            sizes = np.maximum.accumulate(window) * np.arange(1, len(window) + 1)
            start += max(1, int(np.searchsorted(sizes, self.batch_size, side="right")))
            if start >= len(lengths):
                return cuts
            cuts.append(start)

    def _without_target(self, batch: Batch) -> Batch:
        """Keep one row, and of its target nothing."""
        return replace(
            batch,
            source=batch.source[:1],
            source_mask=None if batch.source_mask is None else batch.source_mask[:1],
            target_input=batch.target_input[:1],
            target_output=torch.full_like(batch.target_output[:1], self.pad_id),
            num_target_tokens=0,
        )

    def _collate(self, shard: Shard, indices: Indices) -> Batch:
        """Pad the pairs at `indices` into tensors.

        Raises:
            DataError: an id is of no vocabulary that the model has.
        """
        sources = [shard.source(index) for index in indices]
        targets = [shard.target(index) for index in indices]
        batch = collate(sources, targets, pad_id=self.pad_id, bos_id=self.bos_id, eos_id=self.eos_id)
        for ids, size in zip((batch.source, batch.target_output), self.vocabulary_sizes or (), strict=False):
            if (largest := int(ids.max())) >= size:
                raise DataError(
                    f"the tokenised text holds the id {largest}, but the vocabulary has {size} entries; "
                    "it was tokenised with another one, or is damaged: prepare it again with --overwrite"
                )
        return batch


def collate(
    sources: Sequence[TokenIds], targets: Sequence[TokenIds], *, pad_id: int, bos_id: int, eos_id: int
) -> Batch:
    """Pad pairs into tensors; a row is the ids of a side, without bos and eos."""
    source = pad_rows(sources, pad_id, last=eos_id)
    return Batch(
        source=source,
        source_mask=mask_of([len(row) + 1 for row in sources]),
        target_input=pad_rows(targets, pad_id, first=bos_id),
        target_output=pad_rows(targets, pad_id, last=eos_id),
        num_target_tokens=sum(map(len, targets)) + len(targets),
    )


def _some_shards(corpus: Corpus) -> list[int]:
    """Give the numbers of shards that stand for all of them: all, or some at even distances."""
    num_some = min(corpus.num_shards, MOST_COUNTED_SHARDS)
    return [place * corpus.num_shards // num_some for place in range(num_some)]


def _padded_lengths(shard: Shard) -> Indices:
    """Tokens of the longer side of each pair, with bos or eos, (pairs,)."""
    longer: Indices = np.maximum(shard.source_lengths(), shard.target_lengths()) + 1
    return longer
