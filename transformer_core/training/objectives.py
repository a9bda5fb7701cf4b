"""What a model learns: so far, to translate. An objective turns a batch into a sum of losses and a count."""

from torch import Tensor

from transformer_core.data.batching import Batch
from transformer_core.model import Transformer
from transformer_core.training.loss import LossSum, projected_cross_entropy

__all__ = ["translation_loss"]


def translation_loss(model: Transformer, batch: Batch, label_smoothing: float) -> LossSum:
    """Predict each target token from the source and the target tokens before it (teacher forcing)."""
    hidden = model(batch.source, batch.source_mask, batch.target_input)
    real = _real_places(batch, model.config.pad_id)
    # (batch, target_length, d_model) -> (tokens, d_model): padding is neither projected nor counted
    return projected_cross_entropy(
        hidden.flatten(0, 1).index_select(0, real),
        model.output_projection.weight,
        batch.target_output.flatten().index_select(0, real),
        label_smoothing,
    )


def _real_places(batch: Batch, pad_id: int) -> Tensor:
    """Places of real target tokens in the flattened batch, (tokens,) int64."""
    return (batch.target_output != pad_id).flatten().nonzero().squeeze(1)
