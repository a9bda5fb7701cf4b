from collections.abc import Iterator, Mapping

import pytest
import torch
from torch import Tensor

from transformer_core.errors import ModelError
from transformer_core.training.averaging import mean_weights


def test_the_mean_is_the_mean_in_any_order() -> None:
    sets = [{"a": torch.randn(3, 4), "b": torch.randn(2)} for _ in range(5)]
    mean = mean_weights(sets)
    for name in ("a", "b"):
        expected = torch.stack([weights[name].double() for weights in sets]).mean(0).float()
        assert torch.equal(mean[name], expected)
        assert mean[name].dtype == torch.float32
    for name, weight in mean_weights(reversed(sets)).items():
        assert torch.equal(weight, mean[name])


def test_the_mean_of_one_and_of_equals_is_itself() -> None:
    weights = {"a": torch.randn(10)}
    assert torch.equal(mean_weights([weights])["a"], weights["a"])
    assert torch.equal(mean_weights([weights] * 3)["a"], weights["a"])


def test_sets_are_held_one_at_a_time() -> None:
    def sets() -> Iterator[Mapping[str, Tensor]]:
        for number in range(3):
            yield {"a": torch.full((2,), float(number))}

    assert mean_weights(sets())["a"].tolist() == [1, 1]


@pytest.mark.parametrize("other", [{"a": torch.zeros(3)}, {"b": torch.zeros(2)}, {}])
def test_unlike_sets_have_no_mean(other: dict[str, Tensor]) -> None:
    with pytest.raises(ModelError, match="not of one architecture"):
        mean_weights([{"a": torch.zeros(2)}, other])


def test_nothing_has_no_mean() -> None:
    with pytest.raises(ModelError, match="there are no weights to average"):
        mean_weights([])
