from pathlib import Path

import pytest
import torch
from torch.nn import functional

from tests.transformer_core.data.number_corpus import write_lines
from tests.transformer_core.decoding.masked_model import masked_model
from tests.transformer_core.decoding.random_model import random_model
from transformer_core.data.batching import Batch, Batching
from transformer_core.data.masking import MaskingVocabulary, corruption_source
from transformer_core.layers.dropout import Dropout
from transformer_core.model import Transformer
from transformer_core.training.objectives import Denoising, Masked, Translation, translation_loss

PAD, BOS, EOS, MASK = 0, 1, 2, 4
VOCABULARY = MaskingVocabulary(size=20, pad_id=PAD, eos_id=EOS, mask_id=MASK, word_edges=None)
LINES = [[5, 6, 7, 8, 9, 10, 11, 12, 13], [14, 15, 16], [17], [18, 19, 5, 6, 7]]


@pytest.fixture
def batch(tmp_path: Path) -> Batch:
    """Four lines of raw text."""
    batching = Batching(batch_size=1000, batch_type="tokens", seed=0, pad_id=PAD, bos_id=BOS, eos_id=EOS)
    (found,) = batching.in_order(write_lines(tmp_path / "corpus", LINES))
    return found


def lines_of(batch: Batch) -> list[list[int]]:
    """The lines in the order of the batch."""
    return [[index for index in row if index not in (PAD, EOS)] for row in batch.target_output.tolist()]


def set_dropout(model: Transformer, num_dropped: int) -> Transformer:
    """Drop so many values of 65,536."""
    for module in model.modules():
        if isinstance(module, Dropout):
            module.share = num_dropped / 65_536
    return model.train()


def test_translation_takes_pairs_as_they_are(batch: Batch) -> None:
    assert Translation().prepare(batch, corruption_source(0, 0), is_training=True) is batch
    assert Translation().loss(random_model(20), batch, 0.0).num_correct is None


def test_two_passes_without_dropout_are_one(batch: Batch) -> None:
    model = set_dropout(random_model(20), 0)
    one, two = Translation().loss(model, batch, 0.1), Translation(consistency=5.0).loss(model, batch, 0.1)
    assert two.num_tokens == one.num_tokens
    for name in ("loss_sum", "nll_sum"):
        torch.testing.assert_close(getattr(two, name), getattr(one, name))
    parameters = list(model.parameters())
    for first, second in zip(
        torch.autograd.grad(one.loss_sum, parameters), torch.autograd.grad(two.loss_sum, parameters), strict=True
    ):
        torch.testing.assert_close(second, first, rtol=1e-4, atol=1e-5)


def test_two_passes_are_only_for_training(batch: Batch) -> None:
    model = set_dropout(random_model(20), 2**15)
    torch.manual_seed(1)
    losses = {}
    for is_training in (True, False):
        model.train(is_training)
        losses[is_training] = [
            Translation(consistency=consistency).loss(model, batch, 0.0).loss_sum.item() for consistency in (0.0, 5.0)
        ]
    assert losses[True][0] != losses[True][1]
    assert losses[False][0] == losses[False][1]


def test_masked_prediction_hides_and_counts_what_was_chosen(batch: Batch) -> None:
    for step in range(30):
        prepared = Masked(VOCABULARY).prepare(batch, corruption_source(0, step), is_training=True)
        original, corrupted, target = batch.source, prepared.source, prepared.target_output
        chosen = target != PAD
        assert prepared.num_target_tokens == int(chosen.sum()) > 0
        assert torch.equal(target[chosen], original[chosen])
        assert torch.equal(corrupted[~chosen], original[~chosen])
        assert not (chosen & ((original == EOS) | (original == PAD))).any()
        assert prepared.source_mask is batch.source_mask
    assert torch.equal(batch.source, batch.target_output), "the batch itself stays as it was"


@pytest.mark.parametrize("label_smoothing", [0.0, 0.1])
def test_the_masked_loss_is_a_slow_explicit_one(batch: Batch, label_smoothing: float) -> None:
    model = masked_model(20)
    prepared = Masked(VOCABULARY).prepare(batch, corruption_source(0, 1), is_training=True)
    loss = Masked(VOCABULARY).loss(model, prepared, label_smoothing)
    expected, nll, num_tokens, num_correct = torch.zeros(()), torch.zeros(()), 0, 0
    for row, length in enumerate(map(len, lines_of(batch))):  # each line alone, without padding
        logits = model.project(model.encode(prepared.source[row : row + 1, : length + 1], None))[0]
        for place in range(length):
            target = prepared.target_output[row, place]
            if target != PAD:
                expected = expected + functional.cross_entropy(logits[place], target, label_smoothing=label_smoothing)
                nll = nll - logits[place].log_softmax(dim=-1)[target]
                num_correct += int(logits[place].argmax() == target)
                num_tokens += 1
    torch.testing.assert_close(loss.loss_sum, expected)
    torch.testing.assert_close(loss.nll_sum, nll.detach())
    assert (loss.num_tokens, loss.num_correct) == (num_tokens, num_correct)
    assert Masked(VOCABULARY).loss(model.train(), prepared, 0.0).num_correct is None


def test_the_encoder_alone_learns_from_masked_prediction(batch: Batch) -> None:
    model = masked_model(20)
    loss = Masked(VOCABULARY).loss(
        model, Masked(VOCABULARY).prepare(batch, corruption_source(0, 1), is_training=True), 0.1
    )
    loss.loss_sum.backward()  # type: ignore[no-untyped-call]
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in model.parameters())


def test_denoising_corrupts_the_source_alone(batch: Batch) -> None:
    num_masks = 0
    for step in range(30):
        prepared = Denoising(VOCABULARY).prepare(batch, corruption_source(0, step), is_training=True)
        assert torch.equal(prepared.target_input, batch.target_input)
        assert torch.equal(prepared.target_output, batch.target_output)
        assert prepared.num_target_tokens == batch.num_target_tokens
        mask = (
            torch.ones_like(prepared.source, dtype=torch.bool) if prepared.source_mask is None else prepared.source_mask
        )
        assert torch.equal(mask, prepared.source != PAD)
        for row, line in zip(prepared.source.tolist(), lines_of(batch), strict=True):
            content = [index for index in row if index != PAD]
            assert content[-1] == EOS
            kept = iter(line)
            assert all(index in kept for index in content[:-1] if index != MASK), "in their order, none from elsewhere"
            num_masks += content.count(MASK)
    assert num_masks


def test_the_denoising_loss_is_that_of_the_whole_line(batch: Batch) -> None:
    model = random_model(20)
    prepared = Denoising(VOCABULARY).prepare(batch, corruption_source(0, 1), is_training=True)
    loss = Denoising(VOCABULARY).loss(model, prepared, 0.1)
    assert loss.loss_sum.item() == translation_loss(model, prepared, 0.1).loss_sum.item()
    logits = model.project(model(prepared.source, prepared.source_mask, prepared.target_input))
    real = prepared.target_output != PAD
    assert loss.num_tokens == int(real.sum()) == sum(map(len, LINES)) + len(LINES)
    assert loss.num_correct == int((logits.argmax(dim=-1) == prepared.target_output)[real].sum())


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
