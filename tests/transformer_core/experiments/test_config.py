from dataclasses import replace
from pathlib import Path
from typing import get_args

import pytest

from cli import options
from transformer_core.config import DEEP_PRESETS, PRESETS, ModelConfig, TieEmbeddings
from transformer_core.errors import ConfigError
from transformer_core.experiments.config import ArchitectureConfig
from transformer_core.experiments.text_config import DataConfig, RawTextConfig

FILE = (Path("a"),)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"train_src": ()}, "training needs both sides"),
        ({"train_src": FILE * 2}, "there are 2 source files and 1 target files"),
        ({"valid_src": FILE}, "validation has 1 source files and 0 target files"),
        ({"source_tokenizer": Path("t")}, "--source-tokenizer and --target-tokenizer go together"),
        (
            {"tokenizer": Path("t"), "source_tokenizer": Path("t"), "target_tokenizer": Path("t")},
            "give --tokenizer (joint), or --source-tokenizer and --target-tokenizer, not both",
        ),
        ({"valid_src": FILE, "valid_tgt": FILE, "valid_size": 3}, "with --valid-src nothing is held back"),
        ({"max_length": 0}, "--max-length and --valid-size must be at least 1"),
        ({"valid_size": 0}, "--max-length and --valid-size must be at least 1"),
        ({"weights": (1.0, 2.0)}, "there are 2 weights; give --weights once for each pair of training files (1)"),
        ({"weights": (0.0,)}, "--weights must be above 0"),
        ({"tags": ("de", "fr")}, "there are 2 tags, 1 pairs of training files and 0 of validation files"),
        ({"tags": ("de",), "valid_src": FILE * 2, "valid_tgt": FILE * 2}, "and 2 of validation files"),
        ({"prepared": Path("p")}, "--data p brings text and tokenizers; leave out --train-src"),
        (
            {"bpe_dropout": 0.1, "tokenizer_kind": "word"},
            "--bpe-dropout is for tokenizers of kind bpe or byte-bpe, not --tokenizer-kind word",
        ),
        (
            {"unigram_alpha": 0.1, "tokenizer_kind": "bpe"},
            "--unigram-alpha is for tokenizers of kind unigram, not --tokenizer-kind bpe",
        ),
    ],
)
def test_data_that_do_not_fit_together_are_named(values: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        DataConfig(**{"train_src": FILE, "train_tgt": FILE, **values})  # type: ignore[arg-type]
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("values", "option"),
    [
        ({"valid_src": FILE, "valid_tgt": FILE}, "valid-src"),
        ({"tokenizer": Path("t")}, "tokenizer"),
        ({"vocabulary_size": 9}, "vocab-size"),
        ({"valid_size": 9}, "valid-size"),
        ({"tags": ("de",)}, "tag"),
    ],
)
def test_a_prepared_folder_brings_all_but_the_weights(values: dict[str, object], option: str) -> None:
    for record in (DataConfig, RawTextConfig):
        assert record(prepared=Path("p"), weights=(1.0, 2.0)).files == {"data": (Path("p/prepared.json"),)}
    with pytest.raises(ConfigError, match=f"brings text and tokenizers; leave out --{option}"):
        DataConfig(prepared=Path("p"), **values)  # type: ignore[arg-type]


def built(*, is_joint: bool = True, **values: object) -> ModelConfig:
    config = ArchitectureConfig(**{"arch": "tiny", "dropout": 0.1, "positions": "rotary", **values})  # type: ignore[arg-type]
    return config.model_config((10, 10), (0, 1, 2), is_joint=is_joint)


def test_a_preset_of_a_deep_encoder_and_a_shallow_decoder() -> None:
    config = built(arch="tiny-6-2")
    assert (config.encoder.num_layers, config.decoder.num_layers) == (6, 2)
    assert replace(config.encoder, num_layers=4) == replace(config.decoder, num_layers=4) == PRESETS["tiny"]
    config = built(arch="base-12-1", num_decoder_layers=2, decoder_d_ff=64)
    assert (config.encoder.num_layers, config.decoder.num_layers, config.decoder.d_ff) == (12, 2, 64)
    assert get_args(options.DeepPreset) == tuple(DEEP_PRESETS)
    assert get_args(options.Preset) == tuple(PRESETS)


@pytest.mark.parametrize(
    ("asked", "shared"),
    [("none", (False, False)), ("encoder", (True, False)), ("decoder", (False, True)), ("all", (True, True))],
)
def test_stacks_share_their_layers_where_it_is_asked_for(asked: str, shared: tuple[bool, bool]) -> None:
    config = built(share_layers=asked)
    assert (config.encoder.share_layers, config.decoder.share_layers) == shared


def test_a_preset_with_what_differs_from_it() -> None:
    assert built().encoder == built().decoder == PRESETS["tiny"]
    config = built(num_layers=3, num_decoder_layers=1, d_ff=100, encoder_d_ff=50, num_heads=2)
    assert (config.encoder.num_layers, config.decoder.num_layers) == (3, 1)
    assert (config.encoder.d_ff, config.decoder.d_ff) == (50, 100)
    assert config.encoder.num_heads == config.decoder.num_heads == 2
    assert config.encoder.d_model == 128
    assert (built(norm="last").norm_first, built().norm_first) == (False, True)


@pytest.mark.parametrize(
    ("values", "is_joint", "tie"),
    [
        ({}, True, "all"),
        ({}, False, "decoder"),
        ({"encoder_d_model": 64}, True, "decoder"),
        ({"tie_embeddings": "none"}, True, "none"),
    ],
)
def test_embeddings_are_tied_where_they_can_be(values: dict[str, object], is_joint: bool, tie: TieEmbeddings) -> None:
    assert built(is_joint=is_joint, **values).tie_embeddings == tie


def test_a_preset_that_is_none_is_named() -> None:
    with pytest.raises(ConfigError, match=r"arch \('huge'\) must be auto or one of tiny, small, base, big"):
        ArchitectureConfig(arch="huge")
