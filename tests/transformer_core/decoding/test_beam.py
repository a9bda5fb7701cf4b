import math

import pytest

from tests.transformer_core.decoding.references import (
    Distribution,
    coarse_table,
    random_table,
    reference_beam,
    reference_greedy,
    search_tables,
)
from transformer_core.decoding.config import LengthPenaltyType, SearchConfig
from transformer_core.decoding.search import Hypothesis


def assert_same(found: list[Hypothesis], expected: list[Hypothesis]) -> None:
    assert [hypothesis.token_ids for hypothesis in found] == [hypothesis.token_ids for hypothesis in expected]
    assert [hypothesis.is_truncated for hypothesis in found] == [hypothesis.is_truncated for hypothesis in expected]
    for ours, theirs in zip(found, expected, strict=True):
        assert ours.log_probability == pytest.approx(theirs.log_probability, abs=1e-9)
        assert ours.score == pytest.approx(theirs.score, abs=1e-9)


def test_finds_what_greedy_search_misses() -> None:
    # Greedy takes 3 (0.5), after which everything is unlikely; 4 (0.4) then 5 (0.9) is better.
    def distribution(prefix: tuple[int, ...]) -> list[float]:
        probabilities = {
            (): [0, 0, 0.05, 0.5, 0.4, 0.05],
            (3,): [0, 0, 0.25, 0.25, 0.25, 0.25],
            (4,): [0, 0, 0.05, 0.03, 0.02, 0.9],
        }.get(prefix, [0, 0, 0.97, 0.01, 0.01, 0.01])
        return [math.log(p) if p else -math.inf for p in probabilities]

    config = SearchConfig(beam_size=2, length_penalty_type="none")
    assert search_tables([distribution], config, [10])[0][0].token_ids == [4, 5]
    assert reference_greedy(distribution, SearchConfig(beam_size=1), 10).token_ids == [3]


@pytest.mark.parametrize("beam_size", [2, 3, 5, 8])
@pytest.mark.parametrize("penalty", ["avg", "gnmt", "none"])
@pytest.mark.parametrize("min_length", [0, 4])
@pytest.mark.parametrize("early_stopping", [False, True])
def test_equals_the_slow_reference(
    beam_size: int, penalty: LengthPenaltyType, min_length: int, early_stopping: bool
) -> None:
    config = SearchConfig(
        beam_size=beam_size,
        n_best=beam_size,
        length_penalty=0.8,
        length_penalty_type=penalty,
        min_length=min_length,
        early_stopping=early_stopping,
    )
    tables = [random_table(seed, 25, end_bias=1.5) for seed in range(24)]
    limits = [max(min_length, seed % 12) for seed in range(24)]
    for table, limit, found in zip(tables, limits, search_tables(tables, config, limits), strict=True):
        assert_same(found, reference_beam(table, config, limit))


@pytest.mark.parametrize("penalty", ["avg", "gnmt", "none"])
def test_improbable_ends_do_not_stop_the_good_hypothesis(penalty: LengthPenaltyType) -> None:
    # Whatever was written, the token after it is certain, and the end is the second best.
    answer = (3, 4, 5, 6, 7, 3, 4, 5, 6, 7)

    def distribution(prefix: tuple[int, ...]) -> list[float]:
        probabilities = [0, 0, 0.01] + [0.0001] * 5
        probabilities[answer[len(prefix)] if len(prefix) < len(answer) else 2] = 0.99
        return [math.log(p) if p else -math.inf for p in probabilities]

    patient = SearchConfig(beam_size=4, length_penalty_type=penalty)
    assert search_tables([distribution], patient, [20])[0][0].token_ids == list(answer)
    hasty = SearchConfig(beam_size=4, length_penalty_type=penalty, early_stopping=True)
    assert search_tables([distribution], hasty, [20])[0][0].token_ids != list(answer)


@pytest.mark.parametrize("beam_size", [2, 5])
def test_ties_fall_to_the_better_hypothesis_and_then_to_the_lower_id(beam_size: int) -> None:
    config = SearchConfig(beam_size=beam_size, n_best=beam_size)
    tables = [coarse_table(seed, 40, levels=5) for seed in range(24)]
    limits = [6] * 24
    for table, found in zip(tables, search_tables(tables, config, limits), strict=True):
        assert_same(found, reference_beam(table, config, 6))


@pytest.mark.parametrize("vocabulary", [3, 4, 5, 7])
def test_vocabulary_smaller_than_the_beam(vocabulary: int) -> None:
    config = SearchConfig(beam_size=5, n_best=5)
    tables = [random_table(seed, vocabulary) for seed in range(12)]
    for table, found in zip(tables, search_tables(tables, config, [5] * 12), strict=True):
        assert_same(found, reference_beam(table, config, 5))


def test_one_by_one_equals_all_together() -> None:
    config = SearchConfig(beam_size=4, n_best=2)
    tables: list[Distribution] = [random_table(seed, 30, end_bias=2.0) for seed in range(30)]
    limits = [2 + seed % 9 for seed in range(30)]
    together = search_tables(tables, config, limits)
    alone = [search_tables([table], config, [limit])[0] for table, limit in zip(tables, limits, strict=True)]
    assert together == alone


def test_exhaustive_beam_finds_the_best_of_all_sequences() -> None:
    # With room for all 3 + 9 + 27 sequences of at most three tokens, nothing is lost.
    table = random_table(7, 6)
    best: tuple[float, tuple[int, ...]] = (-math.inf, ())
    level: list[tuple[tuple[int, ...], float]] = [((), 0.0)]
    for length in range(4):
        following = []
        for prefix, total in level:
            log_probabilities = table(prefix)
            best = max(best, (total + log_probabilities[2], prefix))
            following += [((*prefix, token), total + log_probabilities[token]) for token in range(3, 6)]
        level = following if length < 3 else []
    config = SearchConfig(beam_size=64, length_penalty_type="none")
    found = search_tables([table], config, [3])[0][0]
    assert tuple(found.token_ids) == best[1]
    assert found.log_probability == pytest.approx(best[0], abs=1e-6)
