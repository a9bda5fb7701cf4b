r"""What the library does around its model: normalise, cut into words, and put pieces together again.

Every kind is built from components of the library alone, so that the library by itself encodes and decodes a file of
ours as we do. Three ideas hold for all of them:

Spaces stay spaces. A word carries the space before it (" dog"), and every line is given one at its start, which
decoding takes away again: a word is the same piece wherever it stands. The library's Metaspace would write "▁" for a
space and could then not tell one from a "▁" in the text.

A word never mixes letters, digits and other characters. So "dog." is " dog" and "." everywhere, and no piece can spell
a special token: "<eos>" is cut into "<", "eos" and ">" before any model sees it, in training as in use, and so is the
name of a byte, "<0x41>". The other two kinds need no such care: a token of `char` is one character long, and one of
`word` begins with a space.

A word has at most 65 characters, so that no line, however long or odd, takes more than linear time.
"""

from tokenizers import Regex, decoders, normalizers, pre_tokenizers

from tokenizer.config import Kind, TokenizerConfig
from tokenizer.special_tokens import BYTE_TOKENS, SPECIAL_TOKENS, UNK_ID
from tokenizer.tags import TAG_PATTERN

__all__ = [
    "MAX_WORD_LENGTH",
    "UNKNOWN_SURFACE",
    "build_decoder",
    "build_normalizer",
    "build_pre_tokenizer",
    "build_text_normalizer",
    "byte_pieces",
]

UNKNOWN_SURFACE = "\u2047"  # what an unknown token is decoded as: SentencePiece's choice, a double question mark

MAX_WORD_LENGTH = 65  # characters: 64 and the space before them

# Letters with their marks and joiners (Persian and Indic words hold joiners), digits, all else, and spaces that no word
# takes. Each character falls into one of the four, so that no text is lost between two words.
WORD = "|".join(
    [
        r" ?[\p{L}\p{M}\x{200C}\x{200D}]{1,64}",
        r" ?\p{N}{1,64}",
        r" ?[^ \p{L}\p{M}\p{N}\x{200C}\x{200D}]{1,64}",
        r" {1,64}(?![^ ])",
    ]
)


def build_text_normalizer(config: TokenizerConfig) -> normalizers.Sequence:
    """What turns a line into the text that decoding gives back: its Unicode form, its capitals."""
    return normalizers.Sequence(_text_steps(config))


def build_normalizer(config: TokenizerConfig) -> normalizers.Sequence:
    """What turns a line into the text that is cut into words: normalised, and with a space before its first word."""
    steps = _text_steps(config)
    if config.kind == "word":
        steps += [normalizers.Replace(Regex(r"\s+"), " "), normalizers.Strip()]
    if config.kind != "char":
        steps.append(normalizers.Prepend(" "))
    return normalizers.Sequence(steps)


def build_pre_tokenizer(kind: Kind) -> pre_tokenizers.PreTokenizer | None:
    """What cuts a normalised line into words; None where the line is one."""
    match kind:
        case "char":
            return None
        case "word":
            return pre_tokenizers.Split(" ", "merged_with_next")
        case "byte-bpe":
            byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
            return pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(WORD), "isolated"), byte_level])
        case _:
            return pre_tokenizers.Split(Regex(WORD), "isolated")


def build_decoder(kind: Kind, *, has_tags: bool = False) -> decoders.Sequence:
    """What puts pieces together: special tokens and tags vanish, unknown ones show, bytes become characters.

    Bytes that are no UTF-8, which a model may well write, become U+FFFD.
    """
    hidden = "|".join(token for token in SPECIAL_TOKENS if token != SPECIAL_TOKENS[UNK_ID])
    if has_tags:  # a file without tags is what it was before there were any
        hidden = f"{hidden}|{TAG_PATTERN}"
    # An unknown word took the space before it along; an unknown character did not.
    surface = f" {UNKNOWN_SURFACE}" if kind in ("word", "wordpiece") else UNKNOWN_SURFACE
    steps: list[decoders.Decoder] = [
        decoders.Replace(Regex(rf"\A(?:{hidden})\z"), ""),
        decoders.Replace(Regex(rf"\A{SPECIAL_TOKENS[UNK_ID]}\z"), surface),
    ]
    match kind:
        case "byte-bpe":
            steps.append(decoders.ByteLevel())
        case "bpe":
            steps += [decoders.ByteFallback(), decoders.Fuse()]
        case _:
            steps.append(decoders.Fuse())
    if kind != "char":
        steps.append(decoders.Strip(" ", 1, 0))
    return decoders.Sequence(steps)


def byte_pieces(kind: Kind) -> tuple[str, ...]:
    """The 256 pieces, one for each byte, that a vocabulary of this kind must have; none for most kinds."""
    match kind:
        case "bpe":
            return BYTE_TOKENS
        case "byte-bpe":  # GPT-2's names for the bytes: printable characters
            return tuple(sorted(pre_tokenizers.ByteLevel.alphabet()))
        case _:
            return ()


def _text_steps(config: TokenizerConfig) -> list[normalizers.Normalizer]:
    form: list[normalizers.Normalizer] = []
    match config.normalization:
        case "nfc":
            form = [normalizers.NFC()]
        case "nfd":
            form = [normalizers.NFD()]
        case "nfkc":
            form = [normalizers.NFKC()]
    # Small letters may need another order of their marks than capitals ("İ" with a dot below does).
    return [*form, normalizers.Lowercase(), *form] if config.lowercase else form
