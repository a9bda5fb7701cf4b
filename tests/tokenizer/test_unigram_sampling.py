import math
from collections import Counter

import pytest

from tests.tokenizer.examples import LINES, trained
from tokenizer.unigram_sampling import UnigramSampling

WORDS = [word for line in LINES for word in line.split()]
NONE = -math.inf
PIECES = [("<unk>", NONE), ("a", math.log(0.1)), ("b", math.log(0.2)), ("ab", math.log(0.3)), ("aa", math.log(0.4))]


@pytest.mark.parametrize("alpha", [0.5, 1.0])
def test_cuts_are_drawn_by_their_probability_to_the_power_of_alpha(alpha: float) -> None:
    # aab is a a b (0.1 * 0.1 * 0.2), aa b (0.4 * 0.2) or a ab (0.1 * 0.3)
    weights = {(1, 1, 2): 0.002**alpha, (4, 2): 0.08**alpha, (1, 3): 0.03**alpha}
    sampling = UnigramSampling(PIECES, alpha)
    drawn = Counter(sampling.segment((4, 2), number) for number in range(4000))
    assert set(drawn) == set(weights)
    for cut, weight in weights.items():
        assert drawn[cut] / 4000 == pytest.approx(weight / sum(weights.values()), abs=0.03)


def test_alpha_0_draws_all_cuts_alike() -> None:
    drawn = Counter(UnigramSampling(PIECES, 0.0).segment((4, 2), number) for number in range(3000))
    assert all(count / 3000 == pytest.approx(1 / 3, abs=0.04) for count in drawn.values())


def test_a_large_alpha_gives_the_tokenizers_own_cuts() -> None:
    tokenizer = trained("unigram")
    sampling = UnigramSampling(tokenizer.scored_pieces, 1000.0)
    for word in WORDS:
        ids = tuple(tokenizer.encode(word))
        found = sampling.segment(ids, 0)
        scores = [sum(tokenizer.scored_pieces[index][1] for index in cut) for cut in (ids, found)]
        assert found == ids or scores[0] == pytest.approx(scores[1], abs=1e-3), word


@pytest.mark.parametrize("number", range(4))
def test_every_cut_is_the_same_text(number: int) -> None:
    tokenizer = trained("unigram")
    results = []
    for word in WORDS:
        ids = tuple(tokenizer.encode(word))
        cut = UnigramSampling(tokenizer.scored_pieces, 0.2).segment(ids, number)
        assert tokenizer.decode(cut) == tokenizer.normalize(word)
        results.append(cut)
    assert results != [tuple(tokenizer.encode(word)) for word in WORDS]


def test_what_is_no_piece_stays_as_it_is() -> None:
    sampling = UnigramSampling(PIECES, 0.5)
    assert sampling.segment((0,), 3) == (0,)
    assert sampling.segment((4, 0, 2), 3) == (4, 0, 2)
