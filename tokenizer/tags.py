"""Tags: entries of a vocabulary that say what is wanted of a line, such as the language to translate it into.

One model for several directions reads "<2de>" before a line that it is to translate into German (Johnson et al. 2017).
Like the special tokens they are ordinary entries that no text can reach: a tag mixes letters, digits and other
characters, which no word does (pipeline.py), so a line that spells "<2de>" is just a line. They come last in the
vocabulary: what has an id keeps it when tags are added.
"""

import re
from collections.abc import Sequence

from tokenizer.errors import TokenizerConfigError

__all__ = ["TAG_PATTERN", "tag_names", "tag_piece"]

_NAME = r"[A-Za-z0-9][A-Za-z0-9_\-]{0,31}"
TAG_PATTERN = f"<2{_NAME}>"


def tag_piece(name: str) -> str:
    """The entry of a tag: "<2de>" for "de".

    Raises:
        TokenizerConfigError: the name has other characters than letters, digits, - and _, or too many.
    """
    if not re.fullmatch(_NAME, name):
        raise TokenizerConfigError(
            f"{name!r} cannot be a tag: a tag has at most 32 letters (a to z), digits, - and _, such as pt-BR"
        )
    return f"<2{name}>"


def tag_names(pieces: Sequence[str]) -> list[str]:
    """The tags that a vocabulary ends with, in the order of their ids."""
    names: list[str] = []
    for piece in reversed(pieces):
        if not re.fullmatch(TAG_PATTERN, piece):
            break
        names.append(piece[2:-1])
    return names[::-1]
