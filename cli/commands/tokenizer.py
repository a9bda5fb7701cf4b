"""`transduce tokenizer`: learn a vocabulary, use it by itself, and look at what it does to a text."""

import re
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from cli import console, options, settings
from cli.line_fault import up_to_fault
from cli.tokenizer_report import to_json, to_text
from cli.translation_output import warn_of_input
from tokenizer import (
    Normalization,
    Tokenizer,
    TokenizerConfig,
    TokenizerConfigError,
    TokenizerDataError,
    TrainedKind,
    check_round_trip,
    train_tokenizer,
)
from tokenizer.atomic_file import behind_links
from tokenizer.config import DEFAULT_KIND
from transformer_core.data.compression import is_compressed
from transformer_core.data.lines import Errors, LineReader, open_output, require_place
from transformer_core.errors import LineError

__all__ = ["app"]

VOCABULARY = "Vocabulary"
WINDOW_LINES = 1000  # encoded at a time; fewer when the input pauses

app = typer.Typer(help="Learn a vocabulary; encode, decode, look inside.", rich_markup_mode="rich")

TokenizerFile = Annotated[
    Path,
    typer.Option(
        "--tokenizer",
        "-t",
        metavar="FILE",
        readable=False,
        help="Tokenizer made by `transduce tokenizer train`.",
        rich_help_panel=options.INPUT_OUTPUT,
    ),
]
Ids = Annotated[
    bool,
    typer.Option("--ids", help="Numbers instead of tokens.", rich_help_panel=options.INPUT_OUTPUT),
]


@app.command()
def train(
    context: typer.Context,
    input: options.Inputs,
    output: Annotated[
        Path,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE",
            readable=False,
            help="Tokenizer to write, such as joint.json; - is standard output.",
            rich_help_panel=options.INPUT_OUTPUT,
        ),
    ],
    vocab_size: Annotated[
        int,
        typer.Option(
            "--vocab-size",
            "--vocabulary-size",
            help="Entries of the vocabulary at most, the special tokens included.",
            rich_help_panel=VOCABULARY,
        ),
    ] = TokenizerConfig.vocabulary_size,
    kind: Annotated[
        TrainedKind,
        typer.Option(
            "--kind",
            help="How text is cut into tokens; bpe and byte-bpe bring every line back exactly.",
            rich_help_panel=VOCABULARY,
        ),
    ] = DEFAULT_KIND,
    normalization: Annotated[
        Normalization,
        typer.Option(
            "--normalization",
            help="Unicode form that text is brought into; nfd spells Korean syllables out in letters.",
            rich_help_panel=VOCABULARY,
        ),
    ] = TokenizerConfig.normalization,
    lowercase: Annotated[
        bool, typer.Option("--lowercase", help="Give up capitals.", rich_help_panel=VOCABULARY)
    ] = TokenizerConfig.lowercase,
    errors: options.Errors = "strict",
) -> None:
    """Learn a vocabulary from text.

    One for both sides: transduce tokenizer train -i train.en -i train.de -o joint.json --vocab-size 10000

    One for each side: run it twice, once for each.

    bpe spells a character that it has no entry for in bytes. unigram, wordpiece, char and word make an unknown token
    of what they cannot spell; `transduce tokenizer info FILE --check TEXT` counts it.
    """
    config = TokenizerConfig(kind=kind, vocabulary_size=vocab_size, normalization=normalization, lowercase=lowercase)
    if is_compressed(output):
        raise TokenizerConfigError(f"{output}: no tokenizer is read packed; give -o {output.with_suffix('')}")
    require_place(output)
    with console.progress("learning the vocabulary", unit="lines") as advance:
        try:
            tokenizer = train_tokenizer(_read(input, errors), config, advance)
        except TokenizerDataError as error:
            names = ("standard input" if path == options.STANDARD_STREAM else str(path) for path in input)
            raise TokenizerDataError(f"{', '.join(names)}: {error}") from None
    if output == options.STANDARD_STREAM:
        console.write(tokenizer.to_json())
    else:
        tokenizer.save(behind_links(output))
    found = f"{output}: {kind}, {tokenizer.vocabulary_size} entries"
    if tokenizer.vocabulary_size == vocab_size:
        console.info(found)
    elif settings.is_given(context, "vocab_size"):
        console.warn(f"{found}, not {vocab_size}: the text has no more to learn")
    else:
        console.info(f"{found}, all that the text has to learn")


@app.command()
def encode(
    tokenizer: TokenizerFile,
    input: options.Input = options.STANDARD_STREAM,
    output: options.Output = options.STANDARD_STREAM,
    ids: Ids = False,
    errors: options.Errors = "strict",
) -> None:
    r"""Turn lines of text into lines of tokens, or with --ids of numbers.

    transduce tokenizer encode -t joint.json < test.en

    Tokens stand with spaces between them; inside a token "▁" is a space, and "\▁" a "▁" of the text. Those of byte-bpe
    are bytes, each as GPT-2 writes it: "Ġ" is a space, and "Ã©" an "é".
    """
    loaded = Tokenizer.load(tokenizer)
    _hint_at_terminal(input)
    with LineReader(input, errors=errors) as reader, open_output(output) as writer:
        for window in reader.windows(WINDOW_LINES):
            for row in loaded.encode_batch(window):
                writer.write_line(" ".join(map(str, row) if ids else loaded.tokens(row)))
            writer.flush()
    warn_of_input(reader.num_invalid, reader.name)


@app.command()
def decode(
    tokenizer: TokenizerFile,
    input: options.Input = options.STANDARD_STREAM,
    output: options.Output = options.STANDARD_STREAM,
    ids: Ids = False,
    errors: options.Errors = "strict",
) -> None:
    """Turn lines of tokens, or with --ids of numbers, as encode writes them, into lines of text.

    transduce tokenizer decode -t joint.json < test.tokens
    """
    loaded = Tokenizer.load(tokenizer)
    _hint_at_terminal(input)
    with LineReader(input, errors=errors) as reader, open_output(output) as writer:
        for window in reader.windows(WINDOW_LINES):
            first_number = reader.line_number - len(window) + 1
            work = partial(_decode, loaded, name=reader.name, first_number=first_number, is_numbers=ids)
            texts, fault = up_to_fault(work, window, first_number)
            for text in texts:
                writer.write_line(text)
            writer.flush()
            if fault is not None:
                raise fault
    warn_of_input(reader.num_invalid, reader.name)


@app.command()
def info(
    file: Annotated[Path, typer.Argument(metavar="FILE", readable=False, help="Tokenizer to look at.")],
    check: Annotated[
        Path | None,
        typer.Option(
            "--check",
            metavar="TEXT",
            readable=False,
            help="Text to encode and decode: what does not come back exactly, and how many tokens it takes.",
            rich_help_panel=options.INPUT_OUTPUT,
        ),
    ] = None,
    json: options.Json = False,
    errors: options.Errors = "strict",
) -> None:
    """Say what a tokenizer is, and with --check what it does to a text.

    transduce tokenizer info joint.json --check test.en
    """
    loaded = Tokenizer.load(file)
    report = None
    if check is not None:
        with LineReader(check, errors=errors) as reader, console.progress("checking", unit="lines") as advance:
            report = check_round_trip(loaded, _counted(reader, advance))
        warn_of_input(reader.num_invalid, reader.name)
    if json:
        console.write_line(to_json(file, loaded, check, report))
    else:
        console.write(to_text(file, loaded, check, report))


def _decode(tokenizer: Tokenizer, lines: Sequence[str], name: str, first_number: int, *, is_numbers: bool) -> list[str]:
    """The text of lines of tokens or numbers, the first of which is number `first_number` of `name`.

    Raises:
        LineError: something in one of them is not in the vocabulary, or no number.
    """
    numbered = enumerate(lines, first_number)
    return tokenizer.decode_batch(
        [_parse_row(tokenizer, line, name, number, is_numbers=is_numbers) for number, line in numbered]
    )


def _parse_row(tokenizer: Tokenizer, line: str, name: str, number: int, *, is_numbers: bool) -> list[int]:
    """The ids of a line of tokens or numbers; `name` and `number` say which.

    Raises:
        LineError: one of them is not in the vocabulary, or no number.
    """
    items = [item for item in line.split(" ") if item]
    try:
        if not is_numbers:
            return tokenizer.token_ids(items)
        if not all(re.fullmatch("-?[0-9]+", item) for item in items):  # int() reads "1_0" and "٣" as well
            raise ValueError
        row = [int(item) for item in items]
        tokenizer.tokens(row)  # raises for a number that is no id
        return row
    except ValueError:
        message = f"{name}:{number}: is not a line of numbers; without --ids, tokens are read"
        raise LineError(number, message) from None
    except TokenizerDataError as error:
        advice = "" if is_numbers else "; is it the tokenizer that encoded the line? --ids reads numbers"
        raise LineError(number, f"{name}:{number}: {error}{advice}") from None


def _read(paths: Sequence[Path], errors: Errors) -> Iterator[str]:
    """The lines of several files."""
    if list(paths).count(options.STANDARD_STREAM) > 1:
        raise TokenizerConfigError("standard input (-) can be only one of the files")
    for path in paths:
        _hint_at_terminal(path)
        with LineReader(path, errors=errors) as reader:
            yield from reader
        warn_of_input(reader.num_invalid, reader.name)


def _counted(reader: LineReader, advance: Callable[[int], None]) -> Iterator[str]:
    for line in reader:
        advance(1)
        yield line


def _hint_at_terminal(path: Path) -> None:
    if path == options.STANDARD_STREAM and sys.stdin.isatty():
        console.info("reading from the terminal, one item per line; Ctrl-D ends, -i FILE reads a file")
