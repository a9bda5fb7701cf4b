from collections import Counter

import pytest

from tokenizer import TokenizerConfig, TokenizerDataError, counting
from tokenizer.counting import count_characters, count_words


def test_words_are_counted_as_the_model_will_see_them() -> None:
    config = TokenizerConfig(lowercase=True)
    assert count_words(["A dog.", "a  dog"], config) == Counter({" a": 2, " dog": 2, ".": 1, " ": 1})
    assert count_words(["A\tdog. ", ""], TokenizerConfig(kind="word")) == Counter({" A": 1, " dog.": 1})
    assert count_words(["ab a"], TokenizerConfig(kind="char")) == Counter({"a": 2, "b": 1, " ": 1})
    assert count_words(["é"], TokenizerConfig(kind="byte-bpe")) == Counter({"ĠÃ©": 1})


def test_characters_are_counted_as_often_as_their_words() -> None:
    assert count_characters(Counter({" ab": 2, "bb": 3})) == Counter({" ": 2, "a": 2, "b": 8})


@pytest.mark.parametrize("num_lines", [1, 999, 1000, 1001, 3500])
def test_the_progress_adds_up_to_the_lines(num_lines: int) -> None:
    told: list[int] = []
    count_words(["a"] * num_lines, TokenizerConfig(), told.append)
    assert sum(told) == num_lines


def test_blank_text_is_refused() -> None:
    with pytest.raises(TokenizerDataError, match="there are no lines"):
        count_words([], TokenizerConfig())
    with pytest.raises(TokenizerDataError, match="every line is blank"):
        count_words(["", "  "], TokenizerConfig(kind="byte-bpe"))


def test_rare_words_are_forgotten_when_there_are_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = [f"often rare{number} {'seldom' if number % 3 == 0 else ''}" for number in range(300)] + ["ß"]
    exact = count_words(lines, TokenizerConfig(kind="word"))
    monkeypatch.setattr(counting, "MAX_DIFFERENT_WORDS", 50)
    counts = count_words(lines, TokenizerConfig(kind="word"))
    assert len(counts) <= 50 < len(exact)
    assert counts[" often"] == exact[" often"] == 300
    assert counts[" seldom"] == exact[" seldom"] == 100
    assert counts == count_words(lines, TokenizerConfig(kind="word"))


def test_no_character_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = [f"{chr(0x4E00 + number)}{chr(0x5E00 + number)}" for number in range(30)]
    expected = set(count_characters(count_words(lines, TokenizerConfig(kind="unigram"))))
    monkeypatch.setattr(counting, "MAX_DIFFERENT_WORDS", 70)
    lines += [f"{line} {line}x" for line in lines]
    assert set(count_characters(count_words(lines, TokenizerConfig(kind="unigram")))) == expected | {"x"}
