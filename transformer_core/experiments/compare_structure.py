"""What follows from how a layer is built: the table of Vaswani et al. 2017 (Table 1), as functions of the length.

For a layer over n positions of width d, and for a convolution over k of them:

- complexity: how many multiplications it takes;
- sequential operations: how many of them must wait for one another, however many processors there are;
- path length: how many times a signal is transformed on its way between the two ends of the sequence.

Orders stand beside numbers. What the numbers count, the tests hold against torch: its count of operations, the depth
of the graph of a gradient, and the receptive field that is measured. Imports no torch.
"""

import math
from dataclasses import dataclass

from transformer_core.config import StackConfig
from transformer_core.experiments.compare_config import MixerName

__all__ = ["LayerStructure", "multiply_adds", "path_length", "sequential_operations", "structure_of"]


@dataclass(frozen=True, kw_only=True)
class LayerStructure:
    """A row of the table, at one length."""

    mixer: MixerName
    length: int  # n
    complexity: str  # order in n, d and k
    multiply_adds: int  # of one forward pass over the sequence, exactly
    sequential: str  # order
    num_sequential: int  # operations, each one layer of cells, products or sums over the whole width
    path: str  # order
    path_length: int | None  # None: the ends never meet (a convolution of width 1)


def structure_of(mixer: MixerName, length: int, stack: StackConfig) -> LayerStructure:
    """Fill a row of the table."""
    complexity, sequential, path = _orders(mixer)
    return LayerStructure(
        mixer=mixer,
        length=length,
        complexity=complexity,
        multiply_adds=multiply_adds(mixer, length, stack.d_model, stack.kernel_width),
        sequential=sequential,
        num_sequential=sequential_operations(mixer, length),
        path=path,
        path_length=path_length(mixer, length, stack.kernel_width),
    )


def multiply_adds(mixer: MixerName, length: int, d_model: int, kernel_width: int) -> int:
    """Count the multiplications of matrix products in one forward pass; each is followed by an addition.

    A bidirectional recurrence has two directions of half the width: each gate of each has d · d/2 weights for its
    input and (d/2)² for its hidden vector, three quarters of what the gate of a single direction has.
    """
    n, d, k = length, d_model, kernel_width
    match mixer:
        case "attention":  # four projections; scores and averages: every position against every position
            return 4 * n * d**2 + 2 * n**2 * d
        case "gru":  # three gates
            return 6 * n * d**2
        case "lstm":  # four gates
            return 8 * n * d**2
        case "bigru":
            return 9 * n * d**2 // 2
        case "bilstm":
            return 6 * n * d**2
        case "ssru":  # a gate and an input, and nothing for the hidden vector
            return 2 * n * d**2
        case "conv":  # twice the width comes out: values and their gates
            return 2 * k * n * d**2


def sequential_operations(mixer: MixerName, length: int) -> int:
    """Count the operations that must wait for one another, in units of one step of the mixer.

    A recurrence takes a step per position; two directions go side by side. The SSRU's scan halves the sequence until
    one position is left and comes back the same way (layers/recurrent.py).
    """
    match mixer:
        case "attention" | "conv":
            return 1
        case "ssru":
            return 1 + 2 * int(math.log2(length))
        case _:
            return length


def path_length(mixer: MixerName, length: int, kernel_width: int) -> int | None:
    """Count the transformations between the first position and the last.

    A recurrence passes a signal through the cell of every position between them; so does the SSRU: its scan computes
    the product of n gates in log n steps, but a product of n gates it is. A centred convolution moves a signal by
    (k - 1) / 2 positions, so it takes a stack of layers, not dilated: their number.
    """
    match mixer:
        case "attention":
            return 1
        case "conv":
            hop = (kernel_width - 1) // 2
            return max(1, math.ceil((length - 1) / hop)) if hop else None
        case _:
            return length


def _orders(mixer: MixerName) -> tuple[str, str, str]:
    """Complexity, sequential operations and path length as orders."""
    match mixer:
        case "attention":
            return "O(n² d)", "O(1)", "O(1)"
        case "conv":
            return "O(k n d²)", "O(1)", "O(n / k)"
        case "ssru":
            return "O(n d²)", "O(log n)", "O(n)"
        case _:
            return "O(n d²)", "O(n)", "O(n)"
