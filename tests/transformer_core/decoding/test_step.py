import math

import pytest
import torch

from tests.transformer_core.decoding import references
from tests.transformer_core.decoding.random_model import random_model
from tests.transformer_core.decoding.references import (
    BOS,
    EOS,
    Distribution,
    Prefix,
    reference_beam,
    reference_greedy,
)
from transformer_core.config import Positions
from transformer_core.data.padding import pad
from transformer_core.decoding import step as step_module
from transformer_core.decoding.beam import BeamSearch
from transformer_core.decoding.config import SearchConfig
from transformer_core.decoding.greedy import GreedySearch
from transformer_core.decoding.search import Hypothesis, search
from transformer_core.decoding.step import ModelStep
from transformer_core.model import Transformer

BANNED = [0, BOS, 4]  # pad, bos, mask
VOCABULARY = 40


def random_sources(count: int) -> list[list[int]]:
    generator = torch.Generator().manual_seed(11)
    return [
        [*torch.randint(5, VOCABULARY, (1 + index % 9,), generator=generator).tolist(), EOS] for index in range(count)
    ]


def uncached(model: Transformer, source: list[int]) -> Distribution:
    """The model's distributions for one sentence alone: the whole prefix is decoded for each."""
    memory = model.encode(torch.tensor([source]), None)
    cache: dict[Prefix, list[float]] = {}

    def distribution(prefix: Prefix) -> list[float]:
        if prefix not in cache:
            hidden = model.decode(torch.tensor([[BOS, *prefix]]), memory, None)[0, -1]
            log_probabilities = torch.log_softmax(model.project(hidden), dim=-1)
            log_probabilities[BANNED] = -math.inf
            cache[prefix] = [float(value) for value in log_probabilities]
        return cache[prefix]

    return distribution


def search_model(
    model: Transformer, sources: list[list[int]], config: SearchConfig, limits: list[int]
) -> list[list[Hypothesis]]:
    """Our search over all sentences in one padded batch."""
    device = torch.device("cpu")
    source, mask = pad(sources, 0, device)
    strategy: BeamSearch | GreedySearch
    strategy = (BeamSearch if config.beam_size > 1 else GreedySearch)(config, BOS, EOS, limits)
    step = ModelStep([model], EOS, BANNED, strategy.num_candidates)
    return search(step, step.start([model.encode(source, mask)], mask), strategy, device)


@pytest.mark.parametrize("positions", ["sinusoidal", "learned"])
@pytest.mark.parametrize("beam_size", [1, 2, 5])
def test_search_with_a_cache_in_a_batch_equals_the_reference_without(positions: Positions, beam_size: int) -> None:
    model = random_model(VOCABULARY, positions)
    sources = random_sources(24)
    limits = [6 + index % 7 for index in range(24)]
    config = SearchConfig(beam_size=beam_size, n_best=beam_size)
    with torch.no_grad():
        found = search_model(model, sources, config, limits)
        lengths = set()
        for source, limit, hypotheses in zip(sources, limits, found, strict=True):
            distribution = uncached(model, source)
            expected = (
                reference_beam(distribution, config, limit)
                if beam_size > 1
                else [reference_greedy(distribution, config, limit)]
            )
            assert [found.token_ids for found in hypotheses] == [found.token_ids for found in expected]
            for ours, theirs in zip(hypotheses, expected, strict=True):
                assert ours.log_probability == pytest.approx(theirs.log_probability, abs=1e-4)
                assert ours.is_truncated == theirs.is_truncated
                lengths.add(len(ours.token_ids))
    assert len(lengths) > 3, "the sentences should end at different times, or the test shows little"


@pytest.mark.parametrize("beam_size", [1, 4])
def test_logits_may_be_computed_some_rows_at_a_time(beam_size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    model, sources = random_model(VOCABULARY), random_sources(9)
    config = SearchConfig(beam_size=beam_size)
    with torch.no_grad():
        whole = search_model(model, sources, config, [9] * 9)
        monkeypatch.setattr(step_module, "CPU_LOGITS_AT_ONCE", 5 * VOCABULARY)
        parts = search_model(model, sources, config, [9] * 9)
    assert [found.token_ids for (found,) in whole] == [found.token_ids for (found,) in parts]


def test_banned_tokens_keep_the_probabilities_of_the_others() -> None:
    model = random_model(VOCABULARY)
    memory = model.encode(torch.tensor([[7, 8, EOS]]), None)
    steps = [ModelStep([model], EOS, banned, None) for banned in ([], BANNED)]
    (free, _), (bound, _) = (step(torch.tensor([BOS]), step.start([memory], None), None) for step in steps)
    assert free.log_probabilities.exp().sum().item() == pytest.approx(1.0)
    assert bound.log_probabilities[0, BANNED].tolist() == [-math.inf] * 3
    others = [token_id for token_id in range(VOCABULARY) if token_id not in BANNED]
    assert torch.equal(free.log_probabilities[0, others], bound.log_probabilities[0, others])
    assert free.end_log_probabilities[0] == free.log_probabilities[0, EOS]


def test_references_agree_with_each_other() -> None:
    model = random_model(VOCABULARY)
    with torch.no_grad():
        distribution = uncached(model, [7, 9, 11, EOS])
        greedy = reference_greedy(distribution, SearchConfig(beam_size=1), 8)
        (beam,) = references.reference_beam(distribution, SearchConfig(beam_size=1), 8)
    assert greedy.token_ids == beam.token_ids
