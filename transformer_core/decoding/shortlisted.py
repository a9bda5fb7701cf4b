"""The tokens among which some sentences choose, and the output projections to these alone.

The sentences of a batch share one projection, to the candidates of all of them; what is a candidate of others only is
minus infinity to a sentence. So neither what it writes nor what its probabilities sum up to depends on its neighbours.
"""

from collections.abc import Sequence
from typing import Self

import torch
from torch import Tensor

from transformer_core.decoding.linear import projection_to
from transformer_core.model import Transformer

__all__ = ["Shortlisted"]

# The candidates are filled up to a multiple of this: oneDNN makes code for each shape of a product that it meets.
COLUMNS = 128


class Shortlisted:
    """The candidates of some sentences.

    Args:
        models: compute; of one target vocabulary.
        candidates: sentences by their numbers, (n,) int64, and a candidate of each, (n,) int64.
        num_sentences: how many there are.
        eos_id: the end token, a candidate of every sentence.
        banned_ids: (banned,) int64, tokens that are never produced, candidates or not.

    Attributes:
        token_ids: (columns,) int64, the candidates of all sentences, ascending, and behind them some that are none.
        end_column: where the end token stands among them.
        banned_columns: (some,) int64, where those of the banned tokens stand that are candidates.
    """

    def __init__(
        self,
        models: Sequence[Transformer],
        candidates: tuple[Tensor, Tensor],
        num_sentences: int,
        eos_id: int,
        banned_ids: Tensor,
    ) -> None:
        self._models = models
        self._eos_id = eos_id
        self._banned_ids = banned_ids
        device = models[0].device
        self._vocabulary = models[0].config.target_vocabulary_size
        sentences, token_ids = (tensor.to(device) for tensor in candidates)
        is_candidate = torch.zeros(self._vocabulary, dtype=torch.bool, device=device)
        is_candidate[token_ids] = True
        column_of = is_candidate.cumsum(0) - 1  # (vocabulary,), of those that have one
        chosen = is_candidate.nonzero().squeeze(1)
        self._num_tokens = chosen.numel()
        self.token_ids = torch.cat((chosen, chosen.new_zeros(-self._num_tokens % COLUMNS)))
        self.end_column = int(column_of[eos_id])
        self.banned_columns = column_of[banned_ids[is_candidate[banned_ids]]]
        # (sentences, columns), what is no candidate of each
        self._is_other = torch.ones(num_sentences, self.token_ids.numel(), dtype=torch.bool, device=device)
        self._is_other[sentences, column_of[token_ids]] = False
        self._projections = [projection_to(model.output_projection, self.token_ids) for model in models]

    @property
    def num_columns(self) -> int:
        """How many tokens the projections go to."""
        return self.token_ids.numel()

    def project(self, hidden: Sequence[Tensor], first_row: int, beam: int) -> list[Tensor]:
        """Compute the logits of the candidates of each row.

        Args:
            hidden: of each model, (rows, d_model).
            first_row: the place of the first of them among the rows of all sentences.
            beam: rows of a sentence.

        Returns:
            of each model, (rows, columns); minus infinity for what is no candidate of the row.
        """
        rows = torch.arange(first_row, first_row + hidden[0].size(0), device=hidden[0].device)
        is_other = self._is_other.index_select(0, rows // beam)
        return [
            projection(of_model).masked_fill_(is_other, -torch.inf)
            for projection, of_model in zip(self._projections, hidden, strict=True)
        ]

    def spread(self, logits: Tensor) -> Tensor:
        """(rows, columns) -> (rows, vocabulary), minus infinity in the places of all other tokens."""
        whole = logits.new_full((logits.size(0), self._vocabulary), -torch.inf)
        return whole.index_copy_(1, self.token_ids[: self._num_tokens], logits[:, : self._num_tokens])

    def keep_sentences(self, sentence_indices: Tensor) -> None:
        """Drop all sentences but these, (sentences that stay,) int64."""
        self._is_other = self._is_other.index_select(0, sentence_indices)

    def merged(self, other: Self) -> Self:
        """Put the sentences of another one after these."""
        num_sentences = self._is_other.size(0)
        own_sentences, own_ids = self._candidates()
        other_sentences, other_ids = other._candidates()
        candidates = torch.cat((own_sentences, other_sentences + num_sentences)), torch.cat((own_ids, other_ids))
        return type(self)(
            self._models, candidates, num_sentences + other._is_other.size(0), self._eos_id, self._banned_ids
        )

    def _candidates(self) -> tuple[Tensor, Tensor]:
        """Give the candidates as they were given."""
        sentences, columns = (~self._is_other).nonzero(as_tuple=True)
        return sentences, self.token_ids[columns]
