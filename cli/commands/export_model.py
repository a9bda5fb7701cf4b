"""`transduce export`: a model in the format of another tool."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from cli import console, options
from cli.completion import complete_model
from cli.decoding_options import Checkpoint
from transformer_core.conversion.quantization import Quantization
from transformer_core.decoding.generation import model_search
from transformer_core.errors import ConfigError

__all__ = ["export"]

Format = Literal["huggingface", "ctranslate2"]


def export(
    model: Annotated[
        Path,
        typer.Argument(metavar="MODEL", readable=False, autocompletion=complete_model, help="Model folder to export."),
    ],
    to: Annotated[Format, typer.Option("--to", help="Whose format.", rich_help_panel=options.INPUT_OUTPUT)],
    output: options.ModelOutput,
    quantization: Annotated[
        Quantization,
        typer.Option(
            "--quantization",
            help="ctranslate2: how weights are stored; int8 takes a quarter of the place.",
            rich_help_panel=options.MODEL,
        ),
    ] = "none",
    checkpoint: Checkpoint = "best",
    tag: options.Tag = None,
) -> None:
    """Write a model in the format of another tool; it writes there what it writes here.

    transduce export en-de --to huggingface -o en-de-hf

    transduce export en-de --to ctranslate2 --quantization int8 -o en-de-ct2

    huggingface: a folder that AutoModelForSeq2SeqLM and AutoTokenizer of transformers load. Models of attention with
    --positions sinusoidal, LayerNorm and plain feed-forwards can be written; with --norm first, source and target share
    a table.

    ctranslate2: a folder that ctranslate2.Translator loads. All models of attention can be written, but for those
    with --query-key-norm.

    Other models are refused, with the option that is in the way.
    """
    if quantization != "none" and to != "ctranslate2":
        raise ConfigError(f"--quantization is for --to ctranslate2; {to} stores 32-bit floats")
    if tag is not None and to != "huggingface":
        raise ConfigError(f"--tag is for --to huggingface; for {to}, put its token before every source")
    from transformer_core.model_directory import load_model
    from transformer_core.model_files import read_config, require_decoder

    require_decoder(read_config(model), str(model))
    loaded = load_model(model, checkpoint)
    if to == "huggingface":
        from transformer_core.conversion.export_hugging_face import export_hugging_face

        first = export_hugging_face(loaded.tagged(tag), output, model_search(loaded.generation))
        if first is not None:
            console.info(f"there {first} goes before every source: its tokenizer does not put it there")
    else:
        from transformer_core.conversion.export_ctranslate2 import export_ctranslate2

        export_ctranslate2(loaded, output, quantization)
    console.info(f"{model} is in {output}, in the format of {to}")
