"""A line that is too long for the model: cut in two, near its middle and at the best place there, until it fits."""

import re
from collections.abc import Callable

__all__ = ["split_text"]

# Where a text may be cut, the best places first: after a sentence, between words, anywhere.
_BOUNDARIES = (
    re.compile(r"""[.!?…;:]["')\]»”’]*\s+|[。！？；]\s*"""),  # noqa: RUF001 - they are meant
    re.compile(r"\s+"),
)


def split_text(text: str, max_tokens: int, count_tokens: Callable[[str], int]) -> list[tuple[str, str]]:
    """Cut a text into pieces that fit.

    >>> split_text("one two. three four", 2, lambda text: len(text.split()))
    [('', 'one two.'), (' ', 'three four')]

    Args:
        text: to cut.
        max_tokens: that a piece may have; only a single character may have more.
        count_tokens: says how many tokens a text has.

    Returns:
        For every piece what stands before it, " " where there was white space, and its text.
    """
    if len(text) < 2 or count_tokens(text) <= max_tokens:
        return [("", text)]
    left, separator, right = _halves(text)
    (_, first), *rest = split_text(right, max_tokens, count_tokens)
    return [*split_text(left, max_tokens, count_tokens), (separator, first), *rest]


def _halves(text: str) -> tuple[str, str, str]:
    """Cut at the boundary that is nearest to the middle, if there is one in the middle half."""
    middle = len(text) // 2
    for boundary in _BOUNDARIES:
        cuts = [match.end() for match in boundary.finditer(text)]
        nearest = min(cuts, key=lambda cut: abs(cut - middle), default=0)
        if len(text) // 4 <= nearest <= 3 * len(text) // 4 and 0 < nearest < len(text):
            left, right = text[:nearest], text[nearest:]
            return left.rstrip(), " " if left[-1].isspace() else "", right
    return text[:middle], "", text[middle:]
