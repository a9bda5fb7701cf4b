from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from transformer_core.config import (
    PRESETS,
    Activation,
    FeedForwardKind,
    ModelConfig,
    NormKind,
    Positions,
    StackConfig,
    TieEmbeddings,
)
from transformer_core.errors import ConfigError
from transformer_core.model import Transformer

VOCABULARY = 30
NARROW = StackConfig(num_layers=2, d_model=16, num_heads=2, d_ff=24)
WIDE = StackConfig(num_layers=3, d_model=24, num_heads=3, d_ff=20)


def build(
    encoder: StackConfig = NARROW,
    decoder: StackConfig = NARROW,
    *,
    norm_first: bool = True,
    activation: Activation = "relu",
    positions: Positions = "sinusoidal",
    tie_embeddings: TieEmbeddings = "decoder",
    norm_kind: NormKind = "layer",
    feed_forward: FeedForwardKind = "plain",
    query_key_norm: bool = False,
) -> Transformer:
    torch.manual_seed(0)
    config = ModelConfig(
        source_vocabulary_size=VOCABULARY,
        target_vocabulary_size=VOCABULARY,
        pad_id=0,
        bos_id=1,
        eos_id=2,
        encoder=encoder,
        decoder=decoder,
        norm_first=norm_first,
        activation=activation,
        positions=positions,
        tie_embeddings=tie_embeddings,
        norm_kind=norm_kind,
        feed_forward=feed_forward,
        query_key_norm=query_key_norm,
        dropout=0.5,
        attention_dropout=0.5,
        activation_dropout=0.5,
    )
    return Transformer(config).double().eval()


VARIANTS = {
    "norm first": build(),
    "norm last": build(norm_first=False),
    "learned positions": build(positions="learned", activation="gelu"),
    "wide decoder": build(NARROW, WIDE),
    "wide encoder": build(WIDE, NARROW, norm_first=False),
    "modern": build(
        replace(NARROW, num_key_value_heads=1),
        replace(NARROW, num_key_value_heads=1),
        positions="rotary",
        norm_kind="rms",
        feed_forward="swiglu",
        query_key_norm=True,
    ),
    "recurrent": build(replace(NARROW, mixer="lstm"), replace(NARROW, mixer="gru"), positions="none"),
    "convolutional": build(replace(NARROW, mixer="conv"), replace(NARROW, mixer="conv", kernel_width=4)),
    "fast decoder": build(NARROW, replace(NARROW, mixer="ssru"), feed_forward="glu"),
    "lstm decoder": build(replace(NARROW, mixer="gru", bidirectional=False), replace(NARROW, mixer="lstm")),
}


@pytest.fixture(params=VARIANTS)
def model(request: pytest.FixtureRequest) -> Iterator[Transformer]:
    with torch.no_grad():
        yield VARIANTS[request.param]


@pytest.mark.parametrize("norm_first", [True, False])
@pytest.mark.parametrize("positions", ["sinusoidal", "learned"])
def test_an_encoder_alone_has_no_surplus_weights(norm_first: bool, positions: Positions) -> None:
    none = replace(NARROW, num_layers=0)
    model = build(NARROW, none, norm_first=norm_first, positions=positions, tie_embeddings="all")
    whole = build(NARROW, NARROW, norm_first=norm_first, positions=positions, tie_embeddings="all")
    assert model.config.is_encoder_only
    assert not whole.config.is_encoder_only
    names = {name for name, _ in model.named_parameters()}
    assert names == {
        name for name, _ in whole.named_parameters() if not name.startswith(("decoder.", "target_embedding."))
    }
    source, mask = random_ids(3, 6), torch.tensor([[True] * 6, [True] * 4 + [False] * 2, [True] * 6])
    logits = model.project(model.encode(source, mask))
    assert logits.shape == (3, 6, VOCABULARY)
    alone = model.project(model.encode(source[1:2, :4], None))
    torch.testing.assert_close(logits[1:2, :4], alone)
    expected = model.encode(source, mask) @ model.source_embedding.token_embedding.weight.T
    torch.testing.assert_close(logits, expected)


def test_an_encoder_alone_predicts_its_own_input() -> None:
    none = replace(NARROW, num_layers=0)
    for tie_embeddings in ("decoder", "none"):
        with pytest.raises(ConfigError, match="without decoder layers predicts its own input and needs 'all'"):
            build(NARROW, none, tie_embeddings=tie_embeddings)
    with pytest.raises(ConfigError, match=r"num_layers of the encoder \(0\) must be between 1 and 512"):
        build(none, NARROW)


def random_ids(*shape: int, seed: int = 0) -> Tensor:
    return torch.randint(3, VOCABULARY, shape, generator=torch.Generator().manual_seed(seed))


def padded(lengths: list[int]) -> tuple[Tensor, Tensor]:
    """Sources of these lengths, padded with 0, and their mask."""
    mask = torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]
    return random_ids(len(lengths), max(lengths)) * mask, mask


def test_stepping_gives_what_the_whole_sequence_gives(model: Transformer) -> None:
    source, mask = padded([7, 3, 5])
    target_input = random_ids(3, 40, seed=1)  # longer than a cache is at first
    memory = model.encode(source, mask)
    whole = model.decode(target_input, memory, mask)
    state = model.start(memory, mask)
    for place in range(40):
        assert (state.ancestry.place, state.ancestry.num_rows, state.ancestry.num_sentences) == (place - 1, 3, 3)
        torch.testing.assert_close(model.step(target_input[:, place], state), whole[:, place])
    torch.testing.assert_close(whole, model(source, mask, target_input))


def test_rows_follow_their_beams_and_sentences(model: Transformer) -> None:
    source, mask = padded([4, 6, 2])
    memory = model.encode(source, mask)
    state = model.start(memory, mask)
    prefixes = [[token] for token in (3, 4, 5)]  # of each row
    sentences = [0, 1, 2]  # that a row belongs to

    def step(token_ids: list[int]) -> None:
        hidden = model.step(torch.tensor(token_ids), state)
        for row, (prefix, sentence) in enumerate(zip(prefixes, sentences, strict=True)):
            whole = model.decode(torch.tensor([prefix]), memory[sentence : sentence + 1], mask[sentence : sentence + 1])
            torch.testing.assert_close(hidden[row], whole[0, -1])

    def choose(rows: list[int]) -> None:
        prefixes[:] = [[*prefixes[row]] for row in rows]
        sentences[:] = [sentences[row] for row in rows]

    def extend(token_ids: list[int]) -> None:
        for prefix, token_id in zip(prefixes, token_ids, strict=True):
            prefix.append(token_id)
        step(token_ids)

    step([3, 4, 5])
    rows = [0, 0, 1, 1, 2, 2]  # a beam of two each
    state.select(torch.tensor(rows))
    choose(rows)
    extend([6, 7, 8, 9, 10, 11])
    rows = [1, 0, 3, 3, 4, 4]  # reordered within their sentences
    state.select(torch.tensor(rows))
    choose(rows)
    extend([12, 13, 14, 15, 16, 17])
    state.keep_sentences(torch.tensor([2, 0]))  # the second sentence is done; the others change places
    choose([4, 5, 0, 1])
    assert (state.ancestry.num_rows, state.ancestry.num_sentences, state.ancestry.place) == (4, 2, 2)
    extend([18, 19, 20, 21])


@pytest.mark.parametrize(("own", "others"), [(3, 3), (5, 2), (0, 4)])
def test_sentences_that_are_ahead_or_behind_join(model: Transformer, own: int, others: int) -> None:
    sources = padded([4, 6]), padded([7, 2, 3])
    memories = [model.encode(*source) for source in sources]
    targets = random_ids(2, 20, seed=1), random_ids(3, 20, seed=2)
    states = [model.start(memory, mask) for memory, (_, mask) in zip(memories, sources, strict=True)]
    for state, target, count in zip(states, targets, (own, others), strict=True):
        for place in range(count):
            model.step(target[:, place], state)
    state = states[0]
    state.merge(states[1])
    assert (state.ancestry.num_rows, state.ancestry.num_sentences) == (5, 5)
    whole = [
        model.decode(target, *memory)
        for target, *memory in zip(targets, memories, (sources[0][1], sources[1][1]), strict=True)
    ]
    for place in range(10):
        hidden = model.step(torch.cat((targets[0][:, own + place], targets[1][:, others + place])), state)
        expected = torch.cat((whole[0][:, own + place], whole[1][:, others + place]))
        torch.testing.assert_close(hidden, expected, rtol=1e-5, atol=1e-6)
    state.keep_sentences(torch.tensor([3, 0]))
    hidden = model.step(torch.stack((targets[1][1, others + 10], targets[0][0, own + 10])), state)
    expected = torch.stack((whole[1][1, others + 10], whole[0][0, own + 10]))
    torch.testing.assert_close(hidden, expected, rtol=1e-5, atol=1e-6)


def test_a_sentence_does_not_depend_on_its_neighbours_in_the_batch(model: Transformer) -> None:
    source, mask = padded([3, 9, 6])
    target_input = random_ids(3, 5, seed=1)
    together = model(source, mask, target_input)
    for row, length in enumerate([3, 9, 6]):
        alone = model(source[row : row + 1, :length], None, target_input[row : row + 1])
        torch.testing.assert_close(together[row : row + 1], alone)


def test_what_padding_holds_changes_nothing(model: Transformer) -> None:
    source, mask = padded([3, 9])
    target_input = random_ids(2, 5, seed=1)
    before = model(source, mask, target_input)
    source[0, 3:] = 7
    assert torch.equal(model(source, mask, target_input), before)


def reach(stack: StackConfig) -> int:
    """How many positions beyond its own one token can move through a whole stack, both ways together."""
    return stack.num_layers * (stack.kernel_width - 1) if stack.mixer == "conv" else 1000


def test_nothing_before_a_position_moves_when_it_changes(model: Transformer) -> None:
    source, mask = padded([5, 4])
    target_input = random_ids(2, 8, seed=1)
    memory = model.encode(source, mask)
    before = model.decode(target_input, memory, mask)
    for place in range(8):
        changed = target_input.clone()
        changed[:, place] = (changed[:, place] + 1) % VOCABULARY
        moved = (model.decode(changed, memory, mask) != before).any(-1)
        assert not moved[:, :place].any()
        assert moved[:, place : place + 1 + reach(model.config.decoder)].all()


def test_every_source_position_is_seen_from_wherever_the_mixer_reaches(model: Transformer) -> None:
    source = random_ids(1, 6)
    memory = model.encode(source, None)
    for place in range(6):
        changed = source.clone()
        changed[0, place] = (changed[0, place] + 1) % VOCABULARY
        moved = (model.encode(changed, None) != memory).any(-1)[0]
        encoder = model.config.encoder
        far = reach(encoder) // 2 if encoder.mixer == "conv" else 1000  # centred: as far before as after
        assert moved[max(0, place - far) if encoder.bidirectional else place : place + 1 + far].all()


def attention_size(d_model: int, d_memory: int) -> int:
    """Query and output: d² + d each; key and value: d · d_memory + d each."""
    return 2 * (d_model**2 + d_model) + 2 * (d_model * d_memory + d_model)


def layer_size(stack: StackConfig, d_memory: int | None = None) -> int:
    """One layer: attention (two in a decoder), feed-forward, and a norm (2 d) for each of them."""
    d_model, d_ff = stack.d_model, stack.d_ff
    size = attention_size(d_model, d_model) + 2 * d_model * d_ff + d_ff + d_model + 2 * 2 * d_model
    return size if d_memory is None else size + attention_size(d_model, d_memory) + 2 * d_model


@pytest.mark.parametrize("preset", PRESETS)
def test_the_presets_have_the_parameters_that_the_formula_gives(preset: str) -> None:
    stack = PRESETS[preset]
    config = ModelConfig(
        source_vocabulary_size=1000,
        target_vocabulary_size=1000,
        pad_id=0,
        bos_id=1,
        eos_id=2,
        encoder=stack,
        decoder=stack,
    )
    with torch.device("meta"):
        model = Transformer(config)
    layers = stack.num_layers * (layer_size(stack) + layer_size(stack, stack.d_model))
    assert model.num_parameters() == 1000 * stack.d_model + layers + 2 * 2 * stack.d_model


def test_the_base_preset_is_vaswanis() -> None:
    # Table 3: 65 million with a joint vocabulary of about 37,000; these have learned biases and two more norms
    stack = PRESETS["base"]
    config = ModelConfig(
        source_vocabulary_size=37_000,
        target_vocabulary_size=37_000,
        pad_id=0,
        bos_id=1,
        eos_id=2,
        encoder=stack,
        decoder=stack,
    )
    with torch.device("meta"):
        assert Transformer(config).num_parameters() == pytest.approx(65e6, rel=0.04)


@pytest.mark.parametrize(("tie", "num_matrices"), [("all", 1), ("decoder", 2), ("none", 3)])
def test_tied_embeddings_are_one_tensor(tie: TieEmbeddings, num_matrices: int) -> None:
    model = build(tie_embeddings=tie)
    matrices = [
        model.source_embedding.token_embedding.weight,
        model.target_embedding.token_embedding.weight,
        model.output_projection.weight,
    ]
    assert len({id(matrix) for matrix in matrices}) == num_matrices
    none = build(tie_embeddings="none")
    assert none.num_parameters() - model.num_parameters() == (3 - num_matrices) * VOCABULARY * 16
    assert sum(weight.numel() for _, weight in model.named_parameters()) == model.num_parameters()


def test_norm_first_ends_its_stacks_with_a_norm_and_norm_last_needs_none() -> None:
    first, last = build(), build(norm_first=False)
    assert isinstance(first.encoder.final_norm, nn.LayerNorm)
    assert isinstance(first.decoder.final_norm, nn.LayerNorm)
    assert first.num_parameters() - last.num_parameters() == 2 * 2 * 16
    source = random_ids(2, 5)
    for model in (first, last):  # fresh norms, gain 1 and bias 0: every position has mean 0 and variance 1
        with torch.no_grad():
            memory = model.encode(source, None)
        torch.testing.assert_close(memory.mean(-1), torch.zeros(2, 5).double(), atol=1e-6, rtol=0)
        torch.testing.assert_close(memory.var(-1, unbiased=False), torch.ones(2, 5).double(), atol=1e-3, rtol=0)


def test_dropout_is_of_training_alone() -> None:
    model = build()
    source, target_input = random_ids(1, 5), random_ids(1, 4)
    assert torch.equal(model(source, None, target_input), model(source, None, target_input))
    model.train()
    assert not torch.equal(model(source, None, target_input), model(source, None, target_input))
    model.eval()


def test_the_same_seed_builds_the_same_model() -> None:
    for one, other in zip(build().parameters(), build().parameters(), strict=True):
        assert torch.equal(one, other)


def test_joint_embeddings_need_one_width() -> None:
    with pytest.raises(ConfigError, match="tie_embeddings 'all' needs one width"):
        build(NARROW, WIDE, tie_embeddings="all")
