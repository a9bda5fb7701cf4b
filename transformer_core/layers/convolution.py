"""A convolutional mixer: a filter slides over the sequence (Gehring et al. 2017, Convolutional Sequence to Sequence).

All positions are computed at once, but a filter of width k sees k neighbours: two positions that are n apart meet only
after about n / k layers.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from transformer_core.layers.ancestry import Ancestry
from transformer_core.layers.mixer import MixerState, SequenceMixer

__all__ = ["ConvolutionMixer", "Window"]


class Window(MixerState):
    """The last kernel_width - 1 inputs: all that the next position of a causal convolution needs.

    Attributes:
        inputs: (rows, kernel_width - 1, d_model); zeros before the first position.
    """

    def __init__(self, inputs: Tensor) -> None:
        self.inputs = inputs

    def select(self, row_indices: Tensor) -> None:
        """Put other rows in the place of these."""
        self.inputs = self.inputs.index_select(0, row_indices)

    def keep_sentences(self, sentence_indices: Tensor, row_indices: Tensor) -> None:
        """Drop all sentences but these."""
        self.select(row_indices)

    def merge(self, other: MixerState) -> None:
        """Put the rows of another window after these."""
        assert isinstance(other, Window)
        self.inputs = torch.cat((self.inputs, other.inputs))


class ConvolutionMixer(SequenceMixer):
    """A 1-D convolution with a gated linear unit: a ⊗ sigmoid(b), a and b two convolutions (Dauphin et al. 2017).

    Centred in the encoder (a filter sees as much before a position as after it), causal in the decoder (nothing after
    it). What stands at padding and beyond the ends counts as zero.

    Args:
        d_model: width of the input and of the output.
        kernel_width: positions that a filter sees; odd where it is centred.
    """

    def __init__(self, d_model: int, kernel_width: int) -> None:
        super().__init__()
        self.kernel_width = kernel_width
        self.convolution = nn.Conv1d(d_model, 2 * d_model, kernel_width)
        # the gate halves what passes, so the weights are as large as for a sum over kernel_width * d_model inputs
        # of variance 1 that comes out with variance 4 (Gehring et al. 2017, section 3.5)
        nn.init.normal_(self.convolution.weight, std=(4 / (kernel_width * d_model)) ** 0.5)
        assert self.convolution.bias is not None
        nn.init.zeros_(self.convolution.bias)

    def forward(self, sequence: Tensor, mask: Tensor | None, *, causal: bool) -> Tensor:
        """Slide over the sequence; shapes as in `SequenceMixer.forward`."""
        if mask is not None:
            sequence = sequence.masked_fill(~mask[:, :, None], 0.0)
        before = self.kernel_width - 1 if causal else self.kernel_width // 2
        return self._convolve(functional.pad(sequence, (0, 0, before, self.kernel_width - 1 - before)))

    def start(self, ancestry: Ancestry, like: Tensor) -> Window:
        """Make a window of zeros."""
        return Window(like.new_zeros(ancestry.num_rows, self.kernel_width - 1, self.convolution.in_channels))

    def step(self, position: Tensor, state: MixerState) -> Tensor:
        """Move the window by one position; shapes as in `SequenceMixer.step`."""
        assert isinstance(state, Window)
        window = torch.cat((state.inputs, position[:, None]), dim=1)  # (rows, kernel_width, d_model)
        state.inputs = window[:, 1:]
        return self._convolve(window).squeeze(1)

    def _convolve(self, padded: Tensor) -> Tensor:
        """(batch, length + kernel_width - 1, d_model) -> (batch, length, d_model)."""
        convolved = self.convolution(padded.transpose(1, 2)).transpose(1, 2)
        return functional.glu(convolved, dim=-1)
