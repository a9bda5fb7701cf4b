"""Minimum Bayes risk (Kumar and Byrne 2004; Eikema and Aziz 2022): the candidate that agrees most with all others.

The most probable translation need not be a good one: it may be an odd string with a little more probability than any
of many alike. What is wanted is the candidate with the highest utility on average over what the model could have said,
for which the candidates themselves stand. Samples stand for it without bias; those of a beam are weighted alike, too.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Literal

__all__ = ["Utility", "expected_utilities"]

Utility = Literal["chrf", "bleu"]


def expected_utilities(candidates: Sequence[str], utility: Utility) -> list[float]:
    """Give the mean utility of each candidate with every other as its reference.

    Args:
        candidates: translations of one line; one that occurs twice counts twice.
        utility: what tells how good a translation is by a reference: sentence-level chrF or BLEU, by sacreBLEU.

    Returns:
        0 to 100 for each; of a single candidate 100.
    """
    if len(candidates) == 1:
        return [100.0]
    score = _scorer(utility)
    counts = Counter(candidates)
    utilities = {
        candidate: sum(
            (count - (candidate == reference)) * score(candidate, reference) for reference, count in counts.items()
        )
        for candidate in counts
    }
    return [utilities[candidate] / (len(candidates) - 1) for candidate in candidates]


def _scorer(utility: Utility) -> Callable[[str, str], float]:
    from sacrebleu.metrics.bleu import BLEU
    from sacrebleu.metrics.chrf import CHRF

    metric = CHRF() if utility == "chrf" else BLEU(effective_order=True)
    return lambda candidate, reference: float(metric.sentence_score(candidate, [reference]).score)
