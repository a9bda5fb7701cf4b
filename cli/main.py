"""The program: the table of commands, the options before the command, and the way in and out.

A command is imported when it is called. Neither this file nor what it imports may load torch, numpy or anything
else that takes time: the help must come at once (benchmarks/startup.py measures it, tests/test_layers.py watches).
"""

import os
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperOption

from cli import console
from cli.command import Debug, NoColor, Quiet, Verbose
from cli.edge import run
from cli.lazy_group import Entry, LazyGroup
from transformer_core.training.distributed import this_job

if TYPE_CHECKING:  # Typer's own signatures speak of these; no name of its inside is needed to run
    from typer._click.core import Context, Parameter

__all__ = ["COMMANDS", "app", "main"]

# What the libraries beneath torch read from the environment when they are loaded, where the user has not set it.
LIBRARY_SETTINGS = {
    # What was made ready for a shape of a matrix is kept, on a CPU, for a thousand shapes in either cache: memory would
    # grow for hundreds of thousands of lines. So few are enough, for a search as for training.
    "ONEDNN_PRIMITIVE_CACHE_CAPACITY": "16",
    "LRU_CACHE_CAPACITY": "16",
    # A thread that waits for the others of its product spins so many times before it lets go of its core. GNU's OpenMP
    # spins 30 times as long, and on a machine with other work takes the core from the very thread that it waits for.
    "GOMP_SPINCOUNT": "10000",
}

DATA = "Data"
MODELS = "Models"
RESULTS = "Results"

INSPECT_COMMANDS = (
    Entry(
        "model",
        "Architecture, parameters, tokenizer, scores and origin of a model.",
        module="inspect_model",  # a module called inspect would hide the standard library's
    ),
    Entry("attention", "What a model looks at, in any layer and head, for a sentence.", module="inspect_attention"),
    Entry("curves", "How training went, of one or several runs.", module="inspect_curves"),
)

COMMANDS = (
    Entry("demo", "Learn to pronounce English, or to read dates: the whole path in minutes."),
    Entry("tokenizer", "Learn a vocabulary; encode, decode, look inside.", DATA, attribute="app"),
    Entry("prepare", "Tokenise text once, for corpora larger than memory and many runs.", DATA),
    Entry("train", "Train a model on pairs of lines; run it again to resume.", MODELS),
    Entry("pretrain", "Pretrain on raw text, masked or denoising, for train to start from.", MODELS),
    Entry("distill", "Teach a small model what a large one does.", MODELS),
    Entry("average", "Average the weights of several checkpoints.", MODELS),
    Entry("import", "Read a model of another tool: Hugging Face, CTranslate2.", MODELS, module="import_model"),
    Entry(
        "export",
        "Write a model for another tool: Hugging Face, CTranslate2.",
        MODELS,
        module="export_model",
        attribute="export",
    ),
    Entry("shortlist", "Learn which tokens a translation may be made of, to translate faster.", MODELS),
    Entry("quantize", "Store the weights of a model in 8 or 16 bits.", MODELS),
    Entry("inspect", "Look at what was made.", MODELS, entries=INSPECT_COMMANDS),
    Entry("compare", "Attention, recurrence and convolution: cost, reach, and what each learns.", MODELS),
    Entry("translate", "Lines in, lines out: beam search, greedy, sampling.", RESULTS),
    Entry("decode", "The same as translate.", RESULTS, alias_of="translate"),
    Entry("predict", "The same as translate.", RESULTS, alias_of="translate", is_hidden=True),
    Entry("generate", "The same as translate.", RESULTS, alias_of="translate", is_hidden=True),
    Entry("serve", "Keep a model warm behind a socket, for many short calls of translate.", RESULTS),
    Entry("score", "Log-probability of given pairs; for BLEU and the like, see evaluate.", RESULTS),
    Entry("fill", "Fill the masks of lines with what a pretrained model expects.", RESULTS),
    Entry("evaluate", "BLEU, chrF, TER, WER, CER and exact match against references.", RESULTS),
    Entry("eval", "The same as evaluate.", RESULTS, alias_of="evaluate", is_hidden=True),
)


JOB_COMMANDS = ("train", "pretrain")  # several processes work on them together where torchrun starts them


class Program(LazyGroup):
    """The top of the command tree."""

    def __init__(self, **attributes: Any) -> None:  # noqa: ANN401 - whatever Typer hands on
        super().__init__(**attributes)
        self.add_entries(COMMANDS)

    def get_params(self, ctx: "Context") -> "list[Parameter]":
        """Show all options in one panel."""
        options = super().get_params(ctx)
        for option in options:
            if isinstance(option, TyperOption):
                option.rich_help_panel = None
        return options


app = typer.Typer(
    name=console.PROGRAM,
    cls=Program,
    help="Learn to turn one sequence into another: two text files in, a model out, a filter that fits a shell pipe.",
    epilog="Two files of lines that belong together are enough: transduce train -s source.txt -t target.txt -o model",
    no_args_is_help=True,
    invoke_without_command=True,
    suggest_commands=False,  # cli/usage.py does
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={
        "help_option_names": ["-h", "--help"],
        "auto_envvar_prefix": "TRANSDUCE",
        # --beam_size is --beam-size, inverse_sqrt is inverse-sqrt
        "token_normalize_func": lambda token: token.replace("_", "-"),
    },
)


@app.callback()
def program(
    context: typer.Context,
    version: Annotated[
        bool,
        typer.Option(
            "--version", allow_from_autoenv=False, help="Show the version; with -v those of Python and torch, too."
        ),
    ] = False,
    quiet: Quiet = 0,
    verbose: Verbose = 0,
    no_color: NoColor = False,
    debug: Debug = False,
) -> None:
    """Answer --version, and find our place in a job; the other options have taken effect by themselves."""
    if version:
        from cli.version import describe_version

        console.write(describe_version())
        raise typer.Exit
    if context.invoked_subcommand is None:
        context.fail("Missing command.")
    if context.invoked_subcommand in JOB_COMMANDS and not (job := this_job()).is_alone:
        console.take_place(job.name, is_first=job.is_first)


def main() -> None:
    """Run the program and leave with its exit code."""
    for variable, value in LIBRARY_SETTINGS.items():
        os.environ.setdefault(variable, value)
    if os.environ.get("COLUMNS") == "0":  # says that the width is unknown; Rich would take it for one
        del os.environ["COLUMNS"]
    run(app)
