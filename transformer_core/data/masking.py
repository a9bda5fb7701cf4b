"""What pretraining does to text before a model has to mend it.

- Masking (BERT, Devlin et al. 2019): some tokens are chosen; most of them become the mask token, a few another token,
  a few stay. The model predicts all that were chosen. Whole words, if asked for: their tokens are chosen together.
- Infilling (BART, Lewis et al. 2020): spans of tokens become one mask token each, however long they are; a span of
  length 0 puts a mask where nothing was. The model writes the line anew.

Pure functions of ids and a source of random numbers, which the caller makes of numbers that name the place in training
(`corruption_source`): so a resumed run corrupts every batch as an uninterrupted one does.
"""

from dataclasses import dataclass

import numpy as np
from numpy.random import PCG64, Generator
from numpy.typing import NDArray

from tokenizer import SPECIAL_TOKENS, Tokenizer
from tokenizer.word_edges import Edge

__all__ = ["MaskingVocabulary", "corruption_source", "infill", "mask_tokens", "word_starts"]

Ids = NDArray[np.int64]
Flags = NDArray[np.bool_]
Edges = NDArray[np.uint8]

CHOSEN_SHARE = 0.15  # of the tokens
MASKED_SHARE, RANDOM_SHARE = 0.8, 0.1  # of the chosen tokens: hidden, replaced; the rest stays
INFILLED_SHARE = 0.3  # of the tokens of a line that are in spans
MEAN_SPAN_LENGTH = 3.0  # tokens; Poisson


@dataclass(frozen=True, kw_only=True)
class MaskingVocabulary:
    """What masking has to know of the tokens."""

    size: int  # entries of the vocabulary without its tags; the special ones come first
    pad_id: int
    eos_id: int
    mask_id: int
    word_edges: tuple[Edges, Edges] | None  # left and right, by id: words are chosen whole; None: each token by itself

    @classmethod
    def of(cls, tokenizer: Tokenizer, *, whole_words: bool = False) -> "MaskingVocabulary":
        """Take it from a tokenizer."""
        edges = None
        if whole_words:
            left, right = tokenizer.word_edges.left, tokenizer.word_edges.right
            edges = np.frombuffer(left, dtype=np.uint8), np.frombuffer(right, dtype=np.uint8)
        return cls(
            size=tokenizer.vocabulary_size - len(tokenizer.tags),
            pad_id=tokenizer.pad_id,
            eos_id=tokenizer.eos_id,
            mask_id=tokenizer.mask_id,
            word_edges=edges,
        )


def corruption_source(seed: int, step: int, number: int = 0) -> Generator:
    """Make the random numbers of one batch.

    Args:
        seed: of the run.
        step: updates made before.
        number: of the batch among those of the update.
    """
    # the last number keeps them apart from those that put the batches in order
    return Generator(PCG64([seed, step, number, len("corruption")]))


def mask_tokens(ids: Ids, is_token: Flags, vocabulary: MaskingVocabulary, random: Generator) -> tuple[Ids, Flags]:
    """Choose tokens, and hide or replace most of them.

    Every unit (a token, or a word) is chosen by itself, with the same probability: so is every token, in expectation.
    Where that chooses none, one unit is taken.

    Args:
        ids: (batch, length).
        is_token: (batch, length), True = a token of the text, False = padding or an end token; at least one is True.
        vocabulary: of the ids.
        random: where the random numbers come from.

    Returns:
        the corrupted ids, and which places were chosen, both (batch, length).
    """
    begins = np.ones_like(is_token) if vocabulary.word_edges is None else word_starts(ids, vocabulary.word_edges)
    units = np.cumsum(begins).reshape(ids.shape) - 1  # a line begins a unit, so none reaches into the next line
    drawn = random.random(int(units[-1, -1]) + 1)
    chosen: Flags = (drawn[units] < CHOSEN_SHARE) & is_token
    if not chosen.any():
        chosen = (units == random.choice(units[is_token])) & is_token
    fate = random.random(ids.shape)
    others = random.integers(len(SPECIAL_TOKENS), vocabulary.size, ids.shape)
    hidden = chosen & (fate < MASKED_SHARE)
    replaced = chosen & ~hidden & (fate < MASKED_SHARE + RANDOM_SHARE)
    return np.where(hidden, vocabulary.mask_id, np.where(replaced, others, ids)), chosen


def word_starts(ids: Ids, word_edges: tuple[Edges, Edges]) -> Flags:
    """Tell at which tokens words begin (tokenizer/word_edges.py has the rule); a line always begins one.

    Args:
        ids: (batch, length).
        word_edges: left and right, by id.

    Returns:
        (batch, length).
    """
    left, right = word_edges[0][ids], word_edges[1][ids]
    begins = np.ones(ids.shape, dtype=np.bool_)
    is_open = (left[:, 1:] == Edge.OPEN) | (right[:, :-1] == Edge.OPEN)
    begins[:, 1:] = (left[:, 1:] == Edge.SPACE) | (~is_open & (left[:, 1:] != right[:, :-1]))
    return begins


def infill(ids: Ids, mask_id: int, random: Generator) -> Ids:
    """Replace spans of a line by one mask each.

    The spans hold 30 % of the tokens, rounded up or down by chance, and any arrangement of spans and other tokens is as
    likely as any other.

    Args:
        ids: (length,) of one line, without its end token.
        mask_id: stands for a span.
        random: where the random numbers come from.

    Returns:
        (new length,), not longer than before: the other tokens, in their order, and the masks.
    """
    lengths = _span_lengths(_round_by_chance(INFILLED_SHARE * len(ids), random), random)
    num_items = len(ids) - sum(lengths) + len(lengths)  # spans and single tokens
    places = sorted(random.choice(num_items, len(lengths), replace=False).tolist()) if lengths else []
    parts: list[Ids] = []
    position, num_passed = 0, 0  # in the line; items
    for place, length in zip(places, lengths, strict=True):
        num_kept = place - num_passed
        parts += [ids[position : position + num_kept], np.array([mask_id], dtype=ids.dtype)]
        position += num_kept + length
        num_passed = place + 1
    return np.concatenate([*parts, ids[position:]])


def _span_lengths(num_tokens: int, random: Generator) -> list[int]:
    """Draw the lengths of spans that hold so many tokens together; there are not more spans than tokens."""
    lengths: list[int] = []
    remaining = num_tokens
    while remaining:
        length = min(int(random.poisson(MEAN_SPAN_LENGTH)), remaining)
        if length or len(lengths) + remaining < num_tokens:  # else a line could become longer than it was
            lengths.append(length)
            remaining -= length
    return lengths


def _round_by_chance(number: float, random: Generator) -> int:
    """Round so that the mean of many roundings is the number."""
    return int(number + random.random())
