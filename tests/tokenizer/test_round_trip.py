from collections.abc import Iterator

import pytest

from tests.tokenizer.examples import ODD_LINES, trained
from tokenizer import RoundTripExample, check_round_trip

LINES = ["A man", "a ¤ man ¤", "", "  two  spaces, ", "¤ ¤"]


def test_the_sums_are_those_of_the_lines() -> None:
    tokenizer = trained("char")
    report = check_round_trip(tokenizer, LINES)
    assert (report.num_lines, report.num_blank, report.num_words) == (5, 1, 2 + 4 + 0 + 2 + 2)
    assert report.num_tokens == sum(len(line) for line in LINES)
    assert report.max_tokens == len("  two  spaces, ")
    assert (report.num_unknown, report.num_lines_with_unknown, report.num_inexact) == (4, 2, 2)
    assert report.tokens_per_line == pytest.approx(report.num_tokens / 5)
    assert report.tokens_per_word == pytest.approx(report.num_tokens / 10)
    assert report.examples == [
        RoundTripExample(line_number=2, normalized="a ¤ man ¤", decoded="a ⁇ man ⁇", num_unknown=2),
        RoundTripExample(line_number=5, normalized="¤ ¤", decoded="⁇ ⁇", num_unknown=2),
    ]


def test_words_count_lost_spaces_as_inexact_though_nothing_is_unknown() -> None:
    report = check_round_trip(trained("word"), ["A man", "A  man", " A man"])
    assert (report.num_unknown, report.num_inexact) == (0, 2)
    assert [example.line_number for example in report.examples] == [2, 3]


def test_kinds_with_bytes_are_exact_and_know_everything() -> None:
    for report in (check_round_trip(trained("bpe"), ODD_LINES), check_round_trip(trained("byte-bpe"), ODD_LINES)):
        assert (report.num_lines, report.num_inexact, report.num_unknown) == (len(ODD_LINES), 0, 0)


def test_examples_are_the_first_and_lines_are_streamed() -> None:
    def stream() -> Iterator[str]:
        for number in range(2500):
            yield "¤" if number % 2 else "a"

    report = check_round_trip(trained("char"), stream(), max_examples=2)
    assert (report.num_lines, report.num_inexact) == (2500, 1250)
    assert [example.line_number for example in report.examples] == [2, 4]


def test_an_empty_text_has_no_rates() -> None:
    report = check_round_trip(trained("bpe"), [])
    assert (report.num_lines, report.tokens_per_line, report.tokens_per_word) == (0, 0.0, 0.0)
