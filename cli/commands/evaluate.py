"""`transduce evaluate`: scores of hypotheses against references; arguments and names are sacreBLEU's."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from cli import console, format_options, options
from cli.evaluation_report import EvaluationReport
from cli.translation_output import warn_of_input
from transformer_core.data.lines import STANDARD_STREAM, Errors
from transformer_core.data.records import InputFormat, RecordForm, RecordReader
from transformer_core.errors import ConfigError, DataError
from transformer_core.evaluation.metrics import (
    METRICS,
    BleuTokenizer,
    MetricName,
    MetricOptions,
    doubts,
    evaluate_lines,
    evaluate_systems,
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
    input_format: format_options.InputFormat = "text",
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
    errors: options.Errors = "strict",
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
    paired_bs: Annotated[
        bool,
        typer.Option(
            "--paired-bs",
            help="Compare every system with the first by paired bootstrap resampling: p is the probability of such a "
            "difference by chance.",
            rich_help_panel=METRIC,
        ),
    ] = False,
    paired_ar: Annotated[
        bool,
        typer.Option(
            "--paired-ar",
            help="The same by approximate randomisation.",
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

    transduce evaluate test.de -i baseline.hyp -i better.hyp --paired-bs

    WER and CER: edits per hundred words or characters of the reference.

    exact: percentage of lines that are right. Of several references the closest counts.
    """
    how = MetricOptions(
        lowercase=lowercase,
        tokenize=tokenize,
        chrf_lowercase=chrf_lowercase,
        chrf_word_order=chrf_word_order,
        num_resamples=NUM_RESAMPLES if ci else 0,
        paired_test="bs" if paired_bs else "ar" if paired_ar else None,
        seed=seed,
    )
    names: list[MetricName] = [choice.value for choice in dict.fromkeys(metrics)]
    if paired_bs and paired_ar:
        raise ConfigError("--paired-bs and --paired-ar are two tests; give one of them")
    if how.paired_test is not None and (len(input) < 2 or sentence_level):
        raise ConfigError(f"--paired-{how.paired_test} compares whole files of several systems: -i BASELINE -i OTHER")
    form = _input_form(input_format, columns or [], num_files=len(reference))
    _check_arguments(reference, input, form, has_several_parts=sentence_level and (ci or len(input) > 1))
    texts = _read(reference, input, form, errors)
    references = [lines for path in reference for lines in texts[path][1:]]
    systems = [(path, texts[path][0]) for path in input]
    for path, hypotheses in systems:
        _check_lengths(path, hypotheses, reference, references)
        for doubt in doubts(hypotheses, references, names, how):
            console.warn(f"{path}: {doubt}")
    report = EvaluationReport(num_references=len(references), width=width, is_json=json, is_score_only=score_only)
    if sentence_level:
        path, hypotheses = systems[0]
        for number, scores in enumerate(evaluate_lines(hypotheses, references, names, how), 1):
            report.write_line_scores(path, number, scores)
    else:
        by_system = evaluate_systems([hypotheses for _, hypotheses in systems], references, names, how)
        report.write(
            [
                (path, len(hypotheses), score)
                for (path, hypotheses), scores in zip(systems, by_system, strict=True)
                for score in scores
            ]
        )


def _input_form(input_format: InputFormat, columns: Sequence[str], *, num_files: int) -> RecordForm:
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


def _read(
    references: Sequence[Path], inputs: Sequence[Path], form: RecordForm, errors: Errors
) -> dict[Path, list[list[str]]]:
    """Read every file once: its hypotheses, if it has any, and then its references.

    Raises:
        DataError: a file is empty, or not of the form.
    """
    texts: dict[Path, list[list[str]]] = {}
    for path in dict.fromkeys([*references, *inputs]):
        places = [*([0] if path in inputs else []), *(range(1, len(form.columns)) if path in references else [])]
        columns: list[list[str]] = [[] for _ in places or [0]]
        num_mended = 0
        with RecordReader([path], form.only(*places), errors=errors) as reader:
            for record in reader:
                num_mended += record.is_mended
                for column, text in zip(columns, record.texts, strict=True):
                    column.append(text)
        warn_of_input(num_mended, _name(path))
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
