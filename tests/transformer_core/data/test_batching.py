from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Literal, cast

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.transformer_core.data.number_corpus import NumberTokenizer, Pair, write_numbers
from tokenizer import Tokenizer
from transformer_core.data import batching as module
from transformer_core.data import shards
from transformer_core.data.batching import Batch, Batching
from transformer_core.data.encoding import RowEncoder
from transformer_core.data.mixing import turns
from transformer_core.data.shards import Corpus, Part, Shard, write_corpus
from transformer_core.errors import DataError

PAD, BOS, EOS = 0, 1, 2
some_ids = st.lists(st.integers(5, 999), min_size=1, max_size=12)
some_pairs = st.lists(st.tuples(some_ids, some_ids), min_size=1, max_size=60)
in_tmp_path = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30, deadline=None)


def batching(batch_size: int = 40, batch_type: Literal["tokens", "sentences"] = "tokens", seed: int = 1) -> Batching:
    return Batching(batch_size=batch_size, batch_type=batch_type, seed=seed, pad_id=PAD, bos_id=BOS, eos_id=EOS)


def numbered_pairs(count: int) -> list[Pair]:
    """Pairs of all lengths, each of its own."""
    return [([5 + number, *[7] * (number % 9)], [5 + number, *[8] * (number % 7)]) for number in range(count)]


def several_shards(folder: Path, monkeypatch: pytest.MonkeyPatch, pairs: list[Pair], shard_tokens: int = 80) -> Corpus:
    monkeypatch.setattr(shards, "SHARD_TOKENS", shard_tokens)
    return write_numbers(folder, pairs)


def rows_of(batch: Batch) -> list[Pair]:
    """The pairs of a batch, without what a batch adds."""
    sources = [[token for token in row if token not in (PAD, EOS)] for row in batch.source.tolist()]
    targets = [[token for token in row if token not in (PAD, EOS)] for row in batch.target_output.tolist()]
    return list(zip(sources, targets, strict=True))


def as_lists(batches: list[Batch]) -> list[list[list[int]]]:
    return [batch.source.tolist() + batch.target_output.tolist() for batch in batches]


@in_tmp_path
@given(pairs=some_pairs, batch_size=st.integers(1, 80), epoch=st.integers(0, 3))
def test_every_pair_comes_once_in_an_epoch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pairs: list[Pair], batch_size: int, epoch: int
) -> None:
    corpus = several_shards(tmp_path, monkeypatch, pairs, shard_tokens=50)
    monkeypatch.setattr(module, "MOST_COUNTED_SHARDS", 100)  # so that they are counted, not estimated
    how = batching(batch_size)
    batches = list(how.epoch(corpus, epoch))
    expected = Counter(map(repr, pairs))
    assert Counter(repr(row) for batch in batches for row in rows_of(batch)) == expected
    assert Counter(repr(row) for batch in how.in_order(corpus) for row in rows_of(batch)) == expected
    if epoch == 0:  # another mixes other lengths, and may have a batch more or less
        assert len(batches) == how.num_batches(corpus)
    assert sum(batch.num_target_tokens for batch in batches) == sum(len(target) + 1 for _, target in pairs)


@in_tmp_path
@given(pairs=some_pairs, batch_size=st.integers(1, 80))
def test_no_batch_is_larger_than_its_budget(tmp_path: Path, pairs: list[Pair], batch_size: int) -> None:
    corpus = write_numbers(tmp_path, pairs)
    for batch in batching(batch_size).epoch(corpus, 0):
        num_rows, longest = len(batch.source), max(batch.source.size(1), batch.target_input.size(1))
        assert num_rows * longest <= batch_size or num_rows == 1
    for batch in batching(batch_size, "sentences").epoch(corpus, 0):
        assert len(batch.source) <= batch_size


@in_tmp_path
@given(pairs=some_pairs, seed=st.integers(0, 9), epoch=st.integers(0, 3))
def test_a_batch_is_padded_as_the_model_wants_it(tmp_path: Path, pairs: list[Pair], seed: int, epoch: int) -> None:
    for batch in batching(seed=seed).epoch(write_numbers(tmp_path, pairs), epoch):
        for row, (source, target) in enumerate(rows_of(batch)):
            source_padding = [PAD] * (batch.source.size(1) - len(source) - 1)
            target_padding = [PAD] * (batch.target_input.size(1) - len(target) - 1)
            assert batch.source[row].tolist() == [*source, EOS, *source_padding]
            assert batch.target_input[row].tolist() == [BOS, *target, *target_padding]
            assert batch.target_output[row].tolist() == [*target, EOS, *target_padding]
            if batch.source_mask is None:
                assert not source_padding
            else:
                assert batch.source_mask[row].tolist() == [True] * (len(source) + 1) + [False] * len(source_padding)
        assert batch.source_mask is None or not batch.source_mask.all()
        assert batch.source.dtype == batch.target_input.dtype == batch.target_output.dtype == torch.int64


def test_a_new_order_every_epoch_and_the_same_from_the_same_seed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    corpus = several_shards(tmp_path, monkeypatch, numbered_pairs(100))
    assert corpus.num_shards > 3
    orders = {
        (seed, epoch): as_lists(list(batching(seed=seed).epoch(corpus, epoch))) for seed in (1, 2) for epoch in (0, 1)
    }
    for key, order in orders.items():
        assert all(order != other for other_key, other in orders.items() if other_key != key)
        assert order == as_lists(list(batching(seed=key[0]).epoch(corpus, key[1])))
    first_pairs = {rows_of(next(batching().epoch(corpus, epoch)))[0][0][0] for epoch in range(20)}
    assert len(first_pairs) > 5  # shards take turns in coming first


def test_an_epoch_goes_on_from_any_batch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    corpus = several_shards(tmp_path, monkeypatch, numbered_pairs(100))
    whole = as_lists(list(batching().epoch(corpus, 3)))
    for first in range(len(whole) + 1):
        assert as_lists(list(batching().epoch(corpus, 3, first))) == whole[first:]


def test_all_epochs_have_about_as_many_batches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    corpus = several_shards(tmp_path, monkeypatch, numbered_pairs(100))
    expected = batching().num_batches(corpus)
    for epoch in range(10):
        assert len(list(batching().epoch(corpus, epoch))) == pytest.approx(expected, rel=0.1)


def test_a_batch_does_not_hold_one_length_alone(tmp_path: Path) -> None:
    # else a gradient says "end here" for all of the batch
    pairs = [([7] * length, [8] * length) for length in range(10, 30) for _ in range(50)]
    corpus = write_numbers(tmp_path, pairs)
    rows = [batch.target_output.ne(PAD).sum(dim=1) for batch in batching(400).epoch(corpus, 0)]
    assert sum(len(set(lengths.tolist())) for lengths in rows) / len(rows) > 3
    for lengths in rows:
        assert lengths.max() - lengths.min() <= 0.4 * lengths.max()  # and yet they are alike


@pytest.mark.parametrize(("world_size", "per_update"), [(1, 1), (2, 2), (2, 4), (3, 2), (2, 3)])
def test_processes_share_the_batches_of_every_update(tmp_path: Path, world_size: int, per_update: int) -> None:
    how, corpus = batching(), write_numbers(tmp_path, numbered_pairs(50))
    whole, planned = as_lists(list(how.epoch(corpus, 2))), list(how.planned(corpus, 2))
    assert len(whole) % 3 and len(whole) % 4, "the last of some updates is not a full one"
    for first in range(0, len(whole), per_update):
        update = planned[first : first + per_update]
        dealt = [how.deal(update, rank, world_size) for rank in range(world_size)]
        assert len({len(batches) for batches in dealt}) == 1 and all(dealt), "all have as many"
        real = [[batch for batch in batches if batch.num_target_tokens] for batches in dealt]
        order = [as_lists(real[number % world_size])[number // world_size] for number in range(len(update))]
        assert order == whole[first : first + per_update]
        spare = [batch for batches in dealt for batch in batches if not batch.num_target_tokens]
        assert len(spare) == -len(update) % world_size
        assert all(batch.target_output.eq(PAD).all() and len(batch.source) == 1 for batch in spare)


def test_validation_is_the_same_every_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    corpus = several_shards(tmp_path, monkeypatch, numbered_pairs(50))
    assert as_lists(list(batching(seed=1).in_order(corpus))) == as_lists(list(batching(seed=2).in_order(corpus)))


def test_little_of_a_batch_is_padding(tmp_path: Path) -> None:
    pairs = [([7] * length, [8] * (length + length % 3)) for length in range(5, 35) for _ in range(20)]
    batches = list(batching(500).epoch(write_numbers(tmp_path, pairs), 0))
    num_places = sum(batch.target_output.numel() for batch in batches)
    assert sum(batch.num_target_tokens for batch in batches) > 0.8 * num_places


def test_the_largest_batch_is_one_of_the_epoch_and_costs_most(tmp_path: Path) -> None:
    corpus = write_numbers(tmp_path, [*numbered_pairs(50), ([7] * 60, [8] * 3)])
    largest = batching(100).largest(corpus)
    assert largest.source.size(1) == 61
    assert as_lists([largest])[0] in as_lists(list(batching(100).epoch(corpus, 0)))


def test_of_many_shards_some_are_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pairs = [*numbered_pairs(150), ([7] * 60, [8] * 3), *numbered_pairs(150)]
    corpus = several_shards(tmp_path, monkeypatch, pairs)
    assert corpus.num_shards > 12
    opened: list[int] = []
    open_shard = Corpus.shard

    def shard(corpus: Corpus, number: int) -> Shard:
        opened.append(number)
        return open_shard(corpus, number)

    monkeypatch.setattr(Corpus, "shard", shard)
    for how in (batching(100), batching(6, "sentences")):
        opened.clear()
        num_batches, largest = how.num_batches(corpus), how.largest(corpus)
        assert len(opened) == module.MOST_COUNTED_SHARDS + 1
        batches = list(how.epoch(corpus, 0))
        assert num_batches == pytest.approx(len(batches), rel=0.1)
        assert largest.source.size(1) == 61
        assert as_lists([largest])[0] in as_lists(batches)


@given(
    lengths=st.lists(st.integers(1, 60), min_size=1, max_size=200),
    batch_size=st.integers(1, 300),
    batch_type=st.sampled_from(["tokens", "sentences"]),
)
def test_cuts_are_those_of_one_pair_after_the_other(
    lengths: list[int], batch_size: int, batch_type: Literal["tokens", "sentences"]
) -> None:
    cuts, start = [], 0
    for place in range(len(lengths)):  # cut before the pair with which a batch would be too large
        size = (place + 1 - start) * (max(lengths[start : place + 1]) if batch_type == "tokens" else 1)
        if size > batch_size and place > start:
            cuts.append(place)
            start = place
    assert batching(batch_size, batch_type)._cuts(np.array(lengths)) == cuts


# --- Texts with weights


def mixture(
    folder: Path, monkeypatch: pytest.MonkeyPatch, weights: tuple[float, ...], sizes: tuple[int, ...] = (60, 25)
) -> Corpus:
    """Texts whose first ids tell them apart: of the first they are below 1000, of the second below 2000, and so on."""
    monkeypatch.setattr(shards, "SHARD_TOKENS", 80)
    tokenizer = cast(Tokenizer, NumberTokenizer(5000))
    parts = []
    for number, (weight, size) in enumerate(zip(weights, sizes, strict=True)):
        pairs = [([1000 * number + row[0], *row[1:]], target) for row, target in numbered_pairs(size)]
        rows = [(" ".join(map(str, source)), " ".join(map(str, target))) for source, target in pairs]
        parts.append(Part(rows, weight=weight))
    return write_corpus(folder, parts, RowEncoder((tokenizer, tokenizer), 100))


def texts_of(batches: list[Batch]) -> list[int]:
    """From which text each batch is; it is from one alone."""
    found = [{source[0] // 1000 for source, _ in rows_of(batch)} for batch in batches]
    assert all(len(numbers) == 1 for numbers in found)
    return [number for (number,) in found]


def test_texts_with_weights_have_shards_of_their_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    corpus = mixture(tmp_path, monkeypatch, (3, 1))
    assert corpus.weights == (3, 1)
    assert corpus.shards_of(0) + corpus.shards_of(1) == list(range(corpus.num_shards))
    for part, size in ((0, 60), (1, 25)):
        assert sum(len(corpus.shard(number)) for number in corpus.shards_of(part)) == size
    assert Corpus(tmp_path, (1, 2)).weights == (1, 2)


@pytest.mark.parametrize("weights", [(3, 1), (1, 1), (1, 20)])
def test_batches_are_drawn_by_weight(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, weights: tuple[float, ...]
) -> None:
    corpus = mixture(tmp_path, monkeypatch, weights)
    monkeypatch.setattr(module, "MOST_COUNTED_SHARDS", 100)
    num_batches = batching().num_batches(corpus)
    drawn = []
    for epoch in range(3):
        batches = list(batching().epoch(corpus, epoch))
        assert len(batches) == num_batches
        drawn += texts_of(batches)
    assert drawn == list(islice(turns(weights), num_batches)) * 3


@pytest.mark.parametrize("weights", [(3, 1), (1, 20)])
def test_every_text_is_gone_through_at_its_own_pace(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, weights: tuple[float, ...]
) -> None:
    corpus = mixture(tmp_path, monkeypatch, weights)
    batches = [batch for epoch in range(6) for batch in batching().epoch(corpus, epoch)]
    for part, size in ((0, 60), (1, 25)):
        drawn = [row for batch in batches for row in rows_of(batch) if row[0][0] // 1000 == part]
        passes = [drawn[start : start + size] for start in range(0, len(drawn), size)]
        for whole in passes[:-1]:  # all pairs before any comes again, whatever the epoch
            assert len({repr(row) for row in whole}) == size
        assert len(passes) < 3 or passes[0] != passes[1]


def test_a_mixed_epoch_goes_on_from_any_batch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    corpus = mixture(tmp_path, monkeypatch, (1, 2, 1.5), (30, 10, 20))
    for epoch in (0, 4):
        whole = as_lists(list(batching().epoch(corpus, epoch)))
        for first in range(len(whole) + 1):
            assert as_lists(list(batching().epoch(corpus, epoch, first))) == whole[first:]


def test_one_epoch_after_the_other_goes_on_where_the_last_left_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    corpus = mixture(tmp_path, monkeypatch, (1, 20), (60, 10))
    one, planned = batching(), 0
    plans = Batching._plans

    def counted(self: Batching, corpus: Corpus, numbers: Sequence[int], epoch: int) -> object:
        nonlocal planned
        planned += 1
        return plans(self, corpus, numbers, epoch)

    monkeypatch.setattr(Batching, "_plans", counted)
    epochs = [as_lists(list(one.epoch(corpus, epoch))) for epoch in range(4)]
    num_passes, planned = planned, 0
    assert [as_lists(list(batching().epoch(corpus, epoch))) for epoch in range(4)] == epochs
    assert planned > 2 * num_passes  # anew from the beginning for each epoch


def test_an_id_of_no_vocabulary_is_said_before_it_is_looked_up(tmp_path: Path) -> None:
    corpus = write_numbers(tmp_path, [([5, 9], [6]), ([7], [8])])
    for sizes in (None, (10, 9)):
        assert len(list(replace(batching(), vocabulary_sizes=sizes).in_order(corpus))) == 1
    for sizes, largest, size in (((9, 9), 9, 9), ((10, 8), 8, 8)):
        with pytest.raises(DataError, match=f"holds the id {largest}, but the vocabulary has {size} entries"):
            list(replace(batching(), vocabulary_sizes=sizes).in_order(corpus))
