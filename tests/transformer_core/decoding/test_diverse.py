import math
from dataclasses import replace

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
)
from tests.transformer_core.decoding.test_beam import assert_same
from transformer_core.decoding.beam import BeamSearch
from transformer_core.decoding.config import SearchConfig
from transformer_core.decoding.diverse import DiverseBeamSearch
from transformer_core.decoding.search import Hypothesis, search


def found_by_groups(
    tables: list[Distribution], config: SearchConfig, limits: list[int]
) -> list[list[list[Hypothesis]]]:
    """By sentence and group."""
    groups = config.beam_groups
    strategy = DiverseBeamSearch(config, BOS, EOS, [limit for limit in limits for _ in range(groups)])
    repeated = [table for table in tables for _ in range(groups)]
    found = search(
        TableStep(repeated, strategy.num_candidates), TableState(len(repeated)), strategy, torch.device("cpu")
    )
    return [found[first : first + groups] for first in range(0, len(found), groups)]


def reference(table: Distribution, config: SearchConfig, limit: int) -> list[list[Hypothesis]]:  # noqa: C901
    """One sentence, lists, the whole vocabulary."""
    size = config.beam_size // config.beam_groups
    live: list[list[tuple[Prefix, float]]] = [[((), 0.0)] for _ in range(config.beam_groups)]
    finished: list[list[Hypothesis]] = [[] for _ in range(config.beam_groups)]
    is_done = [False] * config.beam_groups
    for length in range(limit + 1):
        chosen: list[int] = []
        for group in range(config.beam_groups):
            if is_done[group]:
                continue
            ways = []
            for place, (prefix, total) in enumerate(live[group]):
                values = list(table(prefix))
                if length == limit:
                    of_prefix = total + values[EOS]
                    is_truncated = values.index(max(values)) != EOS
                    score = config.score(of_prefix, length + 1)
                    finished[group].append(Hypothesis(list(prefix), of_prefix, score, is_truncated))
                    continue
                order = sorted(range(len(values)), key=lambda token_id: (-values[token_id], token_id))
                for rank, token_id in enumerate(order):
                    if values[token_id] > -math.inf:
                        worth = total + values[token_id] - config.diversity_penalty * chosen.count(token_id)
                        ways.append((-worth, place, rank, token_id, total + values[token_id]))
            if length == limit:
                is_done[group] = True
                continue
            ways.sort()
            survivors: list[tuple[Prefix, float]] = []
            for rank, (_, place, _, token_id, total) in enumerate(ways[: 2 * size]):
                prefix = live[group][place][0]
                if token_id == EOS and rank < size:
                    finished[group].append(Hypothesis(list(prefix), total, config.score(total, length + 1), False))
                elif token_id != EOS and len(survivors) < size:
                    survivors.append(((*prefix, token_id), total))
            live[group] = survivors
            chosen += [prefix[-1] for prefix, _ in survivors]
            best = max((hypothesis.score for hypothesis in finished[group]), default=-math.inf)
            could_win = any(config.score(total, length + 2) > best for _, total in survivors)
            is_done[group] = not survivors or (len(finished[group]) >= size and not could_win)
    return [sorted(group, key=lambda hypothesis: -hypothesis.score)[:size] for group in finished]


@pytest.mark.parametrize(("beam_size", "groups"), [(4, 2), (6, 3), (4, 4), (6, 2)])
@pytest.mark.parametrize("penalty", [0.0, 0.5, 3.0])
def test_equals_the_slow_reference(beam_size: int, groups: int, penalty: float) -> None:
    config = SearchConfig(beam_size=beam_size, beam_groups=groups, diversity_penalty=penalty)
    tables = [random_table(seed, 25, end_bias=1.5) for seed in range(16)]
    limits = [3 + seed % 9 for seed in range(16)]
    for table, limit, found in zip(tables, limits, found_by_groups(tables, config, limits), strict=True):
        for of_group, expected in zip(found, reference(table, config, limit), strict=True):
            assert_same(of_group, expected)


def test_without_a_penalty_all_groups_are_alike_and_with_one_they_are_not() -> None:
    tables = [random_table(seed, 25, end_bias=1.5) for seed in range(16)]
    alone = SearchConfig(beam_size=2, n_best=2)
    strategy = BeamSearch(alone, BOS, EOS, [9] * 16)
    plain = search(TableStep(tables, strategy.num_candidates), TableState(16), strategy, torch.device("cpu"))
    config = SearchConfig(beam_size=6, beam_groups=3, diversity_penalty=0.0)
    for found, expected in zip(found_by_groups(tables, config, [9] * 16), plain, strict=True):
        for of_group in found:
            assert_same(of_group, expected)
    diverse = found_by_groups(tables, replace(config, diversity_penalty=5.0), [9] * 16)
    num_different = [len({tuple(group[0].token_ids) for group in found}) for found in diverse]
    assert sum(num_different) > 2 * 16  # of three groups, on average more than two
