"""`transduce compare`: attention, recurrent and convolutional layers side by side."""

from dataclasses import fields, replace
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from cli import console, options
from cli.settings import build, is_given
from transformer_core.config import PRESETS, StackConfig
from transformer_core.errors import ConfigError
from transformer_core.experiments.compare_config import DEFAULT_MINUTES, CompareConfig, TrainingComparison

__all__ = ["compare"]

LAYERS = "Layers"
METRICS = [options.MetricChoice(name) for name in TrainingComparison.metrics]


class MixerChoice(StrEnum):
    """The mixers once more: Typer takes a list of an Enum's members, but not of a Literal's values."""

    attention = "attention"
    gru = "gru"
    bigru = "bigru"
    lstm = "lstm"
    bilstm = "bilstm"
    ssru = "ssru"
    conv = "conv"


def compare(
    context: typer.Context,
    train_src: options.TrainSources = [],  # noqa: B006 - Typer copies it
    train_tgt: options.TrainTargets = [],  # noqa: B006 - Typer copies it
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            "--out",
            metavar="FOLDER",
            readable=False,
            help="Folder for the models that are trained, one for each mixer.",
            rich_help_panel=options.INPUT_OUTPUT,
        ),
    ] = None,
    valid_src: options.ValidSources = None,
    valid_tgt: options.ValidTargets = None,
    tokenizer: Annotated[
        Path | None,
        typer.Option(
            "--tokenizer",
            metavar="FILE",
            readable=False,
            help="Joint tokenizer. Default: learned from the training pairs.",
            rich_help_panel=options.INPUT_OUTPUT,
        ),
    ] = None,
    overwrite: options.Overwrite = False,
    json: options.Json = False,
    plot: options.Plot = None,
    mixers: Annotated[
        list[MixerChoice],
        typer.Option(
            "--mixer",
            help="Rows of the table; repeat it. Default: all. bigru and bilstm read both ways.",
            show_default=False,
            rich_help_panel=LAYERS,
        ),
    ] = list(MixerChoice),  # noqa: B006 - Typer copies it
    arch: Annotated[
        options.Preset,
        typer.Option("--arch", "-a", help="Preset: width, heads, depth.", rich_help_panel=LAYERS),
    ] = "tiny",
    kernel_width: Annotated[
        int,
        typer.Option("--kernel-width", min=1, help="conv: positions that a filter sees; odd.", rich_help_panel=LAYERS),
    ] = StackConfig.kernel_width,
    max_length: Annotated[
        int, typer.Option(min=1, help="Positions of the longest sequence that is measured.", rich_help_panel=LAYERS)
    ] = CompareConfig.max_length,
    minutes: Annotated[
        float | None,
        typer.Option(
            help=f"Minutes of training for each mixer. Default: {DEFAULT_MINUTES:g}.",
            rich_help_panel=options.TRAINING,
        ),
    ] = None,
    max_steps: Annotated[
        int | None,
        typer.Option(
            "--max-steps",
            "--max-updates",
            min=1,
            help="Updates for each mixer, in place of --minutes.",
            rich_help_panel=options.TRAINING,
        ),
    ] = None,
    metrics: Annotated[
        list[options.MetricChoice],
        typer.Option(
            "--metric",
            "--metrics",
            help="What the translations of the validation pairs are scored by; repeat it.",
            rich_help_panel=options.TRAINING,
        ),
    ] = METRICS,
    batch_size: Annotated[
        int | None,
        typer.Option(
            "--batch-size",
            "--max-tokens",
            min=1,
            help="Tokens of a batch. Default: 4096, 2048 of a small corpus.",
            rich_help_panel=options.TRAINING,
        ),
    ] = None,
    dropout: Annotated[
        float | None,
        typer.Option(
            min=0,
            max=0.999,
            help="Of embeddings and sublayers. Default: 0.3 or 0.4 for a small corpus, 0.1 for a large one.",
            rich_help_panel=options.TRAINING,
        ),
    ] = None,
    seed: options.Seed = CompareConfig.seed,
    device: options.Device = CompareConfig.device,
    threads: options.Threads = CompareConfig.threads,
) -> None:
    """Lay attention, recurrence and convolution side by side: what a layer costs, how far it sees, what it learns.

    transduce compare --plot layers.svg

    With pairs, every mixer is trained as well: models of equal size, for the same time or as many updates. Interrupted,
    it goes on when it is run again.

    transduce compare -s train.en -t train.de --minutes 10 -o mixers
    """
    training = None
    if train_src or train_tgt:
        if output is None:
            raise ConfigError("the models that are trained need a place: --output FOLDER")
        training = build(
            TrainingComparison,
            context.params,
            folder=output,
            metrics=[choice.value for choice in dict.fromkeys(metrics)],
            command=console.command_line(),
        )
    else:
        _warn_of_idle_options(context)
    config = build(
        CompareConfig,
        context.params,
        mixers=[choice.value for choice in dict.fromkeys(mixers)],
        stack=replace(PRESETS[arch], kernel_width=kernel_width),
        training=training,
    )
    from cli.compare_report import to_json, to_text
    from cli.training_display import training_display
    from transformer_core.experiments.compare import compare as compare_mixers
    from transformer_core.experiments.compare_figure import plot_comparison
    from transformer_core.inspection.figure_file import require_drawing

    if plot is not None:
        require_drawing(plot)
    with training_display(output or Path()) as listener:
        comparison = compare_mixers(config, listener, console.progress)
    if json:
        console.write_line(to_json(comparison))
    else:
        console.write(to_text(comparison))
    if plot is not None:
        plot_comparison(comparison, plot)
        console.info(f"{plot}: the figure")


def _warn_of_idle_options(context: typer.Context) -> None:
    """Say which options do nothing, because nothing is trained."""
    of_training = {"output", *(item.name for item in fields(TrainingComparison))}
    idle = [
        item.opts[0] for item in context.command.params if item.name in of_training and is_given(context, item.name)
    ]
    if idle:
        console.warn(f"without --train-src and --train-tgt nothing is trained: {', '.join(idle)} will do nothing")
