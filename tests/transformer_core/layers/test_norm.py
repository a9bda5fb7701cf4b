import pytest
import torch

from transformer_core.config import NormKind
from transformer_core.layers.norm import new_norm


@pytest.mark.parametrize("kind", ["layer", "rms"])
def test_a_norm_is_its_definition(kind: NormKind) -> None:
    torch.manual_seed(0)
    norm = new_norm(8, kind).double()
    for parameter in norm.parameters():
        torch.nn.init.normal_(parameter)
    vectors = torch.randn(3, 5, 8, dtype=torch.float64) * 4 + 1
    for vector, normed in zip(vectors.flatten(0, 1), norm(vectors).flatten(0, 1), strict=True):
        gain = norm.get_parameter("weight")
        if kind == "layer":
            centred = vector - vector.mean()
            expected = centred / (centred.square().mean() + 1e-5).sqrt() * gain + norm.get_parameter("bias")
        else:
            expected = vector / (vector.square().mean() + 1e-5).sqrt() * gain
        torch.testing.assert_close(normed, expected)


def test_the_gradient_of_rms_norm_in_float32_is_torchs_own() -> None:
    torch.manual_seed(0)
    norm, theirs = new_norm(16, "rms"), torch.nn.RMSNorm(16, eps=1e-5)
    torch.nn.init.normal_(norm.get_parameter("weight"))
    theirs.load_state_dict(norm.state_dict())
    vectors, direction = torch.randn(3, 5, 16) * 4 + 1, torch.randn(3, 5, 16)
    vectors[0, 0] = 0
    results = []
    for module in (norm, theirs):
        inputs = vectors.clone().requires_grad_()
        normed = module(inputs)
        normed.backward(direction)
        results.append((normed.detach(), inputs.grad, module.get_parameter("weight").grad))
    for ours, expected in zip(*results, strict=True):
        torch.testing.assert_close(ours, expected)
