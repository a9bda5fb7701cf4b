"""`transduce prepare`: text in, a folder of token ids out that `train` and `pretrain` read without loading it."""

import os
import shlex
from pathlib import Path
from typing import Annotated

import typer

from cli import console, corpus_options, format_options, options, settings
from transformer_core.errors import ConfigError
from transformer_core.experiments.text_config import DataConfig, RawTextConfig

__all__ = ["prepare"]

PAIR_OPTIONS = (
    "train_src",
    "train_tgt",
    "valid_src",
    "valid_tgt",
    "source_tokenizer",
    "target_tokenizer",
    "tags",
    "columns",
)
LINE_OPTIONS = ("input", "valid")


def prepare(
    context: typer.Context,
    output: Annotated[
        Path,
        typer.Option(
            "--output",
            "-o",
            "--out",
            metavar="FOLDER",
            readable=False,
            help="Folder to write, for `train --data` or `pretrain --data`.",
            rich_help_panel=options.INPUT_OUTPUT,
        ),
    ],
    train_src: options.TrainSources = [],  # noqa: B006 - Typer copies it
    train_tgt: options.TrainTargets = [],  # noqa: B006 - Typer copies it
    input: corpus_options.RawText = [],  # noqa: B006 - Typer copies it
    valid_src: options.ValidSources = None,
    valid_tgt: options.ValidTargets = None,
    input_format: format_options.InputFormat = DataConfig.input_format,
    columns: format_options.Columns = None,
    valid: corpus_options.ValidRawText = None,
    valid_size: corpus_options.ValidSize = None,
    tokenizer: corpus_options.JointTokenizer = None,
    source_tokenizer: corpus_options.SourceTokenizer = None,
    target_tokenizer: corpus_options.TargetTokenizer = None,
    vocabulary_size: corpus_options.VocabularySize = None,
    tokenizer_kind: corpus_options.TokenizerKind = DataConfig.tokenizer_kind,
    max_length: corpus_options.MaxLength = DataConfig.max_length,
    errors: options.Errors = DataConfig.errors,
    weights: corpus_options.Weights = None,
    tags: corpus_options.Tags = None,
    overwrite: options.Overwrite = False,
    threads: options.Threads = None,
) -> None:
    """Tokenise pairs of lines, or raw text, into a folder that any number of runs can learn from.

    transduce prepare -s big.en -t big.de -o big

    transduce train --data big -o model

    `train` does the same by itself for each run; a folder saves that time, and can be moved to another machine. Memory
    does not grow with the text. All cores are used unless --threads says how many; the files are the same for any
    number.
    """
    is_raw = bool(input)
    for name in PAIR_OPTIONS if is_raw else LINE_OPTIONS:
        if context.params[name]:
            option = {"tags": "tag"}.get(name, name).replace("_", "-")
            home = "pairs of lines, not with --input" if is_raw else "--input"
            raise ConfigError(f"--{option} goes with {home}")
    if is_raw and input_format != "text":
        raise ConfigError(f"--input-format {input_format} goes with pairs of lines, not with --input")
    if not is_raw and not (train_src and (train_tgt or input_format != "text")):
        raise ConfigError("there is no text to prepare: give --train-src FILE and --train-tgt FILE, or --input FILE")
    if threads is not None:
        os.environ.setdefault("RAYON_NUM_THREADS", str(threads))
    data = settings.build(RawTextConfig, context.params) if is_raw else settings.build(DataConfig, context.params)
    from transformer_core.experiments.corpus_preparation import report_data
    from transformer_core.experiments.prepared_folder import Preparation, prepare_folder
    from transformer_core.worker_processes import num_cores

    task = Preparation(
        folder=output,
        data=data,
        processes=threads or num_cores(),
        overwrite=overwrite,
        command=console.command_line(),
    )
    prepared = prepare_folder(task, console.progress, console.info)
    if prepared is not None:
        report_data(prepared, data, console.info, console.warn)
        command = "pretrain" if is_raw else "train"
        console.info(f"{output} is ready: transduce {command} --data {shlex.quote(str(output))} -o model")
