"""Files for figures: what they may be called, what drawing needs, and how they are written.

Loads no matplotlib before something is drawn, so that what is missing is said before the work and not after it.
"""

import io
import logging
from pathlib import Path
from typing import TYPE_CHECKING

from tokenizer.atomic_file import behind_links, write_bytes
from transformer_core.errors import ConfigError, DataError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["require_drawing", "require_folder", "write_figure"]

SUFFIXES = (".png", ".svg")
PIXELS_PER_INCH = 150  # of a PNG: as sharp as a slide needs


def require_drawing(path: Path) -> None:
    """See that a figure can be drawn and has a place, before there is anything to draw.

    Raises:
        ConfigError: the suffix is none of ours, or matplotlib is not installed.
        DataError: there is no such folder.
    """
    if path.suffix.lower() not in SUFFIXES:
        raise ConfigError(f"{path}: a figure is a .png or a .svg")
    require_folder(path)
    logging.getLogger("matplotlib").setLevel(logging.ERROR)  # where it puts its cache is not the user's concern
    try:
        import matplotlib.figure  # noqa: F401 - whether it is there
    except ImportError:
        raise ConfigError("--plot needs a package: pip install 'transduce[plots]'") from None


def require_folder(path: Path) -> None:
    """See that a file that is to be written has a place.

    Raises:
        DataError: there is no such folder.
    """
    if not path.absolute().parent.is_dir():
        raise DataError(f"{path}: there is no folder {path.absolute().parent}")


def write_figure(path: Path, figure: "Figure", *, keeps_size: bool = False) -> None:
    """Write a figure, whole or not at all; the same figure gives the same bytes.

    The text of an SVG stays text: it can be searched and edited, and whoever shows it has the fonts for it.

    Args:
        path: what `require_drawing` was content with.
        figure: drawn.
        keeps_size: whether the file is as large as the figure (a slide); else its empty margins are cut off.

    Raises:
        OSError: it cannot be written.
    """
    import matplotlib

    kind = path.suffix.lower()[1:]
    buffer = io.BytesIO()
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "transduce"}):
        figure.savefig(
            buffer,
            format=kind,
            dpi=PIXELS_PER_INCH,
            bbox_inches=None if keeps_size else "tight",
            metadata={"Date": None} if kind == "svg" else None,
        )
    write_bytes(behind_links(path), buffer.getvalue())
