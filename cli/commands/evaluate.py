"""`transduce evaluate`: scores of hypotheses against references; arguments and names are sacreBLEU's."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from json import dumps
from pathlib import Path
from typing import Annotated

import typer

from cli import console, options
from transformer_core.data.lines import STANDARD_STREAM
from transformer_core.data.records import RecordForm, RecordReader
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
    input_format: options.InputFormat = "text",
    columns: Annotated[
        list[str] | None,
        typer.Option(
            "--columns",
            "--column",
            metavar="NUMBER|KEY",
            help="Of --input-format tsv the number of the column of the hypotheses, from 1, and then that of the "
            "references, or those of several in one file; of jsonl their keys. Default: 1, 2; translation, reference.",
            rich_help_panel=options.INPUT_OUTPUT,
        ),
    ] = None,
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
    form = _input_form(input_format, columns or [], num_files=len(reference))
    _check_arguments(reference, input, form, has_several_parts=sentence_level and (ci or len(input) > 1))
    texts = _read(reference, input, form)
    references = [lines for path in reference for lines in texts[path][1:]]
    systems = [(path, texts[path][0]) for path in input]
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


def _input_form(input_format: options.InputFormatChoice, columns: Sequence[str], *, num_files: int) -> RecordForm:
    """What the files hold: the first column is that of the hypotheses, the others those of references.

    Raises:
        ConfigError: there are too few columns, or several of references beside several files.
    """
    if columns and input_format != "text" and (len(columns) < 2 or (num_files > 1 and len(columns) > 2)):
        raise ConfigError(
            f"--columns is given {len(columns)} times; give it twice, for hypotheses and references, or more often for "
            "several references in one file"
        )
    return RecordForm.choose(input_format, columns, columns or ("translation", "reference"))


def _check_arguments(
    references: Sequence[Path], inputs: Sequence[Path], form: RecordForm, *, has_several_parts: bool
) -> None:
    if has_several_parts:
        raise ConfigError("--sentence-level scores the lines of one system, without --ci")
    for path in references:
        if str(path) in METRICS and not path.exists():
            raise ConfigError(f"{path} is a metric, not a reference file; repeat the option: -m bleu -m {path}")
    names = [str(path) for path in (*references, *inputs)]
    if names.count(STANDARD_STREAM) > 1 and (form.format == "text" or len(names) > 2):
        raise ConfigError("only one file can be standard input (-); name the hypotheses with -i FILE")
    if STANDARD_STREAM in names and list(inputs) == [options.STANDARD_STREAM] and sys.stdin.isatty():
        raise ConfigError("there are no hypotheses: name a file with -i FILE, or pipe them in")


def _read(references: Sequence[Path], inputs: Sequence[Path], form: RecordForm) -> dict[Path, list[list[str]]]:
    """Read every file once: its hypotheses, if it has any, and then its references.

    Raises:
        DataError: a file is empty, or not of the form.
    """
    texts: dict[Path, list[list[str]]] = {}
    for path in dict.fromkeys([*references, *inputs]):
        places = [*([0] if path in inputs else []), *(range(1, len(form.columns)) if path in references else [])]
        columns: list[list[str]] = [[] for _ in places or [0]]
        with RecordReader([path], form.only(*places)) as reader:
            for record in reader:
                for column, text in zip(columns, record.texts, strict=True):
                    column.append(text)
        if not columns[0]:
            raise DataError(f"{_name(path)}: is empty; there is nothing to score")
        if form.format == "text":  # one column, whatever the file is named for
            texts[path] = [columns[0], columns[0]]
        else:
            texts[path] = columns if path in inputs else [[], *columns]
    return texts


def _name(path: Path) -> str:
    return "standard input" if str(path) == STANDARD_STREAM else str(path)


def _check_lengths(
    path: Path, hypotheses: Sequence[str], reference_paths: Sequence[Path], references: Sequence[Sequence[str]]
) -> None:
    names = reference_paths if len(reference_paths) == len(references) else [reference_paths[0]] * len(references)
    for reference_path, lines in zip(names, references, strict=True):
        if len(lines) != len(hypotheses):
            raise DataError(
                f"{_name(path)} has {len(hypotheses)} lines but {_name(reference_path)} has {len(lines)}; "
                "line N of the hypotheses must belong to line N of the references"
            )
