"""`transduce demo`: the whole path on a real task, from its data to a model that answers what is typed."""

import sys
from pathlib import Path
from textwrap import indent
from typing import TYPE_CHECKING, Annotated

import typer

from cli import console, options
from cli.demo_report import commands, examples, scores
from cli.prompt import TypedInput
from transformer_core.data.lines import LineReader
from transformer_core.experiments.demo_data import DemoTask
from transformer_core.training.config import TrainingConfig

if TYPE_CHECKING:
    from transformer_core.experiments.demo import Demo, DemoResult

__all__ = ["demo"]

AIMS: dict[DemoTask, str] = {
    "pronounce": "learning how English words are spoken",
    "dates": "learning to read dates in fifteen languages",
}


def demo(
    task: Annotated[
        DemoTask,
        typer.Option(
            "--task",
            help="pronounce: how English words are spoken; dates: what people write in fifteen languages to ISO 8601.",
            rich_help_panel=options.INPUT_OUTPUT,
        ),
    ] = "pronounce",
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            "--out",
            metavar="FOLDER",
            readable=False,
            help="Folder for the data and the model. Default: called after the task.",
            rich_help_panel=options.INPUT_OUTPUT,
        ),
    ] = None,
    overwrite: options.Overwrite = False,
    max_steps: Annotated[
        int | None,
        typer.Option(
            "--max-steps",
            min=1,
            help="Updates to make. Default: a few minutes' worth on two cores.",
            rich_help_panel=options.TRAINING,
        ),
    ] = None,
    device: options.Device = TrainingConfig.device,
    threads: options.Threads = TrainingConfig.threads,
) -> None:
    r"""Learn a real task in minutes: English words to how they are spoken, or dates as people write them to ISO 8601.

    It writes the data, learns tokenizers and a model, scores the model on items that were held back, says which
    commands do the same, and on a terminal answers what you type. Interrupted, it goes on when it is run again.

    transduce demo

    The data come with an extra: pip install 'transduce\[demo]'.
    """
    folder = output or Path(task)
    console.info(f"{AIMS[task]}; everything goes into {folder}")
    from cli.training_display import training_display
    from transformer_core.experiments.demo import DemoConfig, evaluate_demo, prepare_demo
    from transformer_core.experiments.train_from_text import train_from_text

    config = DemoConfig(
        folder=folder,
        task=task,
        max_steps=max_steps,
        overwrite=overwrite,
        device=device,
        threads=threads,
        command=console.command_line(),
    )
    plan = prepare_demo(config, console.progress, console.info)
    console.info(f"\nWhose data these are:\n\n{plan.data.notice}")
    with training_display(plan.run.folder) as listener:
        train_from_text(plan.run, listener, console.progress)
    result = evaluate_demo(plan, console.progress)
    _report(plan, result)
    if sys.stdin.isatty():
        _answer(plan, result)


def _report(plan: "Demo", result: "DemoResult") -> None:
    for line in (*scores(plan, result), "", *examples(plan, result)):
        console.write_line(line)
    console.flush()
    console.info("\nthe same by hand:\n")
    for command in commands(plan):
        console.info(indent(command, "  "))
    console.info("")


def _answer(plan: "Demo", result: "DemoResult") -> None:
    """Answer what is typed."""
    source = TypedInput(f"type something like {plan.example!r} and press Enter; Ctrl-D ends")
    with LineReader(options.STANDARD_STREAM, errors="replace", source=source) as reader:
        for window in reader.windows(1):
            for translation in result.translator.translate(window):
                console.write_line(translation.text)
