"""The five entries that every vocabulary begins with.

Their ids are the same in every vocabulary, so that models with different tokenizers agree on them; pad is 0, as in
most of the field, which lets a batch be made of zeros.

    0 <pad>   fills a batch up to its longest line
    1 <bos>   the decoder's first input
    2 <eos>   ends a source, and a hypothesis
    3 <unk>   stands for what the vocabulary cannot spell (no text becomes it where there are bytes)
    4 <mask>  hides a token in masked pretraining

They are ordinary entries of the vocabulary that no text can reach, not `added_tokens` of the library: those are looked
for in every text, and a line that spells "<eos>" would end there. pipeline.py says why no text can reach them.
"""

__all__ = [
    "BOS_ID",
    "BYTE_TOKENS",
    "EOS_ID",
    "MASK_ID",
    "PAD_ID",
    "SPECIAL_TOKENS",
    "UNK_ID",
]

SPECIAL_TOKENS = ("<pad>", "<bos>", "<eos>", "<unk>", "<mask>")
PAD_ID, BOS_ID, EOS_ID, UNK_ID, MASK_ID = range(len(SPECIAL_TOKENS))

# The pieces of byte fallback (SentencePiece's names for them); they follow the special tokens where a kind has them.
BYTE_TOKENS = tuple(f"<0x{byte:02X}>" for byte in range(256))
