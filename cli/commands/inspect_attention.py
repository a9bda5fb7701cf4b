"""`transduce inspect attention`: what a model looks at while it reads a sentence and writes another."""

import re
import shutil
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli import console, options
from cli.decoding_options import Checkpoint, load_for_decoding
from cli.translation_output import warn_of_input
from tokenizer.atomic_file import behind_links, write_text
from transformer_core.config import AttentionKind
from transformer_core.data.lines import LineReader
from transformer_core.decoding.config import BatchConfig
from transformer_core.decoding.generation import model_search
from transformer_core.errors import ConfigError, DataError
from transformer_core.inspection.attention_maps import HeadChoice, LayerChoice

if TYPE_CHECKING:
    from transformer_core.inspection.attention import Target
    from transformer_core.inspection.attention_maps import AttentionMap, SentenceAttention
    from transformer_core.model_directory import LoadedModel

__all__ = ["inspect_attention"]

SHOWN_CHARACTERS = 20  # of those without a font, at most


def _parse_choice(words: str, text: str) -> str:
    """Check the form of the number of a layer or a head; whether the model has it is seen when it is read."""
    if not re.fullmatch(rf"[1-9]\d{{0,3}}|{words}", text):
        raise typer.BadParameter(f"{text!r} is none; use a number from 1, {words.replace('|', ' or ')}")
    return text


def inspect_attention(
    model: options.Model,
    sentence: Annotated[
        str | None,
        typer.Argument(metavar="[SENTENCE]", help="What the model reads; without it, the line on standard input."),
    ] = None,
    target: Annotated[
        str | None,
        typer.Option(
            "--target",
            "--tgt",
            help="What the model writes; decoded if not given.",
            rich_help_panel=options.INPUT_OUTPUT,
        ),
    ] = None,
    plot: options.Plot = None,
    html: options.Html = None,
    json: options.Json = False,
    kind: Annotated[
        AttentionKind,
        typer.Option(
            "--kind",
            help="The encoder's self-attention, the decoder's, or cross-attention, from target to source.",
            rich_help_panel=options.MODEL,
        ),
    ] = "cross",
    layer: Annotated[
        str,
        typer.Option(
            "--layer",
            parser=lambda text: _parse_choice("last|all", text),
            metavar="N|last|all",
            help="Which layer, from 1.",
            rich_help_panel=options.MODEL,
        ),
    ] = "last",
    head: Annotated[
        str,
        typer.Option(
            "--head",
            parser=lambda text: _parse_choice("mean|all", text),
            metavar="N|mean|all",
            help="Which head, from 1, or the mean of them.",
            rich_help_panel=options.MODEL,
        ),
    ] = "mean",
    checkpoint: Checkpoint = "best",
    tag: options.Tag = None,
    device: options.Device = "auto",
    threads: options.Threads = None,
) -> None:
    """Show by which weights a model looks at tokens while it reads a sentence and writes another.

    transduce inspect attention -m en-de "A man is sleeping."

    transduce inspect attention -m en-de "A man is sleeping." --target "Ein Mann schläft." --html attention.html

    A row is a token that is read (encoder) or about to be written (decoder, cross); its columns are the tokens that it
    can look at, and its weights sum to 1. ▁ is a space.

    A model that was pretrained as an encoder alone has --kind encoder, and `<mask>` in the sentence is its mask.

    On a terminal it is a heat map, in a pipe a table with tabs. --plot draws it with matplotlib instead, in a grid if
    there are several; --html writes a page instead, where kind, layer and head are chosen, and the options say what it
    shows first.
    """
    from cli import attention_report
    from transformer_core.inspection.figure_file import require_drawing, write_figure
    from transformer_core.inspection.html_page import attention_page, require_page

    line = _sentence() if sentence is None else _one_line(sentence, "SENTENCE")
    if plot is not None:
        require_drawing(plot)
    if html is not None:
        require_page(html)
    loaded = load_for_decoding(model, checkpoint, device, threads, needs_decoder=False).tagged(tag)
    attention = _read(loaded, model, line, None if target is None else _one_line(target, "--target"))
    maps = attention.select(kind, _layer(layer), _head(head))
    if plot is not None:
        from transformer_core.inspection.plots import draw_attention

        _warn_of_fonts(plot, (*attention.rows(kind), *attention.columns(kind)))
        write_figure(plot, draw_attention(attention, maps))
    if html is not None:
        write_text(behind_links(html), attention_page(attention, maps[0], model.resolve().name))
    if json:
        console.write_line(attention_report.to_json(attention, maps))
    elif plot is None and html is None:
        console.write(_shown(attention, maps))


def _sentence() -> str:
    """Read the one line of standard input.

    Raises:
        ConfigError: nobody gave a sentence.
        DataError: there is none, or more than one.
    """
    if sys.stdin.isatty():
        raise ConfigError("SENTENCE is missing; give it in quotes, or pipe a line in")
    with LineReader(options.STANDARD_STREAM, errors="replace") as reader:
        lines = iter(reader)
        line = next(lines, "")
        if next(lines, None) is not None:
            raise DataError(f"{reader.name}: has more than one line; attention is looked at for one sentence")
        warn_of_input(reader.num_invalid)
    return line


def _one_line(text: str, name: str) -> str:
    """Give a text back that has no line end inside.

    Raises:
        DataError: it has.
    """
    if "\n" in text.rstrip("\n"):
        raise DataError(f"{name} has more than one line; attention is looked at for one sentence")
    return text.rstrip("\n")


def _read(loaded: "LoadedModel", folder: Path, source: str, target: str | None) -> "SentenceAttention":
    """Read the weights, after the target was decoded if there is none.

    Raises:
        ConfigError: there is a target, and a model that writes none.
    """
    from transformer_core.inspection.attention import Target, encode_source, read_attention

    tokenizers = (loaded.source_tokenizer, loaded.target_tokenizer)
    encode_source(loaded.model, loaded.source_tokenizer, source)  # its faults come before the work
    if loaded.model.config.is_encoder_only:
        if target is not None:
            raise ConfigError("the model is an encoder without a decoder, which writes nothing; leave out --target")
        return read_attention(loaded.model, tokenizers, source, None)
    if target is None:
        return read_attention(loaded.model, tokenizers, source, _decode(loaded, folder, source))
    target_ids = loaded.target_tokenizer.encode(target)
    given = Target(text=target, token_ids=target_ids, is_decoded=False)
    return read_attention(loaded.model, tokenizers, source, given)


def _decode(loaded: "LoadedModel", folder: Path, source: str) -> "Target":
    """Let the model write the target, as `translate` does with the defaults that it was saved with.

    Raises:
        ModelError: they are damaged, or the shortlist that they ask for is, or is missing.
    """
    from transformer_core.decoding.translator import Translator
    from transformer_core.inspection.attention import MAX_TOKENS, Target
    from transformer_core.lexicon.shortlist import Shortlist
    from transformer_core.model_files import SHORTLIST_FILE

    search, whole = model_search(loaded.generation), BatchConfig(max_source_length=MAX_TOKENS)
    translator = Translator(loaded.model, loaded.source_tokenizer, loaded.target_tokenizer, search, whole)
    if search.shortlist:
        tokenizers = (loaded.source_tokenizer, loaded.target_tokenizer)
        translator.choose_among(Shortlist.load(folder / SHORTLIST_FILE, *tokenizers))
    best = translator.translate([source])[0].hypotheses[0]
    if best.is_truncated:
        console.warn("the model did not end its translation; it is cut off at the length limit")
    return Target(text=best.text, token_ids=best.token_ids, is_decoded=True)


def _warn_of_fonts(plot: Path, labels: Iterable[str]) -> None:
    """Say which characters a picture cannot show; the text of an SVG is drawn by whoever shows it."""
    from transformer_core.inspection.fonts import without_font

    if plot.suffix.lower() == ".png" and (missing := without_font(labels)):
        some = missing if len(missing) <= SHOWN_CHARACTERS else f"{missing[:SHOWN_CHARACTERS]}…"
        console.warn(
            f"no font on this machine has {some}; boxes stand in their place, but not in an .svg or with --html"
        )


def _layer(text: str) -> LayerChoice | None:
    match text:
        case "all":
            return "all"
        case "last":
            return None
        case number:
            return int(number)


def _head(text: str) -> HeadChoice:
    match text:
        case "all" | "mean":
            return text
        case number:
            return int(number)


def _shown(attention: "SentenceAttention", maps: "list[AttentionMap]") -> str:
    """Heat maps where somebody looks at them, else a table."""
    from cli import attention_report

    if not sys.stdout.isatty():
        return attention_report.to_table(attention, maps)
    width = shutil.get_terminal_size().columns
    return attention_report.to_maps(attention, maps, width, has_color=console.results_have_color())
