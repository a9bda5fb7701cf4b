"""`transduce translate`: lines in, lines out."""

from contextlib import closing
from typing import Annotated

import typer

from cli import console, format_options, guidance_options, options, settings
from cli.decoding_options import (
    BUFFER_SIZE,
    BatchSize,
    BeamSize,
    BufferSize,
    Checkpoint,
    JsonLines,
    LengthPenalty,
    LengthPenaltyType,
    Precision,
    chosen_format,
    generation_defaults,
)
from cli.line_translator import ServerSocket, check_choice, translation_config
from cli.prompt import line_count, typed_input
from cli.search_choice import chosen_search
from cli.translation_engine import Engine, Workers, translation_engine
from cli.translation_form import TranslationForm, TranslationFormat
from cli.translation_job import describe_job, numbered_windows, open_job_output, shard_bounds
from cli.translation_output import Tally
from cli.translation_work import TranslationSetup
from transformer_core.data.records import SOURCE_KEYS, RecordForm, RecordReader
from transformer_core.decoding.config import BatchConfig, LineGuide, LongInput, SearchConfig

__all__ = ["translate"]


@settings.model_defaults(generation_defaults)
def translate(
    context: typer.Context,
    model: options.Models = [],  # noqa: B006 - Typer copies it
    input: options.Inputs = [options.STANDARD_STREAM],  # noqa: B006 - Typer copies it
    output: options.Output = options.STANDARD_STREAM,
    resume: Annotated[
        bool,
        typer.Option(
            "--resume",
            help="Go on with the -o of a run that was killed, from the last window of --buffer-size lines.",
            rich_help_panel=options.INPUT_OUTPUT,
        ),
    ] = False,
    shard: Annotated[
        str | None,
        typer.Option(
            "--shard",
            metavar="K/N",
            help="Translate the K-th of N equal parts of the input; the outputs in a row are that of the whole.",
            rich_help_panel=options.INPUT_OUTPUT,
        ),
    ] = None,
    input_format: format_options.InputFormat = "text",
    columns: Annotated[
        str | None,
        typer.Option(
            "--columns",
            "--column",
            metavar="NUMBER|KEY",
            help="Which column of --input-format tsv, from 1, or key of jsonl is translated. Default: 1; text.",
            rich_help_panel=options.INPUT_OUTPUT,
        ),
    ] = None,
    format: Annotated[
        TranslationFormat | None,
        typer.Option(
            "--format",
            help="What a line of the results looks like. Default: the same as --input-format.",
            rich_help_panel=options.INPUT_OUTPUT,
        ),
    ] = None,
    json: JsonLines = False,
    alignments: guidance_options.Alignments = False,
    per_token: Annotated[
        bool,
        typer.Option(
            "--per-token",
            help="Add the tokens, each with its own log-probability; needs jsonl.",
            rich_help_panel=options.INPUT_OUTPUT,
        ),
    ] = SearchConfig.per_token,
    errors: options.Errors = "replace",
    long_input: Annotated[
        LongInput,
        typer.Option(
            "--long-input",
            help="What happens to a line that is too long for the model.",
            rich_help_panel=options.INPUT_OUTPUT,
        ),
    ] = BatchConfig.long_input,
    checkpoint: Checkpoint = "best",
    socket: ServerSocket = None,
    tag: options.Tag = None,
    greedy: Annotated[
        bool, typer.Option("--greedy", help="Take the best token at every step.", rich_help_panel=options.DECODING)
    ] = False,
    beam_size: BeamSize = SearchConfig.beam_size,
    n_best: Annotated[
        int,
        typer.Option(
            "--n-best",
            "--nbest",
            min=1,
            help="Translations per line, each another text: the best of the beam; or so many samples; not as text.",
            rich_help_panel=options.DECODING,
        ),
    ] = SearchConfig.n_best,
    length_penalty: LengthPenalty = SearchConfig.length_penalty,
    length_penalty_type: LengthPenaltyType = SearchConfig.length_penalty_type,
    early_stopping: Annotated[
        bool,
        typer.Option(
            "--early-stopping/--no-early-stopping",
            help="Be done with a line once --beam-size translations have ended, though one that goes on might be "
            "better: CTranslate2's rule.",
            rich_help_panel=options.DECODING,
        ),
    ] = SearchConfig.early_stopping,
    max_length: Annotated[
        int | None,
        typer.Option(
            "--max-length",
            min=1,
            help="Tokens that a translation may have; if not given, --max-length-ratio alone says.",
            rich_help_panel=options.DECODING,
        ),
    ] = SearchConfig.max_length,
    max_length_ratio: Annotated[
        float,
        typer.Option(
            "--max-length-ratio",
            help="Tokens that a translation may have per token of its line, 10 tokens aside.",
            rich_help_panel=options.DECODING,
        ),
    ] = SearchConfig.max_length_ratio,
    min_length: Annotated[
        int,
        typer.Option(
            "--min-length", min=0, help="Tokens that a translation must have.", rich_help_panel=options.DECODING
        ),
    ] = SearchConfig.min_length,
    sample: Annotated[
        bool,
        typer.Option(
            "--sample", help="Draw every token instead of searching for the best.", rich_help_panel=options.DECODING
        ),
    ] = SearchConfig.sample,
    temperature: Annotated[
        float,
        typer.Option(
            "--temperature",
            help="Of --sample: below 1 likely tokens get likelier, above 1 the others do.",
            rich_help_panel=options.DECODING,
        ),
    ] = SearchConfig.temperature,
    top_k: Annotated[
        int,
        typer.Option(
            "--top-k",
            min=0,
            help="Of --sample: draw from the k likeliest tokens; 0 from all.",
            rich_help_panel=options.DECODING,
        ),
    ] = SearchConfig.top_k,
    top_p: Annotated[
        float,
        typer.Option(
            "--top-p",
            help="Of --sample: draw from the fewest tokens that hold this share of the probability.",
            rich_help_panel=options.DECODING,
        ),
    ] = SearchConfig.top_p,
    beam_groups: guidance_options.BeamGroups = SearchConfig.beam_groups,
    diversity_penalty: guidance_options.DiversityPenalty = SearchConfig.diversity_penalty,
    mbr: guidance_options.MinimumBayesRisk = None,
    target_prefix: guidance_options.TargetPrefix = LineGuide.prefix,
    constraints: guidance_options.Constraint = None,
    ordered_constraints: guidance_options.OrderedConstraints = LineGuide.is_ordered,
    avoid: guidance_options.Avoid = None,
    no_repeat_ngram: guidance_options.NoRepeatNgram = SearchConfig.no_repeat_ngram,
    repetition_penalty: guidance_options.RepetitionPenalty = SearchConfig.repetition_penalty,
    ban_unk: Annotated[
        bool,
        typer.Option("--ban-unk", help="Never produce the unknown token.", rich_help_panel=options.DECODING),
    ] = SearchConfig.ban_unk,
    shortlist: Annotated[
        bool,
        typer.Option(
            "--shortlist/--no-shortlist",
            help="Choose among the tokens that the model's shortlist has for a line, which is faster; "
            "log-probabilities are those among them.",
            rich_help_panel=options.DECODING,
        ),
    ] = SearchConfig.shortlist,
    seed: options.Seed = SearchConfig.seed,
    batch_size: BatchSize = BatchConfig.batch_size,
    batch_type: options.BatchType = BatchConfig.batch_type,
    buffer_size: BufferSize = BUFFER_SIZE,
    precision: Precision = BatchConfig.precision,
    device: options.Device = "auto",
    threads: options.Threads = None,
    workers: Workers = None,
    engine: Engine = "processes",
) -> None:
    """Translate lines: one line out for every line in, in order, blank for blank.

    transduce translate -m en-de < test.en > test.de

    transduce translate -m en-de --greedy --format jsonl -i test.en.gz -o test.jsonl

    tsv: the row that was read with the translation in the place of its text, then its score and its log-probability.

    jsonl: an object per line: the keys that were read, and translation, score, log_probability and truncated; with
    --n-best also translations, scores and log_probabilities; with --per-token also tokens and token_log_probabilities;
    with --alignments also alignments. In --input-format jsonl the keys target_prefix, constraints and avoid ask what
    the options ask, for one line; unmet lists what could not be met.

    moses: line number, from 0, translation, log-probability and score, with three bars between; a line for each
    translation.

    log_probability is the natural logarithm, end token included; score is what ranks, the length penalty applied.

    On a terminal with nothing piped in, type a line and read its translation; Ctrl-D ends.
    """
    check_choice(context)
    records = RecordForm.choose(input_format, [] if columns is None else [columns], SOURCE_KEYS)
    chosen = chosen_format(context, format, json=json)
    form = TranslationForm(
        format=chosen or input_format,
        n_best=n_best,
        per_token=per_token,
        column=records.column_index,
        has_alignments=alignments,
        chooses=mbr is not None,
    )
    setup = TranslationSetup(
        folders=model,
        checkpoint=checkpoint,
        device=device,
        threads=threads,
        socket=socket,
        config=translation_config(context, chosen_search(context, scores=form.shows_scores)),
        form=form,
        asked=settings.build(LineGuide, context.params, prefix=target_prefix, is_ordered=ordered_constraints),
    )
    begin, end = shard_bounds(shard, input)
    described = describe_job(context.params, input) if resume else None
    source = typed_input(input, "type a line and press Enter for its translation; Ctrl-D ends")
    tally = Tally()
    with (
        RecordReader(input, records, errors=errors, source=source) as reader,
        translation_engine(setup, engine, workers if source is None else 1) as translate_all,
        open_job_output(output, described) as writer,
        line_count(input, output, work="translating") as advance,
    ):
        if writer is None:
            return console.info(f"{output} is complete")
        begin += writer.num_records
        advance(begin)  # they are passed over
        windows = numbered_windows(reader, buffer_size, begin, end)
        with closing(translate_all(windows)) as translated:
            for window in translated:
                for line in window.lines:
                    writer.write_line(line)
                writer.commit(window.num_records)
                tally.merge(window.tally)
                advance(window.num_records)
                if window.fault is not None:
                    raise window.fault
    tally.report(str(setup.config.search))
