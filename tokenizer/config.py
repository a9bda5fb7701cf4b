"""TokenizerConfig: what is asked of a vocabulary, and the kinds that there are.

    bpe        byte-pair encoding (Sennrich et al. 2016) over characters; a character without an entry of its own is
               spelled in UTF-8 bytes, as SentencePiece does with byte fallback. Every line comes back exactly.
    byte-bpe   byte-pair encoding over UTF-8 bytes (GPT-2, Radford et al. 2019). Every line comes back exactly.
    unigram    a unigram language model over pieces (Kudo 2018). A run of characters that training never saw becomes
               one unknown token; all else comes back exactly.
    wordpiece  the longest piece first (Wu et al. 2016, whose marks for the start of a word these are; BERT's "##" for
               its continuation is the same thing the other way round). A word with a character that training never
               saw becomes one unknown token; the rest comes back exactly but for spaces beside an unknown.
    char       one token per character. A character that training never saw becomes an unknown token; all else comes
               back exactly.
    word       one token per word between white space. A word that is not among the most frequent becomes an unknown
               token; white space comes back as single spaces between the words, and none at the ends.
    imported   whatever the tokenizer of an imported model does (imported.py); it is not trained here.

An unknown token is decoded as U+2047, a double question mark, so that it can be seen. "Exactly" means: the decoded
text equals the normalised line.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

from tokenizer.errors import TokenizerConfigError
from tokenizer.special_tokens import BYTE_TOKENS, SPECIAL_TOKENS

__all__ = [
    "DEFAULT_KIND",
    "KINDS",
    "MAX_VOCABULARY_SIZE",
    "NORMALIZATIONS",
    "ROUND_TRIP",
    "Kind",
    "Normalization",
    "TokenizerConfig",
    "TrainedKind",
    "minimum_vocabulary_size",
]

TrainedKind = Literal["bpe", "byte-bpe", "unigram", "wordpiece", "char", "word"]
Kind = Literal[TrainedKind, "imported"]
Normalization = Literal["nfc", "nfd", "nfkc", "none"]
KINDS: tuple[TrainedKind, ...] = get_args(TrainedKind)
DEFAULT_KIND: TrainedKind = "bpe"
NORMALIZATIONS: tuple[Normalization, ...] = get_args(Normalization)

MAX_VOCABULARY_SIZE = 1 << 24  # far beyond any model that fits a machine

# What decode(encode(line)) gives back, in one line per kind.
ROUND_TRIP: dict[Kind, str] = {
    "bpe": "exact for every line",
    "byte-bpe": "exact for every line",
    "unigram": "exact but for characters not seen in training",
    "wordpiece": "exact but for words with characters not seen in training",
    "char": "exact but for characters not seen in training",
    "word": "exact but for words outside the vocabulary, and white space that is not one space between words",
    "imported": "exact but for what its tokenizer normalises away or has no piece for",
}

# Characters that bpe may leave to their bytes: the rarest ones that make up this share of the text together. The
# default of SentencePiece; on texts from the web it keeps thousands of stray characters out of the vocabulary.
UNCOVERED_SHARE = 0.0005


@dataclass(frozen=True, kw_only=True)
class TokenizerConfig:
    """What is asked of a vocabulary.

    Raises:
        TokenizerConfigError: a value is none of its kind.
    """

    kind: Kind = DEFAULT_KIND  # how text is cut into tokens
    vocabulary_size: int = 8000  # entries at most, the five special tokens included; less if the text has no more
    normalization: Normalization = "nfc"  # Unicode form that text is brought into; nfd spells Korean syllables out
    lowercase: bool = False  # whether capitals are given up

    def __post_init__(self) -> None:
        if self.kind not in get_args(Kind):
            raise TokenizerConfigError(f"kind ({self.kind!r}) must be one of {', '.join(KINDS)}")
        if self.normalization not in NORMALIZATIONS:
            choices = ", ".join(NORMALIZATIONS)
            raise TokenizerConfigError(f"normalization ({self.normalization!r}) must be one of {choices}")
        minimum = minimum_vocabulary_size(self.kind, {})
        if not minimum <= self.vocabulary_size <= MAX_VOCABULARY_SIZE:
            raise TokenizerConfigError(
                f"vocabulary_size ({self.vocabulary_size}) must be between {minimum} and {MAX_VOCABULARY_SIZE} "
                f"for {self.kind}: {len(SPECIAL_TOKENS)} entries are special tokens"
                + (f" and {len(BYTE_TOKENS)} bytes" if minimum > len(BYTE_TOKENS) else "")
            )


def minimum_vocabulary_size(kind: Kind, character_counts: Mapping[str, int]) -> int:
    """The smallest vocabulary that text with these characters can be trained to.

    Args:
        kind: of the tokenizer.
        character_counts: how often each character occurs in the normalised text; a sample of it will do, if it has
            all the characters.
    """
    characters = len(covered_characters(kind, character_counts))
    match kind:
        case "bpe":
            return len(SPECIAL_TOKENS) + len(BYTE_TOKENS) + characters
        case "byte-bpe":
            return len(SPECIAL_TOKENS) + len(BYTE_TOKENS)
        case "word":
            return len(SPECIAL_TOKENS) + 1
        case _:
            return len(SPECIAL_TOKENS) + max(characters, 1)


def covered_characters(kind: Kind, character_counts: Mapping[str, int]) -> list[str]:
    """The characters that get an entry of their own, most frequent first: all of them, or for bpe the usual ones."""
    characters = sorted(character_counts, key=lambda character: (-character_counts[character], character))
    if kind != "bpe":
        return characters
    num_uncovered = UNCOVERED_SHARE * sum(character_counts.values())
    while characters and character_counts[characters[-1]] <= num_uncovered:
        num_uncovered -= character_counts[characters.pop()]
    return characters
