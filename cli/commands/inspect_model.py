"""`transduce inspect model`: what a model is and where it comes from."""

from pathlib import Path
from typing import Annotated

import typer

from cli import console, options
from cli.completion import complete_model

__all__ = ["inspect_model"]


def inspect_model(
    model: Annotated[
        Path,
        typer.Argument(metavar="MODEL", readable=False, autocompletion=complete_model, help="Model folder to look at."),
    ],
    json: options.Json = False,
    verify: Annotated[
        bool,
        typer.Option(
            "--verify",
            help="Hash the files and hold them against what they were when they were written.",
            rich_help_panel=options.INPUT_OUTPUT,
        ),
    ] = False,
) -> None:
    """Say what a model is: architecture, parameters, tokenizer, scores, and where it comes from.

    transduce inspect model en-de --verify
    """
    from cli.model_report import to_json, to_text
    from transformer_core.inspection.model_summary import summarize_model

    summary = summarize_model(model, verify=verify)
    if json:
        console.write_line(to_json(summary))
    else:
        console.write(to_text(summary))
