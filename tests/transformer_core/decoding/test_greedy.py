import math

import pytest
import torch

from tests.transformer_core.decoding.references import (
    EOS,
    Distribution,
    TableState,
    TableStep,
    random_table,
    reference_greedy,
    search_tables,
)
from transformer_core.decoding.config import SearchConfig
from transformer_core.decoding.greedy import GreedySearch
from transformer_core.decoding.search import search

GREEDY = SearchConfig(beam_size=1)


def test_follows_the_best_token_to_the_end() -> None:
    # ids: pad, bos, eos, 3, 4
    rows = [[0, 0, 0.1, 0.6, 0.3], [0, 0, 0.2, 0.1, 0.7], [0, 0, 0.8, 0.1, 0.1]]
    table = [[math.log(p) if p else -math.inf for p in row] for row in rows]
    ((hypothesis,),) = search_tables([lambda prefix: table[len(prefix)]], GREEDY, [10])
    assert hypothesis.token_ids == [3, 4]
    assert hypothesis.log_probability == pytest.approx(math.log(0.6 * 0.7 * 0.8), abs=1e-6)
    assert hypothesis.score == pytest.approx(math.log(0.6 * 0.7 * 0.8) / 3, abs=1e-6)
    assert not hypothesis.is_truncated


def test_lowest_id_wins_a_tie() -> None:
    table = [-math.inf, -math.inf, -5.0, -1.0, -1.0, -1.0]
    ((hypothesis,),) = search_tables([lambda _: table], GREEDY, [3])
    assert hypothesis.token_ids == [3, 3, 3]


def test_end_token_is_forced_and_paid_for_at_the_limit() -> None:
    table = [-math.inf, -math.inf, -4.0, -0.5]
    ((hypothesis,),) = search_tables([lambda _: table], GREEDY, [2])
    assert hypothesis.token_ids == [3, 3]
    assert hypothesis.log_probability == pytest.approx(-0.5 - 0.5 - 4.0)
    assert hypothesis.is_truncated


def test_end_at_the_limit_by_its_own_will_is_no_truncation() -> None:
    tables = [[-math.inf, -math.inf, -4.0, -0.5], [-math.inf, -math.inf, -0.5, -4.0]]
    ((hypothesis,),) = search_tables([lambda prefix: tables[len(prefix)]], GREEDY, [1])
    assert hypothesis.token_ids == [3]
    assert not hypothesis.is_truncated


def test_limit_of_nothing_gives_an_empty_hypothesis() -> None:
    ((hypothesis,),) = search_tables([random_table(1, 9)], GREEDY, [0])
    assert hypothesis.token_ids == []


def test_min_length_puts_the_end_off() -> None:
    table = [-math.inf, -math.inf, -0.1, -3.0, -4.0]
    config = SearchConfig(beam_size=1, min_length=2)
    ((hypothesis,),) = search_tables([lambda _: table], config, [5])
    assert hypothesis.token_ids == [3, 3]
    assert hypothesis.log_probability == pytest.approx(-6.1)


@pytest.mark.parametrize("min_length", [0, 3])
def test_equals_the_slow_reference_for_every_sentence(min_length: int) -> None:
    config = SearchConfig(beam_size=1, min_length=min_length)
    tables = [random_table(seed, 30, end_bias=2.0) for seed in range(40)]
    limits = [max(min_length, 1 + seed % 13) for seed in range(40)]
    found = search_tables(tables, config, limits)
    for table, limit, (hypothesis,) in zip(tables, limits, found, strict=True):
        expected = reference_greedy(table, config, limit)
        assert hypothesis.token_ids == expected.token_ids
        assert hypothesis.log_probability == pytest.approx(expected.log_probability, abs=1e-9)
        assert hypothesis.is_truncated == expected.is_truncated


def test_finished_sentences_leave_the_batch() -> None:
    def ends_after(length: int) -> Distribution:
        go_on = [-math.inf, -math.inf, -9.0, -0.1]
        end = [-math.inf, -math.inf, -0.1, -9.0]
        return lambda prefix: go_on if len(prefix) < length else end

    lengths = list(range(32))
    tables = [ends_after(length) for length in lengths]
    strategy = GreedySearch(GREEDY, 1, EOS, [40] * 32)
    step = TableStep(tables, strategy.num_candidates)
    found = search(step, TableState(32), strategy, torch.device("cpu"))
    assert [len(hypothesis.token_ids) for (hypothesis,) in found] == lengths
    assert len(step.num_rows) == 32
    # never more than an eighth of the rows is dead
    for position, num_rows in enumerate(step.num_rows):
        assert (32 - position) <= num_rows <= max(1, (32 - position) / 0.875)
