"""What `transduce inspect curves` writes to stdout: plots for the eye, a table for programs, or JSON."""

import math
from collections.abc import Sequence
from itertools import zip_longest
from json import dumps

from cli.line_plot import Line, LinePlot
from transformer_core.inspection.curves import Axis, Curve, Run, axis_scale, curves_of

__all__ = ["to_json", "to_plots", "to_table"]

PLOT_HEIGHT = 10  # lines between the axes
TWO_COLUMNS = 120  # cells from which plots stand side by side
GAP = 3  # cells between them
# Of the 256; they can be seen on black and on white. A run has one letter, small for training, and one hue.
LETTERS = "abcdefghijklmnopqrstuvwxyz"
TRAINING_COLORS = (75, 214, 77, 204, 141, 173)
VALIDATION_COLORS = (27, 202, 28, 125, 92, 94)
AXIS_COLUMNS = {"step": "step", "epoch": "epoch", "time": "seconds"}


def to_json(runs: Sequence[Run], metrics: Sequence[str], axis: Axis) -> str:
    """Every curve as one JSON object; null where a number is missing."""
    curves = [curve for metric in metrics for curve in curves_of(runs, metric, axis)]
    return dumps(
        {
            "x": AXIS_COLUMNS[axis],
            "curves": [
                {
                    "run": curve.run,
                    "metric": curve.metric,
                    "split": curve.split,
                    "x": list(curve.x),
                    "y": [None if math.isnan(value) else value for value in curve.y],
                }
                for curve in curves
            ],
        },
        ensure_ascii=False,
    )


def to_table(runs: Sequence[Run], metrics: Sequence[str], axis: Axis) -> str:
    """A row per record that has one of the metrics, with tabs between; nothing where it has no number."""
    lines = ["\t".join(("run", "split", AXIS_COLUMNS[axis], *metrics))]
    for run in runs:
        for record in run.records:
            numbers = [record.values.get(metric, math.nan) for metric in metrics]
            if not all(map(math.isnan, numbers)):
                cells = ("" if math.isnan(number) else f"{number:.6g}" for number in (record.place(axis), *numbers))
                lines.append("\t".join((run.name, record.split, *cells)))
    return "".join(f"{line}\n" for line in lines)


def to_plots(runs: Sequence[Run], metrics: Sequence[str], axis: Axis, width: int, *, has_color: bool) -> str:
    """A plot per metric, beside each other where the terminal is wide."""
    columns = 2 if width >= TWO_COLUMNS else 1
    plot_width = (width - (columns - 1) * GAP) // columns
    plots = [
        _plot(runs, curves, axis, has_color=has_color).draw(plot_width, PLOT_HEIGHT)
        for metric in metrics
        if (curves := curves_of(runs, metric, axis))
    ]
    lines: list[str] = []
    for first in range(0, len(plots), columns):
        lines += [""] * bool(lines)
        for beside in zip_longest(*plots[first : first + columns], fillvalue=" " * plot_width):
            lines.append((" " * GAP).join(beside).rstrip(" "))
    return "".join(f"{line}\n" for line in lines)


def _plot(runs: Sequence[Run], curves: Sequence[Curve], axis: Axis, *, has_color: bool) -> LinePlot:
    """Plot curves of one metric; a run has its letter and colour in every plot."""
    divisor, label = axis_scale(curves, axis)
    numbers = {run.name: number for number, run in enumerate(runs)}
    lines = []
    for curve in curves:
        number, is_training = numbers[curve.run], curve.split == "training"
        letter = LETTERS[number % len(LETTERS)]
        colors = TRAINING_COLORS if is_training else VALIDATION_COLORS
        lines.append(
            Line(
                letter=letter if is_training else letter.upper(),
                name=f"{curve.run} {curve.split}",
                color=colors[number % len(colors)] if has_color else None,
                x=[place / divisor for place in curve.x],
                y=curve.y,
            )
        )
    return LinePlot(lines, title=curves[0].metric.replace("_", " "), x_label=label)
