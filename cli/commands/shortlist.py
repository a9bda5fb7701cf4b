"""`transduce shortlist`: which tokens a translation may be made of, learned from pairs for a model that is there."""

import shlex
from pathlib import Path
from typing import Annotated

import typer

from cli import console, corpus_options, format_options, options, settings
from cli.completion import complete_model
from transformer_core.experiments.text_config import DataConfig
from transformer_core.lexicon.config import ShortlistConfig

__all__ = ["shortlist"]


def shortlist(
    context: typer.Context,
    model: Annotated[
        Path,
        typer.Argument(metavar="MODEL", readable=False, autocompletion=complete_model, help="Model folder."),
    ],
    train_src: options.TrainSources = [],  # noqa: B006 - Typer copies it
    train_tgt: options.TrainTargets = [],  # noqa: B006 - Typer copies it
    input_format: format_options.InputFormat = DataConfig.input_format,
    columns: format_options.Columns = None,
    tags: corpus_options.Tags = None,
    errors: options.Errors = DataConfig.errors,
    best: Annotated[
        int,
        typer.Option(
            min=0, help="Translations of each source token, the likeliest ones.", rich_help_panel=options.MODEL
        ),
    ] = ShortlistConfig.best,
    frequent: Annotated[
        int,
        typer.Option(
            min=0,
            help="Tokens that every line may need: the most frequent ones of the targets.",
            rich_help_panel=options.MODEL,
        ),
    ] = ShortlistConfig.frequent,
    threads: options.Threads = None,
) -> None:
    """Learn which tokens the tokens of a source line may become, for translate --shortlist.

    transduce shortlist en-de -s train.en -t train.de

    transduce translate -m en-de --shortlist < test.en

    The pairs are those that the model was trained on, or others like them; `train --shortlist` learns it in the end by
    itself. By IBM model 1 (Brown et al. 1993), into MODEL/shortlist.safetensors. Memory does not grow with the text.
    """
    data = settings.build(DataConfig, context.params)
    config = settings.build(ShortlistConfig, context.params)
    from transformer_core.experiments.shortlist_learning import learn_from_text
    from transformer_core.worker_processes import num_cores

    num_pairs = learn_from_text(model, data, config, console.progress, threads or num_cores())
    name = shlex.quote(str(model))
    console.info(f"learned from {num_pairs:,} pairs: transduce translate -m {name} --shortlist < new.txt")
