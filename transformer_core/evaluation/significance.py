"""How far a score can be trusted: bootstrap resampling of the lines of a test set.

Koehn (2004), "Statistical significance tests for machine translation evaluation".
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from sacrebleu.metrics.base import Metric, Score

__all__ = ["ConfidenceInterval", "bootstrap_interval"]


@dataclass(frozen=True, kw_only=True)
class ConfidenceInterval:
    """Where 95 of 100 resampled test sets have their score: mean ± half_width."""

    mean: float  # of the resampled scores
    half_width: float  # half the distance from the 2.5th to the 97.5th percentile


def bootstrap_interval(
    metric: Metric, statistics: Sequence[Sequence[Any]], num_resamples: int, seed: int
) -> ConfidenceInterval:
    """Draw as many lines as there are, with replacement, `num_resamples` times, and score each draw.

    It gives sacreBLEU's numbers: the same generator, the same draws, sums in the same precision. sacreBLEU keeps all
    draws in memory at once, which is gigabytes for a hundred thousand lines; here it is one at a time.

    Args:
        metric: turns sums of statistics into a score.
        statistics: what the metric has counted in each line.
        num_resamples: draws.
        seed: of the generator; the same seed draws the same lines for every metric and system.
    """
    generator = np.random.default_rng(seed)
    table = np.array(statistics, dtype=np.float32)  # (lines, counts)
    scores: list[Score] = []
    for _ in range(num_resamples):
        drawn = generator.choice(len(table), size=len(table), replace=True)
        # The hook that sacreBLEU's own significance tests use; there is no public one.
        scores.append(metric._compute_score_from_stats(table[drawn].sum(0)))
    summary = Score("bootstrap", 0.0)
    summary.estimate_ci(scores)
    return ConfidenceInterval(mean=float(summary._mean), half_width=float(summary._ci))
