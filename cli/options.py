"""Options that several commands share, each declared once.

A command uses them as the type of a parameter of the same name; the default comes from the dataclass it configures:

    def translate(
        model: options.Model,
        input: options.Input = options.STANDARD_STREAM,
        seed: options.Seed = SearchConfig.seed,
    ) -> None:

Conventions, kept by cli/settings.py and by a test:

- The first long name is the option's name: `--beam-size` on the command line and in the help, `beam_size` in a
  configuration file, TRANSDUCE_TRANSLATE_BEAM_SIZE in the environment, and `beam_size` the parameter unless that is
  a bad name for a variable. Further long names are aliases from other tools: accepted, not shown.
- A fixed set of values is a Literal, so that it completes and a mistyped value gets the nearest one suggested.
- A path says `readable=False`: whether a file can be read is the library's to say, with the exit code of bad data.
- -c/--config, --print-config, -q, -v, --no-color, --debug and -h are on every command already.
"""

import re
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Literal

import typer

from cli.completion import complete_model
from transformer_core.data.lines import Errors as ErrorsChoice
from transformer_core.decoding.config import BatchType as BatchTypeChoice
from transformer_core.training.config import MAX_SEED
from transformer_core.training.config import Precision as PrecisionChoice

__all__ = [
    "DECODING",
    "INPUT_OUTPUT",
    "MODEL",
    "RUNTIME",
    "STANDARD_STREAM",
    "TRAINING",
    "BatchType",
    "DeepPreset",
    "Device",
    "Errors",
    "Format",
    "FormatChoice",
    "Html",
    "Input",
    "Inputs",
    "Json",
    "MetricChoice",
    "Model",
    "ModelOutput",
    "Models",
    "Output",
    "Overwrite",
    "Plot",
    "Precision",
    "Preset",
    "Seed",
    "Source",
    "Tag",
    "Target",
    "Threads",
    "TrainSources",
    "TrainTargets",
    "ValidSources",
    "ValidTargets",
]

STANDARD_STREAM = Path("-")

# Panels of the help, in the order in which they appear.
INPUT_OUTPUT = "Input and output"
MODEL = "Model"
DECODING = "Decoding"
TRAINING = "Training"
RUNTIME = "Runtime"

FormatChoice = Literal["text", "tsv", "jsonl"]
Preset = Literal["tiny", "small", "base", "big"]
DeepPreset = Literal["tiny-6-2", "small-6-2", "base-6-2", "base-12-1"]


class MetricChoice(StrEnum):
    """The metrics once more: Typer takes a list of an Enum's members, but not of a Literal's values."""

    bleu = "bleu"
    chrf = "chrf"
    ter = "ter"
    wer = "wer"
    cer = "cer"
    exact = "exact"


DEVICES = ("auto", "cpu", "cuda", "cuda:0", "mps")


def _parse_device(text: str) -> str:
    """Check the form of a device name; whether the machine has it is seen when it is used."""
    if not re.fullmatch(r"auto|cpu|mps|cuda(:\d+)?", text):
        raise typer.BadParameter(f"{text!r} is no device; use auto, cpu, cuda, cuda:N or mps")
    return text


def _complete_device(incomplete: str) -> list[str]:
    return [name for name in DEVICES if name.startswith(incomplete)]


# --- Input and output

Input = Annotated[
    Path,
    typer.Option(
        "--input",
        "-i",
        "--src",
        metavar="FILE",
        readable=False,
        help="Text to read, one item per line; - is standard input; .gz, .xz and .zst are unpacked.",
        rich_help_panel=INPUT_OUTPUT,
    ),
]
Inputs = Annotated[
    list[Path],
    typer.Option(
        "--input",
        "-i",
        "--src",
        metavar="FILE",
        readable=False,
        help="Text to read, one item per line; repeat it for several files; - is standard input; .gz, .xz and .zst are "
        "unpacked.",
        rich_help_panel=INPUT_OUTPUT,
    ),
]
Output = Annotated[
    Path,
    typer.Option(
        "--output",
        "-o",
        "--out",
        metavar="FILE",
        readable=False,
        help="Where results go; - is standard output; a file appears only when it is complete.",
        rich_help_panel=INPUT_OUTPUT,
    ),
]
ModelOutput = Annotated[
    Path,
    typer.Option(
        "--output",
        "-o",
        "--save-dir",
        "--model-dir",
        "--output-dir",
        metavar="FOLDER",
        readable=False,
        help="Folder to write the model to.",
        rich_help_panel=INPUT_OUTPUT,
    ),
]
Source = Annotated[
    Path,
    typer.Option(
        "--src",
        "-s",
        "--source",
        metavar="FILE",
        readable=False,
        help="Source sentences, one per line.",
        rich_help_panel=INPUT_OUTPUT,
    ),
]
Target = Annotated[
    Path | None,
    typer.Option(
        "--tgt",
        "-t",
        "--target",
        metavar="FILE",
        readable=False,
        help="Target sentences, line by line beside the source; left out where one file of --input-format tsv or jsonl "
        "holds both.",
        rich_help_panel=INPUT_OUTPUT,
    ),
]
TrainSources = Annotated[
    list[Path],
    typer.Option(
        "--train-src",
        "-s",
        "--source",
        "--src",
        metavar="FILE",
        readable=False,
        help="Source side of the training pairs, one per line; repeat it for several files.",
        rich_help_panel=INPUT_OUTPUT,
    ),
]
TrainTargets = Annotated[
    list[Path],
    typer.Option(
        "--train-tgt",
        "-t",
        "--target",
        "--tgt",
        metavar="FILE",
        readable=False,
        help="Target side of the training pairs, line by line beside the source.",
        rich_help_panel=INPUT_OUTPUT,
    ),
]
ValidSources = Annotated[
    list[Path] | None,
    typer.Option(
        "--valid-src",
        "--dev-src",
        metavar="FILE",
        readable=False,
        help="Source side of the validation pairs.",
        rich_help_panel=INPUT_OUTPUT,
    ),
]
ValidTargets = Annotated[
    list[Path] | None,
    typer.Option(
        "--valid-tgt",
        "--dev-tgt",
        metavar="FILE",
        readable=False,
        help="Target side of the validation pairs.",
        rich_help_panel=INPUT_OUTPUT,
    ),
]
Errors = Annotated[
    ErrorsChoice,
    typer.Option(
        "--errors",
        help="What bytes that are not UTF-8 do: strict ends with the file and line, replace puts U+FFFD and counts.",
        rich_help_panel=INPUT_OUTPUT,
    ),
]
Format = Annotated[
    FormatChoice,
    typer.Option("--format", help="What a line of the results looks like.", rich_help_panel=INPUT_OUTPUT),
]
Json = Annotated[bool, typer.Option("--json", help="Write the results as JSON.", rich_help_panel=INPUT_OUTPUT)]
Plot = Annotated[
    Path | None,
    typer.Option(
        "--plot",
        metavar="FILE",
        readable=False,
        help="Draw a figure, PNG or SVG by the suffix; needs the extra called plots.",
        rich_help_panel=INPUT_OUTPUT,
    ),
]
Html = Annotated[
    Path | None,
    typer.Option(
        "--html",
        metavar="FILE",
        readable=False,
        help="Write a page for a browser, all in this one .html file.",
        rich_help_panel=INPUT_OUTPUT,
    ),
]
Overwrite = Annotated[
    bool, typer.Option("--overwrite", help="Replace what is there already.", rich_help_panel=INPUT_OUTPUT)
]

# --- Model

Model = Annotated[
    Path,
    typer.Option(
        "--model",
        "-m",
        metavar="FOLDER",
        readable=False,
        autocompletion=complete_model,
        help="Model folder.",
        rich_help_panel=MODEL,
    ),
]
Models = Annotated[
    list[Path],
    typer.Option(
        "--model",
        "-m",
        "--models",
        metavar="FOLDER",
        readable=False,
        autocompletion=complete_model,
        help="Model folder; repeat it for several.",
        rich_help_panel=MODEL,
    ),
]

# --- Decoding

Tag = Annotated[
    str | None,
    typer.Option(
        "--tag",
        help="Of a model for several directions: what to translate into, such as de.",
        rich_help_panel=DECODING,
    ),
]

# --- Runtime

BatchType = Annotated[
    BatchTypeChoice,
    typer.Option("--batch-type", help="What --batch-size counts.", rich_help_panel=RUNTIME),
]
Device = Annotated[
    str,
    typer.Option(
        "--device",
        parser=_parse_device,
        metavar="auto|cpu|cuda[:N]|mps",
        autocompletion=_complete_device,
        help="Where to compute; auto takes an accelerator if there is one.",
        rich_help_panel=RUNTIME,
    ),
]
Threads = Annotated[
    int | None,
    typer.Option(
        "--threads",
        "--cpu-threads",
        min=1,
        help="Processor threads to compute with; as many as there are cores if not given.",
        rich_help_panel=RUNTIME,
    ),
]
Precision = Annotated[
    PrecisionChoice,
    typer.Option("--precision", "--dtype", help="Numbers to compute with.", rich_help_panel=RUNTIME),
]
Seed = Annotated[
    int,
    typer.Option("--seed", min=0, max=MAX_SEED, help="Start of every random choice.", rich_help_panel=RUNTIME),
]
