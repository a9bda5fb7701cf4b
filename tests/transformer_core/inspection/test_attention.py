from dataclasses import replace

import pytest
import torch
from torch import Tensor

from tests.transformer_core.decoding.random_model import random_lines, word_model, word_tokenizer
from tests.transformer_core.small_config import small_config, small_stack
from transformer_core.attention_walk import walk
from transformer_core.config import ModelConfig
from transformer_core.decoding.translator import Translator
from transformer_core.errors import ConfigError, DataError, ModelError
from transformer_core.inspection.attention import MAX_TOKENS, Target, encode_source, read_attention
from transformer_core.layers.attention import _MultiHead
from transformer_core.model import DecoderLayer, EncoderLayer, Residual, Transformer

MODELS: dict[str, ModelConfig] = {
    "norm first": small_config(),
    "norm last": small_config(norm_first=False),
    "rotary": small_config(small_stack(d_model=12, num_heads=3), positions="rotary"),
    "multi-query": small_config(small_stack(num_key_value_heads=1), query_key_norm=True),
    "not scaled": small_config(scale_attention=False, feed_forward="swiglu", norm_kind="rms"),
    "two widths": small_config(encoder=small_stack(d_model=18, num_layers=3)),
    "recurrent": small_config(encoder=small_stack(mixer="gru"), decoder=small_stack(mixer="ssru")),
    "encoder alone": small_config(decoder=small_stack(num_layers=0), tie_embeddings="all"),
    "convolutional": small_config(encoder=small_stack(mixer="conv"), decoder=small_stack(mixer="conv")),
}
EMPTY = Target(text="", token_ids=(), is_decoded=False)
LENGTHS = (7, 4)  # of the sources; the targets have 5 positions


def build(config: ModelConfig) -> Transformer:
    torch.manual_seed(0)
    return Transformer(config).double().eval()


def pairs() -> tuple[Tensor, Tensor, Tensor]:
    """Two sources, one of them padded, their mask, and two targets."""
    source = torch.randint(3, 30, (2, max(LENGTHS)), generator=torch.Generator().manual_seed(1))
    mask = torch.arange(max(LENGTHS))[None, :] < torch.tensor(LENGTHS)[:, None]
    target_input = torch.randint(3, 30, (2, 5), generator=torch.Generator().manual_seed(2))
    return source * mask, mask, target_input


@pytest.mark.parametrize("name", MODELS)
@torch.no_grad()
def test_the_walk_ends_where_forward_does(name: str) -> None:
    model = build(MODELS[name])
    source, mask, target_input = pairs()
    found = walk(model, source, mask, target_input)
    memory = model.encode(source, mask)
    assert torch.equal(found.memory, memory)
    assert torch.equal(found.hidden, model.decode(target_input, memory, mask))
    assert torch.equal(found.hidden, model(source, mask, target_input))


@pytest.mark.parametrize("name", MODELS)
@torch.no_grad()
def test_every_row_sums_to_one_and_looks_at_nothing_that_is_not_there(name: str) -> None:
    model = build(MODELS[name])
    found = walk(model, *pairs())
    config = MODELS[name]
    expected = {}
    if not config.is_encoder_only:
        expected["cross"] = (config.decoder.num_layers, 2, 3, 5, 7)
    if config.encoder.mixer == "attention":
        expected["encoder"] = (config.encoder.num_layers, 2, 3, 7, 7)
    if config.decoder.mixer == "attention" and not config.is_encoder_only:
        expected["decoder"] = (config.decoder.num_layers, 2, 3, 5, 5)
    assert {kind: tuple(weights.shape) for kind, weights in found.weights.items()} == expected
    for kind, weights in found.weights.items():
        torch.testing.assert_close(weights.sum(-1), torch.ones(weights.shape[:-1]))
        if kind == "decoder":
            assert not weights.triu(1).any()
        else:
            assert not weights[:, 1, :, :, LENGTHS[1] :].any()


def explicit_attention(
    layer: _MultiHead, asking: Tensor, answering: Tensor, *, causal: bool
) -> tuple[list[list[list[float]]], Tensor]:
    """The definition, a number at a time: weights by head and query, and the output; (length, d_model) in and out."""
    query, (key, value) = layer.query_projection(asking), layer.key_value_projection(answering).chunk(2, dim=-1)
    width = layer.d_head
    weights: list[list[list[float]]] = []
    attended = torch.zeros_like(query)
    for head in range(query.size(1) // width):
        part = slice(head * width, (head + 1) * width)
        weights.append([])
        for row in range(query.size(0)):
            seen = range(row + 1 if causal else key.size(0))
            scores = [float(query[row, part] @ key[column, part]) / width**0.5 for column in seen]
            total = sum(torch.tensor(scores, dtype=torch.float64).exp().tolist())
            shares = [float(torch.tensor(score, dtype=torch.float64).exp()) / total for score in scores]
            weights[-1].append(shares + [0.0] * (key.size(0) - len(shares)))
            for column in seen:
                attended[row, part] += shares[column] * value[column, part]
    return weights, layer.output_projection(attended)


@pytest.mark.parametrize("name", ["norm first", "norm last", "two widths"])
@torch.no_grad()
def test_the_weights_are_the_definition_layer_after_layer(name: str) -> None:
    model = build(MODELS[name])
    source, target_input = pairs()[0][:1], pairs()[2][:1]
    found = walk(model, source, None, target_input)

    def attend(residual: Residual, layer: _MultiHead, stream: Tensor, memory: Tensor | None, weights: Tensor) -> Tensor:
        inputs = residual.norm(stream) if residual.norm_first else stream
        answering = inputs if memory is None else memory
        is_causal = answering.size(0) == target_input.size(1)  # the target to itself
        expected, output = explicit_attention(layer, inputs, answering, causal=is_causal)
        expected_weights = torch.tensor(expected)
        torch.testing.assert_close(weights, expected_weights, rtol=1e-4, atol=1e-6)  # they are computed in float32
        return stream + output if residual.norm_first else residual.norm(stream + output)

    stream = model.source_embedding(source)[0]
    for layer, weights in zip(model.encoder.layers, found.weights["encoder"], strict=True):
        assert isinstance(layer, EncoderLayer) and isinstance(layer.mixer, _MultiHead)
        stream = attend(layer.mixer_residual, layer.mixer, stream, None, weights[0])
        stream = layer.feed_forward_residual(stream, layer.feed_forward)
    memory = model.encoder.final_norm(stream)
    torch.testing.assert_close(memory, model.encode(source, None)[0])
    stream = model.target_embedding(target_input)[0]
    of_layers = zip(model.decoder.layers, found.weights["decoder"], found.weights["cross"], strict=True)
    for decoder_layer, weights, cross_weights in of_layers:
        assert isinstance(decoder_layer, DecoderLayer) and isinstance(decoder_layer.mixer, _MultiHead)
        stream = attend(decoder_layer.mixer_residual, decoder_layer.mixer, stream, None, weights[0])
        cross = decoder_layer.cross_attention
        stream = attend(decoder_layer.cross_attention_residual, cross, stream, memory, cross_weights[0])
        stream = decoder_layer.feed_forward_residual(stream, decoder_layer.feed_forward)
    torch.testing.assert_close(model.decoder.final_norm(stream), model(source, None, target_input)[0])


def test_reading_gives_the_weights_of_a_pair_and_labels_for_them() -> None:
    model, tokenizer = word_model(), word_tokenizer()
    source = random_lines(1)[0]
    best = Translator(model, tokenizer, tokenizer).translate([source])[0].hypotheses[0]
    ids = list(best.token_ids)
    assert tokenizer.decode(ids) == best.text
    found = read_attention(
        model, (tokenizer, tokenizer), source, Target(text=best.text, token_ids=ids, is_decoded=True)
    )
    assert (found.source, found.target, found.is_decoded) == (source, best.text, True)
    assert found.source_tokens == (*(f"▁{word}" for word in source.split()), "<eos>")
    assert found.target_tokens == (*tokenizer.tokens(ids), "<eos>")
    assert found.begin_token == "<bos>"
    assert found.missing == {}
    with torch.no_grad():
        whole = walk(
            model,
            torch.tensor([[*tokenizer.encode(source), tokenizer.eos_id]]),
            None,
            torch.tensor([[tokenizer.bos_id, *ids]]),
        )
    for kind, weights in found.weights.items():
        assert weights.shape[2:] == (len(found.rows(kind)), len(found.columns(kind)))
        torch.testing.assert_close(torch.from_numpy(weights), whole.weights[kind][:, 0])


def test_what_mixes_otherwise_is_named() -> None:
    tokenizer = word_tokenizer()
    stack = small_stack()
    config = replace(
        small_config(encoder=replace(stack, mixer="lstm"), decoder=replace(stack, mixer="conv")),
        source_vocabulary_size=tokenizer.vocabulary_size,
        target_vocabulary_size=tokenizer.vocabulary_size,
    )
    model = Transformer(config).eval()
    found = read_attention(model, (tokenizer, tokenizer), "ba", EMPTY)
    assert set(found.weights) == {"cross"}
    assert found.missing == {
        "encoder": "the encoder mixes by lstm and has no self-attention",
        "decoder": "the decoder mixes by conv and has no self-attention",
    }
    assert found.weights["cross"].shape == (2, 3, 1, 2)  # an empty target is its end token


def test_an_encoder_alone_is_looked_at_with_its_masks() -> None:
    tokenizer = word_tokenizer()
    size = tokenizer.vocabulary_size
    config = replace(MODELS["encoder alone"], source_vocabulary_size=size, target_vocabulary_size=size)
    found = read_attention(Transformer(config).eval(), (tokenizer, tokenizer), "ba <mask> de", None)
    assert found.source_tokens == found.rows("encoder") == ("▁ba", "<mask>", "▁de", "<eos>")
    assert (found.target, found.target_tokens, set(found.weights)) == (None, (), {"encoder"})
    reason = "the model is an encoder without a decoder"
    assert found.missing == {"decoder": reason, "cross": reason}


def test_what_cannot_be_looked_at_is_said() -> None:
    model, tokenizer = word_model(), word_tokenizer()
    long = " ".join(["ba"] * (MAX_TOKENS + 1))
    for sentence in ("", " \t"):
        with pytest.raises(DataError, match="blank"):
            encode_source(model, tokenizer, sentence)
    with pytest.raises(DataError, match="the sentence has 513 tokens; attention can be looked at for 512"):
        encode_source(model, tokenizer, long)
    with pytest.raises(DataError, match="the target has 513 tokens"):
        target = Target(text=long, token_ids=tokenizer.encode(long), is_decoded=False)
        read_attention(model, (tokenizer, tokenizer), "ba", target)
    with pytest.raises(ConfigError, match="learned positions"):
        learned = word_model("learned")
        read_attention(learned, (tokenizer, tokenizer), " ".join(["ba"] * 64), EMPTY)
    with torch.no_grad():
        model.encoder.final_norm.weight.fill_(torch.nan)  # type: ignore[operator]
    with pytest.raises(ModelError, match="NaN"):
        read_attention(model, (tokenizer, tokenizer), "ba", EMPTY)
