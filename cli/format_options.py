"""What commands share that read columns and keys: the options of `--input-format`, each declared once."""

from typing import Annotated

import typer

from cli.options import INPUT_OUTPUT
from transformer_core.data import records

__all__ = ["Columns", "InputFormat"]

InputFormat = Annotated[
    records.InputFormat,
    typer.Option(
        "--input-format",
        help="What a line of the input is: text, a row of columns with tabs between them, or a JSON object.",
        rich_help_panel=INPUT_OUTPUT,
    ),
]
Columns = Annotated[
    list[str] | None,
    typer.Option(
        "--columns",
        "--column",
        metavar="NUMBER|KEY",
        help="Of --input-format tsv the number of a column that holds text, from 1; of jsonl its key. Repeat it for "
        "source and target. Default: 1, 2; text, translation.",
        rich_help_panel=INPUT_OUTPUT,
    ),
]
