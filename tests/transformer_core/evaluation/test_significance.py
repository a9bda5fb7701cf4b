import numpy as np
import pytest
from sacrebleu.metrics.bleu import BLEU
from sacrebleu.metrics.chrf import CHRF

from tests.transformer_core.evaluation.test_metrics import corpus
from transformer_core.evaluation.error_rates import ExactMatch, WordErrorRate
from transformer_core.evaluation.metrics import MetricOptions, evaluate_corpus
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
