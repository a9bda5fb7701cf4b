from itertools import islice

import pytest
import torch

from tests.tokenizer.examples import LINES, trained
from tokenizer import Tokenizer
from transformer_core.data.batching import Batch, collate
from transformer_core.data.masking import corruption_source
from transformer_core.data.subword_regularization import SubwordRegularization, bpe_cuts, unigram_cuts
from transformer_core.errors import ConfigError

PAIRS = [(line, other) for line, other in islice(zip(LINES, reversed(LINES), strict=True), 40) if line and other]


def batch_of(tokenizers: tuple[Tokenizer, Tokenizer]) -> Batch:
    sides = [
        [torch.tensor(tokenizer.encode(pair[side]), dtype=torch.int64).numpy() for pair in PAIRS]
        for side, tokenizer in enumerate(tokenizers)
    ]
    return collate(*sides, pad_id=tokenizers[0].pad_id, bos_id=tokenizers[0].bos_id, eos_id=tokenizers[0].eos_id)


def tokenizers() -> tuple[Tokenizer, Tokenizer]:
    return trained("bpe"), trained("byte-bpe")


def bpe_dropout(pair: tuple[Tokenizer, Tokenizer], rate: float, max_length: int) -> SubwordRegularization:
    return SubwordRegularization(pair, bpe_cuts(pair, rate), max_length)


def text_of(batch: Batch) -> list[tuple[str, str, str]]:
    source, target = tokenizers()
    rows = zip(batch.source.tolist(), batch.target_input.tolist(), batch.target_output.tolist(), strict=True)
    return [(source.decode(one), target.decode(two), target.decode(three)) for one, two, three in rows]


def test_the_text_stays_and_the_tokens_change() -> None:
    batch = batch_of(tokenizers())
    recut = bpe_dropout(tokenizers(), 0.3, 500).recut(batch, corruption_source(1, 2))
    assert text_of(recut) == text_of(batch)
    for name in ("source", "target_output"):
        assert getattr(recut, name).size(1) > getattr(batch, name).size(1)
    assert recut.num_target_tokens == int((recut.target_output != tokenizers()[1].pad_id).sum())
    assert recut.source_mask is not None
    assert torch.equal(recut.source_mask, recut.source != tokenizers()[0].pad_id)


def test_the_place_in_training_names_the_tokens() -> None:
    batch = batch_of(tokenizers())
    regularization = bpe_dropout(tokenizers(), 0.2, 500)
    first, other = (regularization.recut(batch, corruption_source(1, step)) for step in (1, 2))
    again = bpe_dropout(tokenizers(), 0.2, 500).recut(batch, corruption_source(1, 1))
    assert torch.equal(first.source, again.source)
    assert torch.equal(first.target_output, again.target_output)
    assert not torch.equal(first.source, other.source)


def test_nothing_left_out_is_the_same_batch() -> None:
    batch = batch_of((trained("bpe"), trained("bpe")))
    recut = bpe_dropout((trained("bpe"), trained("bpe")), 0.0, 500).recut(batch, corruption_source(1, 2))
    for name in ("source", "source_mask", "target_input", "target_output"):
        assert torch.equal(getattr(recut, name), getattr(batch, name)), name


def test_a_side_that_would_be_too_long_stays_as_it_was() -> None:
    batch = batch_of(tokenizers())
    limit = int((batch.source != tokenizers()[0].pad_id).sum(dim=1).max()) - 1
    recut = bpe_dropout(tokenizers(), 0.05, limit).recut(batch, corruption_source(1, 2))
    assert text_of(recut) == text_of(batch)
    assert recut.source.size(1) <= limit + 1
    assert not torch.equal(recut.source, batch.source)


def test_a_tokenizer_without_merges_is_refused() -> None:
    with pytest.raises(ConfigError, match="of kind unigram has none"):
        bpe_cuts((trained("bpe"), trained("unigram")), 0.1)


def test_unigram_cuts_are_drawn_anew_and_are_the_same_text() -> None:
    pair = (trained("unigram"), trained("unigram"))
    batch = batch_of(pair)
    regularization = SubwordRegularization(pair, unigram_cuts(pair, 0.2), 500)
    first, other = (regularization.recut(batch, corruption_source(1, step)) for step in (1, 2))
    assert not torch.equal(first.source, other.source)
    for recut in (first, other):
        assert [pair[0].decode(row) for row in recut.source.tolist()] == [
            pair[0].decode(row) for row in batch.source.tolist()
        ]


def test_unigram_cuts_need_probabilities() -> None:
    with pytest.raises(
        ConfigError, match="--unigram-alpha draws by the probabilities of pieces, and a tokenizer of kind"
    ):
        unigram_cuts((trained("unigram"), trained("bpe")), 0.2)
