"""How far a position sees, measured by gradients: which inputs move the middle output of a stack of layers.

An input that does not reach the output has a gradient of exactly zero; whatever else it has, it reaches it. The stacks
are those of the model, with fresh weights: mixer and feed-forward in their frames.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from transformer_core.config import ModelConfig, StackConfig
from transformer_core.experiments.compare_config import MixerName, is_forward_only, model_config_of
from transformer_core.model import DecoderLayer, EncoderLayer

__all__ = ["Reach", "measure_reach"]

NUM_POSITIONS = 65  # odd: it has a middle
D_MODEL = 32  # who sees whom does not depend on the width
NUM_HEADS = 4
MEMORY_LENGTH = 3  # of a source for the decoder to look at


@dataclass(frozen=True, kw_only=True)
class Reach:
    """The inputs that move the middle output."""

    mixer: MixerName
    is_causal: bool  # a decoder's stack
    num_layers: int
    num_positions: int  # of the whole sequence
    first_offset: int  # of the input furthest before the middle that moves it, 0 or below
    last_offset: int  # of the one furthest behind it
    num_reaching: int  # inputs that do

    @property
    def share(self) -> float:
        """Of all positions, those that reach the middle."""
        return self.num_reaching / self.num_positions


def measure_reach(mixer: MixerName, stack: StackConfig, seed: int) -> list[Reach]:
    """Measure stacks of one layer up to the stack's depth: an encoder's and then a decoder's, where it has them.

    A decoder reads forward only, so a bidirectional recurrence has an encoder alone, and the SSRU a decoder alone.
    """
    narrow = replace(stack, d_model=D_MODEL, num_heads=NUM_HEADS, num_key_value_heads=None, d_ff=D_MODEL)
    config = model_config_of(mixer, narrow)
    torch.manual_seed(seed)
    reaches: list[Reach] = []
    if not is_forward_only(mixer):
        reaches += [_measure(mixer, config, depth, is_causal=False) for depth in range(1, stack.num_layers + 1)]
    if mixer not in ("bigru", "bilstm"):
        reaches += [_measure(mixer, config, depth, is_causal=True) for depth in range(1, stack.num_layers + 1)]
    return reaches


def _measure(mixer: MixerName, config: ModelConfig, num_layers: int, *, is_causal: bool) -> Reach:
    """Measure a stack of `num_layers`."""
    sequence = torch.randn(1, NUM_POSITIONS, D_MODEL, dtype=torch.float64, requires_grad=True)
    middle = NUM_POSITIONS // 2
    output = _stack(config, num_layers, sequence, is_causal=is_causal)[0, middle]
    (gradient,) = torch.autograd.grad((output * torch.randn_like(output)).sum(), sequence)
    reaching = gradient[0].abs().sum(dim=1).nonzero().flatten()  # (num_reaching,)
    return Reach(
        mixer=mixer,
        is_causal=is_causal,
        num_layers=num_layers,
        num_positions=NUM_POSITIONS,
        first_offset=int(reaching[0]) - middle,
        last_offset=int(reaching[-1]) - middle,
        num_reaching=reaching.numel(),
    )


def _stack(config: ModelConfig, num_layers: int, sequence: Tensor, *, is_causal: bool) -> Tensor:
    """Send (1, length, d_model) through fresh layers; in float64, so that no small gradient is lost."""
    memory = torch.randn(1, MEMORY_LENGTH, D_MODEL, dtype=torch.float64)
    for _ in range(num_layers):
        if is_causal:
            sequence = DecoderLayer(config).double()(sequence, memory, None)
        else:
            sequence = EncoderLayer(config).double()(sequence, None)
    return sequence
