"""Vocabulary: the pieces that training found, and the model of the library that segments with them."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from tokenizers import models

from tokenizer.config import Kind
from tokenizer.errors import TokenizerConfigError
from tokenizer.pipeline import MAX_WORD_LENGTH
from tokenizer.special_tokens import SPECIAL_TOKENS, UNK_ID
from tokenizer.tags import tag_piece

__all__ = ["Vocabulary", "build_model"]


@dataclass(frozen=True, kw_only=True)
class Vocabulary:
    """What a kind of tokenizer learns."""

    pieces: list[str]  # in the order of their ids; the special tokens come first
    merges: list[tuple[str, str]] = field(
        default_factory=list
    )  # of bpe and byte-bpe, in the order in which they are applied
    scores: list[float] = field(default_factory=list)  # of unigram: the natural log-probability of each piece

    def with_tags(self, names: Sequence[str]) -> "Vocabulary":
        """The same with tags at its end, those aside that it has.

        Raises:
            TokenizerConfigError: a name cannot be a tag.
        """
        new = [piece for piece in dict.fromkeys(map(tag_piece, names)) if piece not in self.pieces]
        scores = [*self.scores, *(0.0 for _ in new)] if self.scores else []
        return replace(self, pieces=[*self.pieces, *new], scores=scores)


def build_model(kind: Kind, vocabulary: Vocabulary) -> models.Model:
    """The model that cuts a word into pieces of the vocabulary.

    Raises:
        Exception: the library's own, when the vocabulary contradicts itself (a merge of pieces that are not there).
    """
    ids = {piece: index for index, piece in enumerate(vocabulary.pieces)}
    unknown = SPECIAL_TOKENS[UNK_ID]
    match kind:
        case "bpe":
            return models.BPE(ids, vocabulary.merges, unk_token=unknown, byte_fallback=True)
        case "byte-bpe":
            return models.BPE(ids, vocabulary.merges)
        case "char":  # a BPE that merges nothing looks characters up, much faster than a word level of characters
            return models.BPE(ids, [], unk_token=unknown)
        case "unigram":
            return models.Unigram(list(zip(vocabulary.pieces, vocabulary.scores, strict=True)), UNK_ID, False)
        case "wordpiece":
            return models.WordPiece(
                ids, unk_token=unknown, continuing_subword_prefix="", max_input_chars_per_word=MAX_WORD_LENGTH
            )
        case "word":
            return models.WordLevel(ids, unk_token=unknown)
        case "imported":
            raise TokenizerConfigError("kind imported is not built here; `transduce import` makes such tokenizers")
