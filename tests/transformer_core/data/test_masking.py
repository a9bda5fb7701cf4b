import math

import numpy as np
import pytest
from numpy.random import Generator
from numpy.typing import NDArray

from tests.tokenizer.test_word_edges import TEXT, trained, word_starts
from tokenizer import KINDS, Kind, TokenizerConfig, train_tokenizer
from tokenizer.special_tokens import SPECIAL_TOKENS
from transformer_core.data import masking
from transformer_core.data.masking import MaskingVocabulary, corruption_source, infill, mask_tokens

PAD, EOS, MASK = 0, 2, 4
SIZE = 1000
VOCABULARY = MaskingVocabulary(size=SIZE, pad_id=PAD, eos_id=EOS, mask_id=MASK, word_edges=None)

Ids = NDArray[np.int64]
Flags = NDArray[np.bool_]


def batch_of(num_rows: int, longest: int, seed: int = 0) -> tuple[Ids, Flags]:
    """Lines of random length with their end tokens, padded."""
    source = np.random.default_rng(seed)
    lengths = source.integers(1, longest, num_rows)
    is_token = np.arange(longest) < lengths[:, None]
    ids = np.where(is_token, source.integers(len(SPECIAL_TOKENS), SIZE, (num_rows, longest)), PAD)
    ids[np.arange(num_rows), lengths] = EOS
    return ids, is_token


def five_sigma(share: float, count: int) -> float:
    """The deviation that the mean of so many independent choices exceeds once in two million times."""
    return 5 * math.sqrt(share * (1 - share) / count)


# --- Masking


def test_the_shares_are_those_of_bert() -> None:
    ids, is_token = batch_of(2000, 50)
    corrupted, chosen = mask_tokens(ids, is_token, VOCABULARY, corruption_source(1, 2))
    num_tokens, num_chosen = int(is_token.sum()), int(chosen.sum())
    assert num_tokens > 40_000
    assert abs(num_chosen / num_tokens - 0.15) < five_sigma(0.15, num_tokens)
    hidden, same = chosen & (corrupted == MASK), chosen & (corrupted == ids)
    replaced = chosen & ~hidden & ~same
    assert abs(hidden.sum() / num_chosen - 0.8) < five_sigma(0.8, num_chosen)
    # a random token is the right one by chance once in a thousand times
    assert abs(replaced.sum() / num_chosen - 0.1 * (1 - 1 / SIZE)) < five_sigma(0.1, num_chosen)
    assert abs(same.sum() / num_chosen - 0.1) < five_sigma(0.1, num_chosen)
    assert corrupted[replaced].min() >= len(SPECIAL_TOKENS)
    assert corrupted[replaced].max() < SIZE
    assert len(np.unique(corrupted[replaced])) > 300


def test_what_is_not_chosen_stays_and_no_padding_or_end_is_chosen() -> None:
    for step in range(20):
        ids, is_token = batch_of(30, 12, seed=step)
        before = ids.copy()
        corrupted, chosen = mask_tokens(ids, is_token, VOCABULARY, corruption_source(1, step))
        assert (ids == before).all()
        assert (corrupted[~chosen] == ids[~chosen]).all()
        assert not (chosen & ~is_token).any()


def test_every_place_is_as_likely_as_any_other() -> None:
    ids, is_token = np.full((1, 10), 7), np.ones((1, 10), dtype=np.bool_)
    counts = sum(
        mask_tokens(ids, is_token, VOCABULARY, corruption_source(0, step))[1][0].astype(int) for step in range(4000)
    )
    # where none is chosen, which happens with 0.85 ** 10, one of the ten is
    share = 0.15 + 0.85**10 / 10
    assert np.abs(counts / 4000 - share).max() < five_sigma(share, 4000)


def test_something_is_always_chosen() -> None:
    ids, is_token = np.array([[EOS, PAD], [9, EOS]]), np.array([[False, False], [True, False]])
    for step in range(50):
        _, chosen = mask_tokens(ids, is_token, VOCABULARY, corruption_source(0, step))
        assert chosen.tolist() == [[False, False], [True, False]]


def test_the_same_numbers_give_the_same_corruption_and_others_another() -> None:
    ids, is_token = batch_of(40, 20)

    def corrupted(*place: int) -> tuple[bytes, bytes]:
        found, chosen = mask_tokens(ids, is_token, VOCABULARY, corruption_source(*place))
        return found.tobytes(), chosen.tobytes()

    assert corrupted(1, 2, 3) == corrupted(1, 2, 3)
    assert len({corrupted(*place) for place in ((1, 2, 3), (1, 2, 4), (1, 3, 3), (2, 2, 3))}) == 4
    assert corrupted(1, 2) == corrupted(1, 2, 0)


@pytest.mark.parametrize("kind", KINDS)
def test_words_begin_where_the_edges_say(kind: Kind) -> None:
    tokenizer = trained(kind)
    edges = MaskingVocabulary.of(tokenizer, whole_words=True).word_edges
    assert edges is not None
    rows = [tokenizer.encode(line) for line in TEXT]
    ids = np.full((len(rows), max(map(len, rows))), tokenizer.pad_id)
    for place, row in enumerate(rows):
        ids[place, : len(row)] = row
    starts = masking.word_starts(ids, edges)
    for row, found in zip(rows, starts, strict=True):
        assert found[: len(row)].tolist() == word_starts(row, tokenizer.word_edges)


@pytest.mark.parametrize("kind", KINDS)
def test_words_are_chosen_whole(kind: Kind) -> None:
    size = {"word": 40, "bpe": 360, "byte-bpe": 290}.get(kind, 110)  # few, so that words are spelled in pieces
    tokenizer = train_tokenizer(TEXT * 3, TokenizerConfig(kind=kind, vocabulary_size=size))
    vocabulary = MaskingVocabulary.of(tokenizer, whole_words=True)
    rows = [tokenizer.encode(line) for line in TEXT]
    is_token = np.arange(max(map(len, rows))) < np.array([[len(row)] for row in rows])
    ids = np.zeros(is_token.shape, dtype=np.int64)
    ids[is_token] = [index for row in rows for index in row]
    words: list[list[bool]] = []
    for step in range(100):
        _, chosen = mask_tokens(ids, is_token, vocabulary, corruption_source(3, step))
        for row, flags in zip(rows, chosen.tolist(), strict=True):
            for begins, is_chosen in zip(word_starts(row, tokenizer.word_edges), flags, strict=False):
                if begins:
                    words.append([])
                words[-1].append(is_chosen)
    assert all(len(set(word)) == 1 for word in words), "all of it or nothing"
    assert abs(sum(word[0] for word in words) / len(words) - 0.15) < five_sigma(0.15, len(words))
    assert any(len(word) > 2 and word[0] for word in words) == (kind != "word")


def test_without_whole_words_parts_of_words_are_chosen() -> None:
    tokenizer = trained("char")
    vocabulary = MaskingVocabulary.of(tokenizer)
    assert vocabulary.word_edges is None
    assert (vocabulary.size, vocabulary.mask_id) == (tokenizer.vocabulary_size, 4)
    ids = np.array([tokenizer.encode("schnell")])
    _, chosen = mask_tokens(ids, np.ones_like(ids, dtype=np.bool_), vocabulary, corruption_source(0, 0))
    assert 0 < chosen.sum() < 7


# --- Infilling


def is_subsequence(part: list[int], whole: list[int]) -> bool:
    remaining = iter(whole)
    return all(item in remaining for item in part)


@pytest.mark.parametrize("length", [1, 2, 3, 7, 40, 200])
def test_order_is_kept_and_what_is_in_no_span_is_not_lost(length: int) -> None:
    ids = np.arange(10, 10 + length)
    num_masked = num_spans = 0
    rounds = 600
    for step in range(rounds):
        corrupted = infill(ids, MASK, corruption_source(0, step))
        kept = corrupted[corrupted != MASK]
        assert is_subsequence(kept.tolist(), ids.tolist())
        assert len(corrupted) <= length
        num_masked += length - len(kept)
        num_spans += len(corrupted) - len(kept)
        assert length - len(kept) in (math.floor(0.3 * length), math.ceil(0.3 * length))
    assert abs(num_masked / (rounds * length) - 0.3) < five_sigma(0.3, rounds)
    if length == 200:
        # Spans of mean 3, of which the last is cut to fit: of 60 tokens, 20 spans and a bit more.
        assert 60 / 3 <= num_spans / rounds < 60 / 3 + 1.5


def test_spans_are_replaced_by_one_mask_however_long_they_are() -> None:
    ids = np.arange(10, 60)
    lengths: list[int] = []
    for step in range(400):
        corrupted = infill(ids, MASK, corruption_source(1, step)).tolist()
        previous = 9
        for place, token in enumerate(corrupted):
            if token == MASK:
                following = next((later for later in corrupted[place + 1 :] if later != MASK), 60)
                if (place == 0 or corrupted[place - 1] != MASK) and corrupted[place + 1 : place + 2] != [MASK]:
                    lengths.append(following - previous - 1)
            else:
                previous = token
    counts = np.bincount(lengths, minlength=12)
    assert counts[0] > 0, "a mask may stand where nothing was"
    # Poisson(3): lengths 2 and 3 are the most frequent, and few are longer than 8 (0.4 %)
    assert set(np.argsort(counts)[-2:]) <= {1, 2, 3}
    assert counts[9:].sum() / counts.sum() < 0.02


def test_any_arrangement_is_as_likely_as_any_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(masking, "_span_lengths", lambda num_tokens, random: [1])
    ids = np.arange(10, 15)
    counts = np.zeros(5)
    for step in range(4000):
        corrupted = infill(ids, MASK, corruption_source(2, step))
        counts[int((corrupted == MASK).argmax())] += 1
    assert np.abs(counts / 4000 - 0.2).max() < five_sigma(0.2, 4000)


def test_infilling_follows_from_its_random_numbers() -> None:
    ids = np.arange(10, 60)

    def corrupted(random: Generator) -> list[int]:
        return infill(ids, MASK, random).tolist()  # type: ignore[no-any-return]

    assert corrupted(corruption_source(1, 2)) == corrupted(corruption_source(1, 2))
    assert corrupted(corruption_source(1, 2)) != corrupted(corruption_source(1, 3))
    assert infill(ids[:0], MASK, corruption_source(0, 0)).tolist() == []
