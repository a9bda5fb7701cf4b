"""A vector per token plus its place (Vaswani et al. 2017, sections 3.4 and 3.5).

Attention is blind to order, so the place of a token is added to its vector: from a table of sinusoids, computed as far
as a sequence needs it, or from a learned table, whose last row is a hard limit. Nothing is added where attention turns
its queries and keys instead (rotary positions, layers/rotary.py) or where the layers know the order by themselves.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from transformer_core.config import ModelConfig
from transformer_core.errors import ConfigError
from transformer_core.layers.dropout import Dropout
from transformer_core.layers.norm import new_norm

__all__ = ["SINUSOID_FORMS", "SequenceEmbedding", "Sinusoids", "new_embedding", "sinusoids"]


@dataclass(frozen=True, kw_only=True)
class Sinusoids:
    """One of the forms in which the field computes sinusoidal positions.

    Frequencies fall geometrically from 1 to about 1/10000: 10000^(-i / divisor) for i = 0 … d_model/2 - 1.
    """

    full_divisor: bool  # divisor d_model/2 (the paper) or d_model/2 - 1 (tensor2tensor: the last is exactly 1/10000)
    interleaved: bool  # sine and cosine of a frequency side by side, or all sines and then all cosines
    first_position: int  # the position of the first token


SINUSOID_FORMS: dict[str, Sinusoids] = {
    "marian": Sinusoids(full_divisor=True, interleaved=False, first_position=0),
    "fairseq": Sinusoids(full_divisor=False, interleaved=False, first_position=2),  # also M2M100 and NLLB
    "vaswani": Sinusoids(full_divisor=True, interleaved=True, first_position=0),
}


def sinusoids(num_positions: int, d_model: int, form: Sinusoids) -> Tensor:
    """Compute the position encodings of the first positions.

    Returns:
        (num_positions, d_model) float32.
    """
    half = d_model // 2
    divisor = half if form.full_divisor else max(half - 1, 1)
    frequencies = torch.exp(torch.arange(half, dtype=torch.float64) * (-math.log(10000.0) / divisor))
    positions = torch.arange(form.first_position, form.first_position + num_positions, dtype=torch.float64)
    angles = positions[:, None] * frequencies[None, :]
    if form.interleaved:  # (num_positions, half, 2) -> (num_positions, d_model)
        return torch.stack((angles.sin(), angles.cos()), dim=-1).flatten(1).float()
    return torch.cat((angles.sin(), angles.cos()), dim=1).float()


def new_embedding(num_rows: int, d_model: int) -> nn.Embedding:
    """Make a table of vectors drawn with variance 1 / d_model.

    A model that is only built to be filled (on the meta device) draws nothing: torch would load its compiler for it.
    """
    weight = torch.empty(num_rows, d_model)
    if not weight.is_meta:
        nn.init.normal_(weight, std=d_model**-0.5)
    return nn.Embedding.from_pretrained(weight, freeze=False)  # type: ignore[no-any-return, no-untyped-call]


class SequenceEmbedding(nn.Module):
    """Token ids to the first residual stream: token_embedding · √d_model + position_encoding, then dropout.

    √d_model brings the token vectors, drawn with variance 1/d_model because the same matrix may project the output, to
    the size of the positions. Imported models may lack the factor, and may norm the sum.
    """

    def __init__(self, vocabulary_size: int, d_model: int, config: ModelConfig) -> None:
        super().__init__()
        self.d_model = d_model
        self.scale = math.sqrt(d_model) if config.scale_embedding else 1.0
        self.token_embedding = new_embedding(vocabulary_size, d_model)
        self.position_embedding: nn.Embedding | None = None
        self.has_positions = config.positions in ("sinusoidal", "learned")  # rotary ones are attention's own
        self._form = SINUSOID_FORMS[config.sinusoid_form]
        if config.positions == "learned":
            self.position_embedding = new_embedding(config.max_positions, d_model)
        self.norm = new_norm(d_model, config.norm_kind) if config.norm_embedding else nn.Identity()
        self.dropout = Dropout(config.dropout)
        self._table: Tensor | None = None  # sinusoids computed so far; no part of the model's weights

    def forward(self, token_ids: Tensor) -> Tensor:
        """Embed sequences.

        Args:
            token_ids: (batch, length) int64.

        Returns:
            (batch, length, d_model).

        Raises:
            ConfigError: the sequence is longer than a learned table of positions.
        """
        stream = self.token_embedding(token_ids) * self.scale
        if self.has_positions:
            stream = stream + self._table_of(token_ids.size(1), stream)[: token_ids.size(1)]
        return self.dropout(self.norm(stream))  # type: ignore[no-any-return]

    def step(self, token_ids: Tensor, place: int | Tensor, furthest: int = 0) -> Tensor:
        """Embed one token of each row.

        Args:
            token_ids: (rows,) int64.
            place: one for all rows or (rows,) int64.
            furthest: of several places none is beyond it.

        Returns:
            (rows, d_model).

        Raises:
            ConfigError: the one place is beyond a learned table of positions.
        """
        stream = functional.embedding(token_ids, self.token_embedding.weight) * self.scale
        if self.has_positions:
            if self.position_embedding is not None and isinstance(place, Tensor):
                table: Tensor = self.position_embedding.weight
            else:
                table = self._table_of((furthest if isinstance(place, Tensor) else place) + 1, stream)
            stream = stream + table[place]
        return self.norm(stream)  # type: ignore[no-any-return]

    def _table_of(self, num_positions: int, like: Tensor) -> Tensor:
        """At least so many position encodings, (positions, d_model)."""
        if self.position_embedding is not None:
            limit = self.position_embedding.num_embeddings
            if num_positions > limit:
                raise ConfigError(
                    f"a sequence of {num_positions} tokens is longer than this model's {limit} learned positions"
                )
            return self.position_embedding.weight
        if self._table is None or self._table.size(0) < num_positions:
            self._table = sinusoids(max(256, 2 * num_positions), self.d_model, self._form)
        if self._table.device != like.device or self._table.dtype != like.dtype:
            self._table = self._table.to(like.device, like.dtype)
        return self._table
