import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from transformer_core.evaluation.metrics import MetricName, MetricOptions, evaluate_corpus, evaluate_lines


def value_of(
    name: MetricName, hypotheses: list[str], *references: list[str], options: MetricOptions | None = None
) -> float:
    return evaluate_corpus(hypotheses, references, [name], options)[0].value


def test_wer_by_hand() -> None:
    # "the cat sat" / "a cat sat down": one substitution, one insertion; "b" / "b": none; "" / "x y": two deletions.
    # 4 edits over 3 + 1 + 2 = 6 reference tokens.
    assert value_of("wer", ["a cat sat down", "b", ""], ["the cat sat", "b", "x y"]) == pytest.approx(100 * 4 / 6)


def test_wer_is_the_phone_error_rate_on_phones() -> None:
    # L EY B AH L / L AE B AH L: one of 5; K AE T / K AE T S: one insertion over 3: 2 of 8 = 25 %.
    assert value_of("wer", ["L AE B AH L", "K AE T S"], ["L EY B AH L", "K AE T"]) == 25.0


def test_cer_by_hand() -> None:
    # "kitten" to "sitting" takes 3 edits (the textbook case), over 7 characters of the reference.
    assert value_of("cer", ["kitten"], ["sitting"]) == pytest.approx(100 * 3 / 7)
    # The space is a character: "ab" / "a b" is one deletion over 3.
    assert value_of("cer", ["ab"], ["a b"]) == pytest.approx(100 / 3)


def test_error_rates_can_exceed_a_hundred() -> None:
    assert value_of("wer", ["a b c d"], ["x"]) == 400.0


def test_exact_counts_lines_that_equal_any_reference() -> None:
    assert value_of("exact", ["a", "b", "c", "d"], ["a", "x", "x", "d"], ["x", "b", "x", "d"]) == 75.0


def test_the_closest_reference_counts_and_gives_the_length() -> None:
    # Line 1: 2 edits to "x y", 1 to "a b c": the second, of length 3. Line 2: 1 edit to both: the longer, of length 4.
    hypotheses = ["a b", "a b c"]
    assert value_of("wer", hypotheses, ["x y", "a b"], ["a b c", "a b c d"]) == pytest.approx(100 * 2 / 7)


def test_nothing_expected() -> None:
    assert value_of("wer", [""], [""]) == 0.0
    assert value_of("wer", ["a b"], [""]) == 100.0
    assert value_of("cer", ["a"], [" "]) == 100.0


def test_unicode_form_and_spaces_do_not_matter_but_case_does() -> None:
    composed, decomposed = "é a", unicodedata.normalize("NFD", "  é\u00a0\ta ")
    for name in ("wer", "cer"):
        assert value_of(name, [decomposed], [composed]) == 0.0
    assert value_of("exact", [decomposed], [composed]) == 100.0
    assert value_of("wer", ["A b"], ["a b"]) == 50.0
    assert value_of("wer", ["A b"], ["a b"], options=MetricOptions(lowercase=True)) == 0.0
    assert value_of("exact", ["É"], ["é"], options=MetricOptions(lowercase=True)) == 100.0


def slow_distance(first: list[str], second: list[str]) -> int:
    """Levenshtein's recurrence as in the textbook."""
    row = list(range(len(second) + 1))
    for i, left in enumerate(first, 1):
        above, row = row, [i]
        for j, right in enumerate(second, 1):
            row.append(min(above[j] + 1, row[j - 1] + 1, above[j - 1] + (left != right)))
    return row[-1]


LINES = st.lists(st.tuples(*[st.lists(st.sampled_from("abc"), max_size=6).map(" ".join)] * 2), min_size=1, max_size=5)


@given(LINES)
def test_wer_equals_the_slow_edit_distance(pairs: list[tuple[str, str]]) -> None:
    num_edits = sum(slow_distance(hypothesis.split(), reference.split()) for hypothesis, reference in pairs)
    num_tokens = sum(len(reference.split()) for _, reference in pairs)
    expected = 100 * num_edits / num_tokens if num_tokens else 100.0 * min(1, num_edits)
    hypotheses, references = map(list, zip(*pairs, strict=True))
    assert value_of("wer", hypotheses, references) == pytest.approx(expected)


@given(LINES)
def test_a_line_is_right_just_when_its_error_rates_are_zero(pairs: list[tuple[str, str]]) -> None:
    hypotheses, references = map(list, zip(*pairs, strict=True))
    for wer, cer, exact in evaluate_lines(hypotheses, [references], ["wer", "cer", "exact"]):
        assert (wer.value == 0) == (cer.value == 0) == (exact.value == 100)


@given(LINES)
def test_more_references_never_hurt(pairs: list[tuple[str, str]]) -> None:
    hypotheses, references = map(list, zip(*pairs, strict=True))
    others = references[1:] + references[:1]
    assert value_of("exact", hypotheses, references, others) >= value_of("exact", hypotheses, references)
    assert value_of("wer", hypotheses, references, references) == value_of("wer", hypotheses, references)


def test_signatures_say_how_lines_are_compared() -> None:
    scores = evaluate_corpus(["a"], [["a"], ["b"]], ["wer", "cer", "exact"], MetricOptions(lowercase=True))
    heads = [score.signature.rpartition("|version:")[0] for score in scores]
    assert heads == [f"nrefs:2|case:lc|unit:{unit}|norm:nfc" for unit in ("word", "char", "line")]
    assert [score.label for score in scores] == ["WER", "CER", "exact"]
    assert scores[0].details == "(edits = 0 ref_len = 1)"
    assert scores[2].details == "(right = 1 lines = 1)"
