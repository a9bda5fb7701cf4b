"""Moves of rows: only what changes is copied, and what stands in a cache is what copying all of it would leave."""

import torch
from torch import Tensor

from transformer_core.layers.key_value_cache import KeyValueCache
from transformer_core.layers.row_history import FEW_CELLS, RowHistory, RowMove

SENTENCES, BEAM = 40, 5
ROWS = SENTENCES * BEAM
CPU = torch.device("cpu")


def within_sentences(generator: torch.Generator) -> Tensor:
    """Draw, for each place of each beam, a row of the same sentence; (ROWS,) int64."""
    first_rows = torch.arange(SENTENCES)[:, None] * BEAM
    return (first_rows + torch.randint(BEAM, (SENTENCES, BEAM), generator=generator)).flatten()


class Pair:
    """A cache whose rows move by a history, and its contents copied plainly."""

    def __init__(self, seed: int) -> None:
        self.generator = torch.Generator().manual_seed(seed)
        self.cache = KeyValueCache(ROWS, num_heads=1, d_head=2, like=torch.zeros(1))
        self.history = RowHistory(ROWS, CPU)
        self.plain = torch.zeros(2, 0, ROWS, 1, 2)

    def write(self) -> tuple[Tensor, Tensor]:
        """Append one position to all rows; give what the cache holds, keys and values."""
        position = torch.randn(2, self.plain.size(2), 1, 2, generator=self.generator)
        self.plain = torch.cat((self.plain, position[:, None]), dim=1)
        self.history.num_positions += 1
        return self.cache.append(*position)

    def select(self, row_indices: Tensor) -> RowMove:
        """Move the rows of both."""
        move = self.history.move(row_indices)
        self.cache.select(move)
        self.plain = self.plain[:, :, row_indices]
        return move


def test_a_move_copies_what_changes_and_nothing_else() -> None:
    pair = Pair(seed=1)
    num_cells, num_changed = 0, 0
    for _ in range(30):
        pair.write()
        before = pair.plain.clone()
        move = pair.select(within_sentences(pair.generator))
        if move.changed_cells is not None:
            changed, _ = move.changed_cells
            differs = (pair.plain != before).any(dim=(0, 3, 4)).flatten()  # (positions * rows,)
            assert changed.tolist() == differs.nonzero().flatten().tolist()
            num_changed += len(changed)
            num_cells += differs.numel()
    key, value = pair.write()
    assert torch.equal(torch.stack((key, value)), pair.plain)
    assert 0 < num_changed < num_cells / 3  # hypotheses share most of what they have written


def test_few_cells_and_another_number_of_rows_are_copied_whole() -> None:
    pair = Pair(seed=2)
    while pair.history.num_positions * ROWS <= FEW_CELLS:
        assert pair.select(within_sentences(pair.generator)).changed_cells is None
        pair.write()
    assert pair.select(within_sentences(pair.generator)).changed_cells is not None
    assert pair.select(torch.arange(ROWS - BEAM)).changed_cells is None
    key, value = pair.write()
    assert torch.equal(torch.stack((key, value)), pair.plain)


def test_rows_that_join_from_another_history_share_nothing_with_these() -> None:
    pair, other = Pair(seed=3), Pair(seed=4)
    for joining, count in ((pair, 20), (other, 12)):
        for _ in range(count):
            joining.write()
            joining.select(within_sentences(joining.generator))
    pair.cache.merge(other.cache)
    pair.history.merge(other.history)
    late = torch.nn.functional.pad(other.plain, (0, 0, 0, 0, 0, 0, 8, 0))  # they began eight positions later
    pair.plain = torch.cat((pair.plain, late), dim=2)
    crossed = torch.arange(2 * ROWS).view(2, ROWS).flip(0).flatten()  # each takes the place of one of the others
    move = pair.select(crossed)
    assert move.changed_cells is not None
    assert len(move.changed_cells[0]) == 2 * 20 * ROWS
    key, value = pair.write()
    assert torch.equal(torch.stack((key, value)), pair.plain)
    assert pair.history.num_positions == 21


def test_what_is_not_known_is_copied_whole() -> None:
    assert RowMove(torch.arange(3)).changed_cells is None
