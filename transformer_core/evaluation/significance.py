"""How far a score can be trusted, and the difference of two: lines of a test set are drawn anew, or change sides.

Koehn (2004), "Statistical significance tests for machine translation evaluation", for the bootstrap; Riezler and
Maxwell (2005), "On some pitfalls in automatic evaluation and significance testing for MT", for randomisation.

All numbers are sacreBLEU's (but for equal differences, see `_p_value`): the same generator, the same draws, sums in the
same precision. sacreBLEU keeps all draws in memory at once, which is gigabytes for a hundred thousand lines;
here it is a few at a time.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sacrebleu.metrics.base import Metric, Score

__all__ = ["ConfidenceInterval", "approximate_randomization", "bootstrap_interval", "paired_bootstrap"]

Statistics = Sequence[Sequence[Any]]  # what a metric has counted in each line
_ROUNDING = 1e-9  # by which equal scores may differ
_BITS_AT_ONCE = 32  # that the generator makes; rows of bits are drawn by so many, so that none is thrown away


@dataclass(frozen=True, kw_only=True)
class ConfidenceInterval:
    """Where 95 of 100 resampled test sets have their score: mean ± half_width."""

    mean: float  # of the resampled scores
    half_width: float  # half the distance from the 2.5th to the 97.5th percentile


def bootstrap_interval(metric: Metric, statistics: Statistics, num_resamples: int, seed: int) -> ConfidenceInterval:
    """Draw as many lines as there are, with replacement, `num_resamples` times, and score each draw.

    Args:
        metric: turns sums of statistics into a score.
        statistics: what the metric has counted in each line.
        num_resamples: draws.
        seed: of the generator; the same seed draws the same lines for every metric and system.
    """
    scores = [scores[0] for scores in _resampled_scores(metric, [statistics], num_resamples, seed)]
    summary = Score("bootstrap", 0.0)
    summary.estimate_ci(scores)
    return ConfidenceInterval(mean=float(summary._mean), half_width=float(summary._ci))


def paired_bootstrap(metric: Metric, baseline: Statistics, system: Statistics, num_resamples: int, seed: int) -> float:
    """Give the probability of a difference as large as that of two systems if they were equally good.

    Both are scored on the same draws of lines; how far the difference strays from its mean there is what chance does.

    Args:
        metric: turns sums of statistics into a score.
        baseline: what it has counted in each line of one system.
        system: and of the other.
        num_resamples: draws.
        seed: of the generator.
    """
    drawn = np.array(
        [[score.score for score in pair] for pair in _resampled_scores(metric, [baseline, system], num_resamples, seed)]
    )  # (draws, 2)
    differences = np.abs(drawn[:, 1] - drawn[:, 0])
    return _p_value(differences - differences.mean(), _difference(metric, baseline, system))


def approximate_randomization(
    metric: Metric, baseline: Statistics, system: Statistics, num_trials: int, seed: int
) -> float:
    """Give the probability of a difference as large as that of two systems if it did not matter whose line is whose.

    In each trial a coin is thrown for every line, which decides whether the two systems change places there.

    Args:
        metric: as for paired_bootstrap.
        baseline: as for paired_bootstrap.
        system: as for paired_bootstrap.
        num_trials: shuffles.
        seed: of the generator.
    """
    generator = np.random.default_rng(seed)
    ours: NDArray[Any] = np.array(system)  # (lines, counts)
    theirs: NDArray[Any] = np.array(baseline)
    differences: list[float] = []
    while len(differences) < num_trials:
        is_kept = generator.integers(2, size=(_BITS_AT_ONCE, len(baseline)), dtype=np.bool_)
        mixed = is_kept @ theirs + ~is_kept @ ours, ~is_kept @ theirs + is_kept @ ours  # (trials, counts) each
        differences += [abs(_score(metric, [one]) - _score(metric, [other])) for one, other in zip(*mixed, strict=True)]
    return _p_value(np.array(differences[:num_trials]), _difference(metric, baseline, system))


def _resampled_scores(
    metric: Metric, systems: Sequence[Statistics], num_resamples: int, seed: int
) -> Iterator[list[Score]]:
    """Draw as many lines as there are, with replacement, and score each system on the draw; so many times."""
    generator = np.random.default_rng(seed)
    tables = [np.array(statistics, dtype=np.float32) for statistics in systems]  # (lines, counts) each
    for _ in range(num_resamples):
        drawn = generator.choice(len(tables[0]), size=len(tables[0]), replace=True)
        # The hook that sacreBLEU's own significance tests use; there is no public one.
        yield [metric._compute_score_from_stats(table[drawn].sum(0)) for table in tables]


def _difference(metric: Metric, baseline: Statistics, system: Statistics) -> float:
    return abs(_score(metric, baseline) - _score(metric, system))


def _score(metric: Metric, statistics: Statistics) -> float:
    return float(metric._aggregate_and_compute(statistics).score)  # type: ignore[arg-type]  # arrays serve as well


def _p_value(by_chance: NDArray[np.float64], difference: float) -> float:
    """Give the share of differences made by chance that are as large as the real one, which is one of them itself.

    sacreBLEU counts only those that are larger. That is the same where no two are equal, but would call one line more
    that is right, or no difference at all, significant: then hardly any is larger.
    """
    return float((np.count_nonzero(by_chance >= difference - _ROUNDING) + 1) / (len(by_chance) + 1))
