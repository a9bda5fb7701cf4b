"""The loss on the validation pairs, and what follows from it."""

import math
from collections.abc import Iterable

import torch

from transformer_core.data.batching import Batch
from transformer_core.data.masking import corruption_source
from transformer_core.model import Transformer
from transformer_core.training.objectives import Objective

__all__ = ["perplexity_of", "validation_values"]

VALIDATION_SEED = 0  # of what is corrupted for validation: the same every time and in every run


@torch.inference_mode()
def validation_values(model: Transformer, objective: Objective, batches: Iterable[Batch]) -> dict[str, float]:
    """Compute loss and perplexity of a model in evaluation mode, and accuracy where the objective counts its hits."""
    device = model.device
    nll_sum, num_tokens = 0.0, 0
    num_correct: int | None = None
    for number, batch in enumerate(batches):
        prepared = objective.prepare(batch, corruption_source(VALIDATION_SEED, number), is_training=False)
        loss = objective.loss(model, prepared.to(device), 0.0)
        nll_sum += loss.nll_sum.item()
        num_tokens += loss.num_tokens
        if loss.num_correct is not None:
            num_correct = (num_correct or 0) + loss.num_correct
    nll = nll_sum / num_tokens
    accuracy = {} if num_correct is None else {"accuracy": 100 * num_correct / num_tokens}
    return {"loss": nll, "perplexity": perplexity_of(nll), **accuracy}


def perplexity_of(nll: float) -> float:
    """Give e to the power of a negative log-likelihood per token; what is beyond all numbers becomes a large one."""
    return math.exp(min(700.0, nll))
