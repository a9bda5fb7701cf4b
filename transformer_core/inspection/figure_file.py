"""Files for figures: what they may be called, what drawing needs, and how they are written.

Loads no matplotlib before something is drawn, so that what is missing is said before the work and not after it.
"""

import io
import logging
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from tokenizer.atomic_file import write_bytes
from transformer_core.errors import ConfigError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["require_drawing", "write_figure"]

SUFFIXES = (".png", ".svg")
PIXELS_PER_INCH = 150  # of a PNG: as sharp as a slide needs


def require_drawing(path: Path) -> None:
    """See that a figure can be drawn into such a file.

    Raises:
        ConfigError: its suffix says no format that we draw, or matplotlib is missing.
    """
    if path.suffix.lower() not in SUFFIXES:
        raise ConfigError(f"{path}: a figure is a {' or '.join(SUFFIXES)} file; name it so")
    if find_spec("matplotlib") is None:
        raise ConfigError("a figure needs matplotlib: pip install 'transduce[plots]'")
    logging.getLogger("matplotlib").setLevel(logging.ERROR)  # where it puts its cache is not the user's concern


def write_figure(path: Path, figure: "Figure") -> None:
    """Write a figure, whole or not at all; the same figure gives the same bytes.

    The text of an SVG stays text: it can be searched and edited, and whoever shows it has the fonts for it.

    Raises:
        OSError: it cannot be written.
    """
    import matplotlib

    buffer = io.BytesIO()
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "transduce"}):
        figure.savefig(
            buffer,
            format=path.suffix[1:].lower(),
            dpi=PIXELS_PER_INCH,
            bbox_inches="tight",
            metadata={"Date": None} if path.suffix.lower() == ".svg" else {},
        )
    write_bytes(path, buffer.getvalue())
