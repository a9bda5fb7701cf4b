import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from transformer_core.config import PRESETS, ModelConfig, StackConfig, TieEmbeddings
from transformer_core.errors import ConfigError, ModelError

CONFIG = ModelConfig(source_vocabulary_size=100, target_vocabulary_size=100, pad_id=0, bos_id=1, eos_id=2)


@st.composite
def stacks(draw: st.DrawFn, d_model: int | None = None) -> StackConfig:
    num_heads = draw(st.sampled_from([1, 2, 4]))
    return StackConfig(
        num_layers=draw(st.integers(1, 512)),
        d_model=d_model or 8 * draw(st.integers(1, 100)),
        num_heads=num_heads,
        d_ff=draw(st.integers(1, 65536)),
    )


@st.composite
def configs(draw: st.DrawFn) -> ModelConfig:
    ties: list[TieEmbeddings] = ["all", "decoder", "none"]
    tie = draw(st.sampled_from(ties))
    encoder = draw(stacks())
    size = draw(st.integers(5, 1 << 24))
    shares = st.floats(0, 1, exclude_max=True)
    return ModelConfig(
        source_vocabulary_size=size,
        target_vocabulary_size=size if tie == "all" else draw(st.integers(5, 1 << 24)),
        pad_id=draw(st.integers(0, 4)),
        bos_id=draw(st.integers(0, 4)),
        eos_id=draw(st.integers(0, 4)),
        encoder=encoder,
        decoder=draw(stacks(encoder.d_model if tie == "all" else None)),
        norm_first=draw(st.booleans()),
        activation=draw(st.sampled_from(["relu", "gelu"])),
        positions=draw(st.sampled_from(["sinusoidal", "learned"])),
        sinusoid_form=draw(st.sampled_from(["marian", "fairseq", "vaswani"])),
        max_positions=draw(st.integers(1, 1 << 20)),
        tie_embeddings=tie,
        dropout=draw(shares),
        attention_dropout=draw(shares),
        activation_dropout=draw(shares),
    )


@given(configs())
def test_a_config_comes_back_from_its_file(config: ModelConfig) -> None:
    assert ModelConfig.from_json(config.to_json()) == config


def test_the_file_is_json_that_people_can_read() -> None:
    values = json.loads(CONFIG.to_json())
    assert values["format_version"] == 1
    assert values["encoder"]["num_heads"] == 8
    assert CONFIG.to_json().endswith("}\n")


def test_resized_is_the_same_but_for_its_vocabularies() -> None:
    assert CONFIG.resized(7, 7) == replace(CONFIG, source_vocabulary_size=7, target_vocabulary_size=7)


def test_the_presets_are_as_the_field_knows_them() -> None:
    shapes = {name: (s.num_layers, s.d_model, s.num_heads, s.d_ff, s.d_head) for name, s in PRESETS.items()}
    assert shapes == {
        "tiny": (4, 128, 4, 256, 32),
        "small": (3, 512, 8, 1024, 64),
        "base": (6, 512, 8, 2048, 64),  # Vaswani et al. 2017, table 3
        "big": (6, 1024, 16, 4096, 64),
    }


def changed(**values: object) -> Callable[[dict[str, Any]], object]:
    return lambda content: content.update(values)


def in_encoder(**values: object) -> Callable[[dict[str, Any]], object]:
    return lambda content: content["encoder"].update(values)


def without(name: str) -> Callable[[dict[str, Any]], object]:
    return lambda content: content.pop(name)


DAMAGES: list[tuple[Callable[[dict[str, Any]], object], str]] = [
    (
        changed(format_version=2),
        "has format_version 2, this version of transduce reads 1; use the version that wrote it",
    ),
    (without("format_version"), "has format_version None"),
    (changed(hidden_size=512), "unknown key 'hidden_size' in the top level"),
    (in_encoder(size=1), "unknown key 'size' in encoder"),
    (without("pad_id"), "pad_id"),
    (without("encoder"), "encoder must be a JSON object"),
    (changed(encoder=[1]), "encoder must be a JSON object"),
    (in_encoder(num_layers=True), "num_layers is True, which is not of its kind"),
    (in_encoder(num_layers="6"), "num_layers is '6', which is not of its kind"),
    (in_encoder(num_layers=6.0), "num_layers is 6.0, which is not of its kind"),
    (in_encoder(num_layers=None), "num_layers is None, which is not of its kind"),
    (in_encoder(num_layers=[[[[[[[[[6]]]]]]]]]), "num_layers is [[[[["),
    (in_encoder(num_layers=list(range(10**5))), "num_layers is [0, 1, 2, 3, 4, 5, ...], which is not of its kind"),
    (in_encoder(num_layers=0), "num_layers of the encoder (0) must be between 1 and 512"),
    (in_encoder(num_layers=-1), "num_layers (-1) must be between 0 and 512"),
    (in_encoder(num_layers=10**9), "num_layers (1000000000) must be between 0 and 512"),
    (in_encoder(num_layers=10**1000), "must be between 0 and 512"),
    (in_encoder(d_model=500), "d_model (500) must be divisible by num_heads (8)"),
    (in_encoder(d_model=10**7), "d_model (10000000) must be between 2 and 65536"),
    (in_encoder(d_ff=-1), "d_ff (-1) must be between 1 and 65536"),
    (in_encoder(mixer="mamba"), "mixer ('mamba') must be one of attention"),
    (in_encoder(mixer=3), "mixer is 3, which is not of its kind"),
    (in_encoder(mixer="x" * 10**6), "must be one of attention"),
    (changed(source_vocabulary_size=10**12), "source_vocabulary_size (1000000000000) must be between 1 and 16777216"),
    (changed(pad_id=100), "pad_id (100) must be between 0 and 99"),
    (changed(eos_id=-1), "eos_id (-1) must be between 0 and 99"),
    (changed(norm_first=1), "norm_first is 1, which is not of its kind"),
    (changed(dropout=1.0), "dropout (1.0) must be at least 0 and below 1"),
    (changed(dropout=True), "dropout is True, which is not of its kind"),
    (changed(dropout="0.1"), "dropout is '0.1', which is not of its kind"),
    (changed(attention_dropout=float("nan")), "attention_dropout (nan) must be at least 0 and below 1"),
    (changed(activation_dropout=float("inf")), "activation_dropout (inf) must be at least 0 and below 1"),
    (changed(max_positions=1 << 40), "max_positions (1099511627776) must be between 1 and 1048576"),
    (changed(target_vocabulary_size=99), "tie_embeddings 'all' needs a joint vocabulary"),
    (changed(activation="tanh"), "activation ('tanh') must be one of relu, gelu"),
]


@pytest.mark.parametrize(("damage", "message"), DAMAGES, ids=[message[:60] for _, message in DAMAGES])
def test_a_damaged_file_is_one_line_that_says_what_is_wrong(
    damage: Callable[[dict[str, Any]], object], message: str
) -> None:
    content = json.loads(CONFIG.to_json())
    damage(content)
    with pytest.raises(ModelError) as caught:
        ModelConfig.from_json(json.dumps(content), "m/config.json")
    found = str(caught.value)
    assert found.startswith("m/config.json: ")
    assert message in found
    assert "\n" not in found
    assert len(found) < 300


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[" * 100_000,
        "nonsense",
        "[]",
        "3",
        "null",
        '{"format_version": 1' + ', "x": 1' + "0" * 5000 + "}",
        "\x00",
    ],
    ids=lambda text: text[:12],
)
def test_what_is_no_config_is_one_line(text: str) -> None:
    with pytest.raises(ModelError, match=r"^config\.json: ") as caught:
        ModelConfig.from_json(text)
    assert "\n" not in str(caught.value)


def test_odd_widths_have_no_sinusoids() -> None:
    odd = StackConfig(d_model=15, num_heads=3)
    with pytest.raises(ConfigError, match="sinusoidal positions need an even d_model"):
        replace(CONFIG, encoder=odd, decoder=odd)
    assert replace(CONFIG, encoder=odd, decoder=odd, positions="learned").encoder.d_head == 5
