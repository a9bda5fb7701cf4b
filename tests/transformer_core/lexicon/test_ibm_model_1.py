from collections import defaultdict
from collections.abc import Sequence

import numpy as np
import pytest

from transformer_core.lexicon.ibm_model_1 import Links, TranslationTable, train_ibm_model_1

Pair = tuple[Sequence[int], Sequence[int]]
NUM_SOURCES, NUM_TARGETS = 6, 7  # so that NULL is 6
NULL = NUM_SOURCES


def links_of(pairs: Sequence[Pair]) -> Links:
    keys, places, place = [], [], 0
    for source, target in pairs:
        for target_id in target:
            for source_id in [*source, NULL]:
                keys.append(source_id * NUM_TARGETS + target_id)
                places.append(place)
            place += 1
    return Links(np.array(keys), np.array(places))


def reference(pairs: Sequence[Pair], num_iterations: int, null: int = NULL) -> dict[tuple[int, int], float]:
    """As textbooks have it (Koehn 2010, figure 4.3): dictionaries, a token at a time."""
    table: dict[tuple[int, int], float] = defaultdict(lambda: 1.0)
    for _ in range(num_iterations):
        counts: dict[tuple[int, int], float] = defaultdict(float)
        totals: dict[int, float] = defaultdict(float)
        for source, target in pairs:
            for target_id in target:
                norm = sum(table[source_id, target_id] for source_id in [*source, null])
                for source_id in [*source, null]:
                    share = table[source_id, target_id] / norm
                    counts[source_id, target_id] += share
                    totals[source_id] += share
        table = defaultdict(float, {pair: count / totals[pair[0]] for pair, count in counts.items()})
    return dict(table)


def as_dict(table: TranslationTable) -> dict[tuple[int, int], float]:
    entries = zip(table.sources.tolist(), table.targets.tolist(), table.probabilities.tolist(), strict=True)
    return {(source, target): probability for source, target, probability in entries}


def random_pairs(count: int, seed: int = 0) -> list[Pair]:
    random = np.random.default_rng(seed)
    return [
        (random.integers(0, NUM_SOURCES, length).tolist(), random.integers(0, NUM_TARGETS, 1 + length % 4).tolist())
        for length in random.integers(1, 6, count).tolist()
    ]


@pytest.mark.parametrize("num_iterations", [1, 2, 5])
@pytest.mark.parametrize("pairs_at_once", [1, 7, 100])
def test_it_is_the_algorithm_of_the_textbook(num_iterations: int, pairs_at_once: int) -> None:
    pairs = random_pairs(40)
    parts = [links_of(pairs[start : start + pairs_at_once]) for start in range(0, 40, pairs_at_once)]
    found = as_dict(train_ibm_model_1(lambda: parts, NUM_TARGETS, num_iterations))
    assert found == pytest.approx(reference(pairs, num_iterations))


def test_it_finds_what_translates_what() -> None:
    # "the house", "the book", "a book" (Koehn 2010, section 4.2): das 0, Haus 1, Buch 2, ein 3
    pairs: list[Pair] = [([0, 1], [0, 1]), ([0, 2], [0, 2]), ([3, 2], [3, 2])]
    found = as_dict(train_ibm_model_1(lambda: [links_of(pairs)], NUM_TARGETS, 30))
    for token_id in range(4):
        assert max(range(4), key=lambda target: found.get((token_id, target), 0.0)) == token_id


def test_a_table_that_grows_too_large_keeps_what_has_the_larger_part_of_its_source() -> None:
    pairs = [*random_pairs(60, seed=1), *[([0], [1])] * 50]
    parts = [links_of([pair]) for pair in pairs]
    table = train_ibm_model_1(lambda: parts, NUM_TARGETS, 2, max_entries=12)
    assert 0 < len(table.keys) <= 12
    assert np.all(np.diff(table.keys) > 0)
    assert (0, 1) in as_dict(table)
    for source in set(table.sources.tolist()):
        assert table.probabilities[table.sources == source].sum() == pytest.approx(1.0)
