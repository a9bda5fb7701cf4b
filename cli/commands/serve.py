"""`transduce serve`: one process that keeps a model warm for many short calls of translate."""

import re
from pathlib import Path
from typing import Annotated

import typer

from cli import console, options
from cli.completion import complete_model
from cli.decoding_options import Checkpoint
from cli.line_translator import load_ensemble, weights_of
from transformer_core.errors import Interrupted
from transformer_core.training.interruption import interruptible

__all__ = ["serve"]


def _parse_permissions(text: str) -> str:
    if not re.fullmatch(r"0?[0-7]{3}", text):
        raise typer.BadParameter(f"{text!r} is no set of permission bits; write them as chmod takes them, such as 0660")
    return text


def serve(
    model: Annotated[
        list[Path],
        typer.Argument(
            metavar="MODEL...",
            readable=False,
            autocompletion=complete_model,
            help="Model folder; several decode together.",
        ),
    ],
    socket: Annotated[
        Path,
        typer.Option(
            "--socket",
            metavar="PATH",
            readable=False,
            help="Where to listen: a Unix domain socket, which the server makes, and removes when it ends.",
            rich_help_panel=options.INPUT_OUTPUT,
        ),
    ],
    permissions: Annotated[
        str,
        typer.Option(
            "--permissions",
            parser=_parse_permissions,
            metavar="BITS",
            help="Permission bits of the socket: who may write to it may translate.",
            rich_help_panel=options.INPUT_OUTPUT,
        ),
    ] = "0600",
    checkpoint: Checkpoint = "best",
    device: options.Device = "auto",
    threads: options.Threads = None,
) -> None:
    """Keep a model warm: translate --socket PATH answers without loading one.

    transduce serve en-de --socket en-de.sock

    echo Hello | transduce translate --socket en-de.sock

    Several clients are served at once: they take turns, a batch each. Ctrl-C and SIGTERM end the server once it has
    answered what it has been asked.
    """
    from transformer_core.model_files import SHORTLIST_FILE
    from transformer_core.serving.unix_socket import listening, require_free

    require_free(socket)
    has_shortlist = (model[0] / SHORTLIST_FILE).exists()  # a client may ask for it
    models = load_ensemble(model, checkpoint, device, threads, needs_shortlist=has_shortlist)
    from transformer_core.serving.server import Server

    server = Server(models, weights_of({"socket": None, "model": model, "checkpoint": checkpoint}), console.warn)
    with interruptible() as interruption, listening(socket, int(permissions, 8)) as listener:
        console.info(f"serving {', '.join(map(str, model))} at {socket}; Ctrl-C ends")
        server.run(listener, interruption)
    if interruption.signal_number is not None:
        raise Interrupted(interruption.signal_number, "ended; every request that had come is answered")
