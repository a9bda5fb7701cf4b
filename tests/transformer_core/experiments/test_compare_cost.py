import pytest
import torch

from transformer_core.config import StackConfig
from transformer_core.errors import OutOfMemoryError
from transformer_core.experiments import compare_cost
from transformer_core.experiments.compare_config import MIXER_NAMES, MixerName
from transformer_core.experiments.compare_cost import LayerInFrame, fitted_exponent, measure_cost

STACK = StackConfig(num_layers=1, d_model=16, num_heads=2, d_ff=8)
CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def few_repeats(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compare_cost, "LONG_ENOUGH_SECONDS", 0.0)


@pytest.mark.parametrize("exponent", [0.0, 1.0, 1.75, 2.0])
def test_an_exponent_is_found_again(exponent: float) -> None:
    lengths = [16, 32, 64, 128, 256]
    assert fitted_exponent(lengths, [3.5 * length**exponent for length in lengths]) == pytest.approx(exponent)


def test_an_exponent_is_that_of_the_longer_half() -> None:
    lengths = [16, 32, 64, 128, 256]
    values = [9.0, 9.0, *(float(length**2) for length in lengths[2:])]
    assert fitted_exponent(lengths, values) == pytest.approx(2)
    assert fitted_exponent(lengths[:2], [1.0, 2.0]) == pytest.approx(1)  # two are the fewest
    assert fitted_exponent(lengths[:3], [9.0, 1.0, 4.0]) == pytest.approx(2)


@pytest.mark.parametrize("mixer", MIXER_NAMES)
def test_every_length_is_measured(mixer: MixerName) -> None:
    seen: list[int] = []
    cost = measure_cost(mixer, STACK, (16, 32, 64), CPU, seen.append)
    assert seen == [1, 1, 1]
    assert cost.mixer == mixer
    assert cost.num_parameters == sum(weight.numel() for weight in LayerInFrame(mixer, STACK).mixer.parameters())
    assert [point.length for point in cost.points] == [16, 32, 64]
    assert all(point.seconds > 0 for point in cost.points)
    memory = [point.memory_bytes for point in cost.points]
    assert memory[0] < memory[1] < memory[2]
    if mixer not in ("lstm", "bilstm"):  # torch's kernel of those has a workspace that grows in larger steps
        growth = (memory[2] - memory[1]) / (memory[1] - memory[0])
        assert growth == pytest.approx(2, rel=0.1)  # a part for every position
    assert memory == [point.memory_bytes for point in measure_cost(mixer, STACK, (16, 32, 64), CPU).points]


def test_memory_is_what_the_backward_pass_needs_and_the_weights_are_not_in_it() -> None:
    class Squares(LayerInFrame):
        def forward(self, sequence: torch.Tensor) -> torch.Tensor:
            weight = next(self.mixer.parameters())  # is kept, but is a weight
            squares = sequence * sequence  # keeps its input, twice, which is there once
            return squares * weight.flatten()[: squares.size(2)]  # keeps the squares

    layer = Squares("conv", STACK)
    sequence = torch.randn(1, 10, 16, requires_grad=True)
    assert compare_cost._saved_bytes(layer, sequence) == 2 * 10 * 16 * 4


def test_a_sequence_that_does_not_fit_is_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def run_out(layer: LayerInFrame, sequence: torch.Tensor) -> int:
        raise torch.OutOfMemoryError("out of memory")

    monkeypatch.setattr(compare_cost, "_memory", run_out)
    with pytest.raises(OutOfMemoryError, match="attention over 16 positions does not fit; use a smaller --max-length"):
        measure_cost("attention", STACK, (16, 32), CPU)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="gpu: there is no CUDA device")
def test_on_cuda_memory_is_the_peak() -> None:
    cost = measure_cost("attention", STACK, (256, 512, 1024), torch.device("cuda"))
    assert all(point.memory_bytes >= 256 * 16 * 4 for point in cost.points)
    assert cost.memory_exponent > 0.5
