import pytest
import torch

from tests.transformer_core.decoding.random_model import random_model
from transformer_core.model import Transformer
from transformer_core.training.config import OptimizerName, TrainingConfig
from transformer_core.training.loss_scale import FIRST_FACTOR, GOOD_UPDATES, LossScale
from transformer_core.training.optimizer import ModelOptimizer

OPTIMIZERS: list[OptimizerName] = ["adamw", "muon"]


def config_of(optimizer: OptimizerName, **values: float) -> TrainingConfig:
    return TrainingConfig(learning_rate=0.01, weight_decay=0.1, optimizer=optimizer, **values)  # type: ignore[arg-type]


def make_steps(model: Transformer, optimizer: ModelOptimizer, seeds: range, rate: float = 0.01) -> None:
    for seed in seeds:
        torch.manual_seed(seed)
        for parameter in model.parameters():
            parameter.grad = torch.randn_like(parameter)
        optimizer.step(rate, is_finite=torch.tensor(True))


def is_inner_matrix(name: str, weight: torch.Tensor) -> bool:
    return name.startswith(("encoder.", "decoder.")) and weight.dim() > 1


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_state_that_was_put_back_goes_on_the_same(name: OptimizerName) -> None:
    model = random_model(20)
    optimizer = ModelOptimizer(model, config_of(name))
    make_steps(model, optimizer, range(3))
    state = {name: tensor.clone() for name, tensor in optimizer.state().items()}
    expected = {
        f"{weight_name}/{key}"
        for weight_name, weight in model.named_parameters()
        for key in (
            ("momentum",)
            if name == "muon" and is_inner_matrix(weight_name, weight)
            else ("exp_avg", "exp_avg_sq", "step")
        )
    }
    assert set(state) == expected
    assert {key: tuple(tensor.shape) for key, tensor in state.items()} == optimizer.state_shapes()

    resumed = random_model(20)
    with torch.no_grad():
        for parameter, trained in zip(resumed.parameters(), model.parameters(), strict=True):
            parameter.copy_(trained)
    resumed_optimizer = ModelOptimizer(resumed, config_of(name))
    resumed_optimizer.load_state(state)
    make_steps(model, optimizer, range(3, 5))
    make_steps(resumed, resumed_optimizer, range(3, 5))
    for one, other in zip(model.parameters(), resumed.parameters(), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_before_the_first_step_there_is_no_state(name: OptimizerName) -> None:
    optimizer = ModelOptimizer(random_model(20), config_of(name))
    assert optimizer.state() == {}
    optimizer.load_state({})
    assert optimizer.state() == {}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_matrices_decay_and_biases_and_norms_do_not(name: OptimizerName) -> None:
    model = random_model(20)
    before = {name: weight.clone() for name, weight in model.named_parameters()}
    optimizer = ModelOptimizer(model, config_of(name))
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step(0.01, is_finite=torch.tensor(True))
    for weight_name, weight in model.named_parameters():
        # without a gradient a step is weight · (1 - rate · decay), or nothing
        factor = 1 - 0.01 * 0.1 if weight.dim() > 1 else 1.0
        torch.testing.assert_close(weight, before[weight_name] * factor)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_embeddings_norms_and_biases_take_a_multiple_of_the_rate(name: OptimizerName) -> None:
    steps = {}
    for factor in (1.0, 3.0):
        model = random_model(20)
        before = {weight_name: weight.clone() for weight_name, weight in model.named_parameters()}
        optimizer = ModelOptimizer(model, TrainingConfig(optimizer=name, embedding_lr_factor=factor))
        make_steps(model, optimizer, range(1), rate=0.001)
        steps[factor] = {weight_name: weight - before[weight_name] for weight_name, weight in model.named_parameters()}
    for weight_name, step in steps[1.0].items():
        expected = step if is_inner_matrix(weight_name, step) else 3 * step
        torch.testing.assert_close(steps[3.0][weight_name], expected, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_frozen_weights_stay_bit_for_bit(name: OptimizerName) -> None:
    model = random_model(20)
    model.encoder.requires_grad_(False)
    before = {weight_name: weight.clone() for weight_name, weight in model.named_parameters()}
    optimizer = ModelOptimizer(model, config_of(name))
    make_steps(model, optimizer, range(2))
    for weight_name, weight in model.named_parameters():
        assert torch.equal(weight, before[weight_name]) == weight_name.startswith("encoder."), weight_name
    assert not any(key.startswith("encoder.") for key in optimizer.state_shapes())


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("num_before", [0, 2])
def test_a_step_with_gradients_that_are_not_finite_changes_nothing(name: OptimizerName, num_before: int) -> None:
    trained, spared = random_model(20), random_model(20)
    optimizers = [ModelOptimizer(model, config_of(name)) for model in (trained, spared)]
    for model, optimizer in zip((trained, spared), optimizers, strict=True):
        make_steps(model, optimizer, range(num_before))
    for value in (torch.nan, torch.inf):
        for parameter in trained.parameters():
            parameter.grad = torch.full_like(parameter, value)
        optimizers[0].step(0.01, is_finite=torch.tensor(False))
    for model, optimizer in zip((trained, spared), optimizers, strict=True):
        make_steps(model, optimizer, range(5, 7))
    for one, other in zip(trained.parameters(), spared.parameters(), strict=True):
        assert torch.equal(one, other)
    states = [optimizer.state() for optimizer in optimizers]
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[1])


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_the_memory_of_the_first_step_can_be_taken_before_it(name: OptimizerName) -> None:
    prepared, fresh = random_model(20), random_model(20)
    optimizers = [ModelOptimizer(model, config_of(name, ema_decay=0.5)) for model in (prepared, fresh)]
    for parameter in prepared.parameters():
        parameter.grad = torch.randn_like(parameter)
    optimizers[0].make_state()
    assert optimizers[0].state().keys() == optimizers[0].state_shapes().keys()
    for model, optimizer in zip((prepared, fresh), optimizers, strict=True):
        make_steps(model, optimizer, range(2))
    states = [optimizer.state() for optimizer in optimizers]
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[1])


def test_the_moving_average_does_not_follow_a_step_that_was_left_out() -> None:
    model = random_model(20)
    optimizer = ModelOptimizer(model, config_of("adamw", ema_decay=0.5))
    make_steps(model, optimizer, range(2))
    before = {key: mean.clone() for key, mean in optimizer.state().items() if key.endswith("/moving_average")}
    optimizer.step(0.01, is_finite=torch.tensor(False))
    assert all(torch.equal(optimizer.state()[key], mean) for key, mean in before.items())


def test_the_factor_of_fp16_is_halved_by_infinite_gradients_and_doubled_after_many_good_ones() -> None:
    scale = LossScale(torch.device("cpu"))
    factors = []
    for is_finite in (False, False, *[True] * GOOD_UPDATES, False, *[True] * (GOOD_UPDATES - 1), False, True):
        scale.follow(torch.tensor(is_finite))
        factors.append(int(scale.factor))
    first = int(FIRST_FACTOR)
    quarter, half = first // 4, first // 2
    assert factors[:3] == [half, quarter, quarter]
    assert factors[GOOD_UPDATES : GOOD_UPDATES + 3] == [quarter, half, quarter]
    assert factors[-3:] == [quarter, quarter // 2, quarter // 2]
    resumed = LossScale(torch.device("cpu"))
    resumed.load_state(scale.state())
    for is_finite in [True] * GOOD_UPDATES:
        scale.follow(torch.tensor(is_finite))
        resumed.follow(torch.tensor(is_finite))
        assert resumed.factor == scale.factor
