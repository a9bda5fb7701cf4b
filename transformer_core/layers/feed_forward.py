"""The position-wise feed-forward network (Vaswani et al. 2017, section 3.3)."""

from collections.abc import Callable

from torch import Tensor, nn
from torch.nn import functional

from transformer_core.config import Activation

__all__ = ["FeedForward"]


class FeedForward(nn.Module):
    """Widen each position, apply a nonlinearity, narrow it again; positions do not see each other here."""

    def __init__(self, d_model: int, d_ff: int, activation: Activation, dropout: float) -> None:
        super().__init__()
        self.inner_projection = nn.Linear(d_model, d_ff)
        self.output_projection = nn.Linear(d_ff, d_model)
        self.dropout = nn.Dropout(dropout)
        self._activation: Callable[[Tensor], Tensor] = functional.relu if activation == "relu" else functional.gelu
        for projection in (self.inner_projection, self.output_projection):
            nn.init.xavier_uniform_(projection.weight)
            nn.init.zeros_(projection.bias)

    def forward(self, sequence: Tensor) -> Tensor:
        """(batch, length, d_model) -> the same shape."""
        hidden = self._activation(self.inner_projection(sequence))
        return self.output_projection(self.dropout(hidden))  # type: ignore[no-any-return]
