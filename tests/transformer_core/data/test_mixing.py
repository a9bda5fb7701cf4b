from collections import Counter
from fractions import Fraction
from itertools import islice

import pytest
from hypothesis import given
from hypothesis import strategies as st

from transformer_core.data.mixing import count_turns, turns

some_weights = st.lists(st.integers(1, 50), min_size=1, max_size=6)


@given(weights=some_weights, num_turns=st.integers(0, 400))
def test_every_text_has_its_share_of_any_number_of_turns(weights: list[int], num_turns: int) -> None:
    counts = Counter(islice(turns(weights), num_turns))
    for place, weight in enumerate(weights):
        assert abs(counts[place] - num_turns * Fraction(weight, sum(weights))) < len(weights)
    assert count_turns(weights, num_turns) == counts


def test_turns_are_spread_evenly() -> None:
    assert list(islice(turns([3, 1]), 8)) == [0, 0, 1, 0, 0, 0, 1, 0]
    assert list(islice(turns([1.0, 1.0]), 4)) == [0, 1, 0, 1]
    assert set(islice(turns([0.5]), 5)) == {0}


@pytest.mark.parametrize("weights", [[1, 999], [0.001, 0.002, 0.003]])
def test_a_small_weight_has_its_turn(weights: list[float]) -> None:
    assert len(set(islice(turns(weights), 1000))) == len(weights)
