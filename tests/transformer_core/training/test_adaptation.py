from dataclasses import replace
from typing import Literal

import pytest
import torch
from torch import nn

from tests.transformer_core.decoding.random_model import random_model
from tests.transformer_core.small_config import small_config
from transformer_core.config import TieEmbeddings
from transformer_core.errors import ConfigError
from transformer_core.layers.low_rank import low_rank_layers
from transformer_core.model import Transformer
from transformer_core.model_directory import expected_shapes, plain_model, plain_parameters, weights_of
from transformer_core.training.adaptation import adapt_model, adapter_weights, base_weights, set_parameters
from transformer_core.training.adaptation_config import AdaptationConfig
from transformer_core.training.checkpoint import set_weights
from transformer_core.training.config import OptimizerName, TrainingConfig
from transformer_core.training.optimizer import ModelOptimizer


def trained(model: Transformer) -> set[str]:
    return {name for name, parameter in model.named_parameters() if parameter.requires_grad}


def adapt(model: Transformer, fresh_parts: tuple[str, ...] = (), **values: object) -> str | None:
    return adapt_model(model, AdaptationConfig(**values), fresh_parts, seed=1)  # type: ignore[arg-type]


def shaken(model: Transformer) -> Transformer:
    """The same model with adapters that have learned something."""
    torch.manual_seed(4)
    for _, layer in low_rank_layers(model):
        nn.init.normal_(layer.adapter_up, std=0.1)
    return model


@pytest.mark.parametrize(
    ("part", "prefixes"),
    [
        ("encoder", ("encoder.",)),
        ("decoder", ("decoder.",)),
        ("embeddings", ("source_embedding.", "target_embedding.")),
        ("encoder.1", ("encoder.layers.0.",)),
        ("decoder.2", ("decoder.layers.1.",)),
        ("decoder.1-2", ("decoder.layers.0.", "decoder.layers.1.")),
    ],
)
def test_a_frozen_part_is_not_trained_and_all_else_is(part: str, prefixes: tuple[str, ...]) -> None:
    model = random_model(20)
    names = dict(model.named_parameters()).keys()
    summary = adapt(model, freeze=(part,))
    assert names - trained(model) == {name for name in names if name.startswith(prefixes)} != set()
    count = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    assert summary == f"{count:,} weights are trained, {model.num_parameters() - count:,} stay as they are"


@pytest.mark.parametrize(("tie", "stays"), [("all", True), ("decoder", True), ("none", False)])
def test_an_output_projection_is_frozen_with_the_embeddings_that_it_is(tie: TieEmbeddings, stays: bool) -> None:
    model = Transformer(small_config(tie_embeddings=tie))
    adapt(model, freeze=("embeddings",))
    assert model.output_projection.weight.requires_grad != stays


def test_frozen_weights_stay_bit_for_bit_though_others_move_and_decay() -> None:
    model = random_model(20)
    adapt(model, freeze=("encoder.1", "embeddings"))
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    optimizer = ModelOptimizer(model, TrainingConfig(optimizer="adamw", learning_rate=0.01, weight_decay=0.5))
    assert {name.partition("/")[0] for name in optimizer.state_shapes()} == trained(model)
    source = torch.randint(3, 20, (2, 5))
    for _ in range(3):
        model(source, None, source).square().sum().backward()
        optimizer.step(0.01, is_finite=torch.tensor(True))
    for name, parameter in model.named_parameters():
        moves = not name.startswith(("encoder.layers.0.", "source_embedding.", "target_embedding."))
        assert torch.equal(parameter, before[name]) != (moves and parameter.grad is not None), name


@pytest.mark.parametrize("optimizer_name", ["adamw", "muon"])
def test_an_optimizer_of_matrices_alone_makes_steps(optimizer_name: OptimizerName) -> None:
    model = random_model(20)
    adapt(model, lora_rank=2)
    optimizer = ModelOptimizer(model, TrainingConfig(learning_rate=0.01, optimizer=optimizer_name))
    source = torch.randint(3, 20, (2, 5))
    model(source, None, source).square().sum().backward()
    optimizer.step(0.01, is_finite=torch.tensor(True))
    assert any(layer.adapter_up.abs().sum() > 0 for _, layer in low_rank_layers(model))


def test_adapters_stand_beside_every_projection_of_encoder_and_decoder() -> None:
    model = random_model(20)
    linear = {
        name for name, module in model.named_modules() if isinstance(module, nn.Linear) and name != "output_projection"
    }
    plain = weights_of(model)
    summary = adapt(model, lora_rank=3, lora_alpha=6.0)
    layers = dict(low_rank_layers(model))
    assert set(layers) == linear
    assert trained(model) == {f"{name}.{part}" for name in linear for part in ("adapter_down", "adapter_up")}
    assert {layer.scale for layer in layers.values()} == {2.0}
    assert summary is not None
    assert summary.startswith(f"adapters of rank 3 beside {len(linear)} matrices: ")
    for name, weight in weights_of(model).items():
        assert torch.equal(weight, plain[name]), name


@pytest.mark.parametrize("mixer", ["attention", "ssru"])
def test_merged_it_does_the_same(mixer: Literal["attention", "ssru"]) -> None:
    config = small_config()
    model = Transformer(replace(config, decoder=replace(config.decoder, mixer=mixer))).eval()
    adapt(model, lora_rank=3)
    shaken(model)
    plain = plain_model(model)
    assert adapter_weights(plain) == {}
    assert {name: tuple(weight.shape) for name, weight in weights_of(plain).items()} == expected_shapes(model)
    source, target = torch.randint(3, 20, (4, 7)), torch.randint(3, 20, (4, 6))
    torch.testing.assert_close(plain(source, None, target), model(source, None, target))
    memory = model.encode(source, None)
    state, plain_state = model.start(memory, None), plain.start(plain.encode(source, None), None)
    for position in range(target.size(1)):
        step = model.step(target[:, position], state)
        torch.testing.assert_close(plain.step(target[:, position], plain_state), step)


def test_a_model_without_adapters_is_plain_already() -> None:
    model = random_model(20)
    assert plain_model(model) is model
    assert dict(plain_parameters(model)) == dict(model.named_parameters())


def test_frozen_parts_get_no_adapters() -> None:
    model = random_model(20)
    adapt(model, lora_rank=2, freeze=("encoder", "decoder.1"))
    assert {name.partition(".layers.")[0] for name, _ in low_rank_layers(model)} == {"decoder"}
    assert all(name.startswith("decoder.layers.1.") for name, _ in low_rank_layers(model))


def test_what_is_fresh_is_trained_as_it_is() -> None:
    model = random_model(20)
    adapt(model, ("decoder", "target_embedding"), lora_rank=2)
    assert all(name.startswith("encoder.") for name, _ in low_rank_layers(model))
    for name, parameter in plain_parameters(model):
        assert parameter.requires_grad == name.startswith(("decoder.", "target_embedding.")), name


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"freeze": ("encoder.3",)}, r"--freeze encoder\.3: the encoder has layers 1 to 2"),
        ({"freeze": ("decoder.2-9",)}, r"--freeze decoder\.2-9: the decoder has layers 1 to 2"),
        ({"freeze": ("target",)}, "is no part of a model"),
        ({"freeze": ("encoder", "decoder"), "lora_rank": 2}, "--freeze encoder --freeze decoder: leaves nothing"),
    ],
)
def test_what_cannot_be_is_refused(values: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        adapt(random_model(20), (), **values)


@pytest.mark.parametrize("part", ["decoder", "decoder.1", "embeddings"])
def test_what_is_fresh_cannot_be_frozen(part: str) -> None:
    with pytest.raises(ConfigError, match=f"--freeze {part}: something in it is fresh and has to be learned"):
        adapt(random_model(20), ("decoder", "target_embedding"), freeze=(part,))


def test_adapters_and_what_they_adapt_come_back() -> None:
    model, other = random_model(20), random_model(20, seed=8)
    adapt(model, lora_rank=2)
    adapt(other, lora_rank=2)
    shaken(model)
    set_weights(other, weights_of(model))
    for name, weight in weights_of(other).items():
        assert torch.equal(weight, weights_of(model)[name]), name
    set_parameters(other, base_weights(model))
    set_parameters(other, adapter_weights(model))
    for one, two in zip(model.parameters(), other.parameters(), strict=True):
        assert torch.equal(one, two)
