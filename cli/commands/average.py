"""`transduce average`: one model of several sets of weights."""

from pathlib import Path
from typing import Annotated

import typer

from cli import console, options

__all__ = ["average"]


def average(
    models: Annotated[
        list[Path],
        typer.Argument(
            metavar="MODEL...",
            readable=False,
            help="One model folder, for its last weights; or several model or checkpoint folders.",
        ),
    ],
    output: options.ModelOutput,
    last: Annotated[
        int | None,
        typer.Option(
            "--last",
            "-n",
            min=2,
            help="How many of the last weights of one model folder. Default: 5.",
            rich_help_panel=options.MODEL,
        ),
    ] = None,
    checkpoint: Annotated[
        list[str] | None,
        typer.Option(
            "--checkpoint",
            metavar="STEP|best|last",
            help="Weights of this step of one model folder; repeat it for several.",
            rich_help_panel=options.MODEL,
        ),
    ] = None,
) -> None:
    """Average weights: the mean of several is often better than any of them, and as fast as one.

    transduce average en-de -n 5 -o en-de-mean

    transduce average seed1 seed2 seed3 -o mean

    Of one model folder the last weights are averaged: snapshots and checkpoints, but none that a signal saved.

    Several models must be of one architecture and vocabulary; a mean makes sense if they started from the same weights.
    """
    from transformer_core.model_files import read_config
    from transformer_core.training.averaged_model import average_models, find_weights

    sources = find_weights(models, last, checkpoint or ())
    average_models(sources, output, console.command_line())
    if last is not None and len(sources) < last:
        console.warn(f"{models[0]} has {len(sources)} saved weights, not {last}: the mean is of all that there are")
    for source in sources:
        console.detail(f"averaged {source.path}")
    command = "fill" if read_config(output).is_encoder_only else "translate"
    console.info(
        f"the mean of {len(sources)} sets of weights is in {output}: transduce {command} -m {output} < new.txt"
    )
