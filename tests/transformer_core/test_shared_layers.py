"""Layers that share their weights: one is stored, and computes in every place of the stack."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tests.transformer_core.decoding.random_model import random_lines, word_tokenizer
from tests.transformer_core.test_model import NARROW, build, layer_size
from transformer_core.config import DecoderMixer, ModelConfig
from transformer_core.conversion.plain_form import plain_form
from transformer_core.decoding.config import SearchConfig
from transformer_core.decoding.translator import Translator
from transformer_core.errors import ConfigError
from transformer_core.model import Transformer
from transformer_core.model_directory import expected_shapes, load_model, weights_of
from transformer_core.model_files import save_architecture, write_json
from transformer_core.quantized_model import quantize_model
from transformer_core.training.adaptation import adapt_model
from transformer_core.training.adaptation_config import AdaptationConfig
from transformer_core.training.sharding import shard
from transformer_core.weight_file import write_weights

SHARED = replace(NARROW, num_layers=3, share_layers=True)


def unshared(model: Transformer) -> Transformer:
    """The slow twin: a copy of the layer in each place."""
    config, weights = plain_form(model.config, weights_of(model))
    assert not config.encoder.share_layers
    twin = Transformer(config).double().eval()
    twin.load_state_dict(weights, strict=False)
    assert set(weights) == set(expected_shapes(twin))
    return twin


def test_one_layer_is_stored() -> None:
    one = replace(NARROW, num_layers=1)
    shared, single, plain = build(SHARED, SHARED), build(one, one), build(replace(SHARED, share_layers=False), SHARED)
    assert shared.num_parameters() == single.num_parameters()
    assert plain.num_parameters() - shared.num_parameters() == 2 * layer_size(NARROW)
    names = {name for name in weights_of(shared) if ".layers." in name}
    assert names
    assert all(name.split(".")[2] == "0" for name in names)


@pytest.mark.parametrize("mixer", ["attention", "ssru", "gru", "conv"])
def test_it_computes_what_copies_of_the_layer_do_and_stepping_is_the_whole_sequence(mixer: DecoderMixer) -> None:
    model = build(SHARED, replace(SHARED, mixer=mixer))
    source, target = torch.randint(5, 30, (2, 5)), torch.randint(5, 30, (2, 4))
    twin = unshared(model)
    with torch.no_grad():
        whole = model(source, None, target)
        torch.testing.assert_close(whole, twin(source, None, target))
        state = model.start(model.encode(source, None), None)
        stepped = torch.stack([model.step(target[:, place], state) for place in range(4)], dim=1)
    torch.testing.assert_close(stepped, whole)


def test_gradients_of_all_places_come_together() -> None:
    model = build(SHARED, SHARED)
    source, target = torch.randint(5, 30, (2, 5)), torch.randint(5, 30, (2, 4))
    twin = unshared(model)
    for each in (model, twin):
        each(source, None, target).square().sum().backward()
    name = "decoder.layers.{}.feed_forward.inner_projection.weight"
    of_twin = dict(twin.named_parameters())
    expected = sum(of_twin[name.format(place)].grad for place in range(3))  # type: ignore[misc]
    torch.testing.assert_close(dict(model.named_parameters())[name.format(0)].grad, expected)


def save_shared(folder: Path) -> Path:
    size = word_tokenizer().vocabulary_size
    config = ModelConfig(
        source_vocabulary_size=size,
        target_vocabulary_size=size,
        pad_id=0,
        bos_id=1,
        eos_id=2,
        encoder=SHARED,
        decoder=SHARED,
    )
    torch.manual_seed(2)
    folder.mkdir()
    save_architecture(folder, config, word_tokenizer(), word_tokenizer())
    write_weights(folder / "model.safetensors", weights_of(Transformer(config)))
    write_json(folder / "generation.json", {})
    return folder


def test_a_folder_loads_translates_and_quantizes(tmp_path: Path) -> None:
    loaded = load_model(save_shared(tmp_path / "model"))
    layers = list(loaded.model.decoder.layers)
    assert all(layer is layers[0] for layer in layers)
    config = SearchConfig(beam_size=3, max_length=8)
    ready = Translator(loaded.model, loaded.source_tokenizer, loaded.target_tokenizer, config)
    twin = Translator(unshared(loaded.model).float(), loaded.source_tokenizer, loaded.target_tokenizer, config)
    lines = random_lines(9)
    assert [found.text for found in ready.translate(lines)] == [found.text for found in twin.translate(lines)]
    before, after = quantize_model(tmp_path / "model", tmp_path / "small", "int8")
    assert after < before
    assert set(weights_of(load_model(tmp_path / "small").model)) == set(weights_of(loaded.model))


def test_adapters_stand_beside_the_one_layer_and_parts_of_it_cannot_be_frozen() -> None:
    model = build(SHARED, SHARED)
    summary = adapt_model(model, AdaptationConfig(lora_rank=2), (), seed=1)
    assert summary is not None
    assert (
        "beside 13 matrices" in summary
    )  # 5 of the encoder's layer: 3 of attention, 2 of feed-forward; the decoder's has 7 or 8
    source, target = torch.randint(5, 30, (2, 5)), torch.randint(5, 30, (2, 4))
    assert model.float()(source, None, target).isfinite().all()
    with pytest.raises(ConfigError, match=r"--freeze encoder.2: the layers of the encoder are one; name encoder"):
        adapt_model(build(SHARED), AdaptationConfig(freeze=("encoder.2",)), (), seed=1)


def test_fsdp_is_refused() -> None:
    with pytest.raises(ConfigError, match="--fsdp does not go with --share-layers"):
        shard(build(SHARED), torch.nn.Linear(1, 1), 2)
