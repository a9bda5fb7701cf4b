"""How imported models cut text into pieces, and put pieces together.

Two ways are known: a SentencePiece model (Kudo and Richardson 2018; Marian, M2M100, NLLB, mBART), and the byte-level
BPE of GPT-2 (BART).
"""

import base64
import binascii
from collections.abc import Sequence
from typing import Any, Protocol

import tokenizers
from tokenizers import decoders, models, pre_tokenizers

from tokenizer.config import MAX_VOCABULARY_SIZE
from tokenizer.special_tokens import BYTE_TOKENS

__all__ = ["SPACE", "ByteLevelCutter", "Cutter", "SentencePieceCutter", "new_cutter"]

SPACE = "▁"  # SentencePiece's
_BYTES = {piece: bytes([byte]) for byte, piece in enumerate(BYTE_TOKENS)}


class Cutter(Protocol):
    """Cuts text into pieces, and puts pieces together."""

    def cut(self, lines: Sequence[str]) -> list[list[str]]:
        """Cut lines."""

    def normalize(self, line: str) -> str:
        """Bring a line into the form that joining its pieces gives back."""

    def join(self, pieces: Sequence[str]) -> str:
        """Make text of pieces."""

    def shown(self, piece: str) -> str:
        """A piece as text, by itself; a space in it is a space."""


class SentencePieceCutter:
    """Cuts with a SentencePiece model.

    Raises:
        ValueError: the bytes are no such model.
    """

    def __init__(self, model: bytes) -> None:
        import sentencepiece

        self._processor = sentencepiece.SentencePieceProcessor()
        try:
            self._processor.LoadFromSerializedProto(model)
        except RuntimeError:
            raise ValueError("the SentencePiece model is damaged") from None
        if not self._processor.get_piece_size():
            raise ValueError("the SentencePiece model is empty")

    @property
    def pieces(self) -> list[str]:
        """The pieces of the model in its own order."""
        return [self._processor.id_to_piece(index) for index in range(self._processor.get_piece_size())]

    def cut(self, lines: Sequence[str]) -> list[list[str]]:
        """Cut lines; what the model has no piece for comes as it is."""
        return self._processor.encode(list(lines), out_type=str)  # type: ignore[no-any-return]

    def normalize(self, line: str) -> str:
        """Normalise as the model says."""
        return self.join([self._processor.normalize(line)])

    def join(self, pieces: Sequence[str]) -> str:
        """Join, with spaces for their mark and characters for their bytes."""
        joined = b"".join(_BYTES.get(piece) or piece.encode("utf-8", "replace") for piece in pieces)
        return joined.decode("utf-8", "replace").replace(SPACE, " ").removeprefix(" ")

    def shown(self, piece: str) -> str:
        """Write spaces."""
        return piece.replace(SPACE, " ")


class ByteLevelCutter:
    """Cuts with byte-pair encoding over bytes, by GPT-2's pattern.

    Raises:
        ValueError: the vocabulary contradicts itself.
    """

    def __init__(self, vocab: dict[str, int], merges: list[tuple[str, str]]) -> None:
        try:
            self._library = tokenizers.Tokenizer(models.BPE(vocab, merges))
        except Exception as error:  # the library raises no narrower class
            raise ValueError(f"the merges do not fit the vocabulary: {error}") from None
        self._library.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        self._decoder = decoders.ByteLevel()
        self._pieces = {index: piece for piece, index in vocab.items()}  # the fast way of encoding gives ids alone

    def cut(self, lines: Sequence[str]) -> list[list[str]]:
        """Cut lines."""
        encodings = self._library.encode_batch_fast(list(lines), add_special_tokens=False)
        return [[self._pieces[index] for index in encoding.ids] for encoding in encodings]

    def normalize(self, line: str) -> str:
        """Leave the line as it is."""
        return line

    def join(self, pieces: Sequence[str]) -> str:
        """Make characters of bytes."""
        return self._decoder.decode(list(pieces))

    def shown(self, piece: str) -> str:
        """Make characters of bytes, and of what is none U+FFFD."""
        return self._decoder.decode([piece])


def new_cutter(cutter: dict[str, Any]) -> Cutter:
    """Make a cutter of its description.

    Raises:
        ValueError: it is damaged, or of no type that is known.
    """
    match cutter:
        case {"type": "sentencepiece", "model": str(model)}:
            try:
                return SentencePieceCutter(base64.b64decode(model, validate=True))
            except binascii.Error:
                raise ValueError("the SentencePiece model is no base64") from None
        case {"type": "byte-level-bpe", "vocab": dict(vocab), "merges": list(merges)}:
            if not all(type(index) is int and 0 <= index < MAX_VOCABULARY_SIZE for index in vocab.values()):
                raise ValueError("an id of the vocabulary is no number")
            pairs = [tuple(pair) for pair in merges]
            if not all(len(pair) == 2 and all(isinstance(part, str) for part in pair) for pair in pairs):
                raise ValueError("one of the merges is no pair of pieces")
            return ByteLevelCutter(vocab, pairs)
        case _:
            raise ValueError("how it cuts text is not known")
