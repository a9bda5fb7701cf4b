"""What commands that read a corpus share: options on its text and its vocabulary, each declared once."""

from pathlib import Path
from typing import Annotated

import typer

from cli import options
from tokenizer.config import TrainedKind

__all__ = ["Prepared", "Tags", "TokenizerKind", "VocabularySize", "Weights"]

Prepared = Annotated[
    Path | None,
    typer.Option(
        "--data",
        metavar="FOLDER",
        readable=False,
        help="Folder of `transduce prepare`, in place of text and tokenizers.",
        rich_help_panel=options.INPUT_OUTPUT,
    ),
]
Weights = Annotated[
    list[float] | None,
    typer.Option(
        "--weights",
        "--weight",
        help="Share of the batches, once for each pair of training files. Default: as large as they are.",
        rich_help_panel=options.INPUT_OUTPUT,
    ),
]
Tags = Annotated[
    list[str] | None,
    typer.Option(
        "--tag",
        help="What it is to become (de), once for each pair of training files: one model, several directions.",
        rich_help_panel=options.INPUT_OUTPUT,
    ),
]
VocabularySize = Annotated[
    int | None,
    typer.Option(
        "--vocab-size",
        min=1,
        help="Entries of the tokenizer that is learned. Default: fits the data.",
        rich_help_panel=options.INPUT_OUTPUT,
    ),
]
TokenizerKind = Annotated[
    TrainedKind, typer.Option(help="Kind of the tokenizer that is learned.", rich_help_panel=options.INPUT_OUTPUT)
]
