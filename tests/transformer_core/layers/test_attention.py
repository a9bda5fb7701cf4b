import math

import pytest
import torch
from torch import Tensor

from tests.transformer_core.layers.stepping import step_through
from tests.transformer_core.small_config import small_config, small_stack
from transformer_core.layers.attention import CrossAttention, SelfAttention
from transformer_core.layers.key_value_cache import FIRST_CAPACITY
from transformer_core.layers.rotary import rotate
from transformer_core.layers.scaled_dot_product import (
    MOST_WRITTEN_OUT,
    attention_weights,
    scaled_dot_product_attention,
)
from transformer_core.layers.step_attention import FEW_ROWS


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


@pytest.mark.parametrize("kind", ["free", "padded", "causal", "shared keys"])
@pytest.mark.parametrize("most", [MOST_WRITTEN_OUT, 0])
def test_attention_in_bf16_is_the_textbook_but_for_rounding(
    monkeypatch: pytest.MonkeyPatch, kind: str, most: int
) -> None:
    monkeypatch.setattr("transformer_core.layers.scaled_dot_product.MOST_WRITTEN_OUT", most)
    exact = [random_heads(2, 2 if kind == "shared keys" and part else 4, 9, 8, seed=part) for part in range(3)]
    rounded = [heads.detach().bfloat16().requires_grad_() for heads in exact]
    mask = padding_mask([9, 4])[:, None, None] if kind == "padded" else None
    allowed = torch.ones(2, 9, 9, dtype=torch.bool)
    if mask is not None:
        allowed = mask[:, 0].expand_as(allowed)
    if kind == "causal":
        allowed = allowed.tril()
    weights = torch.randn(2, 4, 9, 8, dtype=torch.float64)
    attended = scaled_dot_product_attention(rounded[0], rounded[1], rounded[2], mask, causal=kind == "causal")
    assert attended.dtype == torch.bfloat16
    query, key, value = exact
    if kind == "shared keys":
        key, value = (heads.repeat_interleave(2, dim=1) for heads in (key, value))
    expected = explicit_attention(query, key, value, allowed)
    found = (attended, *torch.autograd.grad((attended.double() * weights).sum(), rounded))
    wanted = (expected, *torch.autograd.grad((expected * weights).sum(), exact))
    for one, other in zip(found, wanted, strict=True):
        error = (one.double() - other).norm() / other.norm()
        assert error < 0.02  # bf16 rounds to one part in 256


def test_dropout_zeroes_weights_in_bf16_too() -> None:
    query, key = (random_heads(1, 1, 64, 4, seed=part).detach().bfloat16().requires_grad_() for part in range(2))
    ones = torch.ones(1, 1, 64, 4, dtype=torch.bfloat16, requires_grad=True)
    torch.manual_seed(1)
    attended = scaled_dot_product_attention(query, key, ones, dropout=0.5)
    assert attended.float().std() > 0.05  # of ones alone the average is one, whatever the weights
    assert attended.float().mean().item() == pytest.approx(1, abs=0.2)


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


def root_mean_square_normed(vectors: Tensor) -> Tensor:
    return vectors / (vectors.square().mean(-1, keepdim=True) + 1e-5).sqrt()


def explicit_rotation(vectors: Tensor) -> Tensor:
    """Each pair of components as a complex number, times e^(i · place · frequency): (batch, length, d_head)."""
    half = vectors.size(-1) // 2
    turned = torch.empty_like(vectors)
    for place in range(vectors.size(1)):
        for pair in range(half):
            angle = torch.tensor(place * 10_000.0 ** (-pair / half), dtype=torch.float32)
            number = torch.complex(vectors[:, place, pair], vectors[:, place, pair + half])
            number = number * torch.polar(torch.ones_like(angle), angle)
            turned[:, place, pair], turned[:, place, pair + half] = number.real, number.imag
    return turned


def explicit_multi_head(
    layer: SelfAttention | CrossAttention, sequence: Tensor, memory: Tensor, allowed: Tensor
) -> Tensor:
    """Concat(head_1, …, head_h) W_O with head_i = Attention(x W_i^Q, m W_i^K, m W_i^V), a head at a time."""
    width = layer.d_head
    num_heads = sequence.size(-1) // width
    key_weight, value_weight = layer.key_value_projection.weight.chunk(2)
    key_bias, value_bias = layer.key_value_projection.bias.chunk(2)
    is_rotary = isinstance(layer, SelfAttention) and layer.is_rotary
    heads = []
    for head in range(num_heads):
        rows = slice(head * width, (head + 1) * width)
        group = head * layer.num_key_heads // num_heads  # neighbouring queries share a key
        key_rows = slice(group * width, (group + 1) * width)
        query = sequence @ layer.query_projection.weight[rows].T + layer.query_projection.bias[rows]
        key = memory @ key_weight[key_rows].T + key_bias[key_rows]
        value = memory @ value_weight[key_rows].T + value_bias[key_rows]
        if layer.query_norm is not None:  # its gains are 1
            query, key = root_mean_square_normed(query), root_mean_square_normed(key)
        if is_rotary:
            query, key = explicit_rotation(query), explicit_rotation(key)
        if layer.undo_scale != 1:
            query = query * math.sqrt(width)
        heads.append(explicit_attention(query[:, None], key[:, None], value[:, None], allowed)[:, 0])
    joined = torch.cat(heads, dim=-1)
    return joined @ layer.output_projection.weight.T + layer.output_projection.bias


def with_random_biases(layer: SelfAttention | CrossAttention) -> None:
    for projection in (layer.query_projection, layer.key_value_projection, layer.output_projection):
        torch.nn.init.normal_(projection.bias)


VARIANTS: dict[str, tuple[dict[str, object], dict[str, object]]] = {
    "plain": ({}, {}),
    "rotary": ({}, {"positions": "rotary"}),
    "grouped": ({"num_heads": 6, "num_key_value_heads": 2}, {}),
    "multi-query": ({"num_key_value_heads": 1}, {"positions": "rotary"}),
    "normed": ({}, {"query_key_norm": True}),
    "unscaled": ({}, {"scale_attention": False}),
}


def self_attention(variant: str = "plain", dropout: float = 0.0) -> SelfAttention:
    torch.manual_seed(0)
    of_stack, of_model = VARIANTS[variant]
    stack = small_stack(**of_stack)
    return SelfAttention(stack, small_config(stack, attention_dropout=dropout, **of_model))


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("variant", VARIANTS)
def test_multi_head_self_attention_is_its_definition(variant: str, causal: bool) -> None:
    layer = self_attention(variant, dropout=0.5).double().eval()  # no dropout but in training
    with_random_biases(layer)
    sequence = torch.randn(2, 4, 12, dtype=torch.float64)
    mask = padding_mask([4, 2])
    allowed = mask[:, None, :].expand(2, 4, 4)
    if causal:
        allowed = allowed & torch.ones(4, 4, dtype=torch.bool).tril()
    with torch.no_grad():
        torch.testing.assert_close(
            layer(sequence, mask, causal=causal),
            explicit_multi_head(layer, sequence, sequence, allowed),
            rtol=1e-5,  # angles of rotary positions are float32
            atol=1e-6,
        )


@pytest.mark.parametrize("variant", ["plain", "grouped", "multi-query", "normed"])
def test_multi_head_cross_attention_is_its_definition_and_its_steps(variant: str) -> None:
    torch.manual_seed(0)
    of_stack, of_model = VARIANTS[variant]
    stack = small_stack(**of_stack)
    layer = CrossAttention(stack, 10, small_config(stack, **of_model)).double()
    with_random_biases(layer)
    sequence, memory = torch.randn(2, 6, 12, dtype=torch.float64), torch.randn(2, 5, 10, dtype=torch.float64)
    mask = padding_mask([5, 3])
    with torch.no_grad():
        whole = layer(sequence, memory, mask)
        allowed = mask[:, None, :].expand(2, 6, 5)
        torch.testing.assert_close(whole, explicit_multi_head(layer, sequence, memory, allowed))
        for num_beams in (4, 6):  # few rows, and many: the first positions as the beams of each sentence
            assert (2 * num_beams <= FEW_ROWS) == (num_beams == 4)
            rows = sequence[:, :num_beams].reshape(-1, 12)
            added = torch.zeros(mask.shape, dtype=torch.float64).masked_fill(~mask, -torch.inf)
            beams = layer.step(rows, layer.prepare(memory), added)
            torch.testing.assert_close(beams.view(2, num_beams, 12), whole[:, :num_beams])
        alone = layer.step(sequence[:1].repeat(1, 2, 1)[0], layer.prepare(memory[:1]), None)  # a wide beam
        torch.testing.assert_close(alone, whole[0].repeat(2, 1))


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_weights_are_those_that_attention_averages_by(variant: str) -> None:
    layer = self_attention(variant).double()
    sequence, mask = torch.randn(2, 5, 12, dtype=torch.float64), padding_mask([5, 3])
    with torch.no_grad():
        for causal in (False, True):
            weights = layer.weights(sequence, mask, causal=causal)
            torch.testing.assert_close(weights.sum(-1), torch.ones(weights.shape[:3]))
            assert not weights[1, :, :3, 3:].any()  # nothing attends to padding
            value = layer._key_value(sequence)[1].repeat_interleave(weights.size(1) // layer.num_key_heads, dim=1)
            heads = (weights.double() @ value).transpose(1, 2).flatten(2)
            whole = layer(sequence, mask, causal=causal)
            torch.testing.assert_close(layer.output_projection(heads), whole, rtol=1e-5, atol=1e-6)


def test_weights_of_equal_scores_are_even() -> None:
    query, key = torch.zeros(1, 4, 2, 8), torch.randn(1, 2, 5, 8)
    assert torch.equal(attention_weights(query, key), torch.full((1, 4, 2, 5), 0.2))


def test_rotary_scores_depend_on_the_distance_alone() -> None:
    query, key = torch.randn(2, 1, 3, 2, 8, dtype=torch.float64)
    scores = []
    for first in (0, 3, 500):
        turned_query, turned_key = rotate(query, first), rotate(key, first)
        scores.append((turned_query[0, :, 1] * turned_key[0, :, 0]).sum(-1))
    torch.testing.assert_close(scores[0], scores[1], rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(scores[0], scores[2], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("rows", [3, FEW_ROWS + 1])
def test_stepping_is_the_whole_sequence_while_the_cache_grows(variant: str, rows: int) -> None:
    layer = self_attention(variant).double()
    sequence = torch.randn(rows, 2 * FIRST_CAPACITY + 3, 12, dtype=torch.float64)
    with torch.no_grad():
        whole = layer(sequence, None, causal=True)
        steps = step_through(layer, sequence)
    torch.testing.assert_close(steps, whole, rtol=1e-5, atol=1e-6)


def test_dropout_zeroes_weights_in_training_alone() -> None:
    layer = self_attention(dropout=0.5)
    sequence = torch.randn(1, 6, 12)
    assert not torch.equal(layer(sequence, None, causal=False), layer(sequence, None, causal=False))
    layer.eval()
    assert torch.equal(layer(sequence, None, causal=False), layer(sequence, None, causal=False))


def test_training_in_bf16_gives_bf16_and_its_gradient() -> None:
    layer = self_attention()
    sequence = torch.randn(2, 5, 12)
    exact = layer(sequence, None, causal=True)
    with torch.autocast("cpu", torch.bfloat16):
        rounded = layer(sequence, None, causal=True)
    assert rounded.dtype == torch.bfloat16
    torch.testing.assert_close(rounded.float(), exact, rtol=0.05, atol=0.02)
    rounded.float().sum().backward()
    assert layer.query_projection.weight.grad is not None
    assert torch.isfinite(layer.query_projection.weight.grad).all()
