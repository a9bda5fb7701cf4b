"""`transduce inspect curves`: how training went, of one or several runs."""

import shutil
import sys
from pathlib import Path
from typing import Annotated

import typer

from cli import console, options
from tokenizer.atomic_file import behind_links, write_text
from transformer_core.errors import DataError
from transformer_core.inspection.curves import Axis, Run, choose_metrics, curves_of, read_runs

__all__ = ["inspect_curves"]


def inspect_curves(
    runs: Annotated[
        list[Path], typer.Argument(metavar="RUN...", readable=False, help="Model folders that train wrote.")
    ],
    metric: Annotated[
        list[str] | None,
        typer.Option(
            "--metric",
            help="What to show, by its name in metrics.jsonl; repeat it for several. Loss, the metrics that select, "
            "learning rate and tokens per second if not given.",
            rich_help_panel=options.INPUT_OUTPUT,
        ),
    ] = None,
    x: Annotated[
        Axis,
        typer.Option(
            "--x",
            help="Along what: updates, passes over the data, or seconds of training.",
            rich_help_panel=options.INPUT_OUTPUT,
        ),
    ] = "step",
    plot: options.Plot = None,
    html: options.Html = None,
    json: options.Json = False,
) -> None:
    """Show the training curves of one or several runs, finished or going on.

    transduce inspect curves en-de

    transduce inspect curves en-de en-de-big --metric bleu --x time --plot bleu.svg

    On a terminal they are plots, in a pipe a table with tabs. --plot draws them with matplotlib instead; --html writes
    a page instead, where runs and the axis are chosen.
    """
    from cli import curves_report
    from transformer_core.inspection.figure_file import require_drawing, write_figure
    from transformer_core.inspection.html_page import curves_page, require_page

    if plot is not None:
        require_drawing(plot)
    if html is not None:
        require_page(html)
    found = read_runs(runs)
    _warn_of(found)
    metrics = choose_metrics(found, metric or [])
    if not any(curves_of(found, name, x) for name in metrics):
        raise DataError(f"no run says at which {x} its numbers were; take another --x")
    if plot is not None:
        from transformer_core.inspection.plots import draw_curves

        write_figure(plot, draw_curves(found, metrics, x))
    if html is not None:
        write_text(behind_links(html), curves_page(found, metrics, x))
    if json:
        console.write_line(curves_report.to_json(found, metrics, x))
    elif plot is None and html is None and sys.stdout.isatty():
        width = shutil.get_terminal_size().columns
        console.write(curves_report.to_plots(found, metrics, x, width, has_color=console.results_have_color()))
    elif plot is None and html is None:
        console.write(curves_report.to_table(found, metrics, x))


def _warn_of(runs: list[Run]) -> None:
    """Say what is missing from the picture."""
    for run in runs:
        if run.num_damaged:
            lines = (
                "1 line is no record and was"
                if run.num_damaged == 1
                else f"{run.num_damaged} lines are no records and were"
            )
            console.warn(f"{run.folder / 'metrics.jsonl'}: {lines} left out")
        elif not run.metrics():
            console.warn(f"{run.folder / 'metrics.jsonl'}: holds no numbers yet")
