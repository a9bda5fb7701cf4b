"""What `compare` says: the lecture's table, what was measured beside it, and what every mixer learned."""

import math
import sys
from json import dumps
from typing import TYPE_CHECKING

from cli.text_table import TextTable, draw, plain
from transformer_core.experiments.compare_config import UNSCALED
from transformer_core.experiments.compare_scale import NUM_POSITIONS, NUM_SEEDS

if TYPE_CHECKING:
    from transformer_core.experiments.compare import Comparison, MixerFigures
    from transformer_core.experiments.compare_config import MixerName
    from transformer_core.experiments.compare_quality import TrainedMixer
    from transformer_core.experiments.compare_reach import Reach

__all__ = ["tables", "to_json", "to_text"]


def to_json(comparison: "Comparison") -> str:
    """Everything as one JSON object."""
    return dumps(comparison.to_dict(), ensure_ascii=False, allow_nan=False)


def to_text(comparison: "Comparison") -> str:
    """Everything for the eye: drawn on a terminal, plain elsewhere."""
    found = tables(comparison)
    return draw(found) if sys.stdout.isatty() else plain(found)


def tables(comparison: "Comparison") -> list[TextTable]:
    """Everything as tables."""
    found = [_structure(comparison), _cost(comparison), _reach(comparison), _scale(comparison)]
    return [*found, _training(comparison)] if comparison.trained else found


def _structure(comparison: "Comparison") -> TextTable:
    """What follows from how a layer is built (Vaswani et al. 2017, Table 1)."""
    stack, length = comparison.config.stack, comparison.config.lengths[-1]
    rows = []
    for figures in comparison.mixers:
        structure = figures.structure
        path = "never" if structure.path_length is None else f"{structure.path_length:,}"
        rows.append(
            [
                structure.mixer,
                f"{figures.cost.num_parameters:,}",
                f"{structure.complexity}",
                _short(structure.multiply_adds),
                structure.sequential,
                f"{structure.num_sequential:,}",
                structure.path,
                path,
            ]
        )
    return TextTable(
        title=f"One layer: from its structure, and the numbers for n = {length:,}, d = {stack.d_model}, "
        f"k = {stack.kernel_width}",
        header=[
            "mixer",
            "weights",
            "complexity",
            "multiply-\nadds",
            "sequential\noperations",
            "",
            "longest\npath",
            "",
        ],
        rows=rows,
        notes=_about_structures([figures.structure.mixer for figures in comparison.mixers]),
    )


def _about_structures(mixers: "list[MixerName]") -> list[str]:
    """Say what must be known of the rows that are there."""
    notes = []
    if "bigru" in mixers or "bilstm" in mixers:
        notes.append("bigru, bilstm: half the width reads each way.")
    if "ssru" in mixers:
        notes.append(
            "ssru: reads forward only, as in a decoder. Its scan takes about 2 log2 n steps, but what passes from one "
            "end to the other passes n gates."
        )
    if "conv" in mixers:
        notes.append("conv: stacked, centred, not dilated; its path is the number of layers until the two ends meet.")
    return notes


def _cost(comparison: "Comparison") -> TextTable:
    """What was measured as the sequence grows."""
    stack, lengths = comparison.config.stack, comparison.config.lengths
    shown = range(len(lengths) - 1, -1, -2)[::-1]
    rows = []
    for figures in comparison.mixers:
        points, cost = figures.cost.points, figures.cost
        row = [figures.structure.mixer, *(f"{1000 * points[index].seconds:.3g}" for index in shown)]
        row += [f"n^{cost.time_exponent:.2f}", f"{points[-1].memory_bytes / 1e6:.1f}", f"n^{cost.memory_exponent:.2f}"]
        rows.append(row)
    kept = "kept for the backward pass" if comparison.device != "cuda" else "at the peak"
    threads = f"{comparison.threads} thread{'s' if comparison.threads > 1 else ''}, " * (comparison.device == "cpu")
    notes = [
        f"Milliseconds of a forward and a backward pass over one sequence, median of repeats; megabytes {kept}, "
        f"n = {lengths[-1]:,}. Exponents are fitted to the lengths from {_first_fitted(lengths):,} on. "
        f"{comparison.device}, {threads}torch {comparison.software['torch']}."
    ]
    if any(figures.structure.mixer == "attention" for figures in comparison.mixers):
        notes.append(
            "attention: 4 n d² in its projections beside 2 n² d, so what grows with n² is half of its work at "
            f"n = {2 * stack.d_model} and nearly all of it far beyond. torch's kernel computes the n² weights block by "
            "block and keeps none of them, so memory can grow with n where the formula says n²."
        )
    return TextTable(
        title="One layer: measured as the sequence grows",
        header=[
            "mixer",
            *(f"n = {lengths[index]:,}\nms" for index in shown),
            "time\ngrows as",
            "memory\nMB",
            "grows as",
        ],
        rows=rows,
        notes=notes,
    )


def _first_fitted(lengths: tuple[int, ...]) -> int:
    return lengths[-max(2, math.ceil(len(lengths) / 2))]


def _reach(comparison: "Comparison") -> TextTable:
    """Which inputs move the middle output."""
    depth = comparison.config.stack.num_layers
    depths = [1, depth] if depth > 1 else [1]
    rows = [
        [
            figures.structure.mixer,
            *(_reach_cell(figures, number, is_causal) for is_causal in (False, True) for number in depths),
        ]
        for figures in comparison.mixers
    ]
    layers = ["1 layer" if number == 1 else f"{number} layers" for number in depths]
    num_positions = comparison.mixers[0].reaches[0].num_positions
    return TextTable(
        title=f"Receptive field: which of {num_positions} inputs move the middle output (gradient not zero)",
        header=["mixer", *(f"{side}\n{name}" for side in ("encoder", "decoder") for name in layers)],
        rows=rows,
        notes=["A decoder reads forward, whatever its encoder does; an ssru stands in decoders only."],
    )


def _reach_cell(figures: "MixerFigures", num_layers: int, is_causal: bool) -> str:
    reaches: list[Reach] = [
        reach for reach in figures.reaches if (reach.num_layers, reach.is_causal) == (num_layers, is_causal)
    ]
    if not reaches:
        return "-"
    reach = reaches[0]
    return f"{reach.first_offset} … {reach.last_offset:+d}  {100 * reach.share:.0f} %".replace("+0", "0")


def _scale(comparison: "Comparison") -> TextTable:
    """What the division by √d_head does."""
    rows = [
        [
            f"{point.d_head}",
            f"{point.scaled.entropy:.2f}",
            f"{point.unscaled.entropy:.2f}",
            f"{point.scaled.softmax_gradient:.3f}",
            f"{point.unscaled.softmax_gradient:.3f}",
            f"{point.scaled.input_gradient:.2f}",
            f"{point.unscaled.input_gradient:.2f}",
        ]
        for point in comparison.scale
    ]
    names = ("entropy", "softmax\ngradient", "input\ngradient")
    return TextTable(
        title="Attention at the start of training, with its scores divided by √d_head and without",
        header=["d_head", *(f"{name}\n{how}" for name in names for how in ("with", "without"))],
        num_left=0,
        rows=rows,
        notes=[
            f"One head with fresh weights over {NUM_POSITIONS} random inputs, means over {NUM_SEEDS} seeds.",
            "entropy: of the weights of a query; 1 where all are equal, 0 where one position has it all.",
            "softmax gradient: how far the weights move when the scores do (norm of the Jacobian, the median query's).",
            "input gradient: what arrives at the input of the layer when a gradient of size 1 enters at its output.",
        ],
    )


def _training(comparison: "Comparison") -> TextTable:
    """What every mixer learned."""
    training = comparison.config.training
    assert training is not None
    labels = next((model.quality.scores for model in comparison.trained if model.quality is not None), ())
    rows = [_training_row(model, len(labels)) for model in comparison.trained]
    minutes = training.budget_minutes
    budget = f"{training.max_steps:,} updates" if minutes is None else f"{minutes:g} minutes of training"
    notes = [
        "On the validation pairs: loss in nats per target token, translations by greedy search. The models are made "
        "equally large by the width of their feed-forward (d_ff). ssru: in the decoder, the encoder is attention.",
        *(f"{score.label}: {score.signature}" for score in labels),
        *_about_the_scale(comparison),
    ]
    return TextTable(
        title=f"What they learn: equally large, {budget} each, seed {comparison.config.seed}",
        header=[
            "mixer",
            "parameters",
            "d_ff",
            "updates",
            "minutes",
            "loss",
            *(score.label for score in labels),
            "training\ntokens/s",
            "decoding\nlines/s",
        ],
        rows=rows,
        notes=notes,
    )


def _training_row(model: "TrainedMixer", num_scores: int) -> list[str]:
    quality = model.quality
    row = [
        model.name,
        f"{model.num_parameters:,}",
        f"{model.d_ff}",
        "-" if model.steps is None else f"{model.steps:,}",
        "-" if model.seconds is None else f"{model.seconds / 60:.1f}",
    ]
    if quality is None:
        row += ["diverged", *["-"] * num_scores]
    else:
        row += [f"{quality.loss:.4f}", *(score.text() for score in quality.scores)]
    row.append("-" if model.tokens_per_second is None else f"{model.tokens_per_second:,.0f}")
    row.append("-" if quality is None else f"{quality.lines_per_second:,.1f}")
    return row


def _about_the_scale(comparison: "Comparison") -> list[str]:
    """Say what became of attention without its division by √d_head."""
    models = {model.name: model for model in comparison.trained}
    if UNSCALED not in models:
        return []
    scaled, unscaled = models["attention"].quality, models[UNSCALED].quality
    d_head = comparison.config.stack.d_head
    head = f"{UNSCALED}: attention without its division by √d_head = √{d_head}"
    if unscaled is None:
        return [f"{head}; its training diverged."]
    beside = "" if scaled is None else f", with it {scaled.loss:.4f}"
    return [f"{head}; its training did not diverge: loss {unscaled.loss:.4f}{beside}."]


def _short(number: int) -> str:
    """A large number in three digits: 4.56 G."""
    for unit, name in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= unit:
            return f"{number / unit:.3g} {name}"
    return str(number)
