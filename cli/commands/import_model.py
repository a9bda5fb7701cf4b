"""`transduce import`: a model of another tool as one of ours."""

import shlex
from pathlib import Path
from typing import Annotated

import typer

from cli import console, options

__all__ = ["import_model"]


def import_model(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", readable=False, help="Folder of the model to read.")],
    output: options.ModelOutput,
    source_language: Annotated[
        str | None,
        typer.Option(
            "--source-language",
            "--source-lang",
            "--src-lang",
            help="Of a model for many languages: the one to translate from, as the model calls it.",
            rich_help_panel=options.MODEL,
        ),
    ] = None,
    target_language: Annotated[
        str | None,
        typer.Option(
            "--target-language",
            "--target-lang",
            "--tgt-lang",
            help="And the one to translate into.",
            rich_help_panel=options.MODEL,
        ),
    ] = None,
) -> None:
    """Make a model of one that another tool has trained; it writes here what it writes there.

    transduce import opus-mt-en-de -o en-de

    transduce import nllb-200 --source-language eng_Latn --target-language deu_Latn -o en-de

    Folders of Hugging Face with a Marian (OPUS-MT), M2M100, NLLB, BART or mBART-50, and folders of CTranslate2 with an
    encoder and a decoder: those that `transduce export` has written, or with SentencePiece models beside them.

    A model for many languages is imported for two of them; import it again for others.
    """
    from transformer_core.conversion.foreign_vocabulary import Direction
    from transformer_core.conversion.import_folder import import_folder

    direction = Direction(source=source_language, target=target_language)
    if left_out := import_folder(folder, output, direction, console.command_line()):
        console.warn(f"{folder}: of its decoding defaults {', '.join(left_out)} could not be taken over")
    console.info(f"the model is in {output}: transduce translate -m {shlex.quote(str(output))} < new.txt")
