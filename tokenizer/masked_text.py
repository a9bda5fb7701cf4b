"""Lines in which `<mask>` stands for a token: what a pretrained model is asked to fill.

No text reaches a special token (pipeline.py says why), so such a line is cut at the literal `<mask>` and the parts are
encoded as they would be within the whole line. A space before `<mask>` belongs to the word that the mask hides, as the
space before every word does.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from tokenizer.special_tokens import MASK_ID, SPECIAL_TOKENS
from tokenizer.tokenizer import Tokenizer

__all__ = ["MASK_TEXT", "MaskedLine", "MaskedLineEncoder", "encode_masked_line"]

MASK_TEXT = SPECIAL_TOKENS[MASK_ID]


@dataclass(frozen=True, kw_only=True)
class MaskedLine:
    """A line, cut at its masks and encoded."""

    parts: tuple[str, ...]  # the text before, between and after the masks, as it was given: one part more than masks
    token_ids: list[int]  # mask_id where a mask stands
    begins_word: tuple[bool | None, ...]  # of each mask: what it hides begins a word; None where spaces are tokens

    @property
    def num_masks(self) -> int:
        """Masks in the line."""
        return len(self.parts) - 1

    def filled(self, texts: Sequence[str]) -> str:
        """The line with a text in the place of each mask, and otherwise as it was given."""
        return self.parts[0] + "".join(text + part for text, part in zip(texts, self.parts[1:], strict=True))


def encode_masked_line(tokenizer: Tokenizer, line: str) -> MaskedLine:
    """Encode a line in which `<mask>` may stand.

    >>> encode_masked_line(tokenizer, "the cat <mask> on").token_ids == [*tokenizer.encode("the cat"), 4, on_id]

    Raises:
        TokenizerDataError: the line holds half of a surrogate pair, which is no character.
    """
    parts = line.split(MASK_TEXT)
    token_ids: list[int] = []
    begins_word: list[bool | None] = []
    for place, part in enumerate(parts):
        is_last = place == len(parts) - 1
        text = part if is_last or tokenizer.config.kind == "char" else part.removesuffix(" ")
        token_ids += tokenizer.encode_rest(text) if place else tokenizer.encode_words(text)
        if is_last:
            break
        token_ids.append(tokenizer.mask_id)
        match tokenizer.config.kind:
            case "char":
                begins_word.append(None)
            case "word":
                begins_word.append(True)
            case _:
                begins_word.append(part.endswith(" ") or (place == 0 and not part))
    if token_ids:
        token_ids = [*tokenizer.first_ids, *token_ids]
    return MaskedLine(parts=tuple(parts), token_ids=token_ids, begins_word=tuple(begins_word))


class MaskedLineEncoder:
    """Encodes lines as their tokenizer does, but for `<mask>`, which becomes the mask token."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer

    def encode(self, line: str) -> list[int]:
        """Turn a line into ids."""
        return encode_masked_line(self._tokenizer, line).token_ids

    def encode_batch(self, lines: Sequence[str]) -> list[list[int]]:
        """Turn lines into ids; the same as `encode` on each."""
        return [self.encode(line) for line in lines]
