"""Recurrent mixers: one position after the other, everything seen so far squeezed into one hidden vector.

GRU (Cho et al. 2014) and LSTM (Hochreiter and Schmidhuber 1997) are torch's own modules. Their step n needs the hidden
vector of step n - 1, so a sequence takes as many steps as it has positions. The SSRU (Kim et al. 2019) keeps the
recurrence linear in the hidden vector, and a linear recurrence can be computed as a scan, in about log n steps.

In decoding all of them carry one vector per layer, however long the sequence is; attention carries all that was said.
"""

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from transformer_core.layers.ancestry import Ancestry
from transformer_core.layers.mixer import MixerState, SequenceMixer

__all__ = ["HiddenState", "RecurrentMixer", "SimplerRecurrentUnit", "linear_recurrence"]


class HiddenState(MixerState):
    """Hidden vectors: what a recurrence remembers.

    Attributes:
        vectors: tensors (1, rows, d_model): the hidden vector, and for an LSTM the cell beside it.
    """

    def __init__(self, *vectors: Tensor) -> None:
        self.vectors = vectors

    def select(self, row_indices: Tensor) -> None:
        """Put other rows in the place of these."""
        self.vectors = tuple(vector.index_select(1, row_indices) for vector in self.vectors)

    def keep_sentences(self, sentence_indices: Tensor, row_indices: Tensor) -> None:
        """Drop all sentences but these."""
        self.select(row_indices)

    def merge(self, other: MixerState) -> None:
        """Put the rows of another state after these."""
        assert isinstance(other, HiddenState)
        self.vectors = tuple(torch.cat(pair, dim=1) for pair in zip(self.vectors, other.vectors, strict=True))


class RecurrentMixer(SequenceMixer):
    """A GRU or LSTM over the sequence.

    Args:
        kind: which.
        d_model: width of the input and of the output.
        bidirectional: half of the output reads forward, the other half backward (Schuster and Paliwal 1997); without
            it, and under causality, a position knows only what stands before it.
    """

    def __init__(self, kind: Literal["gru", "lstm"], d_model: int, *, bidirectional: bool) -> None:
        super().__init__()
        width = d_model // 2 if bidirectional else d_model
        module = nn.GRU if kind == "gru" else nn.LSTM
        self.recurrence = module(d_model, width, batch_first=True, bidirectional=bidirectional)

    def forward(self, sequence: Tensor, mask: Tensor | None, *, causal: bool) -> Tensor:
        """Read the sequence; shapes as in `SequenceMixer.forward`."""
        assert not (causal and self.recurrence.bidirectional), "a decoder reads forward"
        with torch.autocast(sequence.device.type, enabled=False):  # torch has no bf16 kernels for it on every device
            inputs = sequence.to(next(self.parameters()).dtype)
            if mask is None or not self.recurrence.bidirectional:  # padding stands at the end: nothing reads past it
                return self.recurrence(inputs)[0].to(sequence.dtype)  # type: ignore[no-any-return]
            lengths = mask.sum(dim=1).cpu()
            packed = pack_padded_sequence(inputs, lengths, batch_first=True, enforce_sorted=False)
            outputs, _ = pad_packed_sequence(
                self.recurrence(packed)[0], batch_first=True, total_length=sequence.size(1)
            )
            return outputs.to(sequence.dtype)

    def start(self, ancestry: Ancestry, like: Tensor) -> HiddenState:
        """Make hidden vectors of zeros."""
        num_vectors = 2 if isinstance(self.recurrence, nn.LSTM) else 1
        return HiddenState(
            *(like.new_zeros(1, ancestry.num_rows, self.recurrence.hidden_size) for _ in range(num_vectors))
        )

    def step(self, position: Tensor, state: MixerState) -> Tensor:
        """Read one more position; shapes as in `SequenceMixer.step`."""
        assert isinstance(state, HiddenState)
        with torch.autocast(position.device.type, enabled=False):
            dtype = next(self.parameters()).dtype
            vectors = tuple(vector.to(dtype) for vector in state.vectors)
            hidden = vectors if isinstance(self.recurrence, nn.LSTM) else vectors[0]
            output, hidden = self.recurrence(position[:, None].to(dtype), hidden)
            state.vectors = hidden if isinstance(hidden, tuple) else (hidden,)
            return output.squeeze(1).to(position.dtype)  # type: ignore[no-any-return]


class SimplerRecurrentUnit(SequenceMixer):
    """The SSRU of Kim et al. 2019: f = sigmoid(W_f x + b_f), c_t = f ⊗ c_{t-1} + (1 - f) ⊗ (W x + b), output ReLU(c_t).

    Nothing in it but the sum depends on the step before, so gates and inputs of all positions are one product, and the
    sums are a scan. It is causal: it has one direction, and no padding at the end can be seen.
    """

    def __init__(self, d_model: int) -> None:
        super().__init__()
        self.d_model = d_model
        self.gate_input_projection = nn.Linear(d_model, 2 * d_model)  # gates, then inputs: one product for both
        for block in self.gate_input_projection.weight.chunk(2):
            nn.init.xavier_uniform_(block)
        gate_bias, input_bias = self.gate_input_projection.bias.chunk(2)
        nn.init.ones_(gate_bias)  # sigmoid(1) = 0.73: remembers some positions from the start
        nn.init.zeros_(input_bias)

    def forward(self, sequence: Tensor, mask: Tensor | None, *, causal: bool) -> Tensor:
        """Read the sequence; shapes as in `SequenceMixer.forward`."""
        assert causal, "an SSRU has one direction"
        gate, inputs = self._gate_and_input(sequence)
        return linear_recurrence(gate, (1 - gate) * inputs).relu().to(sequence.dtype)

    def start(self, ancestry: Ancestry, like: Tensor) -> HiddenState:
        """Make a hidden vector of zeros."""
        return HiddenState(like.new_zeros(1, ancestry.num_rows, self.d_model))

    def step(self, position: Tensor, state: MixerState) -> Tensor:
        """Read one more position; shapes as in `SequenceMixer.step`."""
        assert isinstance(state, HiddenState)
        gate, inputs = self._gate_and_input(position)
        cell = torch.lerp(inputs, state.vectors[0].to(gate.dtype), gate)  # (1, rows, d_model), as the state is
        state.vectors = (cell,)
        return cell.squeeze(0).relu().to(position.dtype)

    def _gate_and_input(self, sequence: Tensor) -> tuple[Tensor, Tensor]:
        """(…, d_model) -> f and W x, of the same shape; at least float32, for long sums."""
        projected = self.gate_input_projection(sequence)
        gate, inputs = projected.to(torch.promote_types(projected.dtype, torch.float32)).chunk(2, dim=-1)
        return gate.sigmoid(), inputs


def linear_recurrence(gate: Tensor, inputs: Tensor) -> Tensor:
    """Compute c_t = gate_t ⊗ c_{t-1} + inputs_t from c_{-1} = 0, for all t at once.

    A scan (Blelloch 1990): neighbours are joined in pairs, which leaves a recurrence of half the length for the odd
    positions; each even position is then one step from the odd one before it. About 2 log₂ length steps, and as much
    work in all as going through the sequence once.

    Args:
        gate: (batch, length, d_model), between 0 and 1.
        inputs: (batch, length, d_model).

    Returns:
        (batch, length, d_model).
    """
    length = gate.size(1)
    if length == 1:
        return inputs
    even_gate, odd_gate = gate[:, : length - 1 : 2], gate[:, 1::2]
    even_inputs, odd_inputs = inputs[:, : length - 1 : 2], inputs[:, 1::2]
    odd = linear_recurrence(odd_gate * even_gate, torch.addcmul(odd_inputs, odd_gate, even_inputs))
    later_even = torch.addcmul(inputs[:, 2::2], gate[:, 2::2], odd[:, : (length - 1) // 2])
    even = torch.cat((inputs[:, :1], later_even), dim=1)
    # (batch, pairs, 2, d_model) -> (batch, 2 * pairs, d_model); a length that is odd has one more even position
    pairs = torch.stack((even[:, : odd.size(1)], odd), dim=2).flatten(1, 2)
    return pairs if length % 2 == 0 else torch.cat((pairs, even[:, -1:]), dim=1)
