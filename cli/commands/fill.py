"""`transduce fill`: lines with masks in, filled lines out."""

from dataclasses import dataclass
from json import dumps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli import console, options
from cli.decoding_options import (
    BUFFER_SIZE,
    BatchSize,
    BufferSize,
    Checkpoint,
    JsonLines,
    Precision,
    batch_config,
    chosen_format,
    load_for_decoding,
)
from cli.prompt import line_count, typed_input
from cli.translation_output import LineNumbers, warn_of_halvings, warn_of_input
from transformer_core.data.lines import LineReader, open_output
from transformer_core.data.tsv import join_row
from transformer_core.decoding.config import BatchConfig, SearchConfig
from transformer_core.decoding.generation import model_length_ratio
from transformer_core.errors import ConfigError, ModelError

if TYPE_CHECKING:
    from transformer_core.decoding.filling import FilledLine, Filler, Rewriter
    from transformer_core.model_directory import LoadedModel

__all__ = ["fill"]

INVITATION = "type a line with <mask> in it and press Enter; Ctrl-D ends"
DEFAULT_TOP_K = 5
DIGITS = 6  # of a probability after the point


def fill(
    context: typer.Context,
    model: options.Model,
    input: options.Input = options.STANDARD_STREAM,
    output: options.Output = options.STANDARD_STREAM,
    format: options.Format = "text",
    json: JsonLines = False,
    top_k: Annotated[
        int | None,
        typer.Option(
            "--top-k",
            "-k",
            min=1,
            help="Candidates for each mask, with --format tsv or jsonl. Default: 5.",
            rich_help_panel=options.DECODING,
        ),
    ] = None,
    errors: options.Errors = "replace",
    checkpoint: Checkpoint = "best",
    batch_size: BatchSize = BatchConfig.batch_size,
    batch_type: options.BatchType = BatchConfig.batch_type,
    buffer_size: BufferSize = BUFFER_SIZE,
    precision: Precision = BatchConfig.precision,
    device: options.Device = "auto",
    threads: options.Threads = None,
) -> None:
    """Fill the masks of lines with what a pretrained model expects there: one line out for every line in.

    echo 'the cat <mask> on the mat' | transduce fill -m pretrained

    echo 'the cat <mask> on the mat' | transduce fill -m pretrained --format jsonl --top-k 10

    A space before <mask> belongs to the word that it hides. A line without a mask comes back as it is.

    tsv: the filled line, then for each mask its candidates, best first: token, probability, token, probability …

    jsonl: an object per line with text, the filled line, and masks, for each mask a list of token and probability.

    Each mask is predicted by itself; probabilities are the model's, over its whole vocabulary. A denoising model
    writes the whole line anew, and has no candidates.
    """
    form = _Form(format=chosen_format(context, format, json=json), top_k=top_k)
    with LineReader(input, errors=errors, source=typed_input([input], INVITATION)) as reader:
        loaded = load_for_decoding(model, checkpoint, device, threads, needs_decoder=False)
        filler = _filler(loaded, model, form, batch_config(context.params, loaded.generation), reader.name)
        num_lines, cut, truncated = 0, LineNumbers(), LineNumbers()
        with open_output(output) as writer, line_count([input], output, work="filling") as advance:
            for window in reader.windows(buffer_size):
                for line in filler.fill(window, num_lines + 1):
                    num_lines += 1
                    writer.write_line(form.line(line))
                    if line.is_cut:
                        cut.add(num_lines)
                    if line.is_truncated:
                        truncated.add(num_lines)
                writer.flush()
                advance(len(window))
    warn_of_input(reader.num_invalid)
    warn_of_halvings(filler.num_halvings)
    if cut.count:
        console.warn(f"{cut} too long for the model: seen in pieces")
    if truncated.count:
        console.warn(f"{truncated} cut off at the length limit")


@dataclass(frozen=True, kw_only=True)
class _Form:
    """What a line of the output looks like."""

    format: options.FormatChoice
    top_k: int | None  # as it was asked for

    def __post_init__(self) -> None:
        if self.format == "text" and self.top_k is not None:
            raise ConfigError(f"--top-k {self.top_k} needs --format tsv or jsonl: text has the best of each mask alone")

    def line(self, filled: "FilledLine") -> str:
        """Write a line, without its end."""
        match self.format:
            case "text":
                return filled.text
            case "tsv":
                cells = [filled.text]
                for candidates in filled.masks:
                    for candidate in candidates:
                        cells += [candidate.token, f"{candidate.probability:.{DIGITS}f}"]
                return join_row(cells)
            case "jsonl":
                masks = [
                    [{"token": found.token, "probability": round(found.probability, DIGITS)} for found in candidates]
                    for candidates in filled.masks
                ]
                return dumps({"text": filled.text, "masks": masks}, ensure_ascii=False)


def _filler(loaded: "LoadedModel", folder: Path, form: _Form, batching: BatchConfig, name: str) -> "Filler | Rewriter":
    """Make what fills with this kind of model.

    Raises:
        ConfigError: candidates are asked for of a model that has none.
        ModelError: the model has not learned to fill.
    """
    from transformer_core.decoding.filling import Filler, Rewriter

    if loaded.model.config.is_encoder_only:
        top_k = form.top_k or (1 if form.format == "text" else DEFAULT_TOP_K)
        return Filler(loaded.model, loaded.source_tokenizer, top_k, batching, name)
    pretraining = loaded.metadata.get("pretraining")
    if not isinstance(pretraining, dict) or pretraining.get("objective") != "denoising":
        raise ModelError(
            f"{folder}: was trained to translate, not to fill masks; `transduce pretrain` makes models that do, and "
            f"`transduce translate -m {folder}` uses this one"
        )
    if form.top_k is not None:
        raise ConfigError(
            f"--top-k {form.top_k} needs a masked model, but {folder} is a denoising one, which writes the line anew"
        )
    return Rewriter(
        loaded.model,
        loaded.source_tokenizer,
        SearchConfig(max_length_ratio=model_length_ratio(loaded.generation)),
        batching,
        name,
    )
