import math
import subprocess
import sys

import pytest

from transformer_core.decoding.config import BatchConfig, SearchConfig, TranslationConfig
from transformer_core.errors import ConfigError


def test_imports_no_torch() -> None:
    code = "import sys, transformer_core.decoding.config; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_score_divides_by_the_length_penalty() -> None:
    assert SearchConfig().score(-6.0, 3) == pytest.approx(-2.0)  # length, the end token included
    assert SearchConfig(length_penalty=0.5).score(-6.0, 4) == pytest.approx(-3.0)
    gnmt = SearchConfig(length_penalty_type="gnmt", length_penalty=2.0)
    assert gnmt.score(-8.0, 7) == pytest.approx(-2.0)  # ((5 + 7) / 6) ** 2 = 4
    assert SearchConfig(length_penalty_type="none").score(-6.0, 3) == -6.0
    assert SearchConfig().score(0.0, 0) == 0.0


def test_length_limit_grows_with_the_source() -> None:
    config = SearchConfig(max_length_ratio=1.5)
    assert config.length_limit(0) == 10
    assert config.length_limit(3) == 15  # ceil(4.5) + 10
    assert SearchConfig(max_length=12, max_length_ratio=1.5).length_limit(3) == 12
    assert SearchConfig(min_length=40, max_length_ratio=1.5).length_limit(3) == 40


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"beam_size": 0}, "beam_size"),
        ({"n_best": 6}, "must not exceed beam_size (5)"),
        ({"n_best": 0}, "n_best"),
        ({"length_penalty_type": "brevity"}, "avg, gnmt, none"),
        ({"length_penalty": -1.0}, "length_penalty"),
        ({"length_penalty": math.nan}, "length_penalty"),
        ({"max_length": 0}, "max_length"),
        ({"max_length": 5, "min_length": 6}, "min_length"),
        ({"min_length": -1}, "min_length"),
        ({"max_length_ratio": 0.0}, "max_length_ratio"),
        ({"max_length_ratio": math.nan}, "max_length_ratio"),
        ({"sample": True}, "keeps no beam"),
        ({"sample": True, "beam_size": 1, "temperature": 0.0}, "temperature"),
        ({"sample": True, "beam_size": 1, "top_k": -1}, "top_k"),
        ({"sample": True, "beam_size": 1, "top_p": 0.0}, "top_p"),
        ({"sample": True, "beam_size": 1, "top_p": 1.1}, "top_p"),
        ({"temperature": 0.5}, "temperature needs sample"),
        ({"top_k": 5}, "top_k needs sample"),
        ({"top_p": 0.5}, "top_p needs sample"),
    ],
)
def test_search_options_that_cannot_work(options: dict[str, object], words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        SearchConfig(**options)  # type: ignore[arg-type]
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_samples_may_outnumber_the_beam() -> None:
    assert SearchConfig(sample=True, beam_size=1, n_best=8).n_best == 8


@pytest.mark.parametrize(
    "options",
    [
        {"batch_type": "words"},
        {"batch_size": 0},
        {"long_input": "drop"},
        {"max_source_length": 0},
        {"precision": "fp8"},
    ],
)
def test_batch_options_that_cannot_work(options: dict[str, object]) -> None:
    with pytest.raises(ConfigError):
        BatchConfig(**options)  # type: ignore[arg-type]


def test_a_utility_is_one_that_there_is() -> None:
    assert TranslationConfig(utility="chrf").utility == "chrf"
    with pytest.raises(ConfigError, match=r"utility \('ter'\) must be one of chrf, bleu"):
        TranslationConfig(utility="ter")  # type: ignore[arg-type]


def test_batch_size_has_a_default_for_each_type() -> None:
    assert BatchConfig().effective_batch_size == 4096
    assert BatchConfig(batch_type="sentences").effective_batch_size == 64
    assert BatchConfig(batch_size=7).effective_batch_size == 7


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({}, "beam 5, length penalty avg 1"),
        ({"early_stopping": True}, "beam 5, early stopping, length penalty avg 1"),
        ({"beam_size": 1, "early_stopping": True}, "greedy, length penalty avg 1"),
    ],
)
def test_a_search_says_its_circumstances(options: dict[str, object], words: str) -> None:
    assert str(SearchConfig(**options)) == words  # type: ignore[arg-type]
