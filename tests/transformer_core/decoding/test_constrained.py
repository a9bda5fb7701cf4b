import itertools
import math

import pytest
import torch

from tests.transformer_core.decoding.references import (
    BOS,
    EOS,
    Distribution,
    Prefix,
    TableState,
    TableStep,
    random_table,
    search_tables,
)
from transformer_core.decoding.config import SearchConfig
from transformer_core.decoding.constrained import ConstrainedBeamSearch, Constraints
from transformer_core.decoding.search import Hypothesis, search

NONE = Constraints(())


def found_with(
    tables: list[Distribution], config: SearchConfig, limits: list[int], constraints: list[Constraints]
) -> list[list[Hypothesis]]:
    strategy = ConstrainedBeamSearch(config, BOS, EOS, limits, constraints)
    step = TableStep(tables, strategy.num_candidates)
    return search(step, TableState(len(tables)), strategy, torch.device("cpu"))


def stands_in(phrase: tuple[int, ...], ids: list[int], start: int = 0) -> int:
    """Where a phrase ends in ids from a place on; -1 if it is not there."""
    places = range(start, len(ids) - len(phrase) + 1)
    return next((place + len(phrase) for place in places if tuple(ids[place : place + len(phrase)]) == phrase), -1)


def is_met(constraints: Constraints, ids: list[int]) -> bool:
    start = 0
    for phrase in constraints.phrases:
        end = stands_in(phrase, ids, start)
        if end < 0:
            return False
        start = end if constraints.is_ordered else 0
    return True


@pytest.mark.parametrize("is_ordered", [False, True])
@pytest.mark.parametrize("beam_size", [2, 5, 8])
@pytest.mark.parametrize(
    "phrases",
    [
        ((7,),),
        ((7, 8, 9),),
        ((7,), (8, 9)),
        ((9, 9, 3), (9,)),
        ((3, 4), (5,), (6, 7, 8), (9,)),
        ((7, 8), (5,), (7, 8)),
        ((7,), (7,)),
    ],
    ids=str,
)
def test_what_must_stand_there_stands_there(
    phrases: tuple[tuple[int, ...], ...], beam_size: int, is_ordered: bool
) -> None:
    tables = [random_table(seed, 30, end_bias=2.0) for seed in range(12)]
    constraints = Constraints(phrases, is_ordered)
    config = SearchConfig(beam_size=beam_size, n_best=beam_size)
    free = search_tables(tables, SearchConfig(beam_size=beam_size), [20] * 12)
    assert not all(is_met(constraints, found[0].token_ids) for found in free)
    for table, found in zip(tables, found_with(tables, config, [20] * 12, [constraints] * 12), strict=True):
        assert found
        for hypothesis in found:
            assert is_met(constraints, hypothesis.token_ids)
            total, prefix = 0.0, ()
            for token_id in [*hypothesis.token_ids, EOS]:  # the log-probability is the model's
                total += table(prefix)[token_id]
                prefix = (*prefix, token_id)  # type: ignore[assignment]
            assert hypothesis.log_probability == pytest.approx(total, abs=1e-6)
        scores = [hypothesis.score for hypothesis in found]
        assert scores == sorted(scores, reverse=True)


def test_with_room_enough_it_finds_the_best_translation_that_meets_them() -> None:
    def best(table: Distribution, constraints: Constraints, limit: int, vocabulary: int) -> float:
        """Of all sequences up to a length."""
        found = -math.inf
        for length in range(limit):
            for ids in itertools.product(range(3, vocabulary), repeat=length):
                if is_met(constraints, list(ids)):
                    prefix: Prefix = ()
                    total = 0.0
                    for token_id in (*ids, EOS):
                        total += table(prefix)[token_id]
                        prefix = (*prefix, token_id)
                    found = max(found, total)
        return found

    tables = [random_table(seed, 7, end_bias=1.0) for seed in range(8)]
    constraints = Constraints(((4, 5), (3,)))
    config = SearchConfig(beam_size=40, length_penalty_type="none")
    hits = 0
    for table, (hypothesis, *_) in zip(tables, found_with(tables, config, [6] * 8, [constraints] * 8), strict=True):
        hits += hypothesis.log_probability == pytest.approx(best(table, constraints, 6, 7), abs=1e-6)
    assert hits >= 7  # a beam need not find the best


def test_where_nothing_is_asked_it_finds_what_beam_search_finds() -> None:
    tables = [random_table(seed, 25, end_bias=1.5) for seed in range(16)]
    plain = search_tables(tables, SearchConfig(beam_size=4), [12] * 16)
    found = found_with(tables, SearchConfig(beam_size=4), [12] * 16, [NONE] * 16)
    same = sum(ours[0].token_ids == theirs[0].token_ids for ours, theirs in zip(found, plain, strict=True))
    assert same >= 15


def test_sentences_of_a_batch_do_not_touch_each_other() -> None:
    tables = [random_table(seed, 25, end_bias=1.5) for seed in range(9)]
    constraints = [Constraints(((5 + seed, 6),) * (seed % 3 > 0)) for seed in range(9)]
    limits = [4 + seed for seed in range(9)]
    config = SearchConfig(beam_size=4, n_best=4)
    together = found_with(tables, config, limits, constraints)
    for index in range(9):
        (alone,) = found_with(
            tables[index : index + 1], config, limits[index : index + 1], constraints[index : index + 1]
        )
        assert [each.token_ids for each in alone] == [each.token_ids for each in together[index]]


def test_at_the_limit_the_best_that_there_is_ends() -> None:
    table = random_table(1, 25, end_bias=1.5)
    (found,) = found_with([table], SearchConfig(beam_size=3), [2], [Constraints(((7, 8, 9, 10),))])
    assert len(found[0].token_ids) == 2
    assert not is_met(Constraints(((7, 8, 9, 10),)), found[0].token_ids)
