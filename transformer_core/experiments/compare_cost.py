"""What a layer costs as the sequence grows: time and memory of a forward and a backward pass, and how fast they grow.

One layer is a mixer in its frame (norm before, residual after); the feed-forward is the same beside every mixer, so it
is left out. The batch is one sequence whatever its length: with a fixed number of tokens a long sequence would have
few neighbours, and the part of the cost that grows with n alone would not show.
"""

import math
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from transformer_core.config import StackConfig
from transformer_core.errors import OutOfMemoryError
from transformer_core.experiments.compare_config import MixerName, is_forward_only, model_config_of
from transformer_core.model import Residual, new_mixer
from transformer_core.out_of_memory import is_out_of_memory

__all__ = ["Cost", "CostPoint", "LayerInFrame", "fitted_exponent", "measure_cost"]

MIN_REPEATS, MAX_REPEATS = 3, 50
LONG_ENOUGH_SECONDS = 0.2  # in which so many repeats are made
SLOW_SECONDS = 0.5  # a pass that takes as long hides what the first one does besides; it counts


@dataclass(frozen=True, kw_only=True)
class CostPoint:
    """What one length costs."""

    length: int
    seconds: float  # median over repeats of a forward and a backward pass
    memory_bytes: int  # on a CPU what the forward pass keeps for the backward pass; on CUDA the peak of both


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What the lengths cost, and the exponents e of n^e fitted to the longer half of them."""

    mixer: MixerName
    num_parameters: int
    points: tuple[CostPoint, ...]
    time_exponent: float
    memory_exponent: float


class LayerInFrame(nn.Module):
    """A mixer as it stands in an encoder; the SSRU, which reads forward only, as in a decoder."""

    def __init__(self, mixer: MixerName, stack: StackConfig) -> None:
        super().__init__()
        config = model_config_of(mixer, stack)
        self.is_causal = is_forward_only(mixer)
        own_stack = config.decoder if self.is_causal else config.encoder
        self.mixer = new_mixer(own_stack, config, is_encoder=not self.is_causal)
        self.residual = Residual(stack.d_model, config)

    def forward(self, sequence: Tensor) -> Tensor:
        """(batch, length, d_model) -> the same shape."""
        return self.residual(sequence, lambda inputs: self.mixer(inputs, None, causal=self.is_causal))  # type: ignore[no-any-return]


def measure_cost(
    mixer: MixerName,
    stack: StackConfig,
    lengths: Sequence[int],
    device: torch.device,
    advance: Callable[[int], None] = lambda count: None,
) -> Cost:
    """Measure one mixer at every length.

    Raises:
        OutOfMemoryError: a length does not fit.
    """
    layer = LayerInFrame(mixer, stack).to(device)
    points = []
    for length in lengths:
        sequence = torch.randn(1, length, stack.d_model, device=device, requires_grad=True)
        try:
            points.append(
                CostPoint(length=length, seconds=_time(layer, sequence), memory_bytes=_memory(layer, sequence))
            )
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            raise OutOfMemoryError(
                f"{mixer} over {length} positions does not fit; use a smaller --max-length"
            ) from None
        advance(1)
    return Cost(
        mixer=mixer,
        num_parameters=sum(parameter.numel() for parameter in layer.mixer.parameters()),
        points=tuple(points),
        time_exponent=fitted_exponent(lengths, [point.seconds for point in points]),
        memory_exponent=fitted_exponent(lengths, [point.memory_bytes for point in points]),
    )


def fitted_exponent(lengths: Sequence[int], values: Sequence[float]) -> float:
    """Fit e of value = c n^e to the longer half of the lengths: the slope of the least-squares line in log-log.

    Below, the cost of calling anything at all, which does not grow with n, is most of what is measured.
    """
    num_upper = max(2, math.ceil(len(lengths) / 2))
    logs = [(math.log(length), math.log(value)) for length, value in zip(lengths, values, strict=True)]
    upper = logs[-num_upper:]
    return statistics.linear_regression([x for x, _ in upper], [y for _, y in upper]).slope


def _time(layer: LayerInFrame, sequence: Tensor) -> float:
    """Median seconds of a forward and a backward pass over (1, length, d_model), after a warm-up."""
    warm_up = _seconds(layer, sequence)
    times = [warm_up] if warm_up >= SLOW_SECONDS else []
    while len(times) < MIN_REPEATS or (sum(times) < LONG_ENOUGH_SECONDS and len(times) < MAX_REPEATS):
        times.append(_seconds(layer, sequence))
    return statistics.median(times)


def _seconds(layer: LayerInFrame, sequence: Tensor) -> float:
    """Time one forward and one backward pass."""
    _synchronize(sequence.device)
    started_at = time.perf_counter()
    _forward_and_backward(layer, sequence)
    _synchronize(sequence.device)
    return time.perf_counter() - started_at


def _forward_and_backward(layer: LayerInFrame, sequence: Tensor) -> None:
    inputs = (sequence, *layer.parameters())
    torch.autograd.grad(layer(sequence).sum(), inputs)


def _memory(layer: LayerInFrame, sequence: Tensor) -> int:
    """Bytes that one pass over (1, length, d_model) needs beside the weights."""
    if sequence.device.type == "cuda":
        torch.cuda.synchronize(sequence.device)
        torch.cuda.reset_peak_memory_stats(sequence.device)
        before = torch.cuda.memory_allocated(sequence.device)
        _forward_and_backward(layer, sequence)
        return torch.cuda.max_memory_allocated(sequence.device) - before
    return _saved_bytes(layer, sequence)


def _saved_bytes(layer: LayerInFrame, sequence: Tensor) -> int:
    """Count the bytes that the forward pass keeps for the backward pass: exact, and the same on every machine.

    What is kept twice is there once; the weights are there anyway. What a kernel needs while it runs is not counted.
    """
    weights = {parameter.untyped_storage().data_ptr() for parameter in layer.parameters()}
    kept: dict[int, Tensor] = {}  # by address; holding the tensor keeps the address from being used again

    def keep(tensor: Tensor) -> Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        output = layer(sequence)
    del output
    return sum(tensor.untyped_storage().nbytes() for address, tensor in kept.items() if address not in weights)


def _synchronize(device: torch.device) -> None:
    """Wait for a device that works in the background."""
    match device.type:
        case "cuda":
            torch.cuda.synchronize(device)
        case "mps":
            torch.mps.synchronize()
