import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from transformer_core.config import ModelConfig, Positions, SinusoidForm, StackConfig
from transformer_core.errors import ConfigError
from transformer_core.layers.embedding import SINUSOID_FORMS, SequenceEmbedding, sinusoids

STACK = StackConfig(num_layers=1, d_model=8, num_heads=2, d_ff=8)
CONFIG = ModelConfig(
    source_vocabulary_size=20,
    target_vocabulary_size=20,
    pad_id=0,
    bos_id=1,
    eos_id=2,
    encoder=STACK,
    decoder=STACK,
    dropout=0.0,
)


def marian_by_the_formula(num_positions: int, d_model: int) -> NDArray[np.float32]:
    """Marian's: with i < d/2, sin(p · 10000^(-2i/d)) at place i and the cosine of it at place d/2 + i; p from 0."""
    table = np.zeros((num_positions, d_model))
    for position in range(num_positions):
        for place in range(d_model // 2):
            angle = position / 10000 ** (2 * place / d_model)
            table[position, place] = np.sin(angle)
            table[position, d_model // 2 + place] = np.cos(angle)
    return table.astype(np.float32)


@pytest.mark.parametrize("d_model", [2, 8, 512])
def test_marians_sinusoids_are_its_formula(d_model: int) -> None:
    np.testing.assert_allclose(
        sinusoids(300, d_model, SINUSOID_FORMS["marian"]).numpy(), marian_by_the_formula(300, d_model), atol=1e-6
    )


def test_vaswanis_sinusoids_are_marians_side_by_side() -> None:
    # PE(p, 2i) = sin(p / 10000^(2i/d)), PE(p, 2i+1) = cos of the same: equation of section 3.5
    marian, vaswani = (sinusoids(50, 16, SINUSOID_FORMS[form]) for form in ("marian", "vaswani"))
    assert torch.equal(vaswani[:, 0::2], marian[:, :8])
    assert torch.equal(vaswani[:, 1::2], marian[:, 8:])


def test_fairseqs_sinusoids_begin_at_two_and_end_at_a_ten_thousandth() -> None:
    # fairseq's positions begin at padding_idx + 1 = 2, and its frequencies are 10000^(-i / (d/2 - 1))
    table = sinusoids(4, 8, SINUSOID_FORMS["fairseq"])
    for row in range(4):
        for place in range(4):
            angle = (row + 2) / 10000 ** (place / 3)
            assert table[row, place].item() == pytest.approx(math.sin(angle), abs=1e-6)
            assert table[row, 4 + place].item() == pytest.approx(math.cos(angle), abs=1e-6)
    # of a single frequency there is no geometric fall: it is 1
    assert sinusoids(1, 2, SINUSOID_FORMS["fairseq"]).tolist() == [pytest.approx([math.sin(2), math.cos(2)])]


@pytest.mark.parametrize("form", SINUSOID_FORMS)
def test_an_embedding_is_token_times_root_plus_position(form: SinusoidForm) -> None:
    embedding = SequenceEmbedding(20, 8, replace(CONFIG, sinusoid_form=form))
    ids = torch.tensor([[3, 4, 3], [5, 0, 0]])
    expected = embedding.token_embedding.weight[ids] * math.sqrt(8) + sinusoids(3, 8, SINUSOID_FORMS[form])
    torch.testing.assert_close(embedding(ids), expected)


@pytest.mark.parametrize("positions", ["sinusoidal", "learned"])
def test_a_token_alone_knows_where_it_stands(positions: Positions) -> None:
    embedding = SequenceEmbedding(20, 8, replace(CONFIG, positions=positions))
    ids = torch.randint(20, (2, 700))
    with torch.no_grad():
        whole = embedding(ids)  # beyond the first table of sinusoids
        steps = [embedding.step(ids[:, place], place) for place in range(700)]
        assert torch.equal(torch.stack(steps, dim=1), whole)
        apart = embedding.step(ids[[0, 1], [3, 600]], torch.tensor([3, 600]), furthest=601)
        assert torch.equal(apart, whole[[0, 1], [3, 600]])


def test_learned_positions_have_a_hard_limit_and_sinusoids_none() -> None:
    learned = SequenceEmbedding(20, 8, replace(CONFIG, positions="learned", max_positions=6))
    learned(torch.ones(1, 6, dtype=torch.int64))
    with pytest.raises(ConfigError, match="a sequence of 7 tokens is longer than this model's 6 learned positions"):
        learned.step(torch.ones(1, dtype=torch.int64), 6)
    SequenceEmbedding(20, 8, replace(CONFIG, max_positions=6))(torch.ones(1, 5000, dtype=torch.int64))


def test_sinusoids_are_no_weights() -> None:
    embedding = SequenceEmbedding(20, 8, CONFIG)
    embedding(torch.ones(1, 3, dtype=torch.int64))
    assert [name for name, _ in embedding.named_parameters()] == ["token_embedding.weight"]
    assert list(embedding.state_dict()) == ["token_embedding.weight"]
