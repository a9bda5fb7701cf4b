import pytest

from transformer_core.errors import ConfigError
from transformer_core.training.adaptation_config import AdaptationConfig, ModelPart


@pytest.mark.parametrize(
    ("name", "stack", "first", "last"),
    [
        ("embeddings", "embeddings", None, None),
        ("encoder", "encoder", None, None),
        ("decoder", "decoder", None, None),
        ("encoder.1-4", "encoder", 1, 4),
        ("decoder.12", "decoder", 12, 12),
        ("decoder.3-3", "decoder", 3, 3),
    ],
)
def test_a_part_is_a_stack_or_some_of_its_layers(name: str, stack: str, first: int | None, last: int | None) -> None:
    assert ModelPart.parse(name) == ModelPart(name=name, stack=stack, first=first, last=last)
    assert AdaptationConfig(freeze=(name,)).parts == (ModelPart.parse(name),)


@pytest.mark.parametrize("name", ["", "Encoder", "encoder.", "encoder.0", "encoder.1-", "embeddings.1", "norms", "1-2"])
def test_what_is_no_part_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match="is no part of a model; use encoder, decoder, embeddings, or layers"):
        AdaptationConfig(freeze=("decoder", name))


def test_layers_are_counted_upwards() -> None:
    with pytest.raises(ConfigError, match=r"--freeze encoder\.4-2: the first layer comes after the last"):
        AdaptationConfig(freeze=("encoder.4-2",))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"lora_rank": 0}, r"lora_rank \(0\) must be at least 1"),
        ({"lora_alpha": 8.0}, "goes with --lora-rank"),
        ({"lora_rank": 2, "lora_alpha": 0.0}, r"lora_alpha \(0.0\) must be above 0"),
        ({"lora_rank": 2, "lora_alpha": float("nan")}, "must be above 0"),
    ],
)
def test_values_that_cannot_work_are_refused(values: dict[str, float], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        AdaptationConfig(**values)  # type: ignore[arg-type]


def test_without_anything_all_is_trained() -> None:
    assert AdaptationConfig().is_whole
    assert not AdaptationConfig(freeze=("encoder",)).is_whole
    assert not AdaptationConfig(lora_rank=1).is_whole
