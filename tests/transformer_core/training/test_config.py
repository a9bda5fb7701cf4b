import math
from dataclasses import fields

import pytest

from transformer_core.errors import ConfigError
from transformer_core.training.config import TrainingConfig


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"batch_type": "words"}, "batch_type ('words') must be one of tokens, sentences"),
        (
            {"lr_schedule": "noam"},
            "lr_schedule ('noam') must be one of auto, inverse-sqrt, cosine, linear, wsd, constant",
        ),
        ({"metric": "ter"}, "metric ('ter') must be one of loss, bleu, chrf, wer, cer, exact, accuracy"),
        ({"precision": "fp8"}, "precision ('fp8') must be one of auto, fp32, bf16, fp16"),
        ({"precision": "fp16", "fsdp": True}, "fsdp goes with bf16 or fp32: the factor that fp16 needs is not split"),
        ({"batch_size": 0}, "batch_size (0) must be at least 1"),
        ({"accumulate": 0}, "accumulate (0) must be at least 1"),
        ({"keep_last": 0}, "keep_last (0) must be at least 1"),
        ({"max_steps": 0}, "max_steps (0) must be at least 1"),
        ({"save_every": -5}, "save_every (-5) must be at least 1"),
        ({"warmup_steps": -1}, "warmup_steps (-1) must be at least 0"),
        ({"patience": -1}, "patience (-1) must be at least 0"),
        ({"weight_decay": math.nan}, "weight_decay (nan) must be at least 0"),
        ({"clip_norm": -1.0}, "clip_norm (-1.0) must be at least 0"),
        ({"beta1": 1.0}, "beta1 (1.0) must be at least 0 and below 1"),
        ({"label_smoothing": -0.1}, "label_smoothing (-0.1) must be at least 0 and below 1"),
        ({"learning_rate": math.inf}, "learning_rate (inf) must be above 0"),
        ({"seed": 2**32}, "seed (4294967296) must be at most 4294967295"),
        ({"max_time": 0.0}, "max_time (0.0) must be above 0"),
    ],
)
def test_a_value_that_cannot_work_is_named(values: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        TrainingConfig(**values)  # type: ignore[arg-type]
    assert str(caught.value) == message


def test_only_what_is_none_is_filled() -> None:
    config = TrainingConfig(max_steps=5).completed(max_steps=9, valid_every=3)
    assert (config.max_steps, config.valid_every) == (5, 3)
    assert {item.name for item in fields(config) if getattr(TrainingConfig(), item.name) is None} == {
        "batch_size",
        "learning_rate",
        "embedding_lr_factor",
        "warmup_steps",
        "final_dropout",
        "max_steps",
        "max_epochs",
        "max_time",
        "valid_every",
        "save_every",
        "threads",
    }
