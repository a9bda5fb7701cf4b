import pytest
import torch

from tests.transformer_core.decoding.random_model import random_model
from tests.transformer_core.decoding.references import BOS, EOS
from transformer_core.data.padding import pad
from transformer_core.decoding import cohort as cohort_module
from transformer_core.decoding.beam import BeamSearch
from transformer_core.decoding.cohort import Cohorts, NoRoomError
from transformer_core.decoding.config import SearchConfig
from transformer_core.decoding.greedy import GreedySearch
from transformer_core.decoding.search import Candidates, Hypothesis, Totals, search
from transformer_core.decoding.step import ModelStep, StepState

VOCABULARY = 40
BANNED = [0, BOS, 4]
MODEL = random_model(VOCABULARY)
CPU = torch.device("cpu")


def sources(count: int) -> list[list[int]]:
    generator = torch.Generator().manual_seed(5)
    return [
        [*torch.randint(5, VOCABULARY, (1 + index % 9,), generator=generator).tolist(), EOS] for index in range(count)
    ]


def begin(step: ModelStep, batch: list[list[int]]) -> StepState:
    source, mask = pad(batch, 0, CPU)
    return step.start([MODEL.encode(source, mask)], mask)


def strategy_of(config: SearchConfig, num_sentences: int) -> GreedySearch | BeamSearch:
    limits = [5 + index % 17 for index in range(num_sentences)]
    return (BeamSearch if config.beam_size > 1 else GreedySearch)(config, BOS, EOS, limits)


@pytest.mark.parametrize("share", [0.0, 0.25, 0.6, 1.0])
@pytest.mark.parametrize("beam_size", [1, 4])
def test_cohorts_that_are_merged_find_what_each_finds_alone(
    beam_size: int, share: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cohort_module, "LEFT_OVER", share)
    config = SearchConfig(beam_size=beam_size, n_best=beam_size)
    batches = [sources(40)[first : first + size] for first, size in ((0, 9), (9, 8), (17, 12), (29, 1), (30, 10))]
    step = ModelStep([MODEL], EOS, BANNED, 2 * beam_size if beam_size > 1 else 1)
    cohorts: Cohorts[StepState] = Cohorts(step, CPU, beam_size)
    with torch.inference_mode():
        strategies = []
        for batch in batches:
            strategies.append(strategy_of(config, len(batch)))
            cohorts.begin(begin(step, batch), strategies[-1])
        cohorts.finish()
        for batch, strategy in zip(batches, strategies, strict=True):
            alone = search(step, begin(step, batch), strategy_of(config, len(batch)), CPU)
            assert_same(strategy.hypotheses(), alone)


def assert_same(found: list[list[Hypothesis]], expected: list[list[Hypothesis]]) -> None:
    assert len(found) == len(expected)
    for ours, theirs in zip(found, expected, strict=True):
        assert [hypothesis.token_ids for hypothesis in ours] == [hypothesis.token_ids for hypothesis in theirs]
        for one, other in zip(ours, theirs, strict=True):
            assert one.log_probability == pytest.approx(other.log_probability, abs=1e-4)
            assert one.is_truncated == other.is_truncated


def test_few_rows_take_fewer_steps_together(monkeypatch: pytest.MonkeyPatch) -> None:
    def num_steps(share: float) -> int:
        monkeypatch.setattr(cohort_module, "LEFT_OVER", share)
        counted = Counted(ModelStep([MODEL], EOS, BANNED, 1))
        cohorts: Cohorts[StepState] = Cohorts(counted, CPU, 1)
        with torch.inference_mode():
            for first in range(0, 40, 10):
                batch = sources(40)[first : first + 10]
                cohorts.begin(begin(counted.step, batch), strategy_of(SearchConfig(beam_size=1), len(batch)))
            cohorts.finish()
        return counted.calls

    assert num_steps(0.3) < num_steps(0.0)


class Counted:
    def __init__(self, step: ModelStep) -> None:
        self.step = step
        self.calls = 0

    def __call__(self, token_ids: torch.Tensor, state: StepState, totals: Totals) -> tuple[Candidates, StepState]:
        self.calls += 1
        return self.step(token_ids, state, totals)


def test_too_little_memory_for_a_merged_cohort_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def run_out(self: StepState, other: StepState) -> None:
        raise MemoryError

    monkeypatch.setattr(StepState, "merge", run_out)
    monkeypatch.setattr(cohort_module, "LEFT_OVER", 1.0)
    step = ModelStep([MODEL], EOS, BANNED, 1)
    cohorts: Cohorts[StepState] = Cohorts(step, CPU, 1)
    with torch.inference_mode():
        cohorts.begin(begin(step, sources(9)), strategy_of(SearchConfig(beam_size=1), 9))
        with pytest.raises(NoRoomError):
            cohorts.begin(begin(step, sources(9)), strategy_of(SearchConfig(beam_size=1), 9))
