import pytest
import torch
from torch import Tensor

from transformer_core.layers.convolution import ConvolutionMixer


def explicit_convolution(mixer: ConvolutionMixer, sentence: Tensor, before: int) -> Tensor:
    """A position at a time, a filter's place at a time: (length, d_model)."""
    weight, bias = mixer.convolution.weight, mixer.convolution.bias
    assert bias is not None
    outputs = []
    for place in range(len(sentence)):
        total = bias
        for offset in range(mixer.kernel_width):
            other = place - before + offset
            if 0 <= other < len(sentence):
                total = total + weight[:, :, offset] @ sentence[other]
        value, gate = total.chunk(2)
        outputs.append(value * torch.sigmoid(gate))
    return torch.stack(outputs)


@pytest.mark.parametrize(("kernel_width", "causal"), [(1, False), (3, False), (5, False), (3, True), (4, True)])
def test_a_convolution_is_its_definition(kernel_width: int, causal: bool) -> None:
    torch.manual_seed(0)
    mixer = ConvolutionMixer(6, kernel_width).double()
    sequence = torch.randn(2, 7, 6, dtype=torch.float64)
    before = kernel_width - 1 if causal else (kernel_width - 1) // 2
    expected = torch.stack([explicit_convolution(mixer, sentence, before) for sentence in sequence])
    torch.testing.assert_close(mixer(sequence, None, causal=causal), expected)


@pytest.mark.parametrize("num_layers", [1, 2, 4])
def test_a_stack_sees_as_far_as_its_filters_reach_together(num_layers: int) -> None:
    torch.manual_seed(0)
    layers = [ConvolutionMixer(6, 3).double() for _ in range(num_layers)]
    inputs = torch.randn(1, 21, 6, dtype=torch.float64, requires_grad=True)
    stream = inputs
    for layer in layers:
        stream = layer(stream, None, causal=False)
    (gradient,) = torch.autograd.grad(stream[0, 10].sum(), inputs)
    reached = gradient[0].abs().sum(-1).nonzero().squeeze(1).tolist()
    assert reached == list(range(10 - num_layers, 10 + num_layers + 1))
