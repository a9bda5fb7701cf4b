import subprocess
import sys

import pytest
from sacrebleu import sentence_bleu, sentence_chrf

from transformer_core.evaluation.minimum_bayes_risk import Utility, expected_utilities

CANDIDATES = ["the cat sat down", "the cat sat", "a dog barks at the moon", "the cat sat down", "the cats sat down"]


def score(utility: Utility, candidate: str, reference: str) -> float:
    if utility == "chrf":
        return float(sentence_chrf(candidate, [reference]).score)
    return float(sentence_bleu(candidate, [reference]).score)


@pytest.mark.parametrize("utility", ["chrf", "bleu"])
def test_it_is_the_mean_over_all_others(utility: Utility) -> None:
    expected = [
        sum(score(utility, candidate, other) for place, other in enumerate(CANDIDATES) if place != index) / 4
        for index, candidate in enumerate(CANDIDATES)
    ]
    found = expected_utilities(CANDIDATES, utility)
    assert found == pytest.approx(expected)
    assert found.index(max(found)) == 0  # not the odd one


def test_one_candidate_has_no_other() -> None:
    assert expected_utilities(["whatever"], "chrf") == [100.0]


def test_candidates_may_be_empty_or_all_alike() -> None:
    assert expected_utilities(["", ""], "chrf") == expected_utilities(["", ""], "chrf")
    alike = expected_utilities(["a b c d"] * 3, "bleu")
    assert alike == pytest.approx([100.0] * 3)


def test_importing_it_loads_neither_sacrebleu_nor_torch() -> None:
    code = (
        "import sys, transformer_core.evaluation.minimum_bayes_risk; print({'sacrebleu', 'torch'} & set(sys.modules))"
    )
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "set()"
