"""Who translates: a model that is loaded here, or one that a server keeps warm behind a socket."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli import options, settings
from cli.decoding_options import batch_config, load_for_decoding, read_generation
from transformer_core.decoding.config import SearchConfig, TranslationConfig
from transformer_core.errors import ConfigError

if TYPE_CHECKING:
    from transformer_core.model_directory import LoadedModel

__all__ = [
    "ServerSocket",
    "check_choice",
    "load_ensemble",
    "translation_config",
    "weights_of",
]

ServerSocket = Annotated[
    Path | None,
    typer.Option(
        "--socket",
        metavar="PATH",
        readable=False,
        help="Let the model of `transduce serve` translate that listens there, without loading one.",
        rich_help_panel=options.MODEL,
    ),
]
# Options that say nothing to a model that is loaded elsewhere.
SERVERS_CHOICE = ("model", "checkpoint", "device", "threads", "workers", "engine")


def check_choice(context: typer.Context) -> None:
    """See that there is a model: a folder or a server, not both.

    Raises:
        ConfigError: there is none, or what is the server's to choose is chosen here.
    """
    if context.params["socket"] is None:
        if not context.params["model"]:
            raise ConfigError("--model is missing: name a model folder (-m), or the --socket of `transduce serve`")
        return
    for name in SERVERS_CHOICE:
        if settings.is_given(context, name):
            raise ConfigError(
                f"--{name} ({settings.origin_of(context, name)}) says nothing to the server at --socket, "
                "which has its model already; leave out one of them"
            )


def weights_of(params: Mapping[str, Any]) -> list[str]:
    """Hash the weights of the models, or ask the server for the hashes.

    Raises:
        ModelError: a model has no such checkpoint, or no server listens.
    """
    if params["socket"] is None:
        from transformer_core.model_files import checkpoint_path, hash_file

        return [hash_file(checkpoint_path(folder, params["checkpoint"])) for folder in params["model"]]
    from transformer_core.serving.client import RemoteModel

    with RemoteModel(params["socket"]) as model:
        return list(model.weights)


def load_ensemble(
    folders: list[Path], checkpoint: str, device: str, threads: int | None, *, needs_shortlist: bool = False
) -> "list[LoadedModel]":
    """Read models that decode together; the shortlist is the first one's.

    Raises:
        ConfigError: two have not the same vocabularies.
        ModelError: a model is missing, damaged or has no decoder, or the shortlist is.
    """
    from transformer_core.model_directory import require_same_vocabularies

    models = [
        load_for_decoding(folder, checkpoint, device, threads, needs_shortlist=needs_shortlist and place == 0)
        for place, folder in enumerate(folders)
    ]
    require_same_vocabularies(folders, models)
    return models


def translation_config(context: typer.Context, search: SearchConfig) -> TranslationConfig:
    """Say all that is to be done with a line, by the options and by what the model was saved with.

    Raises:
        ConfigError: an option has a value that cannot work.
        ModelError: generation.json is damaged, or no server listens.
    """
    params = context.params
    return TranslationConfig(
        search=search,
        batching=batch_config(params, read_generation(params)),
        tag=params["tag"],
        utility=params["mbr"],
        has_alignments=params["alignments"],
    )
