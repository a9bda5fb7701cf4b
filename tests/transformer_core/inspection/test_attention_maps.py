import json
import re

import numpy
import pytest

from transformer_core.config import AttentionKind
from transformer_core.errors import ConfigError
from transformer_core.inspection.attention_maps import HeadChoice, LayerChoice, SentenceAttention

__all__ = ["example"]


def example(missing: dict[AttentionKind, str] | None = None) -> SentenceAttention:
    """Random weights of three layers and two heads, for a source of 4 and a target of 3 tokens, ends included."""
    source = numpy.random.default_rng(0)
    shapes: dict[AttentionKind, tuple[int, int]] = {"encoder": (4, 4), "decoder": (3, 3), "cross": (3, 4)}
    weights = {}
    for kind, (rows, columns) in shapes.items():
        if kind not in (missing or {}):
            scores = source.normal(size=(3, 2, rows, columns)).astype(numpy.float32)
            if kind == "decoder":
                scores[..., ~numpy.tri(rows, dtype=bool)] = -numpy.inf
            exponentials = numpy.exp(scores)
            weights[kind] = exponentials / exponentials.sum(-1, keepdims=True)
    return SentenceAttention(
        source="a </script><b>b</b> c",
        target="x y",
        is_decoded=True,
        source_tokens=("▁a", "</script>", "▁<b>", "<eos>"),
        target_tokens=("▁x", "▁y", "<eos>"),
        begin_token="<bos>",
        weights=weights,
        missing=missing or {},
    )


def test_rows_are_what_is_read_or_written_and_columns_what_could_be_looked_at() -> None:
    attention = example()
    assert attention.rows("encoder") == attention.columns("encoder") == attention.columns("cross")
    assert attention.rows("cross") == attention.rows("decoder") == ("▁x", "▁y", "<eos>")
    assert attention.columns("decoder") == ("<bos>", "▁x", "▁y")
    assert attention.num_weights() == 3 * 2 * (16 + 9 + 12)


@pytest.mark.parametrize(
    ("layer", "head", "chosen"),
    [
        (None, "mean", [(3, "mean")]),
        (1, 2, [(1, 2)]),
        (2, "all", [(2, 1), (2, 2)]),
        ("all", "mean", [(1, "mean"), (2, "mean"), (3, "mean")]),
        ("all", "all", [(1, 1), (1, 2), (2, 1), (2, 2), (3, 1), (3, 2)]),
    ],
)
def test_layers_and_heads_are_chosen(
    layer: LayerChoice | None, head: HeadChoice, chosen: list[tuple[int, HeadChoice]]
) -> None:
    attention = example()
    maps = attention.select("cross", layer, head)
    assert [(item.layer, item.head) for item in maps] == chosen
    for item in maps:
        whole = attention.weights["cross"][item.layer - 1]
        expected = (whole[0] + whole[1]) / 2 if item.head == "mean" else whole[item.head - 1]
        numpy.testing.assert_allclose(item.weights, expected, rtol=1e-6)
        numpy.testing.assert_allclose(item.weights.sum(-1), 1.0, rtol=1e-6)


def test_a_map_has_a_name() -> None:
    attention = example()
    assert str(attention.select("cross", 2, 1)[0]) == "cross-attention, layer 2, head 1"
    assert str(attention.select("encoder")[0]) == "self-attention of the encoder, layer 3, mean of the heads"


@pytest.mark.parametrize(
    ("kind", "layer", "head", "line"),
    [
        ("cross", 4, "mean", "there is no layer 4: the decoder has layers 1 to 3"),
        ("encoder", 4, "mean", "there is no layer 4: the encoder has layers 1 to 3"),
        ("encoder", 0, "mean", "there is no layer 0: the encoder has layers 1 to 3"),
        ("cross", 1, 3, "there is no head 3: each layer of the decoder has heads 1 to 2"),
        ("decoder", 1, 1, "the decoder mixes by gru; take --kind encoder or cross"),
    ],
)
def test_what_there_is_not_cannot_be_chosen(
    kind: AttentionKind, layer: LayerChoice, head: HeadChoice, line: str
) -> None:
    with pytest.raises(ConfigError, match=f"^{re.escape(line)}$"):
        example({"decoder": "the decoder mixes by gru"}).select(kind, layer, head)


def test_a_model_without_any_attention_has_nothing_to_choose() -> None:
    attention = example({"encoder": "it mixes by gru", "decoder": "none", "cross": "none"})
    with pytest.raises(ConfigError, match=r"^it mixes by gru; there is no other to look at$"):
        attention.select("encoder")


def test_json_has_everything_that_was_chosen() -> None:
    attention = example()
    maps = attention.select("decoder", "all", 2)
    values = json.loads(json.dumps(attention.to_dict(maps)))
    assert list(values) == ["source", "target", "is_decoded", "kind", "rows", "columns", "maps"]
    assert values["rows"] == list(attention.rows("decoder"))
    assert values["columns"] == list(attention.columns("decoder"))
    assert [(item["layer"], item["head"]) for item in values["maps"]] == [(1, 2), (2, 2), (3, 2)]
    for item, chosen in zip(values["maps"], maps, strict=True):
        numpy.testing.assert_allclose(item["weights"], chosen.weights, atol=1e-6)
