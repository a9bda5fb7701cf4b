from itertools import pairwise

import pytest
import torch
from torch import Tensor

from transformer_core.layers.recurrent import RecurrentMixer, SimplerRecurrentUnit, linear_recurrence


def test_a_gru_is_its_definition() -> None:
    # Cho et al. 2014 in the form of cuDNN, which torch has: the reset gate acts on the product
    torch.manual_seed(0)
    mixer = RecurrentMixer("gru", 6, bidirectional=False).double()
    weights = dict(mixer.recurrence.named_parameters())
    sequence = torch.randn(1, 5, 6, dtype=torch.float64)
    hidden = torch.zeros(6, dtype=torch.float64)
    expected = []
    for position in sequence[0]:
        inner = weights["weight_ih_l0"] @ position + weights["bias_ih_l0"]
        outer = weights["weight_hh_l0"] @ hidden + weights["bias_hh_l0"]
        reset = torch.sigmoid(inner[:6] + outer[:6])
        update = torch.sigmoid(inner[6:12] + outer[6:12])
        new = torch.tanh(inner[12:] + reset * outer[12:])
        hidden = (1 - update) * new + update * hidden
        expected.append(hidden)
    torch.testing.assert_close(mixer(sequence, None, causal=True)[0], torch.stack(expected))


def explicit_ssru(unit: SimplerRecurrentUnit, sequence: Tensor) -> Tensor:
    """Kim et al. 2019, a position at a time: (length, d_model)."""
    gate_weight, input_weight = unit.gate_input_projection.weight.chunk(2)
    gate_bias, input_bias = unit.gate_input_projection.bias.chunk(2)
    cell = torch.zeros_like(sequence[0])
    outputs = []
    for position in sequence:
        forget = torch.sigmoid(gate_weight @ position + gate_bias)
        cell = forget * cell + (1 - forget) * (input_weight @ position + input_bias)
        outputs.append(torch.relu(cell))
    return torch.stack(outputs)


@pytest.mark.parametrize("length", [1, 2, 3, 7, 8, 33])
def test_an_ssru_is_its_definition_in_value_and_gradient(length: int) -> None:
    torch.manual_seed(length)
    unit = SimplerRecurrentUnit(6).double()
    sequence = torch.randn(2, length, 6, dtype=torch.float64, requires_grad=True)
    results = []
    for output in (
        unit(sequence, None, causal=True),
        torch.stack([explicit_ssru(unit, sentence) for sentence in sequence]),
    ):
        gradients = torch.autograd.grad(output.square().sum(), (sequence, *unit.parameters()))
        results.append((output, *gradients))
    for scan, explicit in zip(*results, strict=True):
        torch.testing.assert_close(scan, explicit)


def test_a_scan_takes_steps_that_grow_with_the_logarithm_of_the_length() -> None:
    def depth(length: int) -> int:
        """The longest chain of additions from an input to the last output, in the graph of its gradient."""
        inputs = torch.zeros(1, length, 1, requires_grad=True)
        last = linear_recurrence(torch.full((1, length, 1), 0.5), inputs)
        frontier, steps = {last.grad_fn}, 0
        while frontier:
            frontier = {after for node in frontier if node is not None for after, _ in node.next_functions if after}
            steps += 1
        return steps

    depths = [depth(2**power) for power in range(3, 11)]
    growth = {after - before for before, after in pairwise(depths)}
    assert len(growth) == 1  # as much for every doubling
    assert depths[-1] < 200  # of a sequence of 1024


@pytest.mark.parametrize("kind", ["gru", "lstm"])
def test_training_in_bf16_gives_bf16_and_its_gradient(kind: str) -> None:
    torch.manual_seed(0)
    mixer = RecurrentMixer("gru" if kind == "gru" else "lstm", 8, bidirectional=True)
    sequence = torch.randn(2, 5, 8)
    exact = mixer(sequence, None, causal=False)
    with torch.autocast("cpu", torch.bfloat16):
        rounded = mixer(sequence.bfloat16(), None, causal=False)
    assert rounded.dtype == torch.bfloat16
    torch.testing.assert_close(rounded.float(), exact, rtol=0.05, atol=0.02)
    rounded.float().sum().backward()
    assert all(parameter.grad is not None for parameter in mixer.parameters())
