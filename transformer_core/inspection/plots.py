"""Figures of attention and of training curves, drawn with matplotlib (the extra `plots`).

Figures are made without pyplot: no window, no state, no backend to be chosen.
"""

import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.collections import QuadMesh
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from transformer_core.inspection.attention_maps import SHADE_EXPONENT, AttentionMap, SentenceAttention
from transformer_core.inspection.curves import Axis, Run, Split, axis_scale, curves_of
from transformer_core.inspection.fonts import families_for

__all__ = ["draw_attention", "draw_curves"]

POINTS_PER_INCH = 72
CELL_INCHES = 0.3  # of a single map: room for a number
MAX_BAR_INCHES, BAR_INCHES = 4.0, 0.15
VECTOR_CELLS = 10_000  # above them, an SVG holds a picture of the map
NUMBERED_CELLS = 600  # above them, numbers are clutter
MAX_MAP_INCHES = 30.0
GRID_CELL_INCHES = 0.1  # of a map among others: room for a label
GRID_MAP_INCHES = (1.2, 3.2)
MAX_FONT = 9.0  # points
MIN_FONT = 3.5  # below it, only every second, third, ... label is written, and none in a grid
LINE_HEIGHT = 1.3  # of a font
MAX_LABEL = 24  # characters
MAPS_IN_ROW = 4  # of one layer, or of one map per layer
COLORS = ("#1f77b4", "#ff7f0e", "#2ca02c", "#d62728", "#9467bd", "#8c564b", "#e377c2", "#17becf")
PANEL_INCHES = (5.2, 3.3)
STYLES: dict[Split, dict[str, Any]] = {
    "training": {"linewidth": 1.4},
    "validation": {"linewidth": 1.2, "linestyle": "--", "marker": "o", "markersize": 3.5},
}


def draw_attention(attention: SentenceAttention, maps: Sequence[AttentionMap]) -> Figure:
    """Draw maps of one kind: one with every label and number, several in a grid with one scale.

    Layers stand below one another and heads beside one another; where there is one map per layer or one layer, the maps
    follow one another.
    """
    kind = maps[0].kind
    rows = [_plain(label) for label in attention.rows(kind)]
    columns = [_plain(label) for label in attention.columns(kind)]
    with rc_context({"font.family": families_for((*rows, *columns))}):
        if len(maps) == 1:
            return _single_map(maps[0], rows, columns)
        return _grid(maps, rows, columns)


def _single_map(item: AttentionMap, rows: Sequence[str], columns: Sequence[str]) -> Figure:
    cell = min(CELL_INCHES, MAX_MAP_INCHES / max(len(rows), len(columns)))
    figure = Figure(figsize=(cell * len(columns) + 3, cell * len(rows) + 2.5), layout="compressed")
    axes = figure.add_subplot()
    mesh = _draw_map(axes, item, float(item.weights.max()))
    _label(axes, rows, columns, cell)
    axes.set_title(str(item), fontsize=10, pad=8)
    axes.set_ylabel(_axis_names(item)[0])
    axes.set_xlabel(_axis_names(item)[1])
    if cell == CELL_INCHES and len(rows) * len(columns) <= NUMBERED_CELLS:
        _write_numbers(axes, item)
    _scale(figure, mesh, [axes])
    return figure


def _grid(maps: Sequence[AttentionMap], rows: Sequence[str], columns: Sequence[str]) -> Figure:
    heads = len({item.head for item in maps})
    is_table = 1 < heads < len(maps)  # layers and heads both
    width = heads if is_table else min(MAPS_IN_ROW, len(maps))
    height = -(-len(maps) // width)
    longest = max(len(rows), len(columns))
    side = min(max(GRID_CELL_INCHES * longest, GRID_MAP_INCHES[0]), GRID_MAP_INCHES[1])
    cell = side / longest
    size = (width * (cell * len(columns) + 0.25) + 2.5, height * (cell * len(rows) + 0.4) + 2)
    figure = Figure(figsize=size, layout="compressed")
    figure.suptitle(maps[0].kind_name, fontsize=12)
    all_axes = figure.subplots(height, width, squeeze=False).ravel().tolist()
    highest = max(float(item.weights.max()) for item in maps)
    is_labelled = cell * POINTS_PER_INCH >= MIN_FONT * LINE_HEIGHT
    for place, (axes, item) in enumerate(zip(all_axes, maps, strict=False)):
        mesh = _draw_map(axes, item, highest)
        is_first, is_last = place % width == 0, place + width >= len(maps)
        _label(axes, rows if is_labelled and is_first else (), columns if is_labelled and is_last else (), cell)
        axes.set_title(item.place_name, fontsize=8, pad=3)
    for axes in all_axes[len(maps) :]:
        axes.set_axis_off()
    _scale(figure, mesh, all_axes)
    return figure


def _draw_map(axes: Axes, item: AttentionMap, highest: float) -> QuadMesh:
    """Draw one map as squares, the first row at the top."""
    norm = PowerNorm(SHADE_EXPONENT, vmin=0.0, vmax=highest)
    mesh = axes.pcolormesh(item.weights, cmap="Blues", norm=norm, rasterized=item.weights.size > VECTOR_CELLS)
    axes.invert_yaxis()
    axes.set_aspect("equal")
    axes.tick_params(length=0, pad=2)
    for spine in axes.spines.values():
        spine.set_color("0.7")
    return mesh


def _label(axes: Axes, rows: Sequence[str], columns: Sequence[str], cell: float) -> None:
    """Write labels beside the rows and below the columns, as large as cells of so many inches allow."""
    font = min(MAX_FONT, cell * POINTS_PER_INCH / LINE_HEIGHT)
    every = max(1, math.ceil(MIN_FONT / font))
    places = [[place + 0.5 for place in range(0, len(labels), every)] for labels in (rows, columns)]
    axes.set_yticks(places[0], rows[::every], fontsize=max(font, MIN_FONT))
    axes.set_xticks(places[1], columns[::every], fontsize=max(font, MIN_FONT), rotation=90)


def _write_numbers(axes: Axes, item: AttentionMap) -> None:
    """Write the weights into the cells, in per cent."""
    highest = item.weights.max()
    for row, weights in enumerate(item.weights.tolist()):
        for column, weight in enumerate(weights):
            if weight >= 0.005:
                color = "white" if (weight / highest) ** SHADE_EXPONENT > 0.6 else "0.15"
                text = f"{100 * weight:.0f}"
                axes.text(column + 0.5, row + 0.5, text, ha="center", va="center", color=color, fontsize=7)


def _scale(figure: Figure, mesh: QuadMesh, all_axes: list[Axes]) -> None:
    """Put a bar beside the maps that says what the colours mean: as high as they are, but no longer than a hand."""
    height = min(MAX_BAR_INCHES, 0.8 * figure.get_figheight())
    bar = figure.colorbar(
        mesh,
        ax=all_axes,
        format="{x:.0%}",
        shrink=height / figure.get_figheight(),
        aspect=height / BAR_INCHES,
        anchor=(0.0, 1.0),
        pad=0.02,
    )
    bar.ax.tick_params(labelsize=8)
    bar.outline.set_visible(False)


def _axis_names(item: AttentionMap) -> tuple[str, str]:
    """Name what stands in the rows, and what in the columns."""
    match item.kind:
        case "encoder":
            return "source", "source"
        case "decoder":
            return "target", "target before it"
        case "cross":
            return "target", "source"


def _plain(label: str) -> str:
    """Shorten a label, and keep matplotlib from taking dollars for formulas."""
    short = label if len(label) <= MAX_LABEL else f"{label[: MAX_LABEL - 1]}…"
    return short.replace("$", r"\$")


def draw_curves(runs: Sequence[Run], metrics: Sequence[str], axis: Axis) -> Figure:
    """Draw a panel per metric; a run has one colour, its validation is dashed with a point per look."""
    panels = [(metric, curves) for metric in metrics if (curves := curves_of(runs, metric, axis))]
    columns = len(panels) if len(panels) <= 3 else 2
    lines = -(-len(panels) // columns)
    colors = {run.name: COLORS[number % len(COLORS)] for number, run in enumerate(runs)}
    with rc_context({"font.family": families_for(colors)}):
        figure = Figure(figsize=(PANEL_INCHES[0] * columns, PANEL_INCHES[1] * lines + 0.5), layout="constrained")
        all_axes = figure.subplots(lines, columns, squeeze=False).ravel().tolist()
        for axes, (metric, curves) in zip(all_axes, panels, strict=False):
            divisor, label = axis_scale(curves, axis)
            for curve in curves:
                x = [place / divisor for place in curve.x]
                marker = (
                    {"marker": "o"} if sum(map(math.isfinite, curve.y)) == 1 else {}
                )  # else there is no line to see
                axes.plot(x, curve.y, color=colors[curve.run], **{**STYLES[curve.split], **marker})
            axes.set_title(_plain(metric.replace("_", " ")), fontsize=11)
            axes.set_xlabel(label)
            axes.grid(color="0.9")
            axes.spines[["top", "right"]].set_visible(False)
        for axes in all_axes[len(panels) :]:
            axes.set_axis_off()
        _add_legend(figure, colors, {curve.split for _, curves in panels for curve in curves})
    return figure


def _add_legend(figure: Figure, colors: Mapping[str, str], splits: Collection[Split]) -> None:
    """Say below the panels what colours and styles mean."""
    handles = [Line2D([], [], color=color, label=_plain(name)) for name, color in colors.items()]
    handles += [Line2D([], [], color="0.3", label=split, **STYLES[split]) for split in STYLES if split in splits]
    figure.legend(handles=handles, loc="outside lower center", ncols=min(4, len(handles)), frameon=False)
