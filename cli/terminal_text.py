"""Text in the cells of a terminal: as wide as it looks, cut to fit, in colours, and in its own direction.

A character may be two cells wide (Chinese, emoji) or none (accents that stand on the one before). Terminals that know
of right-to-left script would turn the order of what stands beside it, too; a mark after each such piece keeps it.
"""

from unicodedata import bidirectional

from rich.cells import cell_len, set_cell_size

__all__ = ["align_left", "align_right", "cut", "paint", "stacked", "width_of"]

_ELLIPSIS = "…"
_LEFT_TO_RIGHT_MARK = "\u200e"  # has no width
_RIGHT_TO_LEFT = frozenset({"R", "AL", "AN"})


def width_of(text: str) -> int:
    """Count the cells that a text takes."""
    return cell_len(text)


def cut(text: str, width: int) -> str:
    """Shorten a text to at most so many cells, with an ellipsis where something is missing."""
    if width_of(text) <= width:
        return text
    return set_cell_size(text, width - 1).rstrip(" ") + _ELLIPSIS


def align_left(text: str, width: int) -> str:
    """Cut or fill a text with spaces to exactly so many cells."""
    text = cut(text, width)
    return _kept_apart(text) + " " * (width - width_of(text))


def align_right(text: str, width: int) -> str:
    """Cut a text or put spaces before it, to exactly so many cells."""
    text = cut(text, width)
    return " " * (width - width_of(text)) + _kept_apart(text)


def stacked(text: str) -> list[str]:
    """Take a text apart into what stands in one place each: a character, and the marks that stand on it."""
    places: list[str] = []
    for character in text:
        if places and width_of(character) == 0:
            places[-1] += character
        else:
            places.append(character)
    return places


def paint(text: str, *, background: int | None = None, foreground: int | None = None) -> str:
    """Colour a text by numbers of the 256 colours that terminals have."""
    codes = [f"{kind};5;{number}" for kind, number in ((48, background), (38, foreground)) if number is not None]
    return f"\x1b[{';'.join(codes)}m{text}\x1b[0m" if codes else text


def _kept_apart(text: str) -> str:
    """Enclose right-to-left script in marks, so that it turns nothing but itself."""
    if any(bidirectional(character) in _RIGHT_TO_LEFT for character in text):
        return f"{_LEFT_TO_RIGHT_MARK}{text}{_LEFT_TO_RIGHT_MARK}"
    return text
