import torch

from tests.transformer_core.decoding.random_model import random_model
from transformer_core.model import Transformer
from transformer_core.training.config import TrainingConfig
from transformer_core.training.optimizer import build_optimizer, load_optimizer_state, optimizer_state

CONFIG = TrainingConfig(learning_rate=0.01, weight_decay=0.1)


def make_steps(model: Transformer, optimizer: torch.optim.AdamW, seeds: range) -> None:
    for seed in seeds:
        torch.manual_seed(seed)
        for parameter in model.parameters():
            parameter.grad = torch.randn_like(parameter)
        optimizer.step()


def test_a_state_that_was_put_back_goes_on_the_same() -> None:
    model = random_model(20)
    optimizer = build_optimizer(model, CONFIG)
    make_steps(model, optimizer, range(3))
    state = {name: tensor.clone() for name, tensor in optimizer_state(model, optimizer).items()}
    names = [name for name, _ in model.named_parameters()]
    assert set(state) == {f"{name}/{key}" for name in names for key in ("exp_avg", "exp_avg_sq", "step")}

    resumed = random_model(20)
    with torch.no_grad():
        for parameter, trained in zip(resumed.parameters(), model.parameters(), strict=True):
            parameter.copy_(trained)
    resumed_optimizer = build_optimizer(resumed, CONFIG)
    load_optimizer_state(resumed, resumed_optimizer, state)
    make_steps(model, optimizer, range(3, 5))
    make_steps(resumed, resumed_optimizer, range(3, 5))
    for one, other in zip(model.parameters(), resumed.parameters(), strict=True):
        assert torch.equal(one, other)


def test_before_the_first_step_there_is_no_state() -> None:
    model = random_model(20)
    optimizer = build_optimizer(model, CONFIG)
    assert optimizer_state(model, optimizer) == {}
    load_optimizer_state(model, optimizer, {})
    assert not optimizer.state


def test_matrices_decay_and_biases_and_norms_do_not() -> None:
    model = random_model(20)
    before = {name: weight.clone() for name, weight in model.named_parameters()}
    optimizer = build_optimizer(model, CONFIG)
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    for name, weight in model.named_parameters():
        # without a gradient a step is weight · (1 - rate · decay), or nothing
        factor = 1 - 0.01 * 0.1 if weight.dim() > 1 else 1.0
        torch.testing.assert_close(weight, before[name] * factor)
