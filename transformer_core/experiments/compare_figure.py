"""The figure of `compare`: cost, reach and the division by √d_head, on one slide. Needs matplotlib, the extra `plots`.

Colours are those of Okabe and Ito (2008), which people with any kind of colour vision tell apart; the two directions
of a recurrence have one colour, and a single direction is dashed.
"""

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from transformer_core.experiments.compare import Comparison, MixerFigures
from transformer_core.experiments.compare_config import MixerName
from transformer_core.experiments.compare_scale import AttentionFigures, ScalePoint
from transformer_core.inspection.figure_file import require_drawing, write_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["plot_comparison"]

SIZE_INCHES = (13.33, 7.5)  # a slide of 16:9
LABEL_HEIGHT = 0.042  # of an axis, between two labels beside each other

COLORS: dict[MixerName, str] = {
    "attention": "#d55e00",
    "gru": "#0072b2",
    "bigru": "#0072b2",
    "lstm": "#009e73",
    "bilstm": "#009e73",
    "ssru": "#cc79a7",
    "conv": "#000000",
}
ONE_DIRECTION: tuple[MixerName, ...] = ("gru", "lstm")
STYLE: dict[Any, Any] = {  # matplotlib's types know each of its names
    "font.size": 13,
    "axes.titlesize": 14,
    "axes.titlelocation": "left",
    "axes.titleweight": "bold",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "figure.constrained_layout.w_pad": 0.1,  # inches
    "figure.constrained_layout.h_pad": 0.1,
}


def plot_comparison(comparison: Comparison, path: Path) -> None:
    """Draw everything that was measured into a PNG or SVG file.

    Raises:
        ConfigError: the suffix is none of ours, or matplotlib is not installed.
        DataError: there is no such folder.
    """
    require_drawing(path)
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context(STYLE):
        figure = Figure(figsize=SIZE_INCHES, layout="constrained")
        _draw(figure, comparison)
        write_figure(path, figure, keeps_size=True)


def _draw(figure: "Figure", comparison: Comparison) -> None:
    """Lay the panels out: time on the left; on the right reach above, the scale below."""
    left, right = figure.subfigures(1, 2, width_ratios=(1.05, 1), wspace=0.03, squeeze=False)[0]
    above, below = right.subfigures(2, 1, height_ratios=(1.25, 1), hspace=0.04, squeeze=False)[:, 0]
    _draw_time(left.subplots(), comparison)
    _draw_reach(above.subplots(), comparison)
    _draw_scale(below.subplots(1, 3), comparison.scale)
    below.suptitle(
        "Dividing scores by √d_head, at the start of training", x=0.02, ha="left", fontweight="bold", fontsize=14
    )


def _draw_time(axes: "Axes", comparison: Comparison) -> None:
    """Seconds against the length, both logarithmic: the slope is the exponent."""
    stack, lengths = comparison.config.stack, comparison.config.lengths
    for figures in comparison.mixers:
        mixer = figures.structure.mixer
        milliseconds = [1000 * point.seconds for point in figures.cost.points]
        axes.plot(
            lengths,
            milliseconds,
            color=COLORS[mixer],
            linestyle="--" if mixer in ONE_DIRECTION else "-",
            linewidth=3 if mixer == "attention" else 2,
            marker="o",
            markersize=4,
        )
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    shown = lengths[::-2][::-1]  # every second one, so that no two labels touch
    axes.set_xticks(shown, [str(length) for length in shown])
    axes.minorticks_off()
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    threads = f", {comparison.threads} thread{'s' if comparison.threads > 1 else ''}" * (comparison.device == "cpu")
    axes.set_xlabel(f"length n   (d = {stack.d_model}, {comparison.device}{threads})")
    axes.set_ylabel("milliseconds")
    axes.grid(alpha=0.25)
    axes.set_title("One layer, forward and backward pass")
    _label_lines(axes, comparison)


def _label_lines(axes: "Axes", comparison: Comparison) -> None:
    """Name each line at its right end, with the exponent; labels that would overlap are moved apart."""
    last = comparison.config.lengths[-1]
    low, high = axes.get_ylim()

    def height(figures: MixerFigures) -> float:
        """Where a line ends, as a share of the axis."""
        return math.log(1000 * figures.cost.points[-1].seconds / low) / math.log(high / low)

    ordered = sorted(comparison.mixers, key=height)
    heights = _spread([height(figures) for figures in ordered], LABEL_HEIGHT)
    for figures, place in zip(ordered, heights, strict=True):
        mixer, cost = figures.structure.mixer, figures.cost
        axes.annotate(
            f"{mixer}  $n^{{{cost.time_exponent:.2f}}}$",
            xy=(last, 1000 * cost.points[-1].seconds),
            xytext=(1.03, place),
            textcoords="axes fraction",
            va="center",
            color=COLORS[mixer],
            fontsize=15,
            fontweight="bold" if mixer == "attention" else "normal",
            arrowprops={"arrowstyle": "-", "color": COLORS[mixer], "linewidth": 0.6, "shrinkA": 0, "shrinkB": 3},
        )


def _spread(heights: list[float], distance: float) -> list[float]:
    """Move heights, sorted from below, apart until there is `distance` between any two, and as little as it takes."""
    groups: list[list[float]] = []  # each of heights that touch: they stand around their mean
    for height in heights:
        groups.append([height])
        while len(groups) > 1 and _bottom(groups[-1], distance) < _top(groups[-2], distance) + distance:
            groups[-2:] = [groups[-2] + groups[-1]]
    return [_bottom(group, distance) + place * distance for group in groups for place in range(len(group))]


def _bottom(group: list[float], distance: float) -> float:
    return sum(group) / len(group) - distance * (len(group) - 1) / 2


def _top(group: list[float], distance: float) -> float:
    return _bottom(group, distance) + distance * (len(group) - 1)


def _draw_reach(axes: "Axes", comparison: Comparison) -> None:
    """For each mixer a bar per depth: from the first input to the last that moves the middle output."""
    num_layers = comparison.config.stack.num_layers
    thickness = 0.8 / num_layers
    num_positions = comparison.mixers[0].reaches[0].num_positions
    for row, figures in enumerate(comparison.mixers):
        mixer = figures.structure.mixer
        own = [reach for reach in figures.reaches if reach.is_causal == figures.reaches[0].is_causal]
        for reach in own:
            axes.barh(
                row - 0.4 + (reach.num_layers - 0.5) * thickness,
                reach.last_offset - reach.first_offset + 1,
                left=reach.first_offset - 0.5,
                height=0.8 * thickness,
                color=COLORS[mixer],
            )
    axes.set_yticks(range(len(comparison.mixers)), [figures.structure.mixer for figures in comparison.mixers])
    axes.invert_yaxis()
    axes.tick_params(axis="y", length=0)
    axes.set_xlim(-num_positions / 2, num_positions / 2)
    axes.axvline(0, color="0.5", linewidth=0.8, zorder=0)
    depths = f"bars: 1 to {num_layers} layers" if num_layers > 1 else "1 layer"
    axes.set_xlabel(f"place of the input from the middle   ({depths})")
    axes.set_title("Inputs that move the middle output")


def _draw_scale(panels: "list[Axes]", points: tuple[ScalePoint, ...]) -> None:
    """Entropy and gradients against the width of a head, with the division and without."""
    widths = [point.d_head for point in points]
    titles = ("entropy", "softmax gradient", "input gradient")
    fields = ("entropy", "softmax_gradient", "input_gradient")
    for axes, title, field in zip(panels, titles, fields, strict=True):
        for name, color, line in (("scaled", "#d55e00", "-"), ("unscaled", "#000000", "--")):
            values = [_value(getattr(point, name), field) for point in points]
            axes.plot(widths, values, line, color=color, linewidth=2)
            if field == "entropy":  # the lines part there, and have room
                label, shift = ("with", -0.04) if name == "scaled" else ("without", 0.16)
                align = "top" if name == "scaled" else "bottom"
                axes.text(widths[-1], values[-1] + shift, label, color=color, ha="right", va=align)
        axes.set_xscale("log", base=2)
        axes.set_xticks(widths[::2], [str(width) for width in widths[::2]])
        axes.minorticks_off()
        axes.set_ylim(bottom=0)
        axes.set_title(title, fontsize=12, fontweight="normal")
        axes.set_xlabel("d_head")


def _value(figures: AttentionFigures, field: str) -> float:
    return float(getattr(figures, field))
