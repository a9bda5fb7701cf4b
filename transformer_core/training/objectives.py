"""What a model learns: to translate, to predict masked tokens, to mend lines that lack spans.

An objective prepares a batch, which is where corruption comes in, and turns it into a sum of losses and a count. Raw
text comes as pairs of a line with itself (data/shards.py), so that of a prepared batch source and target always are
what the model reads and what it should write.
"""

from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import torch
from numpy.random import Generator
from torch import Tensor

from transformer_core.data.batching import Batch
from transformer_core.data.masking import MaskingVocabulary, infill, mask_tokens
from transformer_core.data.padding import mask_of, pad_rows
from transformer_core.data.subword_regularization import SubwordRegularization
from transformer_core.model import Transformer
from transformer_core.training.loss import LossSum, count_correct, projected_cross_entropy

__all__ = ["Denoising", "Masked", "Objective", "Translation", "translation_loss"]


class Objective(Protocol):
    """What the trainer asks of an objective."""

    def prepare(self, batch: Batch, random: Generator, *, is_training: bool) -> Batch:
        """Make of a batch of the corpus one to learn from; `num_target_tokens` is what the loss will count."""

    def loss(self, model: Transformer, batch: Batch, label_smoothing: float) -> LossSum:
        """Sum the loss of a prepared batch; while the model is evaluated, perhaps with its hits."""


@dataclass(frozen=True)
class Translation:
    """Predict each target token from the source and the target tokens before it."""

    regularization: SubwordRegularization | None = None  # of the pairs that are learned from
    consistency: float = 0.0  # draws two passes with different dropout to each other (R-Drop); 0: there is one pass

    def prepare(self, batch: Batch, random: Generator, *, is_training: bool) -> Batch:
        """Take the pairs as they are, or, in training, cut their words anew."""
        if self.regularization is None or not is_training:
            return batch
        return self.regularization.recut(batch, random)

    def loss(self, model: Transformer, batch: Batch, label_smoothing: float) -> LossSum:
        """Sum the loss over the real target tokens."""
        if not self.consistency or not model.training:
            return translation_loss(model, batch, label_smoothing)
        source_mask = None if batch.source_mask is None else batch.source_mask.repeat(2, 1)
        hidden = model(batch.source.repeat(2, 1), source_mask, batch.target_input.repeat(2, 1))
        # (2 * batch, target_length, d_model) -> (2, batch, target_length, d_model)
        return _loss(model, hidden.unflatten(0, (2, -1)), batch, label_smoothing, consistency=self.consistency)


@dataclass(frozen=True)
class Masked:
    """Predict chosen tokens of a line from all the others (BERT, Devlin et al. 2019); trains an encoder."""

    vocabulary: MaskingVocabulary

    def prepare(self, batch: Batch, random: Generator, *, is_training: bool) -> Batch:
        """Corrupt the source; of the target, what was chosen stays, and the rest becomes padding, which counts not."""
        source = batch.source.numpy()
        is_token = np.ones(source.shape, dtype=np.bool_) if batch.source_mask is None else batch.source_mask.numpy()
        # the last real place of each row is its end token's, which is never chosen
        is_token = np.pad(is_token[:, 1:], ((0, 0), (0, 1)))
        corrupted, chosen = mask_tokens(source, is_token, self.vocabulary, random)
        return replace(
            batch,
            source=torch.from_numpy(corrupted),
            target_output=torch.from_numpy(np.where(chosen, source, self.vocabulary.pad_id)),
            num_target_tokens=int(chosen.sum()),
        )

    def loss(self, model: Transformer, batch: Batch, label_smoothing: float) -> LossSum:
        """Sum the loss over the chosen places."""
        hidden = model.encode(batch.source, batch.source_mask)
        return _loss(model, hidden[None], batch, label_smoothing, counts_correct=not model.training)


@dataclass(frozen=True)
class Denoising:
    """Write a line anew of which spans are hidden (BART, Lewis et al. 2020); trains the whole model."""

    vocabulary: MaskingVocabulary

    def prepare(self, batch: Batch, random: Generator, *, is_training: bool) -> Batch:
        """Corrupt the source."""
        lengths = (batch.target_output != self.vocabulary.pad_id).sum(dim=1).tolist()
        lines = [row[: length - 1] for row, length in zip(batch.target_output.numpy(), lengths, strict=True)]
        sources = [infill(line, self.vocabulary.mask_id, random) for line in lines]
        source = pad_rows(sources, self.vocabulary.pad_id, last=self.vocabulary.eos_id)
        return replace(batch, source=source, source_mask=mask_of([len(row) + 1 for row in sources]))

    def loss(self, model: Transformer, batch: Batch, label_smoothing: float) -> LossSum:
        """Sum the loss over the tokens of the lines."""
        return translation_loss(model, batch, label_smoothing, counts_correct=not model.training)


def translation_loss(
    model: Transformer, batch: Batch, label_smoothing: float, *, counts_correct: bool = False
) -> LossSum:
    """Predict each target token from the source and the target tokens before it (teacher forcing)."""
    hidden = model(batch.source, batch.source_mask, batch.target_input)
    return _loss(model, hidden[None], batch, label_smoothing, counts_correct=counts_correct)


def _loss(
    model: Transformer,
    passes: Tensor,
    batch: Batch,
    label_smoothing: float,
    *,
    consistency: float = 0.0,
    counts_correct: bool = False,
) -> LossSum:
    """Sum the loss over the places of the target that hold a token.

    Args:
        model: whose projection is used.
        passes: (passes, batch, target_length, d_model), one or two.
        batch: has the targets.
        label_smoothing: as in `projected_cross_entropy`.
        consistency: likewise.
        counts_correct: also count the tokens that the model finds most probable.
    """
    real = _places((batch.target_output != model.config.pad_id).flatten(), batch.num_target_tokens)  # (tokens,)
    # (passes, batch, target_length, d_model) -> (passes, tokens, d_model): padding is neither projected nor counted
    hidden = passes.flatten(1, 2).index_select(1, real)
    weight, target_ids = model.output_projection.weight, batch.target_output.flatten().index_select(0, real)
    if (bias := model.output_projection.bias) is not None:  # one more input, which is always 1, and its weights
        hidden = torch.cat((hidden, hidden.new_ones(*hidden.shape[:-1], 1)), dim=-1)
        weight = torch.cat((weight, bias[:, None]), dim=1)
    loss = projected_cross_entropy(hidden, weight, target_ids, label_smoothing, consistency)
    if counts_correct:
        loss.num_correct = count_correct(hidden[0], weight, target_ids)
    return loss


def _places(is_real: Tensor, num_real: int) -> Tensor:
    """Give the places of so many true values, (num_real,) int64; with their number CUDA need not be waited for."""
    if is_real.device.type == "cuda":
        return torch.nonzero_static(is_real, size=num_real).squeeze(1)
    return is_real.nonzero().squeeze(1)
