"""One set of cells for all hypotheses of a sentence: each sees what it has written and descends from, nothing else."""

import pytest
import torch
from torch import Tensor

from transformer_core.layers.ancestry import Ancestry
from transformer_core.layers.key_value_cache import FIRST_CAPACITY, KeyValueCache

LIKE = torch.zeros(1)


class Pair:
    """A cache that is shared by the hypotheses of a sentence, and what each of them wrote, kept plainly."""

    def __init__(self, num_sentences: int, seed: int) -> None:
        self.generator = torch.Generator().manual_seed(seed)
        self.ancestry = Ancestry(num_sentences, LIKE)
        self.cache = KeyValueCache(self.ancestry, num_heads=1, d_head=1, like=LIKE)
        self.written: list[list[float]] = [[] for _ in range(num_sentences)]  # of each row, its numbers so far
        self.found: list[list[float]] = []

    def write(self) -> None:
        """Append one position to all rows; take down what each may attend to."""
        position = torch.randn(len(self.written), 1, 1, generator=self.generator)
        for row, number in zip(self.written, position.flatten().tolist(), strict=True):
            row.append(number)
        self.ancestry.begin_position()
        keys, values = self.cache.append(position, -position)
        assert torch.equal(keys, -values)
        assert bool(keys.isfinite().all())  # those that are masked, too: zero times infinity is no number
        beam = self.ancestry.beam
        mask = self.ancestry.mask
        seen = torch.ones(len(self.written), self.ancestry.num_cells) if mask is None else (mask == 0)
        self.found = [keys[row // beam, 0, sees.bool(), 0].tolist() for row, sees in enumerate(seen)]

    def select(self, row_indices: Tensor) -> None:
        """Move the rows of both."""
        self.cache.select(row_indices)
        self.ancestry.select(row_indices)
        self.written = [list(self.written[row]) for row in row_indices.tolist()]

    def keep_sentences(self, sentence_indices: Tensor) -> None:
        """Drop the other sentences of both."""
        row_indices = self.ancestry.rows_of(sentence_indices)
        self.cache.keep_sentences(sentence_indices, row_indices)
        self.ancestry.keep_sentences(sentence_indices)
        self.written = [list(self.written[row]) for row in row_indices.tolist()]

    def merge(self, other: "Pair") -> None:
        """Put the other's sentences after these."""
        self.cache.merge(other.cache)
        self.ancestry.merge(other.ancestry)
        self.written += other.written

    def check(self) -> None:
        """Every row sees its own past, whatever the order of the cells."""
        assert [sorted(row) for row in self.found] == [sorted(row) for row in self.written]

    def reordered(self, beam: int) -> Tensor:
        """Draw a beam of each sentence from its rows, (sentences * beam,) int64."""
        before, num_sentences = self.ancestry.beam, self.ancestry.num_sentences
        first_rows = torch.arange(num_sentences)[:, None] * before
        return (first_rows + torch.randint(before, (num_sentences, beam), generator=self.generator)).flatten()


@pytest.mark.parametrize("beam", [2, 5, 40])
def test_every_hypothesis_sees_its_own_past_whatever_moves(beam: int) -> None:
    pair = Pair(7, seed=beam)
    for width in (1, 1, beam, beam):
        pair.select(pair.reordered(width))
        pair.write()
        pair.check()
    for _ in range(FIRST_CAPACITY):
        pair.select(pair.reordered(beam))
        pair.write()
    pair.check()
    assert pair.ancestry.num_cells < 0.75 * beam * (FIRST_CAPACITY + 4)  # much is shared
    pair.keep_sentences(torch.tensor([5, 0, 2]))
    for _ in range(3):
        pair.write()  # nothing moves
    pair.check()
    pair.select(pair.reordered(1))  # and one hypothesis of each is enough
    pair.write()
    pair.check()


@pytest.mark.parametrize(("own", "others"), [(3, 3), (12, 2), (0, 40)])
@pytest.mark.parametrize("beam", [1, 5])
def test_sentences_that_are_ahead_or_behind_join(beam: int, own: int, others: int) -> None:
    pair, other = Pair(4, seed=1), Pair(3, seed=2)
    for each, count in ((pair, own), (other, others)):
        for _ in range(count):
            each.write()
            each.select(each.reordered(beam))
        each.select(each.reordered(beam))
    pair.merge(other)
    assert (pair.ancestry.num_rows, pair.ancestry.num_sentences, pair.ancestry.beam) == (7 * beam, 7, beam)
    for _ in range(20):
        pair.write()
        pair.check()
        pair.select(pair.reordered(beam))
    place = pair.ancestry.place
    assert (place if isinstance(place, Tensor) else torch.tensor([place] * 7 * beam)).tolist() == [
        count + 19 for count in [own] * 4 * beam + [others] * 3 * beam
    ]
    pair.keep_sentences(torch.tensor([6, 0]))
    pair.write()
    pair.check()


def test_one_hypothesis_of_a_sentence_needs_no_mask() -> None:
    pair = Pair(3, seed=3)
    for _ in range(2 * FIRST_CAPACITY + 3):
        pair.write()
    pair.check()
    pair.keep_sentences(torch.tensor([2, 1]))
    pair.write()
    pair.check()
    assert pair.ancestry.mask is None
    assert pair.ancestry.num_cells == 2 * FIRST_CAPACITY + 4
