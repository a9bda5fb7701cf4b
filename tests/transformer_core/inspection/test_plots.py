import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from pathlib import Path

import numpy
import pytest
from matplotlib.figure import Figure

from tests.transformer_core.inspection.test_attention_maps import example
from tests.transformer_core.inspection.test_curves import step_record, validation_record, write_run
from transformer_core.inspection import fonts
from transformer_core.inspection.curves import read_runs
from transformer_core.inspection.figure_file import write_figure
from transformer_core.inspection.fonts import families_for, without_font
from transformer_core.inspection.plots import draw_attention, draw_curves


def texts_of(figure: Figure, path: Path) -> list[str]:
    """What stands in the figure, as it reaches the file."""
    write_figure(path, figure)
    root = ElementTree.parse(path).getroot()
    return [text for element in root.iter() if element.tag.endswith("}text") and (text := "".join(element.itertext()))]


def test_one_map_has_its_labels_and_numbers(tmp_path: Path) -> None:
    attention = example()
    maps = attention.select("cross", 2, 1)
    found = texts_of(draw_attention(attention, maps), tmp_path / "map.svg")
    for label in (*attention.rows("cross"), *attention.columns("cross"), "cross-attention, layer 2, head 1"):
        assert label in found
    for weight in maps[0].weights.ravel().tolist():
        assert f"{100 * weight:.0f}" in found


@pytest.mark.parametrize(
    ("layer", "head", "shape"), [("all", "all", (3, 2)), ("all", "mean", (1, 3)), (2, "all", (1, 2)), (1, 1, (1, 1))]
)
def test_several_maps_are_a_grid_of_layers_and_heads(
    layer: "int | str", head: "int | str", shape: tuple[int, int]
) -> None:
    attention = example()
    maps = attention.select("decoder", layer, head)  # type: ignore[arg-type]
    figure = draw_attention(attention, maps)
    *axes, _ = figure.axes  # the last one is the bar that says what the colours mean
    assert len(axes) == len(maps)
    columns = {round(item.get_subplotspec().colspan.start) for item in axes}  # type: ignore[union-attr]
    rows = {round(item.get_subplotspec().rowspan.start) for item in axes}  # type: ignore[union-attr]
    assert (len(rows), len(columns)) == shape
    for item, drawn in zip(axes, maps, strict=True):
        assert drawn.place_name in item.get_title()
        values = item.collections[0].get_array()
        assert values is not None
        assert values.ravel().tolist() == drawn.weights.ravel().tolist()


def test_text_that_looks_like_a_formula_or_like_markup_is_just_text(tmp_path: Path) -> None:
    attention = replace(example(), source_tokens=("$a$", "$\\frac$", "</text><b>&amp;", "x" * 60))
    found = texts_of(draw_attention(attention, attention.select("cross")), tmp_path / "map.svg")
    assert {"$a$", "$\\frac$", "</text><b>&amp;", "x" * 23 + "…"} <= set(found)


def test_curves_have_a_panel_per_metric_and_a_line_per_run_and_split(tmp_path: Path) -> None:
    runs = read_runs(
        [
            write_run(tmp_path / "one", [step_record(10), step_record(20), validation_record(20, "exact", exact=50.0)]),
            write_run(tmp_path / "$two$", [step_record(10, loss=None), step_record(30)]),
        ]
    )
    figure = draw_curves(runs, ["loss", "exact", "learning_rate"], "time")
    assert [axes.get_title() for axes in figure.axes] == ["loss", "exact", "learning rate"]
    lines = [
        [
            (numpy.asarray(line.get_xdata()).tolist(), str(line.get_color()), line.get_linestyle())
            for line in axes.get_lines()
        ]
        for axes in figure.axes
    ]
    first, second = "#1f77b4", "#ff7f0e"
    assert lines == [
        [([1, 2], first, "-"), ([2], first, "--"), ([1, 3], second, "-")],
        [([2], first, "--")],
        [([1, 2], first, "-"), ([1, 3], second, "-")],
    ]
    # what is one point alone is a point
    assert [line.get_marker() for line in figure.axes[0].get_lines()] == ["None", "o", "o"]
    assert {"one", "$two$", "training", "validation"} <= set(texts_of(figure, tmp_path / "curves.svg"))


def test_fonts_are_taken_for_what_the_first_one_lacks(monkeypatch: pytest.MonkeyPatch) -> None:
    assert families_for(["größer", "שלום", "Ω\n"]) == ["DejaVu Sans"]
    faces = {"DejaVu Sans": "abc", "Some Hanzi": "北", "All Hanzi": "北京", "Kana": "かa"}
    monkeypatch.setattr(fonts, "_characters_of", lambda family: frozenset(faces.get(family, "")))
    monkeypatch.setattr(fonts, "_other_families", lambda: tuple(faces))
    assert families_for(["a", "北京", "か", "?"]) == ["DejaVu Sans", "All Hanzi", "Kana"]
    assert without_font(["a", "北京", "か", "?!"]) == "!?"
