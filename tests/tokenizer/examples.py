"""Text that tokenizers are trained and tried on here, and the tokenizers."""

from functools import cache

from hypothesis import strategies as st

from tokenizer import Kind, Normalization, Tokenizer, TokenizerConfig, train_tokenizer
from tokenizer.special_tokens import BYTE_TOKENS, SPECIAL_TOKENS

# What must come back as it is, or reach no special token, though it looks like a mark of this or that tokenizer.
TRAPS = [
    *SPECIAL_TOKENS,
    *BYTE_TOKENS[65:68],
    "<0xE2><0x96><0x81>",
    "<0xe2>",
    "</s>",
    "[MASK]",
    "<EOS>",
    "\uff1ceos\uff1e",  # <eos> in full width, which NFKC narrows
    "<\uff25\uff2f\uff33>",
    "▁",
    "▁the",
    "\\▁",
    "Ġthe",
    "##ing",
    "⁇",
    "�",
    "▅",
]

SENTENCES = [
    "A man in a blue shirt is standing on a ladder cleaning a window.",
    "Ein kleines Mädchen klettert in ein Spielhaus aus Holz.",
    "Two young, white males are outside near many bushes (2016).",
    "don't stop: 3.14159 and 2,718 -- 100 %",
    "Вася и Петя читают книгу",
    "我们 在 这里",
]

# Full of traps, alone and inside words, often enough that a trainer would learn them as pieces if it could.
LINES = [
    *(line for line in SENTENCES for _ in range(20)),
    *(f"{trap} x{trap}y {trap}{trap} {trap}" for trap in TRAPS for _ in range(30)),
    "  two  spaces, \t a tab and a \u00a0 hard one ",
    "",
]

ODD_LINES = [
    "",
    " ",
    "     ",
    " leading",
    "trailing ",
    "a  b   c",
    "\t",
    "\ta\t\tb",
    "\0",
    "a\0b\x01\x7f\x80",
    "\ufeffmark",
    "a\u2028b\u2029c\x85d\x0be",
    "\r",
    "a\r",
    "\u0301",
    " \u0301a\u0323\u0301",
    "e\u0301 é",
    "👩‍👩‍👧 🇩🇪 🏳️‍🌈",
    "क्\u200cष क्\u200dष \u200d \u200c",
    "\ufdd0 \uffff \U0010ffff \ue000",
    "한국어 日本語 ไทย",
    "x" * 1000,
    "ab" * 300 + " " * 300 + "!?" * 300,
    "Zażółć gęślą jaźń ﬁ ① ℡ İ",
    *TRAPS,
    *(f"{left}{right}" for left in TRAPS for right in ("", " ", "a", "▁")),
    " ".join(TRAPS),
    "".join(TRAPS),
]

# A line of text of any kind: characters from all of Unicode, and traps between them.
lines_of_text = st.lists(
    st.one_of(
        st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\n"), max_size=8),
        st.sampled_from([*TRAPS, " ", "  ", "the", "a", "1"]),
    ),
    max_size=8,
).map("".join)


@cache
def trained(
    kind: Kind, vocabulary_size: int = 900, normalization: Normalization = "nfc", *, lowercase: bool = False
) -> Tokenizer:
    """A tokenizer trained on `LINES`; made once."""
    config = TokenizerConfig(
        kind=kind, vocabulary_size=vocabulary_size, normalization=normalization, lowercase=lowercase
    )
    return train_tokenizer(LINES, config)
