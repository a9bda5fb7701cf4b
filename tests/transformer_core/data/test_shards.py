import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from tests.transformer_core.data.number_corpus import NumberTokenizer, Pair, read_numbers, write_numbers
from tests.transformer_core.decoding.random_model import random_lines, word_tokenizer
from tokenizer import Tokenizer
from transformer_core.data import shards
from transformer_core.data.encoding import RowEncoder
from transformer_core.data.shards import Corpus, Part, is_corpus_file, write_corpus
from transformer_core.errors import DataError

ids = st.lists(st.integers(5, 999), max_size=12)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40, deadline=None)
@given(pairs=st.lists(st.tuples(ids, ids), min_size=1, max_size=40), shard_tokens=st.integers(1, 60))
def test_what_goes_in_comes_out_and_the_rest_is_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pairs: list[Pair], shard_tokens: int
) -> None:
    monkeypatch.setattr(shards, "SHARD_TOKENS", shard_tokens)
    blank = [pair for pair in pairs if not pair[0] or not pair[1]]
    long = [pair for pair in pairs if pair not in blank and max(map(len, pair)) > 9]
    kept = [pair for pair in pairs if pair not in blank and pair not in long]
    if not kept:
        with pytest.raises(DataError, match=f"no pair is left: {len(blank)} have a blank side, {len(long)} are longer"):
            write_numbers(tmp_path, pairs, max_length=9)
        return
    corpus = write_numbers(tmp_path, pairs, max_length=9)
    assert read_numbers(corpus) == kept
    statistics = corpus.statistics
    assert (statistics.num_pairs, statistics.num_blank, statistics.num_long) == (len(kept), len(blank), len(long))
    for side, name in enumerate(("source", "target")):
        lengths = [len(pair[side]) for pair in kept]
        assert getattr(statistics, f"num_{name}_tokens") == sum(lengths)
        assert getattr(statistics, f"max_{name}_length") == max(lengths)
    sizes = [len(corpus.shard(number).source_ids) for number in range(corpus.num_shards)]
    assert all(size < shard_tokens + 9 for size in sizes)


@pytest.mark.parametrize(("vocabulary_size", "dtype"), [(1 << 16, np.uint16), ((1 << 16) + 1, np.uint32)])
def test_ids_take_16_bits_where_the_vocabulary_allows_it(tmp_path: Path, vocabulary_size: int, dtype: type) -> None:
    pairs: list[Pair] = [([5, vocabulary_size - 1], [vocabulary_size - 2])]
    corpus = write_numbers(tmp_path, pairs, vocabulary_size=vocabulary_size)
    assert corpus.shard(0).source_ids.dtype == dtype
    assert corpus.shard(0).source_offsets.dtype == np.int64
    assert read_numbers(corpus) == pairs


def test_text_becomes_the_ids_of_its_tokenizer(tmp_path: Path) -> None:
    tokenizer = word_tokenizer()
    lines = random_lines(50)
    pairs = list(zip(lines, reversed(lines), strict=True))
    counts: list[int] = []
    corpus = write_corpus(
        tmp_path, [Part(pairs)], RowEncoder((tokenizer, tokenizer), 100), key="k", progress=counts.append
    )
    assert read_numbers(corpus) == [(tokenizer.encode(source), tokenizer.encode(target)) for source, target in pairs]
    assert sum(counts) == 50
    assert corpus.key == "k"


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30, deadline=None)
@given(lines=st.lists(ids, min_size=1, max_size=40), shard_tokens=st.integers(1, 60), max_length=st.integers(1, 9))
def test_raw_text_is_cut_and_not_dropped_and_stored_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lines: list[list[int]], shard_tokens: int, max_length: int
) -> None:
    monkeypatch.setattr(shards, "SHARD_TOKENS", shard_tokens)
    pieces = [line[start : start + max_length] for line in lines for start in range(0, len(line), max_length)]
    rows = [(" ".join(map(str, line)),) for line in lines]
    tokenizer = cast(Tokenizer, NumberTokenizer(1000))
    if not pieces:
        with pytest.raises(DataError, match=f"no line is left: all {len(lines)} are blank"):
            write_corpus(tmp_path, [Part(rows)], RowEncoder((tokenizer,), max_length))
        return
    corpus = write_corpus(tmp_path, [Part(rows)], RowEncoder((tokenizer,), max_length))
    assert read_numbers(corpus) == [(piece, piece) for piece in pieces], "a pair of the line with itself"
    statistics = corpus.statistics
    assert (statistics.num_pairs, statistics.num_long, statistics.num_target_tokens) == (len(pieces), 0, 0)
    assert statistics.num_cut == sum(len(line) > max_length for line in lines)
    assert statistics.num_blank == sum(not line for line in lines)
    assert statistics.num_source_tokens == sum(map(len, lines))
    shard = corpus.shard(0)
    assert np.shares_memory(shard.source_ids, shard.target_ids) or shard.source_ids.size == 0
    for path in tmp_path.glob("*.safetensors"):
        with safe_open(path, framework="np") as file:
            assert sorted(file.keys()) == ["source_ids", "source_offsets"]


def test_long_lines_are_tokenised_a_few_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shards, "CHARACTERS_AT_ONCE", 100)
    lines = [("a" * 30,)] * 10 + [("a" * 3000,)] * 2 + [("a",)]
    counts: list[int] = []
    tokenizer = word_tokenizer()
    write_corpus(tmp_path, [Part(lines)], RowEncoder((tokenizer,), 100), progress=counts.append)
    assert counts == [4, 4, 3, 1, 1]


def test_the_text_is_read_once_and_in_a_stream(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shards, "LINES_AT_ONCE", 4)
    monkeypatch.setattr(shards, "SHARD_TOKENS", 8)
    written: list[int] = []

    def pairs() -> Iterator[Pair]:
        for number in range(20):
            written.append(len(list(tmp_path.glob("corpus/shard-*"))))
            yield [5 + number], [6]

    corpus = write_numbers(tmp_path / "corpus", pairs())
    assert corpus.num_shards == 3
    assert written[-1] == 2  # two shards were on disk before the last pair was read


def test_what_lay_there_goes(tmp_path: Path) -> None:
    write_numbers(tmp_path / "corpus", [([5], [6])])
    (tmp_path / "corpus" / "shard-00007.safetensors").write_bytes(b"old")
    assert read_numbers(write_numbers(tmp_path / "corpus", [([7], [8])])) == [([7], [8])]
    assert {path.name for path in (tmp_path / "corpus").iterdir()} == {"corpus.json", "shard-00000.safetensors"}
    assert all(is_corpus_file(path.name) for path in (tmp_path / "corpus").iterdir())
    assert not is_corpus_file("train.en")


def test_a_corpus_that_was_not_completed_is_none(tmp_path: Path) -> None:
    write_numbers(tmp_path, [([5], [6])])
    (tmp_path / "corpus.json").unlink()
    with pytest.raises(DataError, match="is no complete corpus"):
        Corpus(tmp_path)


@pytest.mark.parametrize("text", ["", "[]", "{}", json.dumps({"num_shards": 1, "key": "", "statistics": {"x": 1}})])
def test_a_damaged_description_is_one_line(tmp_path: Path, text: str) -> None:
    write_numbers(tmp_path, [([5], [6])])
    (tmp_path / "corpus.json").write_text(text)
    with pytest.raises(DataError, match="remove it, and run the command again that made it"):
        Corpus(tmp_path)


def test_a_damaged_shard_is_one_line(tmp_path: Path) -> None:
    corpus = write_numbers(tmp_path, [([5, 6, 7], [6])])
    path = tmp_path / "shard-00000.safetensors"
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(DataError, match=r"shard-00000\.safetensors: is damaged"):
        corpus.shard(0)


def facts_of(folder: Path) -> dict[str, Any]:
    facts: dict[str, Any] = json.loads((folder / "corpus.json").read_text())
    return facts


@pytest.mark.parametrize(
    "damage",
    [
        lambda facts: facts.update(shards=[]),
        lambda facts: facts.update(shards=3),
        lambda facts: facts.update(key=None),
        lambda facts: facts.update(weights=["a"]),
        lambda facts: facts.update(weights=[0.5, float("nan")]),
        lambda facts: facts.update(weights=[10**400]),
        lambda facts: facts.update(longest_targets={"a": 1}),
        lambda facts: facts.update(longest_targets={"3": "1"}),
        lambda facts: facts.update(longest_targets={"0": 1}),
        lambda facts: facts["shards"][0].update(num_pairs=-1),
        lambda facts: facts["shards"][0].update(num_pairs=0),
        lambda facts: facts["shards"][0].update(num_places=1 << 70),
        lambda facts: facts["shards"][0].update(part=0.0),
        lambda facts: facts["statistics"].update(num_pairs=None),
        lambda facts: facts["statistics"].pop("num_pairs") and facts["statistics"].update(other=1),
        lambda facts: facts.pop("weights"),
    ],
)
def test_a_description_that_cannot_be_is_one_line(tmp_path: Path, damage: Callable[[dict[str, Any]], object]) -> None:
    write_numbers(tmp_path, [([5], [6])])
    facts = facts_of(tmp_path)
    damage(facts)
    (tmp_path / "corpus.json").write_text(json.dumps(facts))
    with pytest.raises(DataError, match="is no complete corpus") as caught:
        Corpus(tmp_path)
    assert len(str(caught.value)) < 500


def test_a_description_nested_without_end_is_one_line(tmp_path: Path) -> None:
    write_numbers(tmp_path, [([5], [6])])
    (tmp_path / "corpus.json").write_text('{"key":' * 100_000)
    with pytest.raises(DataError, match="is no complete corpus"):
        Corpus(tmp_path)


@pytest.mark.parametrize(
    "changes",
    [
        {"source_offsets": np.array([0, 3, 1])},  # goes back
        {"source_offsets": np.array([0, 1, 99])},  # beyond the ids
        {"source_offsets": np.array([1, 2, 3])},
        {"source_offsets": np.array([0, 1])},  # fewer pairs than corpus.json says
        {"source_offsets": np.array([0, 1, 3], dtype=np.int32)},
        {"source_offsets": np.zeros((0,), dtype=np.int64)},
        {"target_ids": np.array([5.0, 6.0])},
        {"target_ids": np.array([[5, 6]], dtype=np.uint16)},
        {"target_ids": np.array([-5, 6], dtype=np.int64)},
        {"source_ids": None},
        {"source_offsets": None},
    ],
    ids=str,
)
def test_a_shard_that_is_none_of_ours_is_one_line(tmp_path: Path, changes: dict[str, NDArray[Any] | None]) -> None:
    corpus = write_numbers(tmp_path, [([5], [6]), ([5, 6], [7])])
    path = tmp_path / "shard-00000.safetensors"
    tensors = {**load_file(path), **changes}
    save_file({name: tensor for name, tensor in tensors.items() if tensor is not None}, path)
    with pytest.raises(DataError, match=r"shard-00000\.safetensors: is damaged") as caught:
        corpus.shard(0)
    assert "\n" not in str(caught.value)
