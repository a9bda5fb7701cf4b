import itertools
import struct
import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from pathlib import Path

import pytest

from transformer_core.config import StackConfig
from transformer_core.experiments import compare_cost, compare_figure
from transformer_core.experiments.compare import Comparison, compare
from transformer_core.experiments.compare_config import MIXER_NAMES, CompareConfig
from transformer_core.experiments.compare_figure import plot_comparison

pytest.importorskip("matplotlib")

STACK = StackConfig(num_layers=3, d_model=16, num_heads=2, d_ff=8)


@pytest.fixture(scope="module")
def comparison() -> Comparison:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compare_cost, "LONG_ENOUGH_SECONDS", 0.0)
        return compare(CompareConfig(stack=STACK, max_length=128, threads=1, device="cpu"))


def with_times(comparison: Comparison, seconds: list[float]) -> Comparison:
    """The same with other times at the longest length."""
    mixers = []
    for figures, value in zip(comparison.mixers, seconds, strict=True):
        *first, last = figures.cost.points
        cost = replace(figures.cost, points=(*first, replace(last, seconds=value)))
        mixers.append(replace(figures, cost=cost))
    return replace(comparison, mixers=tuple(mixers))


def test_a_png_is_a_slide_and_an_svg_is_xml(comparison: Comparison, tmp_path: Path) -> None:
    plot_comparison(comparison, tmp_path / "figure.png")
    png = (tmp_path / "figure.png").read_bytes()
    assert png.startswith(b"\x89PNG")
    assert struct.unpack(">II", png[16:24]) == (1999, 1125)
    plot_comparison(comparison, tmp_path / "figure.SVG")
    svg = (tmp_path / "figure.SVG").read_bytes()
    assert ElementTree.fromstring(svg).tag == "{http://www.w3.org/2000/svg}svg"
    for color in compare_figure.COLORS.values():
        assert color.encode() in svg
    plot_comparison(comparison, tmp_path / "again.svg")
    assert (tmp_path / "again.svg").read_bytes() == svg
    assert sorted(path.name for path in tmp_path.iterdir()) == ["again.svg", "figure.SVG", "figure.png"]


@pytest.mark.parametrize("case", ["measured", "equal", "one mixer"])
def test_no_words_overlap_and_none_is_cut_off(
    comparison: Comparison, case: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import matplotlib as mpl
    from matplotlib.backend_bases import RendererBase
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.text import Text

    match case:
        case "equal":
            comparison = with_times(comparison, [0.01] * len(MIXER_NAMES))
        case "one mixer":
            comparison = replace(comparison, mixers=comparison.mixers[:1])
    drawn: list[Text] = []  # an axis also has labels for ticks that it does not show

    def draw(text: Text, renderer: RendererBase) -> None:
        drawn.append(text)
        original(text, renderer)

    original = Text.draw
    monkeypatch.setattr(Text, "draw", draw)
    with mpl.rc_context(compare_figure.STYLE):
        figure = Figure(figsize=compare_figure.SIZE_INCHES, layout="constrained")
        canvas = FigureCanvasAgg(figure)
        compare_figure._draw(figure, comparison)
        canvas.draw()  # type: ignore[no-untyped-call]
        # an annotation's own extent has its arrow in it
        boxes = {text: Text.get_window_extent(text) for text in drawn if text.get_visible() and text.get_text().strip()}
    width, height = canvas.get_width_height()
    for text, box in boxes.items():
        assert box.x0 >= 0 and box.y0 >= 0 and box.x1 <= width and box.y1 <= height, text.get_text()
    for (one, box), (other, other_box) in itertools.combinations(boxes.items(), 2):
        assert not box.overlaps(other_box), (one.get_text(), other.get_text())
    words = " ".join(text.get_text() for text in boxes)
    for figures in comparison.mixers:
        assert f"{figures.structure.mixer}  $n^{{{figures.cost.time_exponent:.2f}}}$" in words


@pytest.mark.parametrize(
    ("heights", "expected"),
    [
        ([], []),
        ([0.5], [0.5]),
        ([0.1, 0.5, 0.9], [0.1, 0.5, 0.9]),  # far enough apart already
        ([0.5, 0.5], [0.45, 0.55]),
        ([0.5, 0.5, 0.5], [0.4, 0.5, 0.6]),
        ([0.4, 0.5, 0.5], [0.36666667, 0.46666667, 0.56666667]),  # the lowest has to make room
        ([0.0, 0.02, 0.9], [-0.04, 0.06, 0.9]),
    ],
)
def test_labels_are_moved_apart_as_little_as_it_takes(heights: list[float], expected: list[float]) -> None:
    assert compare_figure._spread(heights, 0.1) == pytest.approx(expected)
