import pytest
import torch
from torch import Tensor
from torch.nn import functional

from transformer_core.training.loss import SLICE_TOKENS, LossSum, projected_cross_entropy

D_MODEL, VOCABULARY = 16, 37


def random_batch(num_tokens: int) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(num_tokens)
    hidden = torch.randn(num_tokens, D_MODEL, generator=generator)
    weight = torch.randn(VOCABULARY, D_MODEL, generator=generator)
    target_ids = torch.randint(VOCABULARY, (num_tokens,), generator=generator)
    return hidden.requires_grad_(), weight.requires_grad_(), target_ids


@pytest.mark.parametrize("label_smoothing", [0.0, 0.1])
@pytest.mark.parametrize("num_tokens", [1, SLICE_TOKENS - 1, SLICE_TOKENS, SLICE_TOKENS + 1, 2 * SLICE_TOKENS + 5])
def test_it_is_torchs_cross_entropy_in_value_and_gradient(num_tokens: int, label_smoothing: float) -> None:
    hidden, weight, target_ids = random_batch(num_tokens)
    fused = projected_cross_entropy(hidden, weight, target_ids, label_smoothing)
    logits = hidden @ weight.T
    plain = functional.cross_entropy(logits, target_ids, label_smoothing=label_smoothing, reduction="sum")
    assert fused.num_tokens == num_tokens
    torch.testing.assert_close(fused.loss_sum, plain, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(
        fused.nll_sum, functional.cross_entropy(logits, target_ids, reduction="sum"), rtol=1e-5, atol=1e-5
    )
    # divided by a count, as the trainer does: the gradient passes on what comes from above
    for fast, slow in zip(
        torch.autograd.grad(fused.loss_sum / 7, (hidden, weight)),
        torch.autograd.grad(plain / 7, (hidden, weight)),
        strict=True,
    ):
        torch.testing.assert_close(fast, slow, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("label_smoothing", [0.0, 0.1])
@pytest.mark.parametrize("consistency", [0.0, 5.0])
def test_of_two_passes_it_is_r_drop_in_value_and_gradient(consistency: float, label_smoothing: float) -> None:
    _, weight, target_ids = random_batch(SLICE_TOKENS + 5)
    generator = torch.Generator().manual_seed(1)
    hidden = torch.randn(2, len(target_ids), D_MODEL, generator=generator, dtype=torch.float64).requires_grad_()
    weight = weight.detach().double().requires_grad_()
    fused = projected_cross_entropy(hidden, weight, target_ids, label_smoothing, consistency)
    logits = hidden @ weight.T
    losses = [
        functional.cross_entropy(one, target_ids, label_smoothing=label_smoothing, reduction="sum") for one in logits
    ]
    first, second = logits.log_softmax(dim=-1)
    divergences = [
        functional.kl_div(one, other, log_target=True, reduction="sum")
        for one, other in ((first, second), (second, first))
    ]
    # Liang et al. 2021, equations 2 to 4, halved: -log p - log q + alpha / 2 (KL(p, q) + KL(q, p))
    plain = (sum(losses) + consistency / 2 * sum(divergences)) / 2
    assert isinstance(plain, Tensor)
    assert fused.num_tokens == len(target_ids)
    torch.testing.assert_close(fused.loss_sum, plain.float(), rtol=1e-5, atol=1e-5)
    # the softmax of the fused form is of float32
    for fast, slow in zip(gradients(fused, hidden, weight), torch.autograd.grad(plain, (hidden, weight)), strict=True):
        torch.testing.assert_close(fast.double(), slow, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("scale", [30.0, 1e4])
def test_where_the_model_is_sure_the_loss_is_as_exact(scale: float) -> None:
    hidden, weight, target_ids = random_batch(SLICE_TOKENS)
    with torch.no_grad():
        hidden *= scale  # most probabilities are 0 in float32, the logarithms of others are not
    fused = projected_cross_entropy(hidden, weight, target_ids, 0.1)
    logits = (hidden @ weight.T).double()
    exact = functional.cross_entropy(logits, target_ids, label_smoothing=0.1, reduction="sum")
    assert fused.loss_sum.item() == pytest.approx(exact.item(), rel=1e-6)
    nll = functional.cross_entropy(logits, target_ids, reduction="sum")
    assert fused.nll_sum.item() == pytest.approx(nll.item(), rel=1e-6)


def test_the_mean_of_summed_losses_is_the_mean_of_all() -> None:
    hidden, weight, target_ids = random_batch(50)
    parts = [
        projected_cross_entropy(hidden[rows], weight, target_ids[rows], 0.1) for rows in (slice(0, 13), slice(13, 50))
    ]
    whole = functional.cross_entropy(hidden @ weight.T, target_ids, label_smoothing=0.1)
    total = sum(part.loss_sum.item() for part in parts) / sum(part.num_tokens for part in parts)
    assert total == pytest.approx(whole.item(), rel=1e-5)


@pytest.mark.parametrize("consistency", [None, 0.0, 5.0])
@pytest.mark.parametrize("label_smoothing", [0.0, 0.1])
def test_in_bf16_it_is_close(label_smoothing: float, consistency: float | None) -> None:
    hidden, weight, target_ids = random_batch(SLICE_TOKENS + 9)
    if consistency is not None:  # two passes
        hidden = torch.stack((hidden, hidden + 0.1 * torch.randn_like(hidden))).detach().requires_grad_()
    exact = projected_cross_entropy(hidden, weight, target_ids, label_smoothing, consistency or 0.0)
    exact_gradients = gradients(exact, hidden, weight)
    with torch.autocast("cpu", torch.bfloat16):
        rounded = projected_cross_entropy(hidden, weight, target_ids, label_smoothing, consistency or 0.0)
    assert rounded.loss_sum.dtype == torch.float32
    assert rounded.loss_sum.item() == pytest.approx(exact.loss_sum.item(), rel=0.01)
    for close, gradient in zip(gradients(rounded, hidden, weight), exact_gradients, strict=True):
        assert close.dtype == torch.float32
        # what draws two passes together is a difference of what was rounded
        assert ((close - gradient).norm() / gradient.norm()).item() < (0.05 if consistency else 0.02)


def gradients(loss: LossSum, *inputs: Tensor) -> tuple[Tensor, ...]:
    return torch.autograd.grad(loss.loss_sum, inputs)


def test_without_gradients_none_is_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    hidden, weight, target_ids = random_batch(9)
    with_gradient = projected_cross_entropy(hidden, weight, target_ids, 0.1).loss_sum
    monkeypatch.setattr(Tensor, "t", lambda self: pytest.fail("computes the gradient of the weight"))
    for context in (torch.no_grad(), torch.inference_mode()):
        with context:
            loss = projected_cross_entropy(hidden.clone(), weight, target_ids, 0.1)
        assert not loss.loss_sum.requires_grad
        assert loss.loss_sum.item() == with_gradient.item()


@pytest.mark.parametrize("label_smoothing", [0.0, 0.1])
def test_a_frozen_projection_is_no_hindrance_and_costs_no_gradient(
    monkeypatch: pytest.MonkeyPatch, label_smoothing: float
) -> None:
    hidden, weight, target_ids = random_batch(9)
    with monkeypatch.context() as patch:
        patch.setattr(Tensor, "t", lambda self: pytest.fail("computes the gradient of the weight"))
        (gradient,) = gradients(projected_cross_entropy(hidden, weight.detach(), target_ids, label_smoothing), hidden)
    logits = hidden @ weight.detach().T
    plain = functional.cross_entropy(logits, target_ids, label_smoothing=label_smoothing, reduction="sum")
    torch.testing.assert_close(gradient, torch.autograd.grad(plain, hidden)[0], rtol=1e-4, atol=1e-5)


def test_the_logits_of_a_batch_never_exist_as_a_whole() -> None:
    # 4,096 tokens by 20,000 entries would be 328 MB; a slice of 128 tokens is 10 MB
    hidden, weight = torch.randn(4096, 4, requires_grad=True), torch.randn(20_000, 4, requires_grad=True)
    target_ids = torch.zeros(4096, dtype=torch.int64)
    with torch.profiler.profile(profile_memory=True) as profile:
        projected_cross_entropy(hidden, weight, target_ids, 0.1)
    largest = max(event.self_cpu_memory_usage for event in profile.events() or ())
    assert largest < 40e6
