import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save

from tests.transformer_core.decoding.random_model import random_model, save_word_model, word_model, word_tokenizer
from transformer_core.errors import ModelError
from transformer_core.model_directory import expected_shapes, load_model, weights_of
from transformer_core.model_files import (
    checkpoint_path,
    hash_model_files,
    read_json,
    save_architecture,
    verify_hashes,
    write_json,
)
from transformer_core.weight_file import read_weights, write_weights


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return save_word_model(tmp_path / "model", beam_size=3)


def test_a_model_that_was_saved_computes_the_same(folder: Path) -> None:
    loaded = load_model(folder)
    model = word_model()
    assert loaded.model.config == model.config
    assert not loaded.model.training
    assert loaded.generation == {"beam_size": 3}
    assert loaded.source_tokenizer is loaded.target_tokenizer
    assert loaded.source_tokenizer.to_json() == word_tokenizer().to_json()
    source, target = torch.tensor([[7, 8, 2]]), torch.tensor([[1, 9]])
    with torch.no_grad():
        assert torch.equal(loaded.model(source, None, target), model(source, None, target))


@pytest.mark.parametrize("tie", ["all", "decoder", "none"])
def test_what_is_tied_is_stored_once_and_stays_tied(tmp_path: Path, tie: str) -> None:
    save_word_model(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "tie_embeddings": tie}))
    model = type(word_model())(type(word_model().config).from_json((tmp_path / "config.json").read_text()))
    write_weights(tmp_path / "model.safetensors", weights_of(model))
    loaded = load_model(tmp_path).model
    matrices = {
        id(loaded.source_embedding.token_embedding.weight),
        id(loaded.target_embedding.token_embedding.weight),
        id(loaded.output_projection.weight),
    }
    assert len(matrices) == {"all": 1, "decoder": 2, "none": 3}[tie]
    assert loaded.num_parameters() == model.num_parameters()
    assert all(torch.equal(one, other) for one, other in zip(loaded.parameters(), model.parameters(), strict=True))
    assert all(parameter.device.type == "cpu" for parameter in loaded.parameters())


def test_the_same_weights_are_the_same_bytes(tmp_path: Path) -> None:
    write_weights(tmp_path / "one", weights_of(random_model(20)))
    write_weights(tmp_path / "other", dict(reversed(weights_of(random_model(20)).items())))
    assert (tmp_path / "one").read_bytes() == (tmp_path / "other").read_bytes()


def test_separate_tokenizers_take_the_place_of_a_joint_one(folder: Path) -> None:
    config, tokenizer = word_model().config, word_tokenizer()
    other = type(tokenizer).from_json(tokenizer.to_json())
    save_architecture(folder, config, tokenizer, other)
    assert sorted(path.name for path in folder.glob("*tokenizer*")) == [
        "source_tokenizer.json",
        "target_tokenizer.json",
    ]
    loaded = load_model(folder)
    assert loaded.source_tokenizer is not loaded.target_tokenizer
    save_architecture(folder, config, tokenizer, tokenizer)
    assert sorted(path.name for path in folder.glob("*tokenizer*")) == ["tokenizer.json"]


# --- Damage


def header_of(content: bytes) -> tuple[dict[str, Any], bytes]:
    (length,) = struct.unpack("<Q", content[:8])
    return json.loads(content[8 : 8 + length]), content[8 + length :]


def with_header(header: dict[str, Any], rest: bytes) -> bytes:
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + rest


def overlapping(content: bytes) -> bytes:
    header, rest = header_of(content)
    first, second, *_ = header
    header[second]["data_offsets"] = header[first]["data_offsets"]
    return with_header(header, rest)


def half_precision(content: bytes) -> bytes:
    return save({name: weight.half() for name, weight in weights_of(word_model()).items()})


def other_shape(content: bytes) -> bytes:
    return save(weights_of(random_model(word_tokenizer().vocabulary_size + 1)))


def without_a_tensor(content: bytes) -> bytes:
    return save(
        {name: weight for name, weight in weights_of(word_model()).items() if name != "decoder.final_norm.bias"}
    )


def with_a_tensor(content: bytes) -> bytes:
    return save({**weights_of(word_model()), "virus": torch.zeros(1)})


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda content: content[:-1], "is damaged or no safetensors file"),
        (lambda content: content[:100], "is damaged or no safetensors file"),
        (lambda content: b"", "is damaged or no safetensors file"),
        (lambda content: b"garbage" * 1000, "is damaged or no safetensors file"),
        (lambda content: struct.pack("<Q", 1 << 62) + content[8:], "is damaged or no safetensors file"),
        (lambda content: b"\x80\x02}q\x00." + content, "is damaged or no safetensors file"),  # a pickle
        (overlapping, "is damaged or no safetensors file"),
        (other_shape, r"source_embedding.token_embedding.weight has shape \(66, 32\), config.json asks for \(65, 32\)"),
        (without_a_tensor, "lacks the tensor decoder.final_norm.bias that config.json asks for"),
        (with_a_tensor, "holds the tensor virus that config.json does not know"),
        (half_precision, "is stored as F16, not as F32"),
    ],
)
def test_damaged_weights_are_one_line(folder: Path, damage: Callable[[bytes], bytes], message: str) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(ModelError, match=message) as caught:
        load_model(folder)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


def test_a_config_that_asks_for_the_moon_takes_no_memory(folder: Path) -> None:
    stack = {"num_layers": 64, "d_model": 65536, "num_heads": 1, "d_ff": 65536, "mixer": "attention"}
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "encoder": stack, "decoder": stack}))
    with pytest.raises(ModelError, match="lacks the tensor"):  # 5 terabytes that were never asked of the machine
        load_model(folder)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("config.json", None, "config.json: is missing; the model folder is incomplete"),
        ("config.json", "{}", "config.json: has format_version None"),
        ("config.json", " " * ((1 << 24) + 1), "config.json: is larger than"),
        ("tokenizer.json", None, "source_tokenizer.json: is missing"),
        ("tokenizer.json", "{}", "tokenizer.json"),
        ("tokenizer.json", "\udcff", "tokenizer.json: cannot be read"),
        ("model.safetensors", None, "model.safetensors: is missing"),
        ("generation.json", "[]", "generation.json: must hold a JSON object"),
        ("generation.json", "{", "generation.json: is not JSON"),
        ("metadata.json", "[" * 100_000, "metadata.json: is not JSON"),
        ("metadata.json", '{"data": ["\\ud800"]}', r"metadata.json: holds half a character"),
        ("generation.json", '{"\\udcff": 1}', r"generation.json: holds half a character"),
    ],
)
def test_a_missing_or_damaged_file_is_one_line(folder: Path, name: str, text: str | None, message: str) -> None:
    if text is None:
        (folder / name).unlink()
    else:
        (folder / name).write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(ModelError, match=message) as caught:
        load_model(folder)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 1000


def test_a_vocabulary_of_another_size_is_none_of_this_model(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(
        json.dumps({**config, "source_vocabulary_size": 64, "target_vocabulary_size": 64})
    )
    with pytest.raises(ModelError, match=r"tokenizer\.json: has 65 entries, config\.json says 64"):
        load_model(folder)


@pytest.mark.parametrize("name", ["bos_id", "eos_id"])
def test_other_special_ids_are_none_of_this_model(folder: Path, name: str) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, name: 4}))
    with pytest.raises(ModelError, match=r"has other special ids than config\.json"):
        load_model(folder)


def test_what_is_no_folder_is_said_so(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="nowhere: does not exist; name a folder written by `transduce train -o`"):
        load_model(tmp_path / "nowhere")
    (tmp_path / "file").touch()
    with pytest.raises(ModelError, match="file: is a file, not a model folder"):
        load_model(tmp_path / "file")


# --- Checkpoints and hashes


def test_checkpoints_by_name_and_step(folder: Path) -> None:
    path = folder / "checkpoints" / "step-00000040"
    path.mkdir(parents=True)
    other = random_model(word_tokenizer().vocabulary_size, seed=9)
    write_weights(path / "model.safetensors", weights_of(other))
    (folder / "checkpoints" / "LATEST").write_text("step-00000040\n")
    assert checkpoint_path(folder, "best") == folder / "model.safetensors"
    assert checkpoint_path(folder, "last") == checkpoint_path(folder, "40") == path / "model.safetensors"
    loaded = load_model(folder, "last").model
    assert all(torch.equal(one, other) for one, other in zip(loaded.parameters(), other.parameters(), strict=True))
    with pytest.raises(ModelError, match="has no checkpoint 41; kept steps: 40"):
        checkpoint_path(folder, "41")
    with pytest.raises(ModelError, match="checkpoint 'first' is none; use best, last or the number of a step"):
        checkpoint_path(folder, "first")
    (folder / "checkpoints" / "LATEST").write_text("../../../etc\n")
    with pytest.raises(ModelError, match=r"LATEST: is damaged: '\.\./\.\./\.\./etc' is no name of a checkpoint"):
        checkpoint_path(folder, "last")
    (folder / "checkpoints" / "step-mine").mkdir()  # of somebody's making
    with pytest.raises(ModelError, match="has no checkpoint 41; kept steps: 40"):
        checkpoint_path(folder, "41")
    with pytest.raises(ModelError, match="is none; use best, last or the number of a step"):
        checkpoint_path(folder, "9" * 5000)


def test_hashes_tell_what_was_changed(folder: Path) -> None:
    with pytest.raises(ModelError, match="holds no hashes to verify"):
        verify_hashes(folder)
    write_json(folder / "metadata.json", {"files": hash_model_files(folder)})
    assert verify_hashes(folder) == []
    (folder / "generation.json").write_text("{}")
    assert verify_hashes(folder) == ["generation.json"]
    (folder / "model.safetensors").unlink()
    assert verify_hashes(folder) == ["generation.json", "model.safetensors"]


def test_json_that_is_not_there_is_empty(tmp_path: Path) -> None:
    assert read_json(tmp_path / "none.json") == {}
    write_json(tmp_path / "some.json", {"text": "é\u2028"})
    assert read_json(tmp_path / "some.json") == {"text": "é\u2028"}
    assert "é" in (tmp_path / "some.json").read_text(encoding="utf-8")


def test_weights_go_where_they_are_wanted(tmp_path: Path) -> None:
    model = random_model(20)
    write_weights(tmp_path / "w.safetensors", weights_of(model))
    weights = read_weights(tmp_path / "w.safetensors", expected_shapes(model))
    (tmp_path / "w.safetensors").write_bytes(b"")  # nothing of them is mapped from the file any more
    assert all(torch.equal(weights[name], weight) for name, weight in weights_of(model).items())


def test_mapped_weights_are_the_same_and_bear_that_the_file_is_replaced(folder: Path) -> None:
    model, mapped = load_model(folder).model, load_model(folder, is_mapped=True).model
    write_weights(folder / "model.safetensors", weights_of(random_model(word_tokenizer().vocabulary_size, seed=4)))
    for name, weight in weights_of(model).items():
        assert torch.equal(weights_of(mapped)[name], weight)
