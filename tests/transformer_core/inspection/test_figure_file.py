import sys
from pathlib import Path

import pytest
from matplotlib.figure import Figure

from transformer_core.errors import ConfigError, DataError
from transformer_core.inspection.figure_file import require_drawing, write_figure


def figure() -> Figure:
    drawn = Figure(figsize=(4, 3))
    drawn.text(0.5, 0.5, "größer")
    return drawn


@pytest.mark.parametrize("name", ["figure.png", "figure.svg", "figure.SVG"])
def test_the_same_figure_is_the_same_file(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    require_drawing(path)
    contents = []
    for _ in range(2):
        write_figure(path, figure())
        contents.append(path.read_bytes())
    assert contents[0] == contents[1]
    assert contents[0].startswith(b"<?xml" if name.lower().endswith("svg") else b"\x89PNG")
    assert name.endswith("png") or ">größer<".encode() in contents[0]


def test_a_slide_keeps_its_size_and_else_margins_are_cut_off(tmp_path: Path) -> None:
    widths = []
    for keeps_size in (True, False):
        write_figure(tmp_path / "figure.png", figure(), keeps_size=keeps_size)
        widths.append(int.from_bytes((tmp_path / "figure.png").read_bytes()[16:20], "big"))
    assert widths[0] == 4 * 150
    assert widths[1] < 200


def test_what_cannot_be_drawn_is_known_before_there_is_anything_to_draw(tmp_path: Path) -> None:
    for name in ("figure.pdf", "figure", "png"):
        with pytest.raises(ConfigError, match=r"a figure is a \.png or a \.svg"):
            require_drawing(tmp_path / name)
    with pytest.raises(DataError, match="there is no folder"):
        require_drawing(tmp_path / "none" / "figure.svg")


@pytest.mark.parametrize("module", ["matplotlib", "matplotlib.figure"])
def test_without_matplotlib_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: str) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ConfigError, match=r"^--plot needs a package: pip install 'transduce\[plots\]'$"):
        require_drawing(tmp_path / "figure.png")
