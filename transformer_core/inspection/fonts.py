"""Fonts for whatever script a sentence is written in: matplotlib's own, and for the rest those of the machine."""

from collections.abc import Iterable
from functools import cache

from matplotlib.font_manager import fontManager
from matplotlib.ft2font import FT2Font

__all__ = ["families_for", "without_font"]

OWN_FAMILY = "DejaVu Sans"  # comes with matplotlib: Latin, Greek, Cyrillic, Arabic, Hebrew and more
_LAST_RESORT = "Last Resort"  # has a box for every character


def families_for(texts: Iterable[str]) -> list[str]:
    """Name fonts, in the order in which they are to be tried, that together have as many characters as possible."""
    families = [OWN_FAMILY]
    missing = _characters(texts) - _characters_of(OWN_FAMILY)
    while missing:
        best = max(_other_families(), key=lambda name: (len(missing & _characters_of(name)), name), default=None)
        if best is None or not missing & _characters_of(best):
            break
        families.append(best)
        missing -= _characters_of(best)
    return families


def without_font(texts: Iterable[str]) -> str:
    """Give the characters that no font of this machine has: matplotlib draws boxes in their place."""
    texts = list(texts)
    missing = _characters(texts).difference(*map(_characters_of, families_for(texts)))
    return "".join(sorted(missing))


def _characters(texts: Iterable[str]) -> set[str]:
    return {character for text in texts for character in text if character.isprintable()}


@cache
def _other_families() -> tuple[str, ...]:
    names = {entry.name for entry in fontManager.ttflist}
    return tuple(sorted(name for name in names if not name.startswith(_LAST_RESORT)))


@cache
def _characters_of(family: str) -> frozenset[str]:
    """The characters of the upright regular face of a family."""
    entries = [entry for entry in fontManager.ttflist if entry.name == family]
    entry = min(entries, key=lambda entry: (entry.style != "normal", abs(int(entry.weight) - 400), entry.fname))
    try:
        return frozenset(map(chr, FT2Font(entry.fname).get_charmap()))
    except (OSError, RuntimeError):  # gone or damaged since matplotlib listed it
        return frozenset()
