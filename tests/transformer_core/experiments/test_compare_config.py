from dataclasses import replace
from pathlib import Path
from typing import get_args

import pytest

from transformer_core.config import PRESETS, DecoderMixer, EncoderMixer
from transformer_core.errors import ConfigError
from transformer_core.experiments.compare_config import (
    DEFAULT_MINUTES,
    MIXER_NAMES,
    CompareConfig,
    TrainingComparison,
    model_config_of,
)

PAIRS = TrainingComparison(folder=Path("m"), train_src=(Path("a"),), train_tgt=(Path("b"),))


def test_the_table_has_every_mixer_of_the_core() -> None:
    configs = [model_config_of(mixer, PRESETS["tiny"]) for mixer in MIXER_NAMES]
    assert {config.encoder.mixer for config in configs} == set(get_args(EncoderMixer))
    assert {config.decoder.mixer for config in configs} == set(get_args(DecoderMixer))
    of_encoders = {(config.encoder.mixer, config.encoder.bidirectional) for config in configs}
    assert {("gru", True), ("gru", False), ("lstm", True), ("lstm", False)} <= of_encoders
    by_name = dict(zip(MIXER_NAMES, configs, strict=True))
    assert by_name["bigru"].encoder.bidirectional
    assert not by_name["gru"].encoder.bidirectional
    assert (by_name["ssru"].encoder.mixer, by_name["ssru"].decoder.mixer) == ("attention", "ssru")


@pytest.mark.parametrize(
    ("max_length", "lengths"), [(32, (16, 32)), (63, (16, 32)), (64, (16, 32, 64)), (100, (16, 32, 64))]
)
def test_lengths_are_powers_of_two(max_length: int, lengths: tuple[int, ...]) -> None:
    assert CompareConfig(max_length=max_length).lengths == lengths


def test_the_default_is_sixteen_to_4096() -> None:
    assert CompareConfig().lengths == (16, 32, 64, 128, 256, 512, 1024, 2048, 4096)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"max_length": 31}, r"max_length \(31\) must be at least 32"),
        ({"mixers": ()}, "mixers must be some of attention, gru, bigru"),
        ({"mixers": ("gru", "gru")}, "each once"),
        ({"mixers": ("rnn",)}, "mixers must be some of"),
        ({"stack": replace(PRESETS["tiny"], kernel_width=4)}, r"kernel_width \(4\) must be odd"),
    ],
)
def test_what_cannot_be_compared_is_refused(values: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        CompareConfig(**values)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"minutes": 1.0, "max_steps": 5}, "--minutes is equal time, --max-steps equal updates; give one"),
        ({"minutes": 0.0}, r"minutes \(0.0\) must be above 0"),
        ({"minutes": float("nan")}, "must be above 0"),
        ({"metrics": ()}, "there must be a metric"),
    ],
)
def test_what_cannot_be_trained_is_refused(values: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        replace(PAIRS, **values)  # type: ignore[arg-type]


def test_the_budget_is_time_unless_updates_are_counted() -> None:
    assert PAIRS.budget_minutes == DEFAULT_MINUTES
    assert replace(PAIRS, minutes=0.5).budget_minutes == 0.5
    assert replace(PAIRS, max_steps=3).budget_minutes is None
