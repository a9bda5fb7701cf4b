import math
from collections import Counter

import pytest
import torch

from tests.transformer_core.decoding.references import EOS, random_table, reference_greedy, search_tables
from transformer_core.decoding.config import SearchConfig


def sampling(**options: object) -> SearchConfig:
    return SearchConfig(sample=True, beam_size=1, **options)  # type: ignore[arg-type]


def first_tokens(config: SearchConfig, log_probabilities: list[float], count: int) -> Counter[int]:
    """Draw one token `count` times."""
    end = [-math.inf, -math.inf, 0.0, *[-math.inf] * (len(log_probabilities) - 3)]
    tables = [lambda prefix: end if prefix else log_probabilities] * count
    found = search_tables(tables, config, [1] * count)
    return Counter(hypothesis.token_ids[0] if hypothesis.token_ids else EOS for (hypothesis,) in found)


PROBABILITIES = [0.0, 0.0, 0.1, 0.4, 0.3, 0.15, 0.05]
TABLE = [math.log(p) if p else -math.inf for p in PROBABILITIES]


def test_draws_from_the_distribution() -> None:
    counts = first_tokens(sampling(), TABLE, 4000)
    for token_id, probability in enumerate(PROBABILITIES):
        # four standard deviations of a binomial count of 4000
        tolerance = 4 * math.sqrt(4000 * probability * (1 - probability))
        assert abs(counts[token_id] - 4000 * probability) <= tolerance


def test_top_k_keeps_the_k_best() -> None:
    counts = first_tokens(sampling(top_k=2), TABLE, 2000)
    assert set(counts) == {3, 4}
    assert counts[3] / 2000 == pytest.approx(0.4 / 0.7, abs=0.05)


def test_top_p_keeps_the_fewest_that_reach_it() -> None:
    assert set(first_tokens(sampling(top_p=0.39), TABLE, 500)) == {3}
    assert set(first_tokens(sampling(top_p=0.41), TABLE, 500)) == {3, 4}
    assert set(first_tokens(sampling(top_p=0.8), TABLE, 500)) == {3, 4, 5}
    # After top-k 3 the shares are 0.4/0.85, 0.3/0.85, 0.15/0.85, and 0.8 needs only the first two.
    assert set(first_tokens(sampling(top_k=3, top_p=0.8), TABLE, 500)) == {3, 4}


def test_top_p_is_the_same_sorted_in_part_or_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    tables = [random_table(seed, 50, sharpness=0.5) for seed in range(20)]
    config = sampling(top_p=0.9)
    whole = search_tables(tables, config, [6] * 20)
    for num_tokens in (1, 40, 45, 50):
        monkeypatch.setattr("transformer_core.decoding.sampling.NUCLEUS_TOKENS", num_tokens)
        assert search_tables(tables, config, [6] * 20) == whole


def test_temperature_sharpens_and_flattens() -> None:
    assert set(first_tokens(sampling(temperature=0.01), TABLE, 300)) == {3}
    counts = first_tokens(sampling(temperature=1e6), TABLE, 4000)
    assert all(counts[token_id] / 4000 == pytest.approx(0.2, abs=0.04) for token_id in range(2, 7))


def test_log_probability_is_the_models_own() -> None:
    ((hypothesis,),) = search_tables([lambda _: TABLE], sampling(top_k=1, temperature=0.5), [2])
    assert hypothesis.token_ids == [3, 3]
    assert hypothesis.log_probability == pytest.approx(2 * math.log(0.4) + math.log(0.1), abs=1e-6)


def test_top_1_is_greedy() -> None:
    tables = [random_table(seed, 20, end_bias=2.0) for seed in range(20)]
    for table, (hypothesis,) in zip(tables, search_tables(tables, sampling(top_k=1), [8] * 20), strict=True):
        assert hypothesis.token_ids == reference_greedy(table, SearchConfig(beam_size=1), 8).token_ids


@pytest.mark.parametrize("options", [{}, {"top_k": 4}, {"top_p": 0.7}, {"top_k": 6, "top_p": 0.9, "min_length": 3}])
def test_sample_depends_on_the_line_and_not_on_its_neighbours(options: dict[str, object]) -> None:
    config = sampling(**options)
    tables = [random_table(seed, 20, end_bias=1.0) for seed in range(20)]
    limits = [3 + seed % 7 for seed in range(20)]
    together = search_tables(tables, config, limits)
    alone = [
        search_tables([tables[line]], config, [limits[line]], first_line=line + 1)[0] for line in range(len(tables))
    ]
    assert together == alone
    assert together == search_tables(tables, config, limits)


def test_seed_changes_the_sample() -> None:
    tables = [random_table(seed, 20) for seed in range(20)]
    first = search_tables(tables, sampling(seed=1), [5] * 20)
    assert first != search_tables(tables, sampling(seed=2), [5] * 20)


def test_min_length_is_kept() -> None:
    tables = [random_table(seed, 20, end_bias=6.0) for seed in range(30)]
    for options in ({}, {"top_k": 1}, {"top_p": 0.5}):
        found = search_tables(tables, sampling(min_length=4, **options), [9] * 30)
        assert all(len(hypothesis.token_ids) >= 4 for (hypothesis,) in found)
        assert all(torch.tensor(hypothesis.log_probability).isfinite() for (hypothesis,) in found)
