"""IBM model 1 (Brown et al. 1993, section 4.2): the probability t(target token | source token), learned by EM.

Every target token of a pair was written for one token of its source, or for none (the empty token, NULL); all are
equally likely beforehand. A link is a target token of a pair beside one of these. An iteration shares each target token
out among its links by what the table holds of them (E), and the shares are the table of the next iteration (M).

The table is sparse: an entry for every two tokens that occur in one pair, and where those are too many, for those that
hold the larger part of their source token's share.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Links", "TranslationTable", "train_ibm_model_1"]

# Of a table: 8 bytes for the key of each, 8 for its share, and as much again while they are sorted.
MAX_ENTRIES = 1 << 23

Integers = NDArray[np.int64]
Shares = NDArray[np.float64]


@dataclass(frozen=True)
class Links:
    """The links of some pairs.

    Attributes:
        keys: (links,) int64, source token * num_targets + target token; the number of source tokens stands for NULL.
        places: (links,) int64, which of the target tokens of these pairs each link is of, counted from 0.
    """

    keys: Integers
    places: Integers


@dataclass(frozen=True)
class TranslationTable:
    """t(target | source) for those that are not 0.

    Attributes:
        keys: (entries,) int64, ascending, as of Links.
        probabilities: (entries,) float64.
        num_targets: tokens of the target vocabulary.
    """

    keys: Integers
    probabilities: Shares
    num_targets: int

    @property
    def sources(self) -> Integers:
        """The source token of every entry."""
        return self.keys // self.num_targets

    @property
    def targets(self) -> Integers:
        """The target token of every entry."""
        return self.keys % self.num_targets

    def look_up(self, keys: Integers) -> tuple[Integers, NDArray[np.bool_]]:
        """Find entries: their places, and whether they are there at all, each (keys,)."""
        places = np.searchsorted(self.keys, keys).clip(max=len(self.keys) - 1)
        return places, self.keys[places] == keys


def train_ibm_model_1(
    read_links: Callable[[], Iterable[Links]], num_targets: int, num_iterations: int, max_entries: int = MAX_ENTRIES
) -> TranslationTable:
    """Learn the table.

    Args:
        read_links: gives the links of all pairs, some pairs at a time; called once for each iteration.
        num_targets: tokens of the target vocabulary.
        num_iterations: at least 1. The first begins with a table of equal probabilities.
        max_entries: that the table may have.
    """
    table = _normalized(*_first_shares(read_links(), num_targets, max_entries), num_targets)
    for _ in range(num_iterations - 1):
        shares = np.zeros_like(table.probabilities)
        for links in read_links():
            keys, inverse = np.unique(links.keys, return_inverse=True)
            places, is_known = table.look_up(keys)
            weights = np.where(is_known, table.probabilities[places], 0.0)[inverse]
            totals = np.bincount(links.places, weights=weights)[links.places]
            of_links = np.divide(weights, totals, out=np.zeros_like(weights), where=totals > 0)
            shares[places[is_known]] += np.bincount(inverse, weights=of_links, minlength=len(keys))[is_known]
        table = _normalized(table.keys, shares, num_targets)
    return table


def _first_shares(links_of_pairs: Iterable[Links], num_targets: int, max_entries: int) -> tuple[Integers, Shares]:
    """Share every target token out equally among its links: keys, ascending, and their shares."""
    keys, shares = np.empty(0, dtype=np.int64), np.empty(0)
    for new_keys, new_shares in _batched(map(_equal_shares, links_of_pairs), max_entries // 2):
        keys, shares = _summed(np.concatenate((keys, new_keys)), np.concatenate((shares, new_shares)))
        if len(keys) > max_entries:
            relative = _normalized(keys, shares, num_targets).probabilities
            is_kept = relative > np.partition(relative, len(relative) - max_entries - 1)[-max_entries - 1]
            keys, shares = keys[is_kept], shares[is_kept]
    return keys, shares


def _equal_shares(links: Links) -> tuple[Integers, Shares]:
    return _summed(links.keys, 1.0 / np.bincount(links.places)[links.places])


def _batched(parts: Iterable[tuple[Integers, Shares]], size: int) -> Iterator[tuple[Integers, Shares]]:
    """Put parts together until they have so many entries: sorting them into a large table takes as long for few."""
    waiting: list[tuple[Integers, Shares]] = []
    for part in parts:
        waiting.append(part)
        if sum(len(keys) for keys, _ in waiting) >= size:
            yield np.concatenate([keys for keys, _ in waiting]), np.concatenate([shares for _, shares in waiting])
            waiting = []
    if waiting:
        yield np.concatenate([keys for keys, _ in waiting]), np.concatenate([shares for _, shares in waiting])


def _summed(keys: Integers, shares: Shares) -> tuple[Integers, Shares]:
    """Add up the shares of equal keys, and put the keys in order."""
    unique, inverse = np.unique(keys, return_inverse=True)
    return unique, np.bincount(inverse, weights=shares, minlength=len(unique)).astype(np.float64, copy=False)


def _normalized(keys: Integers, shares: Shares, num_targets: int) -> TranslationTable:
    """Divide every share by the sum of those of its source token."""
    sources = keys // num_targets
    totals = np.bincount(sources, weights=shares)[sources]
    probabilities = np.divide(shares, totals, out=np.zeros_like(shares), where=totals > 0)
    return TranslationTable(keys, probabilities, num_targets)
