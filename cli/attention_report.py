"""What `transduce inspect attention` writes to stdout: maps for the eye, a table for programs, or JSON."""

from collections.abc import Sequence
from json import dumps

from cli.heat_map import HeatMap
from cli.terminal_text import cut
from transformer_core.inspection.attention_maps import SHADE_EXPONENT, AttentionMap, SentenceAttention
from transformer_core.inspection.labels import visible

__all__ = ["to_json", "to_maps", "to_table"]

DIGITS = 4  # after the point


def to_json(attention: SentenceAttention, maps: Sequence[AttentionMap]) -> str:
    """The sentences and the maps as one JSON object."""
    return dumps(attention.to_dict(maps), ensure_ascii=False)


def to_table(attention: SentenceAttention, maps: Sequence[AttentionMap]) -> str:
    """A row per token, with tabs between: layer, head, the token, and its weight for the token of each column."""
    kind = maps[0].kind
    lines = ["\t".join(("layer", "head", "token", *attention.columns(kind)))]
    for item in maps:
        for token, weights in zip(attention.rows(kind), item.weights.tolist(), strict=True):
            numbers = (f"{weight:.{DIGITS}f}" for weight in weights)
            lines.append("\t".join((str(item.layer), str(item.head), token, *numbers)))
    return "".join(f"{line}\n" for line in lines)


def to_maps(attention: SentenceAttention, maps: Sequence[AttentionMap], width: int, *, has_color: bool) -> str:
    """A heat map each, for a terminal of so many cells."""
    names = {"source": attention.source}
    if attention.target is not None:
        names["target, decoded" if attention.is_decoded else "target"] = attention.target
    label_width = max(map(len, names)) + 2
    lines = [f"{name:<{label_width}}{cut(visible(text), width - label_width)}" for name, text in names.items()]
    for item in maps:
        kind = item.kind
        heat_map = HeatMap(
            rows=attention.rows(kind),
            columns=attention.columns(kind),
            values=item.weights.tolist(),
            exponent=SHADE_EXPONENT,
            has_color=has_color,
        )
        lines += ["", f"{item}, per cent", *heat_map.lines(width), heat_map.legend()]
    return "".join(f"{line}\n" for line in lines)
