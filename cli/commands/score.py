"""`transduce score`: the log-probability that a model gives to pairs of lines."""

import math
from dataclasses import dataclass
from functools import partial
from json import dumps
from typing import TYPE_CHECKING, Annotated

import typer

from cli import format_options, options, settings
from cli.decoding_options import (
    BUFFER_SIZE,
    BatchSize,
    BufferSize,
    Checkpoint,
    LengthPenalty,
    LengthPenaltyType,
    Precision,
    batch_config,
    generation_defaults,
    load_for_decoding,
    search_config,
)
from cli.line_fault import up_to_fault
from cli.translation_output import warn_of_input
from transformer_core.data.json_lines import join_object
from transformer_core.data.lines import LineWriter, open_output
from transformer_core.data.pairs import pair_windows
from transformer_core.data.records import PAIR_KEYS, Record, RecordForm
from transformer_core.data.tsv import join_row
from transformer_core.decoding.config import BatchConfig, SearchConfig
from transformer_core.errors import ConfigError, DataError

if TYPE_CHECKING:
    from tokenizer import Tokenizer
    from transformer_core.decoding.scoring import PairScore

__all__ = ["score"]

DIGITS = 6  # after the point


@settings.model_defaults(generation_defaults)
def score(
    context: typer.Context,
    model: options.Model,
    source: options.Source,
    target: options.Target = None,
    output: options.Output = options.STANDARD_STREAM,
    input_format: format_options.InputFormat = "text",
    columns: format_options.Columns = None,
    normalize: Annotated[
        bool,
        typer.Option(
            "--normalize",
            help="Print the score, the length penalty applied, in place of the log-probability.",
            rich_help_panel=options.INPUT_OUTPUT,
        ),
    ] = False,
    per_token: Annotated[
        bool,
        typer.Option(
            "--per-token",
            help="Add the tokens, each with its own log-probability.",
            rich_help_panel=options.INPUT_OUTPUT,
        ),
    ] = False,
    summary: Annotated[
        bool,
        typer.Option(
            "--summary",
            help="Print the perplexity of all lines together, and no more.",
            rich_help_panel=options.INPUT_OUTPUT,
        ),
    ] = False,
    json: options.Json = False,
    errors: options.Errors = "strict",
    checkpoint: Checkpoint = "best",
    tag: options.Tag = None,
    length_penalty: LengthPenalty = SearchConfig.length_penalty,
    length_penalty_type: LengthPenaltyType = SearchConfig.length_penalty_type,
    batch_size: BatchSize = BatchConfig.batch_size,
    batch_type: options.BatchType = BatchConfig.batch_type,
    buffer_size: BufferSize = BUFFER_SIZE,
    precision: Precision = BatchConfig.precision,
    device: options.Device = "auto",
    threads: options.Threads = None,
) -> None:
    """Print the log-probability of target lines given source lines: natural logarithm, end token included.

    transduce score -m en-de --src test.en --tgt test.de

    transduce score -m en-de --src test.en --tgt test.de --summary

    transduce translate -m en-de --input-format jsonl < test.jsonl | transduce score -m big -s - --input-format jsonl

    It is the number that translate prints for the same line. For BLEU and other comparisons with references there is
    `transduce evaluate`.

    --per-token: after the number, with tabs between, each token and its log-probability.

    --summary: perplexity = exp(-log_probability / tokens), end tokens counted.

    A blank target is scored as the end token alone, a blank source as a source of no token; where both are blank the
    log-probability is 0.
    """
    form = _Form(normalize=normalize, per_token=per_token, is_json=json)
    if summary and (normalize or per_token):
        raise ConfigError("--summary prints nothing but totals; leave out --normalize and --per-token")
    if target is None and input_format == "text":
        raise ConfigError("--tgt is missing; one file holds both sides with --input-format tsv or jsonl")
    target = target or source
    record_form = RecordForm.choose(input_format, columns or [], PAIR_KEYS)
    windows = pair_windows(source, target, buffer_size, errors, record_form)
    loaded = load_for_decoding(model, checkpoint, device, threads).tagged(tag)
    from transformer_core.decoding.scoring import Scorer

    scorer = Scorer(
        loaded.model,
        loaded.source_tokenizer,
        loaded.target_tokenizer,
        search_config({"model": model, "length_penalty": length_penalty, "length_penalty_type": length_penalty_type}),
        batch_config(context.params, loaded.generation),
        (str(source), str(target)),
    )
    totals, num_mended = _Totals(), 0
    with open_output(output) as writer:
        for window in windows:
            first = totals.num_lines + 1
            pairs = [(record.texts[0], record.texts[1]) for record in window]
            pair_scores, fault = up_to_fault(partial(scorer.score, first_line_number=first), pairs, first)
            for record, pair_score in zip(window, pair_scores, strict=False):
                totals.add(pair_score)
                num_mended += record.is_mended
                if not summary:
                    writer.write_line(form.line(pair_score, record, loaded.target_tokenizer))
            writer.flush()
            if fault is not None:
                raise fault
        if summary:
            totals.write(writer, str(target), is_json=json)
    warn_of_input(num_mended)


@dataclass(frozen=True, kw_only=True)
class _Form:
    """What a line of the output looks like."""

    normalize: bool
    per_token: bool
    is_json: bool

    def line(self, pair_score: "PairScore", record: Record, tokenizer: "Tokenizer") -> str:
        """Write the score of a pair as one line, without its end; JSON keeps the keys that were read."""
        tokens = tokenizer.tokens(list(pair_score.token_ids)) if self.per_token else []
        log_probabilities = pair_score.token_log_probabilities
        if self.is_json:
            fields: dict[str, object] = {
                "log_probability": round(pair_score.log_probability, DIGITS),
                "score": round(pair_score.score, DIGITS),
                "num_tokens": len(pair_score.token_ids),
            }
            if self.per_token:
                fields["tokens"] = tokens
                fields["token_log_probabilities"] = [round(value, DIGITS) for value in log_probabilities]
            return join_object(record.members, fields)
        number = pair_score.score if self.normalize else pair_score.log_probability
        cells = [f"{number:.{DIGITS}f}"]
        if self.per_token:
            for token, value in zip(tokens, log_probabilities, strict=True):
                cells += [token, f"{value:.{DIGITS}f}"]
        return join_row(cells)


@dataclass(kw_only=True)
class _Totals:
    """The sums over all lines."""

    num_lines: int = 0
    num_tokens: int = 0  # of the targets, end tokens included
    log_probability: float = 0.0

    def add(self, pair_score: "PairScore") -> None:
        self.num_lines += 1
        self.num_tokens += len(pair_score.token_ids)
        self.log_probability += pair_score.log_probability

    def write(self, writer: LineWriter, name: str, *, is_json: bool) -> None:
        """Write the summary.

        Raises:
            DataError: there was nothing to score.
        """
        if not self.num_tokens:
            raise DataError(f"{name}: holds no token, so there is no perplexity; name a file with text")
        perplexity = math.exp(min(-self.log_probability / self.num_tokens, 700.0))  # e^710 is beyond a float
        fields = {
            "perplexity": round(perplexity, DIGITS),
            "log_probability": round(self.log_probability, DIGITS),
            "num_tokens": self.num_tokens,
            "num_lines": self.num_lines,
        }
        if is_json:
            writer.write_line(dumps(fields))
            return
        for key, value in fields.items():
            writer.write_line(f"{key}\t{value}")
