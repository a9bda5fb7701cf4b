"""BPE-dropout (Provilkov et al. 2020): a word is cut differently every time, because some merges are left out.

A model that meets " walk" + "ing", " w" + "al" + "king" and " walking" learns that they are one, and cannot learn few
pairs by heart so soon. It works on ids: a word that BPE has cut is taken apart to its characters (or bytes) and merged
anew. Nothing but pieces of the vocabulary can come out, and decoding gives the same text.
"""

from collections.abc import Sequence
from functools import lru_cache
from itertools import pairwise
from random import Random

__all__ = ["NUM_SEGMENTATIONS", "BpeDropout"]

NUM_SEGMENTATIONS = 16  # of one word that are ever used: they are found once, and looked up afterwards
CACHE_SIZE = 2**18  # segmentations remembered


class BpeDropout:
    """Cuts words at random, by the merges of a tokenizer."""

    def __init__(self, merges: Sequence[tuple[int, int, int]], rate: float) -> None:
        """Prepare.

        Args:
            merges: left id, right id, and the id of both together; in the order in which they are applied.
            rate: probability of leaving out a merge, each time it could be made.
        """
        self.rate = rate
        self._ranks = {(left, right): (rank, joined) for rank, (left, right, joined) in enumerate(merges)}
        self._parts = {joined: (left, right) for left, right, joined in reversed(merges)}
        self.segment = lru_cache(CACHE_SIZE)(self._segment)

    def _segment(self, word: tuple[int, ...], number: int) -> tuple[int, ...]:
        """Give segmentation `number` of a word, the same every time; of many words there are fewer than numbers."""
        random = Random(f"{word} {number}")
        pieces = [part for piece in word for part in self._smallest(piece)]
        while True:
            possible = [
                (*self._ranks[pair], place)
                for place, pair in enumerate(pairwise(pieces))
                if pair in self._ranks and random.random() >= self.rate
            ]
            if not possible:
                return tuple(pieces)
            _, joined, place = min(possible)
            pieces[place : place + 2] = [joined]

    def _smallest(self, piece: int) -> list[int]:
        """Take a piece apart until no merge made it."""
        if piece not in self._parts:
            return [piece]
        left, right = self._parts[piece]
        return [*self._smallest(left), *self._smallest(right)]
