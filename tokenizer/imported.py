"""The tokenizer of an imported model, under our special tokens and ids; it cuts text as its makers meant it to.

How text is cut is in cutters.py. Pieces are looked up in a vocabulary of its own, because several models may share one,
and not every piece has an entry. The file is JSON like ours, but none of the library's:

    type      "imported"
    version   1
    start     the token that decoding begins with: "<bos>", or another one that the model was trained with
    first     entries that every line begins with, such as the tag of its language; often none
    cutter    {"type": "sentencepiece", "model": base64}, or {"type": "byte-level-bpe", "vocab": …, "merges": …}
    pieces    all entries in the order of their ids: the special tokens first, tags last
    names     what the special tokens and tags are called where the model comes from
"""

import base64
import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from tokenizer.config import MAX_VOCABULARY_SIZE, TokenizerConfig
from tokenizer.cutters import SPACE, Cutter, SentencePieceCutter, new_cutter
from tokenizer.errors import TokenizerFileError
from tokenizer.pipeline import UNKNOWN_SURFACE
from tokenizer.special_tokens import BOS_ID, EOS_ID, MASK_ID, PAD_ID, SPECIAL_TOKENS, UNK_ID
from tokenizer.tags import tag_names, tag_piece

__all__ = ["ImportedLibrary", "ImportedVocabulary", "parse_imported"]

VERSION = 1
_HIDDEN_IDS = (PAD_ID, BOS_ID, EOS_ID, MASK_ID)


@dataclass(frozen=True, kw_only=True)
class ImportedVocabulary:
    """What the file of an imported tokenizer holds."""

    cutter: dict[str, Any]  # how text is cut into pieces
    pieces: list[str]  # in the order of their ids
    start: str = SPECIAL_TOKENS[BOS_ID]  # one of the special tokens
    first: list[str] = field(default_factory=list)  # special tokens or tags that every line begins with
    names: dict[str, str] = field(default_factory=dict)  # of special tokens and tags, where they come from

    @property
    def foreign_names(self) -> list[str]:
        """The entries as they are called where the model comes from, in the order of our ids."""
        return [self.names.get(piece, piece) for piece in self.pieces]

    @property
    def tags(self) -> list[str]:
        """The names of the tags in their order."""
        return tag_names(self.pieces)

    @property
    def language(self) -> str | None:
        """The language whose tag every line begins with."""
        return next(iter(tag_names(self.first)), None)

    @property
    def sentencepiece_model(self) -> bytes | None:
        """The SentencePiece model, where it is one that cuts text."""
        return base64.b64decode(self.cutter["model"]) if self.cutter["type"] == "sentencepiece" else None

    def to_json(self) -> str:
        """The text of the file."""
        return json.dumps({"type": "imported", "version": VERSION, **asdict(self)}, ensure_ascii=False) + "\n"

    def with_tags(self, names: Sequence[str]) -> "ImportedVocabulary":
        """The same with tags at its end, those aside that it has."""
        new = [piece for piece in dict.fromkeys(map(tag_piece, names)) if piece not in self.pieces]
        return replace(self, pieces=[*self.pieces, *new])


@dataclass(frozen=True)
class _Encoding:
    """As the library's."""

    ids: list[int]


class ImportedLibrary:
    """An imported tokenizer with those methods of the library's class that Tokenizer calls.

    No text reaches a special token or a tag: a piece that spells one is unknown.
    """

    def __init__(self, vocabulary: ImportedVocabulary, cutter: Cutter) -> None:
        self.vocabulary = vocabulary
        self.start_id = SPECIAL_TOKENS.index(vocabulary.start)
        self.first_ids = [vocabulary.pieces.index(piece) for piece in vocabulary.first]
        self.cutter = cutter
        self._tags = {tag_piece(name) for name in tag_names(vocabulary.pieces)}
        self._ids = {
            piece: index
            for index, piece in enumerate(vocabulary.pieces)
            if index >= len(SPECIAL_TOKENS) and piece not in self._tags
        }

    def encode_batch_fast(self, lines: list[str], add_special_tokens: bool = False) -> list[_Encoding]:
        """Cut lines and look their pieces up."""
        return [_Encoding([self._ids.get(piece, UNK_ID) for piece in pieces]) for pieces in self.cutter.cut(lines)]

    def decode(self, ids: Sequence[int], skip_special_tokens: bool = False) -> str:
        """Make text of ids; an unknown token is U+2047, the other special tokens and tags are nothing."""
        parts: list[str] = []
        run: list[str] = []  # of pieces, to be joined
        for index in ids:
            piece = self.vocabulary.pieces[index]
            if index == UNK_ID:
                parts += [self._join(run, is_first=not parts), UNKNOWN_SURFACE]
                run = []
            elif index not in _HIDDEN_IDS and piece not in self._tags:
                run.append(piece)
        return "".join([*parts, self._join(run, is_first=not parts)])

    def decode_batch(self, batch: Sequence[Sequence[int]], skip_special_tokens: bool = False) -> list[str]:
        """Make text of rows of ids."""
        return [self.decode(ids) for ids in batch]

    def id_to_token(self, index: int) -> str | None:
        """Name an entry; a space in it is a space."""
        piece = self.vocabulary.pieces[index]
        return piece.replace(SPACE, " ") if isinstance(self.cutter, SentencePieceCutter) else piece

    def shown(self, index: int) -> str:
        """The text of an entry."""
        piece = self.vocabulary.pieces[index]
        return self.cutter.shown(piece) if piece in self._ids else piece

    def _join(self, pieces: Sequence[str], *, is_first: bool) -> str:
        """Join pieces; only at the start of a line the space before the first word is left out."""
        if is_first or not pieces:
            return self.cutter.join(pieces)
        return (
            self.cutter.join([SPACE, *pieces])
            if isinstance(self.cutter, SentencePieceCutter)
            else self.cutter.join(pieces)
        )


def parse_imported(document: dict[str, Any], name: str) -> tuple[TokenizerConfig, ImportedLibrary]:
    """Read the parsed file of an imported tokenizer; `name` is the file that messages speak of.

    Raises:
        TokenizerFileError: it is damaged.
    """
    try:
        vocabulary = _vocabulary_of(document)
        library = ImportedLibrary(vocabulary, new_cutter(vocabulary.cutter))
    except (ValueError, TypeError, KeyError) as error:
        reason = " ".join(str(error).split())
        raise TokenizerFileError(f"{name}: is no imported tokenizer ({reason}); import the model again") from None
    config = TokenizerConfig(kind="imported", vocabulary_size=len(vocabulary.pieces), normalization="none")
    return config, library


def _vocabulary_of(document: dict[str, Any]) -> ImportedVocabulary:
    """Check every part.

    Raises:
        ValueError: a part is damaged.
    """
    values = {key: value for key, value in document.items() if key not in ("type", "version")}
    if document.get("version") != VERSION:
        raise ValueError("it is of another version")
    vocabulary = ImportedVocabulary(**values)
    pieces = vocabulary.pieces
    if not isinstance(pieces, list) or not len(SPECIAL_TOKENS) < len(pieces) <= MAX_VOCABULARY_SIZE:
        raise ValueError("its pieces are no list of some length")
    if not all(isinstance(piece, str) and piece for piece in pieces) or len(set(pieces)) != len(pieces):
        raise ValueError("a piece is empty, no text, or there twice")
    if tuple(pieces[: len(SPECIAL_TOKENS)]) != SPECIAL_TOKENS:
        raise ValueError(f"its pieces do not begin with {', '.join(SPECIAL_TOKENS)}")
    if vocabulary.start not in SPECIAL_TOKENS:
        raise ValueError("it starts with no special token")
    known = {*SPECIAL_TOKENS, *map(tag_piece, tag_names(pieces))}
    if not isinstance(vocabulary.first, list) or not known.issuperset(vocabulary.first):
        raise ValueError("what lines begin with is neither a special token nor a tag")
    names = vocabulary.names
    if not isinstance(names, dict) or not all(isinstance(name, str) for name in names.values()):
        raise ValueError("its names are no table")
    if re.search("[\ud800-\udfff]", "".join([*pieces, *names, *names.values()])):
        raise ValueError("a piece or a name holds half a character (such as \\ud800)")
    if not isinstance(vocabulary.cutter, dict):
        raise ValueError("how it cuts text is not known")
    return vocabulary
