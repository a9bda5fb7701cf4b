import pytest
import torch

from transformer_core.layers.dropout import Dropout


@pytest.mark.parametrize("share", [0.1, 0.3, 0.5, 0.9])
def test_the_share_is_dropped_and_the_rest_scaled_to_the_same_mean(share: float) -> None:
    torch.manual_seed(0)
    dropped = Dropout(share)(torch.ones(1000, 1000))
    assert (dropped == 0).double().mean().item() == pytest.approx(share, abs=2e-3)  # 4 standard deviations
    assert dropped.double().mean().item() == pytest.approx(1, abs=2e-2)
    assert dropped.unique().tolist() == [0, pytest.approx(1 / (1 - share), rel=1e-4)]


def test_neighbours_are_dropped_independently() -> None:
    torch.manual_seed(0)
    kept = (Dropout(0.5)(torch.ones(1_000_000)) != 0).double() - 0.5
    for distance in (1, 2, 3, 4, 8):
        assert (kept[distance:] * kept[:-distance]).mean().item() == pytest.approx(0, abs=1e-3)  # 4 standard deviations


def test_the_gradient_passes_where_values_passed() -> None:
    torch.manual_seed(0)
    values = torch.randn(3, 5, 7, dtype=torch.float64, requires_grad=True)
    dropped = Dropout(0.4)(values)
    (gradient,) = torch.autograd.grad(dropped.sum(), values)
    torch.testing.assert_close(gradient * values, dropped)
    assert 0 < int((gradient == 0).sum()) < values.numel()


def test_a_seed_names_the_mask() -> None:
    dropout, values = Dropout(0.3), torch.randn(13)
    results = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        results.append(dropout(values))
    assert torch.equal(results[0], results[1])
    assert not torch.equal(results[0], results[2])


@pytest.mark.parametrize(("share", "training"), [(0.0, True), (0.5, False)])
def test_nothing_is_dropped_by_a_share_of_nothing_or_in_evaluation(share: float, training: bool) -> None:
    values = torch.randn(4, 6)
    assert Dropout(share).train(training)(values) is values


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_a_strided_tensor_keeps_shape_and_type(dtype: torch.dtype) -> None:
    values = torch.ones(6, 4, dtype=dtype).t()
    dropped = Dropout(0.5)(values)
    assert (dropped.shape, dropped.dtype) == (values.shape, dtype)
    assert set(dropped.flatten().tolist()) == {0.0, 2.0}
