"""Take turns by weight: which of several texts the next batch is drawn from.

The next turn is that of the text with the smallest (turns it has had + 1/2) / weight, the quotients by which
Sainte-Laguë and Webster share out seats. So every text has its share of any number of turns, to within a turn or so; no
random number is needed, and the turns of a text are spread as evenly as can be.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import islice

__all__ = ["count_turns", "turns"]


def turns(weights: Sequence[float]) -> Iterator[int]:
    """Say whose turn it is, for ever.

    >>> list(islice(turns([3, 1]), 8))
    [0, 0, 1, 0, 0, 0, 1, 0]
    """
    quotients = [0.5 / weight for weight in weights]
    counts = [0] * len(weights)
    while True:
        place = quotients.index(min(quotients))
        yield place
        counts[place] += 1
        quotients[place] = (counts[place] + 0.5) / weights[place]


def count_turns(weights: Sequence[float], num_turns: int) -> Counter[int]:
    """Count the turns that every text has among the first ones."""
    return Counter(islice(turns(weights), num_turns))
