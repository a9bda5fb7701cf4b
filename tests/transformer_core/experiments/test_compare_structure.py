"""What the table says of a layer's structure, held against torch: its operations, its graph, its receptive field."""

import itertools
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from tests.transformer_core.layers.stepping import Stepping
from transformer_core.config import StackConfig
from transformer_core.experiments.compare_config import MIXER_NAMES, MixerName, model_config_of
from transformer_core.experiments.compare_cost import LayerInFrame
from transformer_core.experiments.compare_structure import (
    multiply_adds,
    path_length,
    sequential_operations,
    structure_of,
)
from transformer_core.layers.recurrent import linear_recurrence
from transformer_core.model import EncoderLayer, new_mixer

Graph = dict[object, list[object]]

STACK = StackConfig(num_layers=2, d_model=12, num_heads=3, d_ff=8, kernel_width=5)
LENGTHS = (8, 16, 32, 64)


@pytest.fixture(autouse=True)
def plain_attention() -> Iterator[None]:
    """Let torch compute by operations that it can count, not by kernels that hide them; float64 does the same."""
    with sdpa_kernel(SDPBackend.MATH):
        yield


@pytest.mark.parametrize("length", [1, 7, 32])
@pytest.mark.parametrize("mixer", MIXER_NAMES)
def test_multiplications_are_those_that_torch_counts(mixer: MixerName, length: int) -> None:
    layer = LayerInFrame(mixer, STACK).double()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        layer(torch.randn(1, length, STACK.d_model, dtype=torch.float64))
    # torch counts a multiplication and its addition as two
    assert counter.get_total_flops() == 2 * multiply_adds(mixer, length, STACK.d_model, STACK.kernel_width)


def graph(output: Tensor) -> Graph:
    """The graph of a gradient: for each operation those before it."""
    found: Graph = {}
    waiting: list[object] = [output.grad_fn]
    while waiting:
        node = waiting.pop()
        if node not in found:
            found[node] = [before for before, _ in node.next_functions if before is not None]  # type: ignore[attr-defined]
            waiting += found[node]
    return found


def longest_chain(output: Tensor) -> int:
    """Operations that wait for one another."""
    nodes, steps = graph(output), 0
    frontier: set[object] = {output.grad_fn}
    while frontier:
        frontier = {before for node in frontier for before in nodes[node]}
        steps += 1
    return steps


def shortest_way(output: Tensor, to: Tensor) -> int:
    """Operations between an output and an input, on the way that has the fewest."""
    nodes, steps = graph(output), 0
    frontier: set[object] = {output.grad_fn}
    while not any(getattr(node, "variable", None) is to for node in frontier):
        frontier = {before for node in frontier for before in nodes[node]}
        steps += 1
    return steps


def run(mixer: MixerName, length: int) -> tuple[list[Tensor], Tensor]:
    """The positions that go in, each by itself, and the last one that comes out."""
    positions = [torch.randn(1, 1, STACK.d_model, dtype=torch.float64, requires_grad=True) for _ in range(length)]
    layer = LayerInFrame(mixer, STACK).double()
    return positions, layer.mixer(torch.cat(positions, dim=1), None, causal=layer.is_causal)[:, -1]


def growths(values: list[int]) -> list[int]:
    return [after - before for before, after in itertools.pairwise(values)]


@pytest.mark.parametrize("mixer", MIXER_NAMES)
def test_sequential_operations_grow_as_the_graph_grows_deep(mixer: MixerName) -> None:
    deepened = growths([longest_chain(run(mixer, length)[1]) for length in LENGTHS])
    claimed = growths([sequential_operations(mixer, length) for length in LENGTHS])
    if mixer in ("attention", "conv"):
        assert deepened == claimed == [0, 0, 0]
        return
    per_step = {deep / claim for deep, claim in zip(deepened, claimed, strict=True)}
    assert len(per_step) == 1, "as many operations for every step"
    assert per_step.pop() >= 1


@pytest.mark.parametrize("mixer", ["gru", "lstm", "ssru"])
def test_the_path_of_a_recurrence_is_the_way_through_its_steps(mixer: MixerName) -> None:
    config = model_config_of(mixer, STACK)
    ways = []
    for length in LENGTHS:
        unit = new_mixer(config.decoder, config, is_encoder=False).double()
        positions = [torch.randn(1, STACK.d_model, dtype=torch.float64, requires_grad=True) for _ in range(length)]
        stepping = Stepping(unit, 1, positions[0])
        ways.append(shortest_way([stepping.step(position) for position in positions][-1], positions[0]))
    claimed = [path_length(mixer, length, STACK.kernel_width) for length in LENGTHS]
    per_cell = {more / claim for more, claim in zip(growths(ways), growths([n for n in claimed if n]), strict=True)}
    assert len(per_cell) == 1
    assert per_cell.pop() >= 1


def test_the_path_of_attention_is_as_long_however_long_the_sequence_is() -> None:
    ways = []
    for length in LENGTHS:
        positions, last = run("attention", length)
        ways.append(shortest_way(last, positions[0]))
        assert path_length("attention", length, 3) == 1
    assert len(set(ways)) == 1


@pytest.mark.parametrize("mixer", ["bigru", "bilstm"])
def test_two_directions_do_not_shorten_the_way_between_the_ends(mixer: MixerName) -> None:
    assert path_length(mixer, 100, 3) == path_length("gru", 100, 3) == 100


@pytest.mark.parametrize("length", [2, 9, 20])
def test_what_passes_an_ssru_passes_a_gate_at_every_position(length: int) -> None:
    inputs = torch.randn(1, length, 1, requires_grad=True)
    gate = torch.full((1, length, 1), 0.5)
    (gradient,) = torch.autograd.grad(linear_recurrence(gate, inputs)[0, -1, 0], inputs)
    num_gates = path_length("ssru", length, 3)
    assert num_gates is not None
    assert gradient[0, 0, 0].item() == 0.5 ** (num_gates - 1)  # the first position is taken in, not passed on


@pytest.mark.parametrize("kernel_width", [3, 5, 9])
@pytest.mark.parametrize("length", [1, 2, 9, 20])
def test_the_path_of_a_convolution_is_the_layers_until_the_ends_meet(length: int, kernel_width: int) -> None:
    config = model_config_of(
        "conv", StackConfig(num_layers=1, d_model=4, num_heads=1, d_ff=2, kernel_width=kernel_width)
    )
    sequence = torch.randn(1, length, 4, dtype=torch.float64, requires_grad=True)
    stream, num_layers = sequence, 0
    while True:
        stream, num_layers = EncoderLayer(config).double()(stream, None), num_layers + 1
        (gradient,) = torch.autograd.grad((stream[0, -1] * torch.randn(4)).sum(), sequence, retain_graph=True)
        if gradient[0, 0].any():
            break
    assert path_length("conv", length, kernel_width) == num_layers


def test_what_never_meets_has_no_path() -> None:
    assert path_length("conv", 10, 1) is None
    assert structure_of("conv", 10, StackConfig(kernel_width=1)).path_length is None


def test_the_orders_are_those_of_the_lecture() -> None:
    orders = {}
    for mixer in MIXER_NAMES:
        row = structure_of(mixer, 64, STACK)
        orders[mixer] = (row.complexity, row.sequential, row.path)
    recurrent = ("O(n d²)", "O(n)", "O(n)")
    assert orders == {
        "attention": ("O(n² d)", "O(1)", "O(1)"),
        "gru": recurrent,
        "bigru": recurrent,
        "lstm": recurrent,
        "bilstm": recurrent,
        "ssru": ("O(n d²)", "O(log n)", "O(n)"),
        "conv": ("O(k n d²)", "O(1)", "O(n / k)"),
    }
