"""Scores of hypotheses against references: BLEU, chrF and TER by sacreBLEU; WER, CER and exact match beside them.

    scores = evaluate_corpus(hypotheses, [references], ["bleu", "wer"])
    for score in scores:
        print(score.label, score.text(), score.signature)

Post (2018), "A call for clarity in reporting BLEU scores": a score is worth something with its signature only.
sacreBLEU and numpy are imported when a score is computed, not before.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal, get_args

from transformer_core.errors import ConfigError, DataError

if TYPE_CHECKING:
    from sacrebleu.metrics.base import Metric, Score

    from transformer_core.evaluation.significance import ConfidenceInterval

__all__ = [
    "DEFAULT_METRICS",
    "METRICS",
    "BleuTokenizer",
    "MetricName",
    "MetricOptions",
    "MetricScore",
    "PairedTest",
    "doubts",
    "evaluate_corpus",
    "evaluate_lines",
    "evaluate_systems",
    "higher_is_better",
]

MetricName = Literal["bleu", "chrf", "ter", "wer", "cer", "exact"]
PairedTest = Literal["bs", "ar"]  # sacreBLEU's names: paired bootstrap, approximate randomisation
BleuTokenizer = Literal["13a", "none", "intl", "char", "zh", "ja-mecab", "ko-mecab", "flores101", "flores200"]

METRICS: tuple[MetricName, ...] = get_args(MetricName)
DEFAULT_METRICS: tuple[MetricName, ...] = ("bleu", "chrf")

SIGNIFICANT = 0.05  # a p-value below has a star

_ERROR_RATES = ("ter", "wer", "cer")
_NUM_DRAWS: dict[PairedTest, int] = {"bs": 1000, "ar": 10_000}  # as sacreBLEU
_NUM_SUSPICIOUS_LINES = 100  # lines that end in " ." before sacreBLEU, too, suspects tokenised text


@dataclass(frozen=True, kw_only=True)
class MetricOptions:
    """How to score; the defaults are sacreBLEU's, and so are the names."""

    lowercase: bool = False  # BLEU, WER, CER, exact: letters that differ only in case are equal
    tokenize: BleuTokenizer | None = None  # BLEU: how lines are cut into words; None is 13a, as in mteval
    chrf_lowercase: bool = False  # chrF: letters that differ only in case are equal
    chrf_word_order: int = 0  # chrF: longest word n-gram counted beside characters; 2 is chrF++
    num_resamples: int = 0  # bootstrap draws for a confidence interval; 0 is none
    paired_test: PairedTest | None = None  # of every system against the first
    seed: int = 12345  # of bootstrap and paired test

    def __post_init__(self) -> None:
        if self.chrf_word_order not in range(7):
            raise ConfigError(f"chrf_word_order ({self.chrf_word_order}) must be 0 to 6; chrF++ is 2")
        if self.num_resamples < 0 or self.num_resamples == 1:
            raise ConfigError(f"num_resamples ({self.num_resamples}) must be 0 (no interval) or at least 2")


@dataclass(frozen=True, kw_only=True)
class MetricScore:
    """A score and what it takes to reproduce it."""

    name: MetricName  # what asks for the metric
    label: str  # what tables call it: "BLEU", "chrF2++"
    value: float  # 0 to 100; error rates can exceed 100
    signature: str  # "nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp|version:2.6.0"
    details: str  # the counts behind it: "55.1/30.2/... (BP = 0.98 ratio = ...)", "(edits = 3 ref_len = 7)"
    interval: "ConfidenceInterval | None" = None  # 95 %, if asked for
    p_value: float | None = None  # of the difference to the first system, if there is one and it is asked for

    def text(self, width: int = 1) -> str:
        """The value with `width` digits after the point and its interval, as sacreBLEU writes them."""
        text = f"{self.value:.{width}f}"
        if self.interval is not None:
            text += f" (μ = {self.interval.mean:.{width}f} ± {self.interval.half_width:.{width}f})"
        if self.p_value is not None:
            text += f" (p = {self.p_value:.4f})" + ("*" if self.p_value < SIGNIFICANT else "")
        return text


def higher_is_better(name: MetricName) -> bool:
    """Tell whether the better of two systems has the higher score; it has the lower one for error rates."""
    return name not in _ERROR_RATES


def evaluate_corpus(
    hypotheses: Sequence[str],
    references: Sequence[Sequence[str]],
    metrics: Sequence[MetricName] = DEFAULT_METRICS,
    options: MetricOptions | None = None,
) -> list[MetricScore]:
    """Score a whole test set.

    Args:
        hypotheses: what a system made, one item per line.
        references: for each reference file its lines, as many as there are hypotheses.
        metrics: names, in the order in which the scores are wanted.
        options: how to score; None is the defaults.

    Raises:
        DataError: there are no lines, no references, or not equally many.
        ConfigError: a tokenizer needs a package that is not installed.
    """
    return evaluate_systems([hypotheses], references, metrics, options)[0]


def evaluate_systems(
    systems: Sequence[Sequence[str]],
    references: Sequence[Sequence[str]],
    metrics: Sequence[MetricName] = DEFAULT_METRICS,
    options: MetricOptions | None = None,
) -> list[list[MetricScore]]:
    """Score what several systems made of one test set; with a paired test also compare each with the first.

    Args:
        systems: for each its hypotheses, one item per line.
        references: as for evaluate_corpus.
        metrics: as for evaluate_corpus.
        options: as for evaluate_corpus.

    Returns:
        for each system its scores, in the order of `metrics`.

    Raises:
        DataError: as for evaluate_corpus.
        ConfigError: as for evaluate_corpus.
    """
    options = options or MetricOptions()
    for hypotheses in systems:
        _check_lengths(hypotheses, references)
    columns = [_score_systems(name, systems, references, options) for name in metrics]
    return [list(row) for row in zip(*columns, strict=True)]


def evaluate_lines(
    hypotheses: Sequence[str],
    references: Sequence[Sequence[str]],
    metrics: Sequence[MetricName] = DEFAULT_METRICS,
    options: MetricOptions | None = None,
) -> Iterator[list[MetricScore]]:
    """Score every line by itself; BLEU then counts the n-gram orders that the line is long enough for.

    Yields:
        For each line its scores, in the order of `metrics`.

    Raises:
        DataError: as for evaluate_corpus.
        ConfigError: as for evaluate_corpus.
    """
    options = options or MetricOptions()
    _check_lengths(hypotheses, references)
    by_name = {name: _new_metric(name, options, is_sentence_level=True) for name in metrics}
    for hypothesis, *line_references in zip(hypotheses, *references, strict=True):
        yield [
            _to_score(name, by_name[name], by_name[name].sentence_score(hypothesis, line_references))
            for name in metrics
        ]


def doubts(
    hypotheses: Sequence[str],
    references: Sequence[Sequence[str]],
    metrics: Sequence[MetricName],
    options: MetricOptions | None = None,
) -> list[str]:
    """Name what often makes a score wrong: one sentence for each thing that the lines look like."""
    options = options or MetricOptions()
    found = []
    flags = {
        "--lowercase": not options.lowercase and {"bleu", "wer", "cer", "exact"}.intersection(metrics),
        "--chrf-lowercase": not options.chrf_lowercase and "chrf" in metrics,
    }
    helpful = [flag for flag, helps in flags.items() if helps]
    if helpful:
        ours, theirs = _share_of_capitals(hypotheses), _share_of_capitals(line for file in references for line in file)
        if max(ours, theirs) > 0.005 and min(ours, theirs) < 0.1 * max(ours, theirs):
            found.append(
                f"of the letters {ours:.1%} are capitals in the hypotheses, but {theirs:.1%} in the references; "
                f"to compare without case, pass {' and '.join(helpful)}"
            )
    if "bleu" in metrics and options.tokenize != "none":
        num_tokenized = sum(line.endswith(" .") for line in hypotheses)
        if num_tokenized >= _NUM_SUSPICIOUS_LINES:
            found.append(
                f"{num_tokenized} hypotheses end in a separate full stop (' .'); BLEU wants detokenised text, "
                "which it tokenises itself"
            )
    return found


def _check_lengths(hypotheses: Sequence[str], references: Sequence[Sequence[str]]) -> None:
    if not references:
        raise DataError("there is no reference to compare with")
    if not hypotheses:
        raise DataError("there are no hypotheses to score")
    for number, lines in enumerate(references, 1):
        if len(lines) != len(hypotheses):
            raise DataError(f"there are {len(hypotheses)} hypotheses but {len(lines)} lines in reference {number}")


def _score_systems(
    name: MetricName, systems: Sequence[Sequence[str]], references: Sequence[Sequence[str]], options: MetricOptions
) -> list[MetricScore]:
    from transformer_core.evaluation.significance import approximate_randomization, bootstrap_interval, paired_bootstrap

    metric = _new_metric(name, options)
    # These two steps are what `corpus_score` does; the counts between them are needed for intervals and tests.
    counted = [metric._extract_corpus_statistics(hypotheses, references) for hypotheses in systems]
    scores = [metric._aggregate_and_compute(statistics) for statistics in counted]
    intervals: list[ConfidenceInterval | None] = [None for _ in systems]
    p_values: list[float | None] = [None for _ in systems]
    signature = metric.get_signature()
    if options.num_resamples:
        intervals = [
            bootstrap_interval(metric, statistics, options.num_resamples, options.seed) for statistics in counted
        ]
        metric.n_bootstrap, metric.seed = options.num_resamples, str(options.seed)
        signature = metric.get_signature()
    if options.paired_test is not None:
        test = {"bs": paired_bootstrap, "ar": approximate_randomization}[options.paired_test]
        num_draws = _NUM_DRAWS[options.paired_test]
        p_values[1:] = [test(metric, counted[0], statistics, num_draws, options.seed) for statistics in counted[1:]]
        signature.update("seed", str(options.seed))
        signature.update(options.paired_test, num_draws)
    return [
        replace(_to_score(name, metric, score), signature=signature.format(), interval=interval, p_value=p_value)
        for score, interval, p_value in zip(scores, intervals, p_values, strict=True)
    ]


def _new_metric(name: MetricName, options: MetricOptions, *, is_sentence_level: bool = False) -> "Metric":
    from sacrebleu.metrics.bleu import BLEU
    from sacrebleu.metrics.chrf import CHRF
    from sacrebleu.metrics.ter import TER

    from transformer_core.evaluation.error_rates import CharacterErrorRate, ExactMatch, WordErrorRate

    match name:
        case "bleu":
            try:
                return BLEU(
                    lowercase=options.lowercase,
                    tokenize=options.tokenize,
                    effective_order=is_sentence_level,
                    force=True,  # its warning about tokenised text is one of our `doubts`
                )
            except (ImportError, OSError, RuntimeError) as error:
                raise ConfigError(f"the tokenizer {options.tokenize} cannot be used: {_one_line(error)}") from error
        case "chrf":
            return CHRF(lowercase=options.chrf_lowercase, word_order=options.chrf_word_order)
        case "ter":
            return TER()
        case "wer":
            return WordErrorRate(options.lowercase)
        case "cer":
            return CharacterErrorRate(options.lowercase)
        case "exact":
            return ExactMatch(options.lowercase)
        case _:
            raise ConfigError(f"unknown metric {name!r}; use {', '.join(METRICS)}")


def _to_score(name: MetricName, metric: "Metric", score: "Score") -> MetricScore:
    return MetricScore(
        name=name,
        label=score.name,
        value=float(score.score),
        signature=metric.get_signature().format(),
        details=score._verbose,
    )


def _share_of_capitals(lines: Iterable[str]) -> float:
    """Capitals among the letters that could be capitals."""
    num_upper = num_lower = 0
    for line in lines:
        num_upper += sum(map(str.isupper, line))
        num_lower += sum(map(str.islower, line))
    return num_upper / max(1, num_upper + num_lower)


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())
