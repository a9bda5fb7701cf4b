"""Self-contained HTML pages: data, styles and script in one file that asks for nothing outside itself.

The pages are made of the files in pages/: a frame, and what stands in it.
"""

import json
import math
import re
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any, get_args

from transformer_core.errors import ConfigError
from transformer_core.inspection.attention_maps import SHADE_EXPONENT, AttentionMap, SentenceAttention
from transformer_core.inspection.curves import Axis, Run, Split
from transformer_core.inspection.figure_file import require_folder
from transformer_core.inspection.labels import visible

__all__ = ["MAX_WEIGHTS", "attention_page", "curves_page", "embedded_json", "require_page"]

PAGES = Path(__file__).parent / "pages"
STEPS = 1000  # a weight of 1 in the page: weights are written as thousandths, which are a third as long
MAX_WEIGHTS = 10_000_000  # in one page: some 25 MB, which a browser still shows at once


def require_page(path: Path) -> None:
    """See that a page can be written into such a file.

    Raises:
        ConfigError: browsers would not take it for a page.
        DataError: there is no such folder.
    """
    if path.suffix.lower() not in (".html", ".htm"):
        raise ConfigError(f"{path}: a page is a .html")
    require_folder(path)


def attention_page(attention: SentenceAttention, start: AttentionMap, model: str) -> str:
    """Make a page on which kind, layer and head are chosen.

    Args:
        attention: everything that there is to be chosen.
        start: what the page shows first.
        model: what the page calls the model.

    Raises:
        ConfigError: the page would be too large for a browser.
    """
    if (count := attention.num_weights()) > MAX_WEIGHTS:
        raise ConfigError(
            f"a page of {count:,} weights is more than a browser shows; take a shorter sentence, or --plot or --json"
        )
    data = {
        "source": attention.source,
        "target": attention.target,
        "is_decoded": attention.is_decoded,
        "shade_exponent": SHADE_EXPONENT,
        "start": {"kind": start.kind, "layer": start.layer, "head": start.head},
        "kinds": {
            kind: {
                "rows": attention.rows(kind),
                "columns": attention.columns(kind),
                "weights": (weights * STEPS).round().astype(int).reshape(*weights.shape[:2], -1).tolist(),
            }
            for kind, weights in attention.weights.items()
        },
    }
    return _page("attention", f"What {visible(model)} attends to", data)


def curves_page(runs: Sequence[Run], metrics: Sequence[str], start: Axis) -> str:
    """Make a page on which runs and the axis are chosen.

    Args:
        runs: whose curves there are.
        metrics: what is drawn.
        start: the axis that the page begins with.
    """
    data = {
        "start": start,
        "metrics": metrics,
        "runs": [
            {"name": run.name, "splits": {split: _series(run, split, metrics) for split in get_args(Split)}}
            for run in runs
        ],
    }
    names = ", ".join(run.name for run in runs)
    return _page("curves", f"Training curves of {names}", data)


def _series(run: Run, split: Split, metrics: Sequence[str]) -> dict[str, dict[str, list[float | None]]]:
    """The records of a split in columns: places by axis, numbers by metric, null where there is none."""
    records = [record for record in run.records if record.split == split]
    x = {axis: [_nulled(record.place(axis)) for record in records] for axis in get_args(Axis)}
    return {"x": x, "y": {name: [_nulled(record.values.get(name, math.nan)) for record in records] for name in metrics}}


def _nulled(value: float) -> float | None:
    return None if math.isnan(value) else value


def embedded_json(data: Mapping[str, Any] | Sequence[Any]) -> str:
    """Write JSON that can stand inside a script element: nothing in it ends the element or begins a comment."""
    text = json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return re.sub("[<>&\u2028\u2029]", lambda match: f"\\u{ord(match[0]):04x}", text)


def _page(name: str, title: str, data: Mapping[str, Any]) -> str:
    """Put the parts of a page together."""
    parts = {
        "title": escape(title),
        "data": embedded_json(data),
        "body": (PAGES / f"{name}.html").read_text(encoding="utf-8"),
    }
    frame = (PAGES / "page.html").read_text(encoding="utf-8")
    return re.sub(r"\{\{(\w+)\}\}", lambda match: parts[match[1]], frame)
