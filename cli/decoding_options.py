"""What `translate`, `score` and `fill` share: options beside cli/options.py, the model's defaults, and its loading."""

from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

import typer

from cli import options, settings
from cli.completion import complete_checkpoint
from transformer_core.decoding.config import BatchConfig, SearchConfig
from transformer_core.decoding.config import LengthPenaltyType as LengthPenaltyChoice
from transformer_core.decoding.config import Precision as PrecisionChoice
from transformer_core.decoding.generation import model_search, model_source_limit
from transformer_core.errors import ConfigError

if TYPE_CHECKING:
    from transformer_core.model_directory import LoadedModel

__all__ = [
    "BUFFER_SIZE",
    "BatchSize",
    "BeamSize",
    "BufferSize",
    "Checkpoint",
    "JsonLines",
    "LengthPenalty",
    "LengthPenaltyType",
    "Precision",
    "batch_config",
    "chosen_format",
    "generation_defaults",
    "load_for_decoding",
    "read_generation",
    "search_config",
]

_Format = TypeVar("_Format")

MODEL_OPTIONS = frozenset({item.name for item in fields(SearchConfig)} | {"greedy", "tag", "long_input"})
BUFFER_SIZE = 1024  # lines: enough for batches of similar length, few enough for results to come while one waits


Checkpoint = Annotated[
    str,
    typer.Option(
        "--checkpoint",
        metavar="best|last|STEP",
        autocompletion=complete_checkpoint,
        help="Which weights: the best, those saved last, or those of a step that was kept.",
        rich_help_panel=options.MODEL,
    ),
]
JsonLines = Annotated[
    bool, typer.Option("--json", help="The same as --format jsonl.", rich_help_panel=options.INPUT_OUTPUT)
]
BeamSize = Annotated[
    int,
    typer.Option(
        "--beam-size",
        "-b",
        "--beam",
        "--num-beams",
        min=1,
        help="Hypotheses kept at each step; 1 is greedy search.",
        rich_help_panel=options.DECODING,
    ),
]
LengthPenalty = Annotated[
    float,
    typer.Option(
        "--length-penalty",
        "--lenpen",
        "--alpha",
        "--length-penalty-alpha",
        help="How much longer hypotheses are favoured; 0 ranks by log-probability alone.",
        rich_help_panel=options.DECODING,
    ),
]
LengthPenaltyType = Annotated[
    LengthPenaltyChoice,
    typer.Option(
        "--length-penalty-type",
        help="avg: divide by length^alpha; gnmt: Wu et al. 2016, equation 14; none.",
        rich_help_panel=options.DECODING,
    ),
]
Precision = Annotated[
    PrecisionChoice,
    typer.Option(
        "--precision",
        "--dtype",
        help="Numbers to compute with: auto is bf16 on a GPU that is fast in it, else fp32; int8, on a CPU, pays for "
        "wide models.",
        rich_help_panel=options.RUNTIME,
    ),
]
BatchSize = Annotated[
    int | None,
    typer.Option(
        "--batch-size",
        min=1,
        help="What is computed at once, in units of --batch-type; a beam counts as many times as it is wide. "
        "4096 tokens or 64 sentences if not given.",
        rich_help_panel=options.RUNTIME,
    ),
]
BufferSize = Annotated[
    int,
    typer.Option(
        "--buffer-size",
        min=1,
        help="Lines read ahead and sorted by length; fewer wherever the input pauses.",
        rich_help_panel=options.RUNTIME,
    ),
]


def chosen_format(context: typer.Context, format: _Format, *, json: bool) -> _Format | Literal["jsonl"]:
    """Choose between --format and --json, which says the same as --format jsonl."""
    if json and settings.is_given(context, "format") and format != "jsonl":
        raise ConfigError(f"--json and --format {format} contradict each other; give one of them")
    return "jsonl" if json else format


def generation_defaults(values: Mapping[str, Any]) -> Mapping[str, object]:
    """Read the decoding defaults that the model named in the parsed options was saved with.

    A model may say how it is to be decoded, and nothing else: not what is read, and not where it is written to.

    Raises:
        ModelError: generation.json is damaged.
    """
    return {name: value for name, value in read_generation(values).items() if name in MODEL_OPTIONS}


def search_config(values: Mapping[str, Any], **overrides: object) -> SearchConfig:
    """Make the search of the parsed options, into which the model's defaults have gone.

    Raises:
        ConfigError: they contradict each other.
        ModelError: those of the model alone do.
    """
    try:
        return settings.build(SearchConfig, values, **overrides)
    except ConfigError:
        model_search(read_generation(values))
        raise


def read_generation(values: Mapping[str, Any]) -> Mapping[str, Any]:
    """Read all that the model of the parsed options, or of the server at their socket, was saved with for decoding.

    Raises:
        ModelError: generation.json is damaged, or no server listens.
    """
    if values.get("socket") is not None:
        from transformer_core.serving.client import RemoteModel

        with RemoteModel(values["socket"]) as remote:
            return remote.generation
    from transformer_core.model_files import read_json

    model = values["model"]
    if not model:  # whoever needs one says so
        return {}
    return read_json(Path(model[0] if isinstance(model, list) else model) / "generation.json")  # of several the first's


def batch_config(values: Mapping[str, Any], generation: Mapping[str, Any]) -> BatchConfig:
    """Make the batching of the parsed options and of what the model was saved with.

    Raises:
        ConfigError: an option has a value that cannot work.
        ModelError: generation.json is damaged.
    """
    return settings.build(BatchConfig, values, max_source_length=model_source_limit(generation))


def load_for_decoding(
    folder: Path,
    checkpoint: str,
    device: str,
    threads: int | None,
    *,
    needs_decoder: bool = True,
    needs_shortlist: bool = False,
) -> "LoadedModel":
    """Read a model, ready to compute.

    Raises:
        ConfigError: the machine has no such device.
        ModelError: the model or a shortlist that is needed is missing or damaged, or it is an encoder alone though a
            decoder is needed.
    """
    import torch

    from transformer_core.device import choose_device
    from transformer_core.model_directory import load_model
    from transformer_core.model_files import read_config, require_decoder

    if needs_decoder:
        require_decoder(read_config(folder), str(folder))

    if threads is not None:
        torch.set_num_threads(threads)
    return load_model(folder, checkpoint, choose_device(device), is_mapped=True, needs_shortlist=needs_shortlist)
