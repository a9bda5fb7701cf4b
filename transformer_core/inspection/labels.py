"""Labels of tokens and names: each on one line, with nothing in it that cannot be seen."""

from collections.abc import Sequence
from typing import TYPE_CHECKING
from unicodedata import category

if TYPE_CHECKING:  # names of runs need labels, too, and no tokenizer
    from tokenizer import Tokenizer

__all__ = ["token_labels", "visible"]

_CONTROL_PICTURES = 0x2400  # U+2400 is the picture of U+0000, and so on
_SPACE = "▁"  # as tokenizers show it
_SPACE_BYTE = "Ġ"  # as byte-level BPE spells it
_REPLACEMENT = "\ufffd"  # bytes that are no character


def visible(text: str) -> str:
    """Replace what has no picture of its own: a tab by "␉", a zero-width joiner by "<200D>".

    A mark that would stand on whatever is before the text gets a circle to stand on.
    """
    shown = "".join(character if character.isprintable() else _picture(character) for character in text)
    return f"\u25cc{shown}" if shown and category(shown[0]).startswith("M") else shown


def token_labels(tokenizer: "Tokenizer", ids: Sequence[int]) -> tuple[str, ...]:
    """Give a label for every token; "▁" is a space.

    A token of byte-level BPE is spelled in letters that stand for bytes ("Ã¼" for "ü"); where its bytes are whole
    characters, these are its label.
    """
    tokens = tokenizer.tokens(ids)
    if tokenizer.config.kind == "byte-bpe":
        tokens = [_characters(tokenizer, index, token) or token for index, token in zip(ids, tokens, strict=True)]
    return tuple(visible(token) for token in tokens)


def _characters(tokenizer: "Tokenizer", index: int, token: str) -> str:
    """The characters of one token; nothing where it is special or holds only a part of one."""
    text = tokenizer.decode([index])  # a space at the start of a line is dropped
    if _REPLACEMENT in text:
        return ""
    space = _SPACE if token.startswith(_SPACE_BYTE) else ""
    return space + text.replace(_SPACE, f"\\{_SPACE}").replace(" ", _SPACE)


def _picture(character: str) -> str:
    code = ord(character)
    if code < 0x20:
        return chr(_CONTROL_PICTURES + code)
    return "␡" if code == 0x7F else f"<{code:04X}>"
