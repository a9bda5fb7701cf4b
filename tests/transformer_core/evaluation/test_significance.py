from collections.abc import Sequence

import numpy as np
import pytest
from sacrebleu.metrics.base import Metric
from sacrebleu.metrics.bleu import BLEU
from sacrebleu.metrics.chrf import CHRF
from sacrebleu.metrics.ter import TER
from sacrebleu.significance import PairedTest as SacreBleuTest

from tests.transformer_core.evaluation.test_metrics import corpus
from transformer_core.evaluation.error_rates import ExactMatch, WordErrorRate
from transformer_core.evaluation.metrics import MetricOptions, PairedTest, evaluate_corpus, evaluate_systems
from transformer_core.evaluation.significance import bootstrap_interval


@pytest.mark.parametrize("name", ["bleu", "chrf"])
def test_the_interval_equals_sacrebleu(name: str) -> None:
    hypotheses, references = corpus(50)
    metric = BLEU() if name == "bleu" else CHRF()
    theirs = metric.corpus_score(hypotheses, [references], n_bootstrap=200)
    options = MetricOptions(num_resamples=200)
    (ours,) = evaluate_corpus(hypotheses, [references], ["bleu" if name == "bleu" else "chrf"], options)
    assert ours.interval is not None
    assert ours.interval.mean == pytest.approx(theirs._mean, rel=1e-12)
    assert ours.interval.half_width == theirs._ci
    assert ours.signature == metric.get_signature().format()
    assert ours.text(2) == theirs.format(width=2, score_only=True)


def test_the_interval_of_wer_equals_resampling_the_lines() -> None:
    hypotheses, references = corpus(20)
    metric = WordErrorRate()
    interval = bootstrap_interval(metric, metric._extract_corpus_statistics(hypotheses, [references]), 100, seed=3)
    generator = np.random.default_rng(3)
    values = []
    for _ in range(100):
        drawn = generator.choice(20, size=20, replace=True)
        resampled = [[lines[index] for index in drawn] for lines in (hypotheses, references)]
        values.append(evaluate_corpus(resampled[0], [resampled[1]], ["wer"])[0].value)
    values.sort()
    assert interval.mean == pytest.approx(np.mean(values))
    assert interval.half_width == pytest.approx((values[97] - values[2]) / 2)  # 2 = 100 // 40, and as far from the end


def test_the_interval_of_exact_match_is_the_binomial_one() -> None:
    # 300 of 1,000 lines right: standard deviation sqrt(0.3 * 0.7 / 1000) = 1.449 points, 1.96 of them = 2.84.
    interval = bootstrap_interval(ExactMatch(), [[int(line < 300), 1] for line in range(1000)], 1000, seed=1)
    assert interval.mean == pytest.approx(30.0, abs=0.2)
    assert interval.half_width == pytest.approx(2.84, abs=0.25)


def test_the_seed_decides_and_stands_in_the_signature() -> None:
    hypotheses, references = corpus(30)

    def score(seed: int) -> tuple[str, str]:
        options = MetricOptions(num_resamples=50, seed=seed)
        (wer,) = evaluate_corpus(hypotheses, [references], ["wer"], options)
        return wer.text(6), wer.signature

    assert score(1) == score(1)
    assert score(1)[0] != score(2)[0]
    assert "|bs:50|seed:2|" in score(2)[1]


@pytest.mark.parametrize("kind", ["bs", "ar"])
def test_paired_tests_equal_sacrebleu(kind: PairedTest) -> None:
    hypotheses, lines = corpus(21)
    references = [lines]
    worse = [" ".join(line.split()[: 3 + number % 5]) for number, line in enumerate(hypotheses)]
    systems = [worse, hypotheses]
    metrics: dict[str, Metric] = {"bleu": BLEU(), "chrf": CHRF(), "ter": TER()}
    named: list[tuple[str, Sequence[str]]] = [(f"system {number}", system) for number, system in enumerate(systems)]
    signatures, theirs = SacreBleuTest(named, metrics, references, test_type=kind)()
    ours = evaluate_systems(systems, references, ["bleu", "chrf", "ter"], MetricOptions(paired_test=kind))
    for column, name in enumerate(("BLEU", "chrF2", "TER")):
        for row, result in zip(ours, theirs[name], strict=True):
            assert not isinstance(result, str)
            assert row[column].value == pytest.approx(result.score)
            if name == "TER" and result.p_value is not None:  # edits are whole numbers, so differences may be equal
                assert result.p_value <= (row[column].p_value or 0) < 2 * result.p_value
            else:
                assert row[column].p_value == result.p_value
            assert row[column].signature == signatures[name].format()


def test_paired_tests_tell_a_real_difference_from_none() -> None:
    references = [f"word {number} and word {number * 7 % 11}" for number in range(100)]
    wrong = [line if number % 3 else "nothing" for number, line in enumerate(references)]
    almost = ["nothing", *references[1:]]
    kinds: tuple[PairedTest, ...] = ("bs", "ar")
    for kind in kinds:
        scores = evaluate_systems(
            [references, wrong, almost, references], [references], ["exact", "wer"], MetricOptions(paired_test=kind)
        )
        for far, near, same in zip(*scores[1:], strict=True):
            assert scores[0][0].p_value is None
            assert far.p_value is not None
            assert near.p_value is not None
            assert same.p_value is not None
            assert far.p_value < 0.01 < near.p_value
            assert same.p_value == 1.0
            assert far.text().endswith(f"(p = {far.p_value:.4f})*")
            assert near.text().endswith(f"(p = {near.p_value:.4f})")
