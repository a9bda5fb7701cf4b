"""Tokenizer: text to ids and back."""

import copy
import hashlib
import json
import math
import re
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Self

import tokenizers
from tokenizers import decoders

from tokenizer.atomic_file import write_text
from tokenizer.config import TokenizerConfig
from tokenizer.errors import TokenizerConfigError, TokenizerDataError, TokenizerFileError
from tokenizer.file_format import MAX_FILE_BYTES, add_tags, parse_tokenizer
from tokenizer.imported import ImportedLibrary, ImportedVocabulary
from tokenizer.pipeline import build_text_normalizer
from tokenizer.special_tokens import BOS_ID, EOS_ID, MASK_ID, PAD_ID, SPECIAL_TOKENS, UNK_ID
from tokenizer.tags import TAG_PATTERN, tag_names, tag_piece
from tokenizer.word_edges import WordEdges, find_word_edges

__all__ = ["Tokenizer"]


class Tokenizer:
    """Turns lines into token ids and back.

    Made by `train_tokenizer`, `Tokenizer.load` or `Tokenizer.from_json`; it does not change afterwards.

    Attributes:
        config: what the file says of itself; its `vocabulary_size` is the true one.
        pad_id: fills a batch.
        bos_id: the decoder's first input; of an imported model it may be another special token.
        eos_id: ends a line.
        unk_id: what the vocabulary cannot spell.
        mask_id: hides a token in pretraining.
    """

    def __init__(
        self, config: TokenizerConfig, library: tokenizers.Tokenizer | ImportedLibrary, json_text: str
    ) -> None:
        self.config = config
        self.pad_id = PAD_ID
        self.bos_id = library.start_id if isinstance(library, ImportedLibrary) else BOS_ID
        self.eos_id = EOS_ID
        self.unk_id = UNK_ID
        self.mask_id = MASK_ID
        self._library = library
        self._json_text = json_text
        self._text_normalizer = build_text_normalizer(config)
        # what every line begins with: nothing, a tag, or what an imported model was trained with
        self._own_first_ids = library.first_ids if isinstance(library, ImportedLibrary) else []
        self._first_ids = self._own_first_ids

    # --- Files

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read a tokenizer.json.

        Raises:
            TokenizerFileError: the file is missing or cannot be read, or is no tokenizer made by this package.
        """
        path = Path(path)
        if path.is_dir():
            raise TokenizerFileError(f"{path}: is a folder; name the file in it ({path / 'tokenizer.json'})")
        try:
            with path.open("rb") as file:
                content = file.read(MAX_FILE_BYTES + 1)
        except FileNotFoundError:
            message = f"{path}: no such file; `transduce tokenizer train` makes tokenizers"
            raise TokenizerFileError(message) from None
        except (OSError, ValueError) as error:  # ValueError: a NUL in the name
            reason = error.strerror if isinstance(error, OSError) else error
            raise TokenizerFileError(f"{path}: cannot be read ({reason})") from None
        if len(content) > MAX_FILE_BYTES:
            raise TokenizerFileError(f"{path}: is larger than {MAX_FILE_BYTES >> 20} MiB, which no tokenizer is")
        try:
            text = content.decode("utf-8")
        except UnicodeDecodeError:
            message = f"{path}: is not UTF-8 text; the file is damaged or not a tokenizer"
            raise TokenizerFileError(message) from None
        return cls.from_json(text, str(path))

    @classmethod
    def from_json(cls, text: str, name: str = "tokenizer.json") -> Self:
        """Read the text of a tokenizer.json; `name` is the file that messages speak of.

        Raises:
            TokenizerFileError: the text is no tokenizer made by this package.
        """
        config, library = parse_tokenizer(text, name)
        return cls(config, library, text)

    def to_json(self) -> str:
        """The text of the tokenizer.json, which `tokenizers.Tokenizer.from_str` of the library reads as well."""
        return self._json_text

    def save(self, path: str | Path) -> None:
        """Write the tokenizer.json to `path`, whole or not at all.

        Raises:
            OSError: it cannot be written; `filename` says which.
        """
        write_text(path, self._json_text)

    @cached_property
    def sha256(self) -> str:
        """The SHA-256 of the file, as `sha256sum` prints it: tokenizers with the same one are the same."""
        return hashlib.sha256(self._json_text.encode("utf-8")).hexdigest()

    # --- Tags

    @cached_property
    def tags(self) -> dict[str, int]:
        """The ids of the tags of the vocabulary by their names."""
        first = len(SPECIAL_TOKENS)
        names = tag_names(self.raw_pieces[first:])
        return {name: index for index, name in enumerate(names, self.vocabulary_size - len(names))}

    def with_tags(self, names: Sequence[str]) -> Self:
        """A tokenizer whose vocabulary has these tags as well, at its end; all else keeps its id.

        Raises:
            TokenizerConfigError: a name cannot be a tag.
        """
        if set(names) <= set(self.tags):
            return self
        return type(self).from_json(add_tags(self._json_text, self.config, names))

    def tagged(self, name: str | None) -> Self:
        """The same tokenizer, but that every line which it encodes begins with a tag; None: with none of our choice.

        Raises:
            TokenizerConfigError: the vocabulary has no such tag.
        """
        if name is not None and name not in self.tags:
            known = f"its tags are {', '.join(self.tags)}" if self.tags else "it has none"
            raise TokenizerConfigError(f"the vocabulary has no tag {tag_piece(name)} ({name}); {known}")
        tagged = copy.copy(self)
        tagged._first_ids = self._own_first_ids if name is None else [self.tags[name]]
        return tagged

    @property
    def first_ids(self) -> list[int]:
        """What every line begins with: nothing, or a tag."""
        return list(self._first_ids)

    @property
    def unwritten_ids(self) -> list[int]:
        """What no translation contains, unless it has to begin with it: special tokens and tags."""
        ids = {self.pad_id, self.bos_id, self.mask_id, *self.tags.values()}
        return sorted(ids - {self.eos_id})  # an imported model may start with the end token

    # --- Text to ids

    @property
    def vocabulary_size(self) -> int:
        """Entries of the vocabulary, special tokens included."""
        return self.config.vocabulary_size

    def normalize(self, line: str) -> str:
        """Bring a line into the form that decoding gives back: its Unicode form, its capitals.

        Raises:
            TokenizerDataError: the line holds half of a surrogate pair, which is no character.
        """
        try:
            if isinstance(self._library, ImportedLibrary):
                return self._library.cutter.normalize(line)
            return self._text_normalizer.normalize_str(line)
        except (TypeError, ValueError):
            _require_characters([line])
            raise

    def encode(self, line: str) -> list[int]:
        """Turn a line into ids, of which none is special but unk; a line without words gives none, not even a tag.

        Raises:
            TokenizerDataError: the line holds half of a surrogate pair, which is no character.
        """
        return self.encode_batch([line])[0]

    def encode_batch(self, lines: Sequence[str]) -> list[list[int]]:
        """Turn lines into ids, on all cores; the same as `encode` on each.

        Raises:
            TokenizerDataError: a line holds half of a surrogate pair, which is no character.
        """
        try:
            encodings = self._library.encode_batch_fast(list(lines), add_special_tokens=False)
        except (TypeError, ValueError):
            _require_characters(lines)
            raise
        if not (first := self._first_ids):
            return [encoding.ids for encoding in encodings]
        return [[*first, *ids] if (ids := encoding.ids) else [] for encoding in encodings]

    def encode_words(self, text: str) -> list[int]:
        """Turn text into ids as a line, but without what every line begins with.

        Raises:
            TokenizerDataError: the text holds half of a surrogate pair, which is no character.
        """
        return self.encode(text)[len(self._first_ids) :]

    def encode_rest(self, text: str) -> list[int]:
        """Turn the rest of a line into ids, as they are after something else: no space is put before its first word.

        Raises:
            TokenizerDataError: the text holds half of a surrogate pair, which is no character.
        """
        # char puts no space there, word has it in every token, and an imported one cannot be told to leave it out
        if self.config.kind in ("char", "word", "imported"):
            return self.encode_words(text)
        _require_characters([text])
        return self._library_for_rests.encode(text, add_special_tokens=False).ids

    # --- Ids to text

    def decode(self, ids: Sequence[int]) -> str:
        """Turn ids into text, whatever they are.

        pad, bos, eos, mask and numbers that are no ids vanish, unk becomes U+2047, and bytes that are no UTF-8 become
        U+FFFD.
        """
        return self._library.decode(self._valid(ids), skip_special_tokens=False)

    def decode_batch(self, batch: Sequence[Sequence[int]]) -> list[str]:
        """Turn rows of ids into lines, on all cores; the same as `decode` on each."""
        return self._library.decode_batch([self._valid(ids) for ids in batch], skip_special_tokens=False)

    def tokens(self, ids: Sequence[int]) -> list[str]:
        r"""The tokens with these ids, as they are shown: "▁" for a space, "\▁" for a "▁"; bytes as GPT-2 writes them.

        No token holds a space, and no two look the same, so that a line of tokens can be read again.

        Raises:
            TokenizerDataError: a number is no id of the vocabulary.
        """
        shown = self._shown_tokens
        try:
            return [shown[index if index >= 0 else len(shown)] for index in ids]
        except IndexError:
            wrong = next(index for index in ids if not 0 <= index < len(shown))
            raise TokenizerDataError(
                f"{wrong} is no id of this vocabulary, whose ids go from 0 to {len(shown) - 1}"
            ) from None

    def token_ids(self, tokens: Sequence[str]) -> list[int]:
        """The ids of tokens, written as `tokens` gives them.

        Raises:
            TokenizerDataError: a token is not in the vocabulary.
        """
        try:
            return [self._ids_of_tokens[token] for token in tokens]
        except KeyError as error:
            raise TokenizerDataError(f"{error.args[0]!r} is no token of this vocabulary") from None

    @cached_property
    def pieces(self) -> list[str]:
        """The text of every token in the order of the ids; U+FFFD stands in it for a part of a character."""
        if isinstance(self._library, ImportedLibrary):
            return [self._library.shown(index) for index in range(self.vocabulary_size)]
        if self.config.kind == "byte-bpe":
            byte_level = decoders.ByteLevel()
            return [byte_level.decode([piece]) for piece in self.raw_pieces]
        return self.raw_pieces

    @cached_property
    def raw_pieces(self) -> list[str]:
        """Every entry as the file has it, in the order of the ids."""
        return [self._library.id_to_token(index) or "" for index in range(self.vocabulary_size)]

    @cached_property
    def word_edges(self) -> WordEdges:
        """How every token begins and ends, which tells where words begin among ids."""
        return find_word_edges(self.config.kind, self.pieces)

    @property
    def merges(self) -> list[tuple[int, int, int]]:
        """The merges of bpe and byte-bpe in their order: ids of left, right and both together; none of other kinds."""
        if self.config.kind not in ("bpe", "byte-bpe"):
            return []
        model = json.loads(self._json_text)["model"]
        ids = model["vocab"]
        return [(ids[left], ids[right], ids[left + right]) for left, right in model.get("merges", [])]

    @property
    def scored_pieces(self) -> list[tuple[str, float]]:
        """Text and natural log of the probability of every id of unigram; minus infinity for what no text is cut into.

        None of other kinds.
        """
        if self.config.kind != "unigram":
            return []
        vocabulary: list[tuple[str, float]] = json.loads(self._json_text)["model"]["vocab"]
        return [
            (text, -math.inf if index < len(SPECIAL_TOKENS) or re.fullmatch(TAG_PATTERN, text) else score)
            for index, (text, score) in enumerate(vocabulary)
        ]

    @property
    def imported(self) -> ImportedVocabulary | None:
        """What the file of an imported tokenizer holds; None of the other kinds."""
        return self._library.vocabulary if isinstance(self._library, ImportedLibrary) else None

    @cached_property
    def _library_for_rests(self) -> tokenizers.Tokenizer:
        """The tokenizer without the step that puts a space before the first word."""
        library = tokenizers.Tokenizer.from_str(self._json_text)
        library.normalizer = self._text_normalizer
        return library

    @cached_property
    def _shown_tokens(self) -> list[str]:
        return [piece.replace("▁", "\\▁").replace(" ", "▁") for piece in self.raw_pieces]

    @cached_property
    def _ids_of_tokens(self) -> dict[str, int]:
        return {token: index for index, token in enumerate(self._shown_tokens)}

    def _valid(self, ids: Sequence[int]) -> list[int]:
        size = self.vocabulary_size
        return [index for index in ids if 0 <= index < size]


def _require_characters(lines: Sequence[str]) -> None:
    """Say it in our words when a string cannot be passed to the library.

    Raises:
        TokenizerDataError: a line holds half of a surrogate pair.
    """
    for line in lines:
        try:
            line.encode("utf-8")
        except UnicodeEncodeError as error:
            raise TokenizerDataError(
                f"text holds half of a surrogate pair (U+{ord(line[error.start]):04X}), which is no character"
            ) from None
