"""`transduce evaluate`: scores of hypotheses against references; arguments and names are sacreBLEU's."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from json import dumps
from pathlib import Path
from typing import Annotated

import typer

from cli import console, options
from transformer_core.data.lines import STANDARD_STREAM, read_lines
from transformer_core.errors import ConfigError, DataError
from transformer_core.evaluation.metrics import (
    METRICS,
    BleuTokenizer,
    MetricName,
    MetricOptions,
    MetricScore,
    doubts,
    evaluate_corpus,
    evaluate_lines,
)

__all__ = ["evaluate"]

METRIC = "Metrics"
NUM_RESAMPLES = 1000  # as sacreBLEU


def evaluate(
    reference: Annotated[
        list[Path],
        typer.Argument(metavar="REF", readable=False, help="References: files of as many lines as the hypotheses."),
    ],
    input: Annotated[
        list[Path],
        typer.Option(
            "--input",
            "-i",
            metavar="FILE",
            readable=False,
            help="Hypotheses to score, one per line; repeat it for several systems; - is standard input.",
            rich_help_panel=options.INPUT_OUTPUT,
        ),
    ] = [options.STANDARD_STREAM],  # noqa: B006 - Typer copies it
    metrics: Annotated[
        list[options.MetricChoice],
        typer.Option("--metrics", "-m", "--metric", help="What to compute; repeat it.", rich_help_panel=METRIC),
    ] = [options.MetricChoice.bleu, options.MetricChoice.chrf],  # noqa: B006 - Typer copies it
    lowercase: Annotated[
        bool,
        typer.Option(
            "--lowercase",
            "-lc",
            help="BLEU, WER, CER and exact match do not look at case. (TER never does.)",
            rich_help_panel=METRIC,
        ),
    ] = MetricOptions.lowercase,
    tokenize: Annotated[
        BleuTokenizer | None,
        typer.Option(
            "--tokenize", "-tok", help="How BLEU cuts lines into words; 13a if not given.", rich_help_panel=METRIC
        ),
    ] = MetricOptions.tokenize,
    chrf_lowercase: Annotated[
        bool, typer.Option("--chrf-lowercase", help="chrF does not look at case.", rich_help_panel=METRIC)
    ] = MetricOptions.chrf_lowercase,
    chrf_word_order: Annotated[
        int,
        typer.Option(
            "--chrf-word-order", "-cw", help="Longest word n-gram in chrF; 2 is chrF++.", rich_help_panel=METRIC
        ),
    ] = MetricOptions.chrf_word_order,
    ci: Annotated[
        bool,
        typer.Option(
            "--ci",
            "-ci",
            "--confidence",
            help=f"Add the 95 % confidence interval of {NUM_RESAMPLES} bootstrap resamples.",
            rich_help_panel=METRIC,
        ),
    ] = False,
    seed: options.Seed = MetricOptions.seed,
    sentence_level: Annotated[
        bool,
        typer.Option("--sentence-level", "-sl", help="Score every line by itself.", rich_help_panel=METRIC),
    ] = False,
    score_only: Annotated[
        bool,
        typer.Option("--score-only", "-b", help="Print numbers only.", rich_help_panel=options.INPUT_OUTPUT),
    ] = False,
    width: Annotated[
        int | None,
        typer.Option(
            "--width",
            "-w",
            min=0,
            max=15,
            help="Digits after the point; if not given, 1, or all in JSON.",
            rich_help_panel=options.INPUT_OUTPUT,
        ),
    ] = None,
    json: options.Json = False,
) -> None:
    """Score hypotheses against references: BLEU, chrF, TER, WER, CER, exact match.

    transduce evaluate test.de -i test.hyp -m bleu -m chrf --ci

    BLEU, chrF and TER are sacreBLEU's, to the last digit and with its signatures.

    WER and CER: edits per hundred words or characters of the reference.

    exact: percentage of lines that are right. Of several references the closest counts.
    """
    how = MetricOptions(
        lowercase=lowercase,
        tokenize=tokenize,
        chrf_lowercase=chrf_lowercase,
        chrf_word_order=chrf_word_order,
        num_resamples=NUM_RESAMPLES if ci else 0,
        seed=seed,
    )
    names: list[MetricName] = [choice.value for choice in dict.fromkeys(metrics)]
    _check_arguments(reference, input, has_several_parts=sentence_level and (ci or len(input) > 1))
    references = [_read(path) for path in reference]
    systems = [(path, _read(path)) for path in input]
    for path, hypotheses in systems:
        _check_lengths(path, hypotheses, reference, references)
        for doubt in doubts(hypotheses, references, names, how):
            console.warn(f"{path}: {doubt}")
    report = _Report(num_references=len(references), width=width, is_json=json, is_score_only=score_only)
    if sentence_level:
        path, hypotheses = systems[0]
        for number, scores in enumerate(evaluate_lines(hypotheses, references, names, how), 1):
            report.write_line_scores(path, number, scores)
    else:
        report.write(
            [
                (path, len(hypotheses), score)
                for path, hypotheses in systems
                for score in evaluate_corpus(hypotheses, references, names, how)
            ]
        )


@dataclass(frozen=True, kw_only=True)
class _Report:
    """How scores are written."""

    num_references: int
    width: int | None  # digits after the point; None: 1 in text, all in JSON
    is_json: bool
    is_score_only: bool

    def write(self, scores: Sequence[tuple[Path, int, MetricScore]]) -> None:
        """Write scores of whole files, each with its system and its number of lines."""
        if self.is_json:
            for path, num_lines, score in scores:
                console.write_line(self._to_json(score, {"system": str(path), "num_lines": num_lines}))
        elif self.is_score_only:
            for _, _, score in scores:
                console.write_line(self._to_text(score))
        else:
            self._write_table(scores)

    def write_line_scores(self, path: Path, number: int, scores: Sequence[MetricScore]) -> None:
        """Write the scores of one line, with a tab between metrics; what they are stands on stderr, or in the JSON."""
        if self.is_json:
            for score in scores:
                console.write_line(self._to_json(score, {"system": str(path), "line": number}))
            return
        if number == 1 and not self.is_score_only:
            for score in scores:
                console.info(f"{score.label}: {score.signature}")
        console.write_line("\t".join(map(self._to_text, scores)))

    def _write_table(self, scores: Sequence[tuple[Path, int, MetricScore]]) -> None:
        """One row per score: the system if there are several, the metric, its value, its signature."""
        has_several_systems = len({path for path, _, _ in scores}) > 1
        rows = []
        for path, _, score in scores:
            row = [str(path)] if has_several_systems else []
            row += [score.label, self._to_text(score)]
            row += [score.details] if console.is_verbose() else []
            rows.append([*row, score.signature])
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        for row in rows:
            console.write_line("  ".join(cell.ljust(size) for cell, size in zip(row, widths, strict=True)).rstrip())

    def _to_text(self, score: MetricScore) -> str:
        return score.text(1 if self.width is None else self.width)

    def _to_json(self, score: MetricScore, place: dict[str, object]) -> str:
        interval = score.interval
        fields = {
            **place,
            "num_references": self.num_references,
            "metric": score.name,
            "name": score.label,
            "score": self._round(score.value),
            "confidence_mean": None if interval is None else self._round(interval.mean),
            "confidence_half_width": None if interval is None else self._round(interval.half_width),
            "verbose_score": score.details,
            "signature": score.signature,
        }
        return dumps(fields, ensure_ascii=False)

    def _round(self, value: float) -> float:
        return value if self.width is None else float(f"{value:.{self.width}f}")


def _check_arguments(references: Sequence[Path], inputs: Sequence[Path], *, has_several_parts: bool) -> None:
    if has_several_parts:
        raise ConfigError("--sentence-level scores the lines of one system, without --ci")
    for path in references:
        if str(path) in METRICS and not path.exists():
            raise ConfigError(f"{path} is a metric, not a reference file; repeat the option: -m bleu -m {path}")
    if [str(path) for path in (*references, *inputs)].count(STANDARD_STREAM) > 1:
        raise ConfigError("only one file can be standard input (-); name the hypotheses with -i FILE")
    if list(inputs) == [options.STANDARD_STREAM] and sys.stdin.isatty():
        raise ConfigError("there are no hypotheses: name a file with -i FILE, or pipe them in")


def _read(path: Path) -> list[str]:
    lines = list(read_lines([path]))
    if not lines:
        name = "standard input" if str(path) == STANDARD_STREAM else path
        raise DataError(f"{name}: is empty; there is nothing to score")
    return lines


def _check_lengths(
    path: Path, hypotheses: Sequence[str], reference_paths: Sequence[Path], references: Sequence[Sequence[str]]
) -> None:
    for reference_path, lines in zip(reference_paths, references, strict=True):
        if len(lines) != len(hypotheses):
            name = "standard input" if str(path) == STANDARD_STREAM else path
            raise DataError(
                f"{name} has {len(hypotheses)} lines but {reference_path} has {len(lines)}; "
                "line N of the hypotheses must belong to line N of the references"
            )
