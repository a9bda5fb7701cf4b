"""Subword regularisation (Kudo 2018): a word is cut differently every time, likely cuts more often than unlikely ones.

A unigram tokenizer knows how probable each piece is, and so each way of cutting a word. Here a way is drawn from all of
them, with their probabilities to the power of alpha. It works on ids, like bpe_dropout.py: nothing but pieces of the
vocabulary can come out, and decoding gives the same text.
"""

import math
from collections.abc import Sequence
from functools import lru_cache
from random import Random

from tokenizer.bpe_dropout import CACHE_SIZE

__all__ = ["UnigramSampling"]


class UnigramSampling:
    """Cuts words at random, by the pieces of a tokenizer."""

    def __init__(self, pieces: Sequence[tuple[str, float]], alpha: float) -> None:
        """Prepare.

        Args:
            pieces: text and natural log of the probability of each id; minus infinity where an id is no piece.
            alpha: 1 draws cuts as probable as they are, 0 all alike, a large number the best one alone.
        """
        self.alpha = alpha
        self._texts = [text for text, _ in pieces]
        self._scores = {text: (score, index) for index, (text, score) in enumerate(pieces) if score > -math.inf}
        self._longest = max(map(len, self._scores), default=0)
        self.segment = lru_cache(CACHE_SIZE)(self._segment)

    def _segment(self, word: tuple[int, ...], number: int) -> tuple[int, ...]:
        """Give segmentation `number` of a word, the same every time."""
        if any(self._texts[index] not in self._scores for index in word):  # an unknown token, whose text nobody knows
            return word
        text = "".join(self._texts[index] for index in word)
        weights = self._weights_to(text)
        random = Random(f"{word} {number}")
        cut: list[int] = []
        end = len(text)
        while end:  # from the end to the start: a piece by the share it has of all ways to get there
            ways = [
                (start, self._scores[text[start:end]])
                for start in range(max(0, end - self._longest), end)
                if text[start:end] in self._scores and weights[start] > -math.inf
            ]
            shares = [math.exp(weights[start] + self.alpha * score - weights[end]) for start, (score, _) in ways]
            ((end, (_, index)),) = random.choices(ways, shares)
            cut.append(index)
        return tuple(reversed(cut))

    def _weights_to(self, text: str) -> list[float]:
        """Sum the weights of all ways to cut text[:end], as a natural log, for every end: the forward algorithm."""
        weights = [0.0]
        for end in range(1, len(text) + 1):
            ways = [
                weights[start] + self.alpha * self._scores[text[start:end]][0]
                for start in range(max(0, end - self._longest), end)
                if text[start:end] in self._scores
            ]
            largest = max(ways, default=-math.inf)
            is_reached = largest > -math.inf
            weights.append(largest + math.log(sum(math.exp(way - largest) for way in ways)) if is_reached else largest)
        return weights
