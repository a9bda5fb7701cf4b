import random
import subprocess
import sys
import time
from typing import get_args

import pytest
from sacrebleu.metrics.bleu import BLEU

from transformer_core.errors import ConfigError, DataError
from transformer_core.evaluation.metrics import (
    DEFAULT_METRICS,
    METRICS,
    BleuTokenizer,
    MetricName,
    MetricOptions,
    doubts,
    evaluate_corpus,
    evaluate_lines,
    higher_is_better,
)

WORDS = [
    "the",
    "a",
    "cat",
    "dog",
    "House",
    "sat",
    "Ran",
    "on",
    "under",
    "mat,",
    "tree.",
    "quickly",
    "über",
    "naïve",
    "3.14",
    "don't",
]


def corpus(num_lines: int, seed: int = 1) -> tuple[list[str], list[str]]:
    """Hypotheses and references that share most of their words."""
    generator = random.Random(seed)
    references = [" ".join(generator.choices(WORDS, k=generator.randint(4, 18))) for _ in range(num_lines)]
    hypotheses = [
        " ".join(word for word in line.split() if generator.random() > 0.2) + generator.choice([".", ""])
        for line in references
    ]
    return hypotheses, references


@pytest.mark.parametrize("name", METRICS)
def test_a_perfect_system_has_the_best_score(name: MetricName) -> None:
    hypotheses, references = corpus(30)
    perfect = evaluate_corpus(references, [references], [name])[0].value
    real = evaluate_corpus(hypotheses, [references], [name])[0].value
    assert perfect == pytest.approx(100.0 if higher_is_better(name) else 0.0)
    assert (perfect > real) == higher_is_better(name)


def test_directions() -> None:
    assert [name for name in METRICS if higher_is_better(name)] == ["bleu", "chrf", "exact"]


def test_scores_come_in_the_order_asked_for_with_default_bleu_and_chrf() -> None:
    hypotheses, references = corpus(5)
    assert [score.name for score in evaluate_corpus(hypotheses, [references])] == list(DEFAULT_METRICS)
    names: list[MetricName] = ["wer", "bleu", "ter"]
    assert [score.name for score in evaluate_corpus(hypotheses, [references], names)] == names


def test_options_reach_their_metrics() -> None:
    hypotheses, references = corpus(5)
    options = MetricOptions(lowercase=True, tokenize="intl", chrf_lowercase=True, chrf_word_order=2)
    bleu, chrf = evaluate_corpus(hypotheses, [references], ["bleu", "chrf"], options)
    assert "case:lc" in bleu.signature
    assert "tok:intl" in bleu.signature
    assert chrf.label == "chrF2++"
    assert "case:lc" in chrf.signature


def test_options_that_cannot_work() -> None:
    for values in ({"chrf_word_order": -1}, {"chrf_word_order": 7}, {"num_resamples": 1}, {"num_resamples": -5}):
        with pytest.raises(ConfigError, match=next(iter(values))):
            MetricOptions(**values)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="unknown metric 'blue'; use bleu, chrf"):
        evaluate_corpus(["a"], [["a"]], ["blue"])  # type: ignore[list-item]


def test_every_tokenizer_that_is_offered_is_one_of_sacrebleu() -> None:
    assert set(get_args(BleuTokenizer)) <= set(BLEU.TOKENIZERS)


def test_a_tokenizer_that_cannot_be_loaded_says_why_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise RuntimeError("\nJapanese tokenization requires\n\n    pip install sacrebleu[ja]\n")

    monkeypatch.setattr("sacrebleu.metrics.bleu.BLEU.__init__", refuse)
    with pytest.raises(ConfigError, match=r"ja-mecab cannot be used: .*requires pip install sacrebleu\[ja\]$"):
        evaluate_corpus(["a"], [["a"]], ["bleu"], MetricOptions(tokenize="ja-mecab"))


def test_lengths_must_agree() -> None:
    with pytest.raises(DataError, match="2 hypotheses but 1 lines in reference 2"):
        evaluate_corpus(["a", "b"], [["a", "b"], ["a"]], ["wer"])
    with pytest.raises(DataError, match="no hypotheses"):
        evaluate_corpus([], [[]], ["wer"])
    with pytest.raises(DataError, match="no reference"):
        list(evaluate_lines(["a"], [], ["wer"]))


def test_lines_are_scored_one_by_one() -> None:
    hypotheses, references = corpus(4)
    rows = list(evaluate_lines(hypotheses, [references], ["wer", "bleu"]))
    for hypothesis, reference, (wer, bleu) in zip(hypotheses, references, rows, strict=True):
        assert wer == evaluate_corpus([hypothesis], [[reference]], ["wer"])[0]
        assert "eff:yes" in bleu.signature


def test_an_empty_hypothesis_is_no_error() -> None:
    for score in evaluate_corpus(["", ""], [["a b", "c"]], list(METRICS)):
        assert score.value == (100.0 if score.name in ("ter", "wer", "cer") else 0.0)


def test_text_is_what_sacrebleu_writes() -> None:
    score = evaluate_corpus(["a b"], [["a c"]], ["wer"])[0]
    assert (score.text(), score.text(3)) == ("50.0", "50.000")


# --- doubts -----------------------------------------------------------------------------------------------------------


def test_a_lowercased_system_against_cased_references_is_doubted() -> None:
    references = ["Ein Mann sitzt auf einer Bank."] * 10
    hypotheses = [line.lower() for line in references]
    (doubt,) = doubts(hypotheses, [references], ["bleu"])
    # 3 of the 24 letters are capitals.
    assert doubt == (
        "of the letters 0.0% are capitals in the hypotheses, but 12.5% in the references; "
        "to compare without case, pass --lowercase"
    )
    assert doubts(hypotheses, [references], ["wer", "chrf"])[0].endswith("pass --lowercase and --chrf-lowercase")
    lowercased = MetricOptions(lowercase=True)
    assert doubts(hypotheses, [references], ["bleu", "chrf"], lowercased)[0].endswith("pass --chrf-lowercase")
    assert doubts(references, [hypotheses], ["chrf"])
    assert not doubts(hypotheses, [references], ["ter"])
    assert not doubts(hypotheses, [references], ["bleu"], lowercased)
    assert not doubts(references, [references], ["bleu"])
    assert not doubts(["猫"] * 10, [["犬"] * 10], ["bleu"])


def test_tokenised_hypotheses_are_doubted_as_sacrebleu_does() -> None:
    references = ["a b."] * 100
    assert len(doubts(["a b ."] * 100, [references], ["bleu"])) == 1
    assert not doubts(["a b ."] * 99 + ["a b."], [references], ["bleu"])
    assert not doubts(["a b ."] * 100, [references], ["bleu"], MetricOptions(tokenize="none"))
    assert not doubts(["a b ."] * 100, [references], ["wer"])


# --- weight -----------------------------------------------------------------------------------------------------------


def test_a_thousand_lines_are_scored_in_well_under_a_second() -> None:
    hypotheses, references = corpus(1000)
    evaluate_corpus(hypotheses[:1], [references[:1]], list(METRICS))  # imports
    started_at = time.process_time()
    evaluate_corpus(hypotheses, [references], ["bleu", "chrf", "wer", "cer", "exact"])
    assert time.process_time() - started_at < 1.0


def test_naming_metrics_loads_no_library() -> None:
    program = (
        "import sys, transformer_core.evaluation.metrics as metrics; metrics.MetricOptions();"
        "sys.exit(any(name in sys.modules for name in ('torch', 'numpy', 'sacrebleu', 'rapidfuzz')))"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
    program = (
        "import sys; from transformer_core.evaluation.metrics import *;"
        "evaluate_corpus(['a'], [['a']], METRICS, MetricOptions(num_resamples=10)); sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
