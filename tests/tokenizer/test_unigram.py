import math
from collections import Counter

import pytest

from tokenizer import TokenizerDataError, unigram
from tokenizer.unigram import END_MARK, learn_pieces

COUNTS = Counter({" house": 50, " houses": 20, " mouse": 30, " mice": 10, "s": 5, " xyz": 1})


def test_every_character_is_a_piece_and_frequent_words_are() -> None:
    pieces = dict(learn_pieces(COUNTS, 40))
    assert set("".join(COUNTS)) <= set(pieces)
    assert {" house", " mouse", " mice"} <= set(pieces)
    assert END_MARK not in pieces
    assert all(score < 0 for score in pieces.values())


def test_probabilities_add_up_to_one_but_for_what_the_end_mark_took() -> None:
    pieces = learn_pieces(COUNTS, 40)
    # characters that whole words leave without an expected count get tiny probabilities on top
    assert 0.9 < sum(math.exp(score) for _, score in pieces) < 1.1
    assert [score for _, score in pieces] == sorted((score for _, score in pieces), reverse=True)


def test_the_size_is_kept() -> None:
    num_characters = len(set("".join(COUNTS)))
    assert len(learn_pieces(COUNTS, num_characters)) == num_characters


def test_characters_that_mean_something_to_sentencepiece_are_characters() -> None:
    words = ["▁", "▅▅", "\t\t", "\0", "⁇", "A", "<unk>", " A", "\ufffe", "\n"]
    pieces = dict(learn_pieces(Counter(dict.fromkeys(words, 10)), 100))
    assert set("".join(words)) <= set(pieces)
    assert all(set(piece) <= set("".join(words)) for piece in pieces)


def test_a_large_text_is_thinned_out_without_losing_a_character(monkeypatch: pytest.MonkeyPatch) -> None:
    counts = Counter({" house": 5000, " mouse": 3000, " xyz": 1})
    monkeypatch.setattr(unigram, "MAX_CHARACTERS", 480)  # a hundredth of 8,000 words of 6 characters
    assert unigram._thin_out(counts) == Counter({" house": 50, " mouse": 30, "x": 1, "y": 1, "z": 1})
    pieces = dict(learn_pieces(counts, 40))
    assert {" house", " mouse", "x", "y", "z"} <= set(pieces)
    assert " xyz" not in pieces


def test_a_large_text_gives_the_same_pieces_whole_or_thinned_out(monkeypatch: pytest.MonkeyPatch) -> None:
    tenfold = Counter({word: 10 * count for word, count in COUNTS.items()})
    whole = dict(learn_pieces(tenfold, 30))
    monkeypatch.setattr(unigram, "MAX_CHARACTERS", sum(len(word) * count for word, count in COUNTS.items()))
    assert unigram._thin_out(tenfold) == COUNTS
    assert set(dict(learn_pieces(tenfold, 30))) >= {piece for piece, score in whole.items() if score > -4}


def test_more_characters_than_it_can_tell_apart_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unigram, "MAX_ALPHABET", 3)
    with pytest.raises(TokenizerDataError, match="can tell 3 characters apart, and this text has 4"):
        learn_pieces(Counter(["abcd"]), 100)
