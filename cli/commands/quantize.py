"""`transduce quantize`: the weights of a model in fewer bits."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from cli import console, options
from cli.decoding_options import Checkpoint

__all__ = ["quantize"]


def quantize(
    model: Annotated[Path, typer.Argument(metavar="MODEL", readable=False, help="Model folder.")],
    output: options.ModelOutput,
    to: Annotated[
        Literal["int8", "bf16"],
        typer.Option(
            "--to", help="int8: a quarter of the size; bf16: half of it, and nearer.", rich_help_panel=options.MODEL
        ),
    ] = "int8",
    checkpoint: Checkpoint = "best",
) -> None:
    """Make a model folder smaller: weights in 8 bits with a scale for every row, or in 16.

    transduce quantize en-de -o en-de-small

    The result is a model like any other, for translate, score, train or export. It is as fast as it was: products in 8
    bits are what --precision int8 of translate asks for, of any model.
    """
    from transformer_core.model_files import read_config
    from transformer_core.quantized_model import quantize_model

    before, after = quantize_model(model, output, to, checkpoint, console.command_line())
    command = "fill" if read_config(output).is_encoder_only else "translate"
    console.info(
        f"weights of {before / 2**20:.1f} MiB are {after / 2**20:.1f} MiB in {output}: transduce {command} -m {output} "
        "< new.txt"
    )
