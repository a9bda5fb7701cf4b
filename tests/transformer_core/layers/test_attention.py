import math

import pytest
import torch
from torch import Tensor

from transformer_core.layers.attention import (
    FIRST_CAPACITY,
    CrossAttention,
    KeyValueCache,
    SelfAttention,
    scaled_dot_product_attention,
)


def explicit_attention(query: Tensor, key: Tensor, value: Tensor, allowed: Tensor) -> Tensor:
    """The textbook, one query of one head of one sentence at a time.

    Args:
        query: (batch, num_heads, target_length, d_head).
        key: (batch, num_heads, source_length, d_head).
        value: like key.
        allowed: (batch, target_length, source_length) bool.
    """
    batch, num_heads, target_length, d_head = query.shape
    sentences = []
    for sentence in range(batch):
        heads = []
        for head in range(num_heads):
            rows = []
            for place in range(target_length):
                exponentials, summands = [], []
                for other in range(key.size(2)):
                    if allowed[sentence, place, other]:
                        score = (query[sentence, head, place] * key[sentence, head, other]).sum() / math.sqrt(d_head)
                        exponentials.append(score.exp())
                        summands.append(score.exp() * value[sentence, head, other])
                rows.append(torch.stack(summands).sum(0) / torch.stack(exponentials).sum())
            heads.append(torch.stack(rows))
        sentences.append(torch.stack(heads))
    return torch.stack(sentences)


def random_heads(*shape: int, seed: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).requires_grad_()


def padding_mask(lengths: list[int]) -> Tensor:
    return torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]


@pytest.mark.parametrize("kind", ["free", "padded", "causal", "padded cross"])
def test_attention_is_the_textbook_in_value_and_gradient(kind: str) -> None:
    target_length = 3 if kind == "padded cross" else 5
    query = random_heads(2, 3, target_length, 4, seed=1)
    key, value = random_heads(2, 3, 5, 4, seed=2), random_heads(2, 3, 5, 4, seed=3)
    allowed = torch.ones(2, target_length, 5, dtype=torch.bool)
    mask = None
    if kind.startswith("padded"):
        allowed = padding_mask([5, 2])[:, None, :].expand_as(allowed)
        mask = allowed[:, None]
    if kind == "causal":
        allowed = torch.ones(5, 5, dtype=torch.bool).tril().expand_as(allowed)
    weights = torch.randn(2, 3, target_length, 4, dtype=torch.float64)
    results = []
    # in float64 the detour over fp32 that a CPU takes for bf16 shows: compare to fp32's precision
    for attended in (
        scaled_dot_product_attention(query, key, value, mask, causal=kind == "causal", dropout=0.0),
        explicit_attention(query, key, value, allowed),
    ):
        gradients = torch.autograd.grad((attended * weights).sum(), (query, key, value))
        results.append((attended, *gradients))
    for fast, explicit in zip(*results, strict=True):
        torch.testing.assert_close(fast, explicit, rtol=1e-5, atol=1e-6)


def test_a_sentence_is_its_own_whatever_padding_holds() -> None:
    query, key, value = (random_heads(1, 2, 4, 8, seed=seed) for seed in (1, 2, 3))
    mask = padding_mask([3, 4])[:1, None, None, :]
    with torch.no_grad():
        before = scaled_dot_product_attention(query, key, value, mask)
        key[:, :, 3], value[:, :, 3] = 1e4, -1e4
        assert torch.equal(scaled_dot_product_attention(query, key, value, mask), before)


def test_without_the_scale_the_variance_of_the_scores_grows_with_the_width_of_the_head() -> None:
    # The docstring's claim. The estimate of a variance from n scores has a relative standard error of
    # √((kurtosis - 1) / n); a product of normals has kurtosis 9, a sum of them less: 0.9 % at most for n = 100,000.
    generator = torch.Generator().manual_seed(0)
    for d_head in (4, 16, 64):
        query, key = torch.randn(2, 100_000, d_head, generator=generator)
        scores = (query * key).sum(-1)
        assert scores.var().item() == pytest.approx(d_head, rel=0.04)
        assert (scores / math.sqrt(d_head)).var().item() == pytest.approx(1, rel=0.04)


def explicit_multi_head(
    layer: SelfAttention | CrossAttention, sequence: Tensor, memory: Tensor, allowed: Tensor
) -> Tensor:
    """Concat(head_1, …, head_h) W_O with head_i = Attention(x W_i^Q, m W_i^K, m W_i^V), a head at a time."""
    d_model = sequence.size(-1)
    width = d_model // layer.num_heads
    key_weight, value_weight = torch.split(layer.key_value_projection.weight, d_model)
    key_bias, value_bias = torch.split(layer.key_value_projection.bias, d_model)
    heads = []
    for head in range(layer.num_heads):
        rows = slice(head * width, (head + 1) * width)
        query = sequence @ layer.query_projection.weight[rows].T + layer.query_projection.bias[rows]
        key = memory @ key_weight[rows].T + key_bias[rows]
        value = memory @ value_weight[rows].T + value_bias[rows]
        heads.append(explicit_attention(query[:, None], key[:, None], value[:, None], allowed)[:, 0])
    joined = torch.cat(heads, dim=-1)
    return joined @ layer.output_projection.weight.T + layer.output_projection.bias


def with_random_biases(layer: SelfAttention | CrossAttention) -> None:
    for projection in (layer.query_projection, layer.key_value_projection, layer.output_projection):
        torch.nn.init.normal_(projection.bias)


@pytest.mark.parametrize("causal", [False, True])
def test_multi_head_self_attention_is_its_definition(causal: bool) -> None:
    torch.manual_seed(0)
    layer = SelfAttention(12, 3, dropout=0.5).double().eval()  # no dropout but in training
    with_random_biases(layer)
    sequence = torch.randn(2, 4, 12, dtype=torch.float64)
    mask = padding_mask([4, 2])
    allowed = mask[:, None, :].expand(2, 4, 4)
    if causal:
        allowed = allowed & torch.ones(4, 4, dtype=torch.bool).tril()
    with torch.no_grad():
        torch.testing.assert_close(
            layer(sequence, mask, causal=causal), explicit_multi_head(layer, sequence, sequence, allowed)
        )


def test_multi_head_cross_attention_is_its_definition_and_its_steps() -> None:
    torch.manual_seed(0)
    layer = CrossAttention(12, 10, 3, dropout=0.0).double()
    with_random_biases(layer)
    sequence, memory = torch.randn(2, 4, 12, dtype=torch.float64), torch.randn(2, 5, 10, dtype=torch.float64)
    mask = padding_mask([5, 3])
    with torch.no_grad():
        whole = layer(sequence, memory, mask)
        allowed = mask[:, None, :].expand(2, 4, 5)
        torch.testing.assert_close(whole, explicit_multi_head(layer, sequence, memory, allowed))
        # the four positions as four beams of each sentence
        beams = layer.step(sequence.reshape(8, 1, 12), layer.prepare(memory), mask[:, None, None, :])
    torch.testing.assert_close(beams.view(2, 4, 12), whole)


def test_stepping_is_the_whole_sequence_while_the_cache_grows() -> None:
    torch.manual_seed(0)
    layer = SelfAttention(8, 2, dropout=0.0).double()
    sequence = torch.randn(3, 2 * FIRST_CAPACITY + 3, 8, dtype=torch.float64)
    with torch.no_grad():
        whole = layer(sequence, None, causal=True)
        state = layer.start(3, sequence)
        steps = [layer.step(sequence[:, place : place + 1], state) for place in range(sequence.size(1))]
    torch.testing.assert_close(torch.cat(steps, dim=1), whole)
    assert state.length == sequence.size(1)


def test_a_cache_keeps_what_was_appended_and_selects_rows() -> None:
    cache = KeyValueCache(3, num_heads=2, d_head=4, like=torch.zeros(1))
    keys = torch.randn(3, 2, FIRST_CAPACITY + 5, 4)
    for place in range(keys.size(2)):
        found_keys, found_values = cache.append(keys[:, :, place : place + 1], -keys[:, :, place : place + 1])
    assert torch.equal(found_keys, keys)
    assert torch.equal(found_values, -keys)
    cache.select(torch.tensor([2, 0, 0, 1]))
    found_keys, _ = cache.append(torch.zeros(4, 2, 1, 4), torch.zeros(4, 2, 1, 4))
    assert torch.equal(found_keys[:, :, :-1], keys[[2, 0, 0, 1]])
    assert cache.length == FIRST_CAPACITY + 6


def test_dropout_zeroes_weights_in_training_alone() -> None:
    torch.manual_seed(0)
    layer = SelfAttention(8, 2, dropout=0.5)
    sequence = torch.randn(1, 6, 8)
    assert not torch.equal(layer(sequence, None, causal=False), layer(sequence, None, causal=False))
    layer.eval()
    assert torch.equal(layer(sequence, None, causal=False), layer(sequence, None, causal=False))


def test_training_in_bf16_gives_bf16_and_its_gradient() -> None:
    torch.manual_seed(0)
    layer = SelfAttention(16, 2, dropout=0.0)
    sequence = torch.randn(2, 5, 16)
    exact = layer(sequence, None, causal=True)
    with torch.autocast("cpu", torch.bfloat16):
        rounded = layer(sequence, None, causal=True)
    assert rounded.dtype == torch.bfloat16
    torch.testing.assert_close(rounded.float(), exact, rtol=0.05, atol=0.02)
    rounded.float().sum().backward()
    assert layer.query_projection.weight.grad is not None
    assert torch.isfinite(layer.query_projection.weight.grad).all()
