"""The best tokens against a sort of all of them."""

import pytest
import torch

from transformer_core.decoding.best_tokens import FEW_ROWS, best_candidates, best_continuations


def sorted_reference(log_probabilities: torch.Tensor, width: int) -> list[list[int]]:
    return [
        sorted(range(len(row)), key=lambda token_id: (-row[token_id], token_id))[:width]
        for row in log_probabilities.tolist()
    ]


@pytest.mark.parametrize("width", [1, 2, 10])
@pytest.mark.parametrize("vocabulary", [10, 64, 100, 2000, 5003])
@pytest.mark.parametrize("levels", [0, 3, 40])
@pytest.mark.parametrize("rows", [FEW_ROWS, FEW_ROWS + 2])
def test_best_candidates_are_ordered_and_ties_go_to_the_lower_id(
    width: int, vocabulary: int, levels: int, rows: int
) -> None:
    generator = torch.Generator().manual_seed(vocabulary + width)
    values = torch.randn(rows, vocabulary, generator=generator)
    if levels:
        values = -torch.randint(0, levels, (rows, vocabulary), generator=generator).float()
        values[0] = -0.0
        values[1, ::2] = -torch.inf
    ids, best = best_candidates(values, width)
    assert ids.tolist() == sorted_reference(values, width)
    assert torch.equal(best, values.gather(1, ids))


@pytest.mark.parametrize("width", [2, 10])
@pytest.mark.parametrize("vocabulary", [3, 64, 2000, 5003])
@pytest.mark.parametrize("levels", [0, 3, 40])
@pytest.mark.parametrize(("num_sentences", "beam"), [(1, 3), (1, 5), (4, 1), (3, 5)])
def test_hypotheses_of_a_sentence_compete(
    width: int, vocabulary: int, levels: int, num_sentences: int, beam: int
) -> None:
    generator = torch.Generator().manual_seed(vocabulary + width)
    shape = (num_sentences, beam, vocabulary)
    values, behind = torch.randn(shape, generator=generator), -torch.rand(shape[:2], generator=generator)
    if levels:
        values = -torch.randint(0, levels, shape, generator=generator).float()
        values[0, 0, ::2] = -torch.inf
        behind = -torch.randint(0, 3, shape[:2], generator=generator).float()
        behind[-1, -1] = -torch.inf  # a place that no hypothesis holds
    hypotheses, ids, found, best = best_continuations(values, behind, width)
    places = hypotheses * vocabulary + ids
    assert torch.equal(found, values.flatten(1).gather(1, places))
    assert torch.equal(best, values.amax(dim=2))
    assert bool((places.diff(dim=1) > 0).all())
    sums = (values + behind[:, :, None]).flatten(1)
    expected = sums.sort(dim=1, descending=True, stable=True)
    assert torch.equal(sums.gather(1, places).sort(dim=1, descending=True).values, expected.values[:, :width])
    if not levels or vocabulary <= 64:
        assert torch.equal(places, expected.indices[:, :width].sort(dim=1).values)
