from collections import Counter

import pytest

from tokenizer import KINDS, ROUND_TRIP, Kind, TokenizerConfig, TokenizerConfigError, minimum_vocabulary_size
from tokenizer.config import covered_characters


def test_the_defaults() -> None:
    config = TokenizerConfig()
    assert (config.kind, config.vocabulary_size, config.normalization, config.lowercase) == ("bpe", 8000, "nfc", False)


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"kind": "bep"}, "kind ('bep') must be one of bpe, byte-bpe, unigram, wordpiece, char, word"),
        ({"normalization": "NFC"}, "normalization ('NFC') must be one of nfc, nfd, nfkc, none"),
        ({"vocabulary_size": 260}, "must be between 261 and"),
        ({"vocabulary_size": 5, "kind": "word"}, "must be between 6 and"),
        ({"vocabulary_size": 1 << 30}, "must be between"),
    ],
)
def test_a_wrong_value_is_refused_with_a_sentence(values: dict[str, object], reason: str) -> None:
    with pytest.raises(TokenizerConfigError) as caught:
        TokenizerConfig(**values)  # type: ignore[arg-type]
    assert reason in str(caught.value)


@pytest.mark.parametrize(
    ("kind", "minimum"),
    # 3 characters, 5 special tokens, 256 bytes
    [("bpe", 264), ("byte-bpe", 261), ("unigram", 8), ("wordpiece", 8), ("char", 8), ("word", 6)],
)
def test_the_minimum_has_room_for_special_tokens_bytes_and_characters(kind: Kind, minimum: int) -> None:
    assert minimum_vocabulary_size(kind, Counter("aabc")) == minimum


def test_bpe_leaves_the_rarest_characters_to_their_bytes() -> None:
    counts = Counter({"a": 9_000, "b": 997, "c": 2, "d": 1, "e": 2})
    # 0.0005 of 10,002 are 5.001 occurrences: those of d, e and c, rarest first
    assert covered_characters("bpe", counts) == ["a", "b"]
    assert covered_characters("unigram", counts) == ["a", "b", "c", "e", "d"]
    assert minimum_vocabulary_size("bpe", counts) == 5 + 256 + 2


def test_every_kind_says_what_it_gives_back() -> None:
    assert set(ROUND_TRIP) == {*KINDS, "imported"}
