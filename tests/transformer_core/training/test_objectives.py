import torch
from torch.nn import functional

from tests.transformer_core.decoding.random_model import random_model
from transformer_core.data.batching import Batch
from transformer_core.training.objectives import translation_loss


def test_it_is_the_cross_entropy_of_the_real_target_tokens() -> None:
    model = random_model(20)
    batch = Batch(
        source=torch.tensor([[5, 6, 2], [7, 2, 0]]),
        source_mask=torch.tensor([[True, True, True], [True, True, False]]),
        target_input=torch.tensor([[1, 8, 9], [1, 10, 0]]),
        target_output=torch.tensor([[8, 9, 2], [10, 2, 0]]),
        num_target_tokens=5,
    )
    loss = translation_loss(model, batch, 0.1)
    logits = model.project(model(batch.source, batch.source_mask, batch.target_input))
    expected = functional.cross_entropy(
        logits.flatten(0, 1), batch.target_output.flatten(), ignore_index=0, label_smoothing=0.1, reduction="sum"
    )
    torch.testing.assert_close(loss.loss_sum, expected)
    assert loss.num_tokens == batch.num_target_tokens
