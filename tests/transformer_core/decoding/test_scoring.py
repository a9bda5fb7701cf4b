import math

import pytest
import torch

from tests.transformer_core.decoding.random_model import random_lines, random_model, word_model, word_tokenizer
from tokenizer import TokenizerConfig, train_tokenizer
from transformer_core.decoding import scoring
from transformer_core.decoding.config import BatchConfig, SearchConfig
from transformer_core.decoding.scoring import Scorer
from transformer_core.errors import DataError, ModelError

PAIRS = list(zip(random_lines(40), random_lines(40, seed=1), strict=True))


def make(config: SearchConfig | None = None, **batching: object) -> Scorer:
    return Scorer(word_model(), word_tokenizer(), word_tokenizer(), config, BatchConfig(**batching))  # type: ignore[arg-type]


def test_equals_one_token_after_the_other() -> None:
    model, tokenizer = word_model(), word_tokenizer()
    found = make().score(PAIRS)
    for (source, target), pair_score in zip(PAIRS, found, strict=True):
        memory = model.encode(torch.tensor([[*tokenizer.encode(source), tokenizer.eos_id]]), None)
        prefix, expected = [tokenizer.bos_id], []
        for token_id in [*tokenizer.encode(target), tokenizer.eos_id]:
            hidden = model.decode(torch.tensor([prefix]), memory, None)[0, -1]
            expected.append(torch.log_softmax(model.project(hidden), dim=-1)[token_id].item())
            prefix.append(token_id)
        assert pair_score.token_log_probabilities == pytest.approx(expected, abs=1e-5)
        assert pair_score.token_ids == tuple(prefix[1:])
        assert pair_score.log_probability == pytest.approx(sum(expected), abs=1e-4)
        assert pair_score.score == pytest.approx(sum(expected) / len(expected), abs=1e-4)


@pytest.mark.parametrize("batch_size", [1, 7, 64])
def test_same_whatever_the_batch_size(batch_size: int) -> None:
    expected = make().score(PAIRS)
    found = make(batch_type="sentences", batch_size=batch_size).score(PAIRS)
    for ours, theirs in zip(found, expected, strict=True):
        assert ours.token_log_probabilities == pytest.approx(theirs.token_log_probabilities, abs=1e-5)


def test_logits_of_some_positions_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = make().score(PAIRS)
    monkeypatch.setattr(scoring, "PROJECTED_POSITIONS", 5)
    for ours, theirs in zip(make().score(PAIRS), expected, strict=True):
        assert ours.token_log_probabilities == pytest.approx(theirs.token_log_probabilities, abs=1e-5)


def test_length_penalty() -> None:
    config = SearchConfig(length_penalty_type="gnmt", length_penalty=0.6)
    for pair_score in make(config).score(PAIRS):
        length = len(pair_score.token_ids)
        assert pair_score.score == pytest.approx(pair_score.log_probability / ((5 + length) / 6) ** 0.6)


def test_blank_sides() -> None:
    both, source, target, none = make().score([("", " "), ("", "ba be"), ("ba be", ""), ("ba", "be")])
    assert (both.log_probability, both.score, both.token_ids) == (0.0, 0.0, ())
    assert len(source.token_ids) == 3
    assert len(target.token_ids) == 1
    for pair_score in (source, target, none):
        assert math.isfinite(pair_score.log_probability)
        assert pair_score.log_probability < 0


def test_white_space_is_blank_even_where_the_tokenizer_has_tokens_for_it() -> None:
    tokenizer = train_tokenizer(["a b  c"] * 3, TokenizerConfig(kind="char", vocabulary_size=20))
    assert tokenizer.encode("  ")
    scorer = Scorer(random_model(tokenizer.vocabulary_size), tokenizer, tokenizer)
    blank, space, both = scorer.score([("a", ""), ("a", "  "), (" ", "  ")])
    assert space.token_ids == (tokenizer.eos_id,)
    assert space.log_probability == pytest.approx(blank.log_probability, abs=1e-5)
    assert (both.token_ids, both.log_probability) == ((), 0.0)


def test_pair_beyond_the_learned_positions_is_named() -> None:
    scorer = Scorer(word_model("learned"), word_tokenizer(), word_tokenizer(), names=("test.en", "test.de"))
    longest = " ".join(["ba"] * 63)  # and the end token: 64 positions
    assert len(scorer.score([("ba", longest), (longest, "ba")])) == 2
    with pytest.raises(DataError, match=r"^test\.de:6: has 64 tokens"):
        scorer.score([("ba", "ba"), ("ba", longest + " ba")], first_line_number=5)
    with pytest.raises(DataError, match=r"^test\.en:1: has 65 tokens"):
        scorer.score([(longest + " ba ba", longest + " ba")])


def test_model_that_computes_nan_is_an_error() -> None:
    model = word_model()
    with torch.no_grad():
        model.target_embedding.token_embedding.weight[1] = math.nan
    scorer = Scorer(model, word_tokenizer(), word_tokenizer(), names=("test.en", "test.de"))
    with pytest.raises(ModelError, match=r"computes no probabilities \(NaN\) for test\.de:6: "):
        scorer.score([("", ""), ("ba", "be"), ("bi", "bo")], first_line_number=5)
