import itertools
import json
import random
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.program import program_environment
from tests.tokenizer.examples import LINES, trained
from tokenizer import (
    KINDS,
    Kind,
    Tokenizer,
    TokenizerConfig,
    TokenizerConfigError,
    TokenizerDataError,
    minimum_vocabulary_size,
    train_tokenizer,
)
from tokenizer.special_tokens import BYTE_TOKENS, SPECIAL_TOKENS


def train(kind: Kind, lines: list[str], vocabulary_size: int = 1000) -> Tokenizer:
    return train_tokenizer(lines, TokenizerConfig(kind=kind, vocabulary_size=vocabulary_size))


# --- The same text gives the same file

TRAIN_ALL_KINDS = """
import random
from tokenizer import KINDS, TokenizerConfig, train_tokenizer

# Random words over few letters: counts are full of ties.
generator = random.Random(7)
words = ["".join(generator.choices("abcdefgh", k=generator.randint(1, 9))) for _ in range(3000)]
lines = [" ".join(generator.choices(words, k=8)) + "." for _ in range(600)]
for kind in KINDS:
    for vocabulary_size in (400, 1500):
        print(train_tokenizer(lines, TokenizerConfig(kind=kind, vocabulary_size=vocabulary_size)).sha256)
"""


def test_every_process_learns_the_same_file() -> None:
    outputs = [
        subprocess.run(
            [sys.executable, "-c", TRAIN_ALL_KINDS],
            capture_output=True,
            check=True,
            text=True,
            env=program_environment(PYTHONHASHSEED=seed, RAYON_NUM_THREADS=num_threads),
        ).stdout.split()
        for seed, num_threads in (("0", "1"), ("1", "2"), ("2", "4"))
    ]
    assert len(outputs[0]) == 2 * len(KINDS)
    assert outputs[0] == outputs[1] == outputs[2]


@pytest.mark.parametrize("kind", KINDS)
def test_the_order_of_the_lines_does_not_matter(kind: Kind) -> None:
    shuffled = random.Random(3).sample(LINES, len(LINES))
    assert train(kind, shuffled, 900).to_json() == trained(kind).to_json()


# --- What is learned


def slow_bpe(counts: Counter[str], first_ids: dict[str, int], vocabulary_size: int) -> list[tuple[str, str]]:
    """Byte-pair encoding as in algorithm 1 of Sennrich et al. (2016); of equal pairs the one with the smallest ids."""
    ids = dict(first_ids)
    words = {word: tuple(word) for word in counts}
    merges: list[tuple[str, str]] = []
    while len(ids) < vocabulary_size:
        pairs: Counter[tuple[str, str]] = Counter()
        for word, symbols in words.items():
            for pair in itertools.pairwise(symbols):
                pairs[pair] += counts[word]
        if not pairs:
            break
        best = min(pairs, key=lambda pair: (-pairs[pair], ids[pair[0]], ids[pair[1]]))
        if pairs[best] < 2:
            break
        merges.append(best)
        ids.setdefault("".join(best), len(ids))
        words = {word: merge(symbols, best) for word, symbols in words.items()}
    return merges


def merge(symbols: tuple[str, ...], pair: tuple[str, str]) -> tuple[str, ...]:
    """Join every occurrence of a pair, from left to right."""
    merged: list[str] = []
    for symbol in symbols:
        if merged and (merged[-1], symbol) == pair:
            merged[-1] += symbol
        else:
            merged.append(symbol)
    return tuple(merged)


def slow_encode(word: str, merges: list[tuple[str, str]]) -> list[str]:
    """Apply the merges to a word, first learned first."""
    symbols = tuple(word)
    while possible := [pair for pair in itertools.pairwise(symbols) if pair in merges]:
        symbols = merge(symbols, min(possible, key=merges.index))
    return list(symbols)


@pytest.mark.parametrize("seed", range(5))
def test_bpe_learns_and_applies_what_the_slow_reference_does(seed: int) -> None:
    generator = random.Random(seed)
    words = ["".join(generator.choices("abcd", k=generator.randint(1, 7))) for _ in range(60)]
    counts = Counter(f" {word}" for word in words)
    first_ids = {piece: index for index, piece in enumerate((*SPECIAL_TOKENS, *BYTE_TOKENS, *" abcd"))}
    merges = slow_bpe(counts, first_ids, 300)
    tokenizer = train("bpe", words, 300)
    assert json.loads(tokenizer.to_json())["model"]["merges"] == [list(pair) for pair in merges]
    for word in ("abcd", "dcba", "aabbccdd", "abababab", *words):
        shown = [piece.replace(" ", "▁") for piece in slow_encode(f" {word}", merges)]
        assert tokenizer.tokens(tokenizer.encode(word)) == shown


def test_bpe_merges_only_what_occurs_twice() -> None:
    # " ab" twice: " a", then " ab"; nothing of " xyz", which occurs once
    assert train("bpe", ["ab ab xyz"]).tokens(range(261, 268)) == ["▁", "a", "b", "x", "y", "z", "▁a"]
    assert train("bpe", ["ab ab xyz"]).vocabulary_size == 269


def test_bpe_learns_nothing_across_a_character_without_an_entry() -> None:
    lines = ["abqab"] * 2 + ["ab"] * 10_000  # q makes up 2 of 30,010 characters
    tokenizer = train("bpe", lines)
    assert "q" not in tokenizer.tokens(range(tokenizer.vocabulary_size))
    assert tokenizer.tokens(tokenizer.encode("abqab")) == ["▁ab", "<0x71>", "ab"]


def test_unigram_takes_the_most_probable_segmentation() -> None:
    tokenizer = trained("unigram")
    model = json.loads(tokenizer.to_json())["model"]
    scores = {piece: score for piece, score in model["vocab"][len(SPECIAL_TOKENS) :]}

    def best_score(word: str) -> float:
        """The highest sum of log-probabilities over all segmentations, by trying every last piece."""
        best = [0.0] + [float("-inf")] * len(word)
        for end in range(1, len(word) + 1):
            for start in range(end):
                best[end] = max(best[end], best[start] + scores.get(word[start:end], float("-inf")))
        return best[len(word)]

    for word in ["The", "cleaning", "Two", "bushes", "on", "ladders"]:
        pieces = [token.replace("▁", " ") for token in tokenizer.tokens(tokenizer.encode(word))]
        assert "".join(pieces) == f" {word}"
        assert sum(scores[piece] for piece in pieces) == pytest.approx(best_score(f" {word}"))


def test_unigram_has_whole_words() -> None:
    # SentencePiece given each word once would know no word that is never part of another
    tokens = trained("unigram").tokens(trained("unigram").encode("Two young bushes outside"))
    assert tokens == ["▁Two", "▁young", "▁bushes", "▁outside"]


def test_wordpiece_takes_the_longest_piece_first() -> None:
    tokenizer = trained("wordpiece")
    vocabulary = set(json.loads(tokenizer.to_json())["model"]["vocab"])
    for word in ["standing", "cleaning", "manyoutside", "Holzhaus"]:
        rest, pieces = f" {word}", []
        while rest:
            length = max(length for length in range(1, len(rest) + 1) if rest[:length] in vocabulary)
            pieces.append(rest[:length])
            rest = rest[length:]
        assert [token.replace("▁", " ") for token in tokenizer.tokens(tokenizer.encode(word))] == pieces


def test_words_and_characters_come_by_frequency_and_equals_in_order() -> None:
    words = train("word", ["b a c", "c b", "d c"], 9)
    assert words.tokens(range(5, 9)) == ["▁c", "▁b", "▁a", "▁d"]
    assert train("word", ["b a c", "c b", "d c"], 7).tokens([5, 6]) == ["▁c", "▁b"]
    characters = train("char", ["ba c", "cb"])
    assert characters.tokens(range(5, 9)) == ["b", "c", "▁", "a"]


# --- Sizes


@pytest.mark.parametrize(
    ("kind", "size"),
    [("bpe", 500), ("byte-bpe", 500), ("unigram", 180), ("wordpiece", 180), ("word", 60)],
)
def test_a_vocabulary_that_the_text_can_fill_has_the_size_asked_for(kind: Kind, size: int) -> None:
    assert train(kind, LINES, size).vocabulary_size == size


@pytest.mark.parametrize("kind", KINDS)
def test_a_vocabulary_that_the_text_cannot_fill_is_smaller(kind: Kind) -> None:
    tokenizer = train(kind, ["ab ab", "ba"], 50_000)
    assert tokenizer.vocabulary_size < 300
    assert tokenizer.config.vocabulary_size == tokenizer.vocabulary_size
    assert tokenizer.decode(tokenizer.encode("ab ba")) == "ab ba"


@pytest.mark.parametrize("kind", ["bpe", "unigram", "wordpiece", "char"])
def test_a_vocabulary_without_room_for_the_characters_is_refused_with_numbers(kind: Kind) -> None:
    lines = ["the quick brown fox jumps over the lazy dog 0123456789"]  # 26 letters, 10 digits, the space
    minimum = 5 + (256 if kind == "bpe" else 0) + 37
    assert minimum_vocabulary_size(kind, Counter(lines[0])) == minimum
    with pytest.raises(TokenizerConfigError) as caught:
        train(kind, lines, minimum - 1)
    assert f"vocabulary_size ({minimum - 1}) is too small: {kind} needs {minimum} or more" in str(caught.value)
    assert "5 special tokens" in str(caught.value)
    assert "37 characters" in str(caught.value)
    assert train(kind, lines, minimum).vocabulary_size == minimum


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("lines", [[], [""], ["", "   "]])
def test_no_text_is_an_error(kind: Kind, lines: list[str]) -> None:
    with pytest.raises(TokenizerDataError, match="there is no text to learn a vocabulary from"):
        train(kind, lines)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("lines", [["a"], ["aa aa"], ["\0\0", "x"], ["▁▅⁇\t<unk>"] * 3, ["a" * 5000], ["😀" * 40]])
def test_tiny_and_strange_texts_are_learned(kind: Kind, lines: list[str]) -> None:
    tokenizer = train(kind, lines)
    for line in lines:
        assert tokenizer.unk_id not in tokenizer.encode(line)


def test_half_a_surrogate_pair_is_refused_with_its_line() -> None:
    with pytest.raises(TokenizerDataError, match="line 2 holds half of a surrogate pair"):
        train("bpe", ["fine", "a\udc80"])


# --- Streams


@pytest.mark.parametrize("kind", KINDS)
def test_lines_are_read_once_and_counted_for_the_progress(kind: Kind) -> None:
    def stream() -> Iterator[str]:
        for _ in range(50):
            yield from LINES[:50]

    told: list[int] = []
    tokenizer = train_tokenizer(stream(), TokenizerConfig(kind=kind, vocabulary_size=500), told.append)
    assert sum(told) == 2500
    assert len(told) >= 2
    assert tokenizer.vocabulary_size > 5


def test_no_token_crosses_a_line() -> None:
    tokenizer = train("word", ["one two", "three"] * 5)
    assert "▁two three" not in tokenizer.tokens(range(tokenizer.vocabulary_size))
    together = train("bpe", ["ab", "cd"] * 50)
    assert not any("bc" in token or "b▁c" in token for token in together.tokens(range(together.vocabulary_size)))


@pytest.mark.slow
def test_real_text_takes_as_few_tokens_as_expected(shared_data: Path) -> None:
    lines = (shared_data / "multi30k/raw/train.en").read_text(encoding="utf-8").split("\n")[:-1]
    for kind, most in (("bpe", 14.5), ("byte-bpe", 14.5), ("unigram", 14.2), ("wordpiece", 14.4)):
        tokenizer = train_tokenizer(lines, TokenizerConfig(kind=kind, vocabulary_size=4000))  # type: ignore[arg-type]
        rows = tokenizer.encode_batch(lines)
        assert sum(map(len, rows)) / len(lines) < most  # 14.37, 14.34, 14.07 and 14.25 were measured
        assert tokenizer.decode_batch(rows) == lines
