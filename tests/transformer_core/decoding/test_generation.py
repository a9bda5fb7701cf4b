from typing import Any

import pytest

from transformer_core.decoding.config import BatchConfig, SearchConfig
from transformer_core.decoding.generation import model_search, model_source_limit
from transformer_core.errors import ModelError


def test_what_a_model_says_is_its_search() -> None:
    generation = {"max_length_ratio": 2, "beam_size": 3, "ban_unk": True, "n_best": 9, "tag": "de", "max_length": 50}
    assert model_search(generation) == SearchConfig(max_length_ratio=2, beam_size=3, ban_unk=True, max_length=50)
    assert model_search({}) == SearchConfig()
    assert model_search({"greedy": True}) == SearchConfig(beam_size=1)
    assert model_search({"greedy": False}) == SearchConfig()
    assert model_search({"sample": True, "top_k": 3}) == SearchConfig(beam_size=1, sample=True, top_k=3)
    assert model_source_limit({}) == BatchConfig.max_source_length
    assert model_source_limit({"max_source_length": 7}) == 7


@pytest.mark.parametrize(
    "generation",
    [
        {"beam_size": 1 << 40},
        {"beam_size": "5"},
        {"beam_size": 2.5},
        {"beam_size": True},
        {"beam_size": None},
        {"sample": 1},
        {"greedy": 1},
        {"greedy": True, "beam_size": 4},
        {"greedy": True, "sample": True},
        {"length_penalty": 1e308},
        {"length_penalty": float("nan")},
        {"length_penalty": 10**400},
        {"length_penalty_type": ["avg"]},
        {"min_length": 1 << 40},
        {"max_length": 0},
        {"max_length_ratio": [1, 2]},
        {"max_length_ratio": float("inf")},
        {"temperature": 0.5},
        {"seed": {}},
    ],
    ids=str,
)
def test_what_cannot_be_is_said_of_the_model(generation: dict[str, Any]) -> None:
    with pytest.raises(ModelError, match=rf"^some\.json: {next(iter(generation))}") as caught:
        model_search(generation, "some.json")
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize("limit", [0, -1, True, 1.5, "9", None, [1], {}])
def test_a_limit_that_is_none(limit: object) -> None:
    with pytest.raises(ModelError, match="max_source_length is"):
        model_source_limit({"max_source_length": limit})
