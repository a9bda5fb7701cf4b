import math
from collections.abc import Sequence

import pytest
import torch

from tests.transformer_core.decoding.random_model import random_model
from tests.transformer_core.decoding.references import (
    BOS,
    EOS,
    Distribution,
    Prefix,
    reference_beam,
    reference_greedy,
)
from tests.transformer_core.decoding.test_step import BANNED, VOCABULARY, random_sources, uncached
from transformer_core.data.padding import pad
from transformer_core.decoding.beam import BeamSearch
from transformer_core.decoding.config import SearchConfig
from transformer_core.decoding.greedy import GreedySearch
from transformer_core.decoding.guidance import Guidance, Guide
from transformer_core.decoding.search import Hypothesis, search
from transformer_core.decoding.step import ModelStep

SOURCES = random_sources(16)
LIMITS = [8 + index % 5 for index in range(len(SOURCES))]


def guided(distribution: Distribution, config: SearchConfig, guide: Guide) -> Distribution:
    """The slow twin: the rules on a list, one prefix at a time."""

    def distribution_with_rules(prefix: Prefix) -> Sequence[float]:
        values = list(distribution(prefix))
        if len(prefix) < len(guide.prefix):
            forced = guide.prefix[len(prefix)]
            return [value if token_id == forced else -math.inf for token_id, value in enumerate(values)]
        for token_id in range(len(values)):
            written = (*prefix, token_id)
            if token_id in prefix:
                values[token_id] *= config.repetition_penalty
            if (size := config.no_repeat_ngram) and token_id != EOS:
                ngrams = [written[start : start + size] for start in range(len(written) - size + 1)]
                if len(ngrams) > 1 and ngrams[-1] in ngrams[:-1]:
                    values[token_id] = -math.inf
            if any(written[-len(phrase) :] == phrase for phrase in guide.avoid):
                values[token_id] = -math.inf
        return values

    return distribution_with_rules


def search_guided(config: SearchConfig, guides: list[Guide], limits: list[int]) -> list[list[Hypothesis]]:
    model = random_model(VOCABULARY)
    source, mask = pad(SOURCES, 0, torch.device("cpu"))
    strategy = (BeamSearch if config.beam_size > 1 else GreedySearch)(config, BOS, EOS, limits)
    step = ModelStep([model], EOS, BANNED, strategy.num_candidates, Guidance(config, guides, BANNED))
    with torch.no_grad():
        return search(step, step.start([model.encode(source, mask)], mask), strategy, torch.device("cpu"))


def require_reference(config: SearchConfig, guides: list[Guide]) -> list[list[Hypothesis]]:
    limits = [max(limit, len(guide.prefix)) for limit, guide in zip(LIMITS, guides, strict=True)]
    found = search_guided(config, guides, limits)
    model = random_model(VOCABULARY)
    with torch.no_grad():
        for source, limit, guide, hypotheses in zip(SOURCES, limits, guides, found, strict=True):
            distribution = guided(uncached(model, source), config, guide)
            expected = (
                reference_beam(distribution, config, limit)
                if config.beam_size > 1
                else [reference_greedy(distribution, config, limit)]
            )
            assert [each.token_ids for each in hypotheses] == [each.token_ids for each in expected]
            for ours, theirs in zip(hypotheses, expected, strict=True):
                assert ours.log_probability == pytest.approx(theirs.log_probability, abs=1e-3)
    return found


@pytest.mark.parametrize("beam_size", [1, 4])
def test_a_translation_begins_with_its_prefix(beam_size: int) -> None:
    guides = [Guide(prefix=tuple(5 + (index * 3 + place) % 30 for place in range(index % 5))) for index in range(16)]
    found = require_reference(SearchConfig(beam_size=beam_size, n_best=beam_size), guides)
    for guide, hypotheses in zip(guides, found, strict=True):
        for hypothesis in hypotheses:
            assert tuple(hypothesis.token_ids[: len(guide.prefix)]) == guide.prefix


@pytest.mark.parametrize("beam_size", [1, 4])
@pytest.mark.parametrize("size", [1, 2, 3])
def test_no_ngram_is_written_twice(beam_size: int, size: int) -> None:
    config = SearchConfig(beam_size=beam_size, n_best=beam_size, no_repeat_ngram=size)
    free = require_reference(SearchConfig(beam_size=beam_size, n_best=beam_size), [Guide()] * 16)

    def repeats(found: list[list[Hypothesis]]) -> int:
        count = 0
        for hypothesis in (hypothesis for hypotheses in found for hypothesis in hypotheses):
            ids = hypothesis.token_ids
            ngrams = [tuple(ids[start : start + size]) for start in range(len(ids) - size + 1)]
            count += len(ngrams) - len(set(ngrams))
        return count

    assert repeats(require_reference(config, [Guide()] * 16)) == 0
    assert repeats(free) > 0 or size > 2, "the model should repeat itself, or the test shows nothing"


@pytest.mark.parametrize("beam_size", [1, 4])
def test_repetition_is_penalized(beam_size: int) -> None:
    config = SearchConfig(beam_size=beam_size, n_best=beam_size, repetition_penalty=1.3)
    require_reference(config, [Guide()] * 16)


@pytest.mark.parametrize("beam_size", [1, 4])
def test_phrases_are_avoided(beam_size: int) -> None:
    free = search_guided(SearchConfig(beam_size=beam_size), [Guide()] * 16, LIMITS)
    phrases = [tuple(hypotheses[0].token_ids[:2]) for hypotheses in free]
    singles = [(hypotheses[0].token_ids[0],) for hypotheses in free]
    for avoid in (phrases, singles):
        guides = [Guide(avoid=(phrase,) if phrase else ()) for phrase in avoid]
        found = require_reference(SearchConfig(beam_size=beam_size, n_best=beam_size), guides)
        for phrase, hypotheses in zip(avoid, found, strict=True):
            for hypothesis in hypotheses:
                ids = tuple(hypothesis.token_ids)
                assert all(ids[start : start + len(phrase)] != phrase for start in range(len(ids)))


def test_a_prefix_may_hold_what_is_banned_and_goes_before_all_other_rules() -> None:
    config = SearchConfig(beam_size=3, no_repeat_ngram=1)
    guide = Guide(prefix=(4, 7, 7), avoid=((7,),))  # 4 is banned
    found = search_guided(config, [guide] * 16, [12] * 16)
    for hypothesis, *_ in found:
        assert hypothesis.token_ids[:3] == [4, 7, 7]
        assert 7 not in hypothesis.token_ids[3:]
        assert math.isfinite(hypothesis.log_probability)
