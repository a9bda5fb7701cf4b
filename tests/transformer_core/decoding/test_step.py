import pytest
import torch

from transformer_core.decoding.step import best_candidates


def reference(log_probabilities: torch.Tensor, width: int) -> list[list[int]]:
    return [
        sorted(range(len(row)), key=lambda token_id: (-row[token_id], token_id))[:width]
        for row in log_probabilities.tolist()
    ]


@pytest.mark.parametrize("width", [1, 2, 10])
@pytest.mark.parametrize("vocabulary", [10, 64, 100, 2000, 5003])
@pytest.mark.parametrize("levels", [0, 3, 40])
def test_best_candidates_are_ordered_and_ties_go_to_the_lower_id(width: int, vocabulary: int, levels: int) -> None:
    generator = torch.Generator().manual_seed(vocabulary + width)
    values = torch.randn(6, vocabulary, generator=generator)
    if levels:
        values = -torch.randint(0, levels, (6, vocabulary), generator=generator).float()
        values[0] = -0.0
        values[1, ::2] = -torch.inf
    ids, best = best_candidates(values, width)
    assert ids.tolist() == reference(values, width)
    assert torch.equal(best, values.gather(1, ids))
