"""The text that `prepare`, `train` and `pretrain` learn from: their options for it, each declared once."""

from pathlib import Path
from typing import Annotated

import typer

from cli.options import INPUT_OUTPUT
from transformer_core.experiments.text_config import LearnedKind

__all__ = [
    "JointTokenizer",
    "MaxLength",
    "Prepared",
    "RawText",
    "SourceTokenizer",
    "Tags",
    "TargetTokenizer",
    "TokenizerKind",
    "ValidRawText",
    "ValidSize",
    "VocabularySize",
    "Weights",
    "file_option",
]


def file_option(name: str, *short: str, help: str) -> typer.models.OptionInfo:
    """Declare an option that names a file; whether it can be read is the library's to say."""
    return typer.Option(  # type: ignore[no-any-return]
        name, *short, metavar="FILE", readable=False, help=help, rich_help_panel=INPUT_OUTPUT
    )


RawText = Annotated[
    list[Path],
    file_option("--input", "-i", help="Raw text to pretrain on, one item per line; repeat it for several files."),
]
ValidRawText = Annotated[
    list[Path] | None,
    file_option("--valid", "--dev", help="Raw text to validate on; repeat it for several files."),
]
ValidSize = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="Pairs or lines held back where no validation text is given. Default: 5 %, at most 1000.",
        rich_help_panel=INPUT_OUTPUT,
    ),
]
MaxLength = Annotated[
    int,
    typer.Option(
        min=1,
        max=1_000_000,
        help="Tokens a line may have; longer pairs are dropped, longer lines of raw text cut, and counted.",
        rich_help_panel=INPUT_OUTPUT,
    ),
]
JointTokenizer = Annotated[
    Path | None, file_option("--tokenizer", help="Joint tokenizer. Default: learned from the text.")
]
SourceTokenizer = Annotated[
    Path | None,
    file_option("--source-tokenizer", help="Tokenizer of the source alone; goes with --target-tokenizer."),
]
TargetTokenizer = Annotated[Path | None, file_option("--target-tokenizer", help="Tokenizer of the target alone.")]
Prepared = Annotated[
    Path | None,
    typer.Option(
        "--data",
        metavar="FOLDER",
        readable=False,
        help="Folder of `transduce prepare`, in place of text and tokenizers.",
        rich_help_panel=INPUT_OUTPUT,
    ),
]
Weights = Annotated[
    list[float] | None,
    typer.Option(
        "--weights",
        "--weight",
        help="Share of the batches, once for each training file or pair of them. Default: as large as they are.",
        rich_help_panel=INPUT_OUTPUT,
    ),
]
Tags = Annotated[
    list[str] | None,
    typer.Option(
        "--tag",
        help="What it is to become (de), once for each pair of training files: one model, several directions.",
        rich_help_panel=INPUT_OUTPUT,
    ),
]
VocabularySize = Annotated[
    int | None,
    typer.Option(
        "--vocab-size",
        min=1,
        help="Entries of the tokenizer that is learned. Default: fits the data.",
        rich_help_panel=INPUT_OUTPUT,
    ),
]
TokenizerKind = Annotated[
    LearnedKind,
    typer.Option(
        help="Kind of the tokenizer that is learned; auto: word where the words are few and frequent, as commands and "
        "sounds are, bpe elsewhere; one for each side where they differ in that.",
        rich_help_panel=INPUT_OUTPUT,
    ),
]
