"""Cut the words of a batch anew, so that a model never sees a pair twice as the same tokens.

The cuts of a word are those of `tokenizer/bpe_dropout.py` or `tokenizer/unigram_sampling.py`; this finds the words in
rows of ids. Which cut a word gets follows from the source of random numbers alone, as in data/masking.py.
"""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from torch import Tensor

from tokenizer import Tokenizer
from tokenizer.bpe_dropout import NUM_SEGMENTATIONS, BpeDropout
from tokenizer.unigram_sampling import UnigramSampling
from transformer_core.data.batching import Batch, collate
from transformer_core.data.masking import word_starts
from transformer_core.errors import ConfigError

__all__ = ["SubwordRegularization", "bpe_cuts", "unigram_cuts"]

Ids = NDArray[np.int64]
Cut = Callable[[tuple[int, ...], int], tuple[int, ...]]  # a word and a number to its tokens; another number, others


class SubwordRegularization:
    """Recuts both sides of batches."""

    def __init__(self, tokenizers: Sequence[Tokenizer], cuts: Sequence[Cut], max_length: int) -> None:
        """Prepare.

        Args:
            tokenizers: of the source and of the target.
            cuts: how each of them cuts a word; see `bpe_cuts` and `unigram_cuts`.
            max_length: tokens a side may have; one that would have more stays as it was.
        """
        self.max_length = max_length
        self._sides = [(_edges(tokenizer), cut) for tokenizer, cut in zip(tokenizers, cuts, strict=True)]
        target = tokenizers[-1]  # the first token is one of its vocabulary
        self.pad_id, self.bos_id, self.eos_id = target.pad_id, target.bos_id, target.eos_id

    def recut(self, batch: Batch, random: Generator) -> Batch:
        """Give the same pairs in other tokens."""
        sources = _real_rows(batch.source, batch.source_mask)
        targets = _real_rows(batch.target_output, batch.target_output != self.pad_id)
        return collate(
            [self._recut(row, 0, random) for row in sources],
            [self._recut(row, 1, random) for row in targets],
            pad_id=self.pad_id,
            bos_id=self.bos_id,
            eos_id=self.eos_id,
        )

    def _recut(self, row: Ids, side: int, random: Generator) -> Ids:
        """Cut the words of a row, (length,), anew -> (new length,)."""
        edges, cut_word = self._sides[side]
        words = np.split(row, np.flatnonzero(word_starts(row[None], edges)[0])[1:])
        numbers = random.integers(NUM_SEGMENTATIONS, size=len(words)).tolist()
        cuts = [cut_word(tuple(word.tolist()), number) for word, number in zip(words, numbers, strict=True)]
        cut = [piece for pieces in cuts for piece in pieces]
        return row if len(cut) > self.max_length else np.array(cut, dtype=row.dtype)


def bpe_cuts(tokenizers: Sequence[Tokenizer], rate: float) -> list[Cut]:
    """Cut words by BPE-dropout.

    Args:
        tokenizers: of kind bpe or byte-bpe.
        rate: share of the merges left out, each time one could be made.

    Raises:
        ConfigError: a tokenizer has no merges.
    """
    for tokenizer in tokenizers:
        if tokenizer.config.kind not in ("bpe", "byte-bpe"):
            raise ConfigError(
                f"--bpe-dropout leaves merges out, and a tokenizer of kind {tokenizer.config.kind} has none; "
                "do without it, or learn a tokenizer of kind bpe"
            )
    return [BpeDropout(tokenizer.merges, rate).segment for tokenizer in tokenizers]


def unigram_cuts(tokenizers: Sequence[Tokenizer], alpha: float) -> list[Cut]:
    """Draw from all cuts of a word by their probability to the power of alpha.

    Raises:
        ConfigError: a tokenizer is not of kind unigram.
    """
    for tokenizer in tokenizers:
        if tokenizer.config.kind != "unigram":
            raise ConfigError(
                f"--unigram-alpha draws by the probabilities of pieces, and a tokenizer of kind "
                f"{tokenizer.config.kind} has none; do without it, or learn a tokenizer of kind unigram"
            )
    return [UnigramSampling(tokenizer.scored_pieces, alpha).segment for tokenizer in tokenizers]


def _real_rows(padded: Tensor, mask: Tensor | None) -> list[Ids]:
    """(batch, length), each row closed by an end token -> the ids before it."""
    if mask is None:
        return list(padded[:, :-1].numpy())
    lengths = (mask.sum(dim=1) - 1).tolist()
    return [row[:length] for row, length in zip(padded.numpy(), lengths, strict=True)]


def _edges(tokenizer: Tokenizer) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    edges = tokenizer.word_edges
    return np.frombuffer(edges.left, dtype=np.uint8), np.frombuffer(edges.right, dtype=np.uint8)
