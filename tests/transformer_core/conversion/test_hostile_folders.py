"""Foreign folders made to do harm, or damaged: a ModelError in a line, whatever it is that they hold."""

import json
import math
import os
import shutil
import struct
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from benchmarks.fuzz_foreign_models import prepare_foreign
from transformer_core.conversion.ctranslate2_file import TYPES
from transformer_core.conversion.foreign_vocabulary import Direction
from transformer_core.conversion.import_folder import import_folder
from transformer_core.decoding.config import MAX_HYPOTHESES, MAX_LENGTH_PENALTY, SearchConfig
from transformer_core.errors import ConfigError, ModelError
from transformer_core.model_directory import load_model

Damage = Callable[[Path], None]
QUERY = "model.encoder.layers.0.self_attn.q_proj.weight"
KEY = "model.encoder.layers.0.self_attn.k_proj.weight"


@pytest.fixture(scope="module")
def foreign(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("foreign")
    prepare_foreign(folder)
    return folder


def write(name: str, content: bytes) -> Damage:
    def damage(folder: Path) -> None:
        (folder / name).write_bytes(content)

    return damage


def pipe(name: str) -> Damage:
    def damage(folder: Path) -> None:
        (folder / name).unlink()
        os.mkfifo(folder / name)

    return damage


def entry(name: str) -> Damage:
    """Give the last entry of the vocabulary another name."""

    def damage(folder: Path) -> None:
        entries = list(json.loads((folder / "vocab.json").read_text(encoding="utf-8")))
        table = {key: index for index, key in enumerate([*entries[:-1], name])}
        (folder / "vocab.json").write_text(json.dumps(table), encoding="utf-8")

    return damage


def tensor(name: str, make: Callable[[torch.Tensor], torch.Tensor]) -> Damage:
    """Put another tensor in the place of one."""

    def damage(folder: Path) -> None:
        weights = load_file(folder / "model.safetensors")
        save_file({**weights, name: make(weights[name]).contiguous()}, folder / "model.safetensors")

    return damage


def endless_table(folder: Path) -> None:
    """Say that there are 2^40 entries, each of no width."""
    content = (folder / "model.safetensors").read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    header = json.loads(content[8 : 8 + length])
    last = max(item["data_offsets"][1] for name, item in header.items() if name != "__metadata__")
    header["nothing"] = header.pop("model.shared.weight")
    header["model.shared.weight"] = {"dtype": "F32", "shape": [1 << 40, 0], "data_offsets": [last, last]}
    text = json.dumps(header).encode()
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", len(text)) + text + content[8 + length :])


def arrays(*items: tuple[str, tuple[int, ...], torch.dtype], aliases: tuple[tuple[str, str], ...] = ()) -> Damage:
    """Write a model.bin of zeros."""

    def string(text: str) -> bytes:
        return struct.pack("<H", len(text) + 1) + text.encode() + b"\0"

    content = struct.pack("<I", 6) + string("TransformerSpec") + struct.pack("<II", 7, len(items))
    for name, shape, dtype in items:
        data = bytes(math.prod(shape) * dtype.itemsize)
        head = struct.pack(f"<B{len(shape)}IBI", len(shape), *shape, TYPES.index(dtype), len(data))
        content += string(name) + head + data
    content += struct.pack("<I", len(aliases)) + b"".join(string(alias) + string(name) for alias, name in aliases)
    return write("model.bin", content)


BYTES, FLOATS = torch.int8, torch.float32
HOSTILE: dict[str, tuple[str, Damage, str]] = {
    "half a character": ("marian", entry("\ud800"), r"holds half a character \(such as"),
    "an id of 4300 digits": ("marian", write("vocab.json", b'{"a": ' + b"9" * 4300 + b"}"), "is no table of entries"),
    "weights that are integers": ("marian", tensor(QUERY, torch.Tensor.long), "holds numbers of another kind"),
    "a weight without dimensions": ("marian", tensor(KEY, torch.Tensor.sum), "lacks the tensor"),
    "a bias for nobody": ("marian", tensor(KEY, lambda weight: weight[:0]), "k_proj and v_proj have shapes"),
    "a vocabulary without end": ("marian", endless_table, "lacks the tensor model.shared.weight"),
    "a cutter that is a pipe": ("marian", pipe("source.spm"), "is no ordinary file"),
    "a vocabulary that is a pipe": ("marian", pipe("vocab.json"), "is no ordinary file"),
    "weights that are a pipe": ("marian", pipe("model.safetensors"), "has neither"),
    "a part that is a pipe": ("sharded", pipe("part-1.safetensors"), "no ordinary file"),
    "a part that is the folder": (
        "sharded",
        write("model.safetensors.index.json", b'{"weight_map": {"a": "..", "b": ""}}'),
        "no ordinary file",
    ),
    "a part whose name is too long": (
        "sharded",
        write("model.safetensors.index.json", b'{"weight_map": {"a": "' + b"x" * 4000 + b'"}}'),
        r"'x+\.\.\.x+' is missing, or no ordinary file",
    ),
    "a pickle that takes what is not there": ("pickled", write("pytorch_model.bin", b"\x80\x02."), "is damaged"),
    "a pickle of nothing": ("pickled", write("pytorch_model.bin", b""), "is damaged"),
    "arrays that are a pipe": ("ctranslate2", pipe("model.bin"), "no ordinary file"),
    "entries that are a pipe": ("ctranslate2", pipe("shared_vocabulary.json"), "is no ordinary file"),
    "entries that are none": ("ctranslate2", write("shared_vocabulary.json", b"[1, [], {}]"), "is no list of entries"),
    "no entries": (
        "converted",
        write("shared_vocabulary.json", b"[]"),
        "the vocabulary has 0 entries, the table 0 rows",
    ),
    "an alias of a scale": (
        "ctranslate2",
        arrays(("a", (2, 2), BYTES), ("a_scale", (2,), FLOATS), aliases=(("z", "a_scale"),)),
        "lacks the array",
    ),
    "a scale for each of a row": (
        "ctranslate2",
        arrays(("a", (3,), BYTES), ("a_scale", (3,), FLOATS)),
        "the scale of a",
    ),
    "a scale for each of none": ("ctranslate2", arrays(("a", (), BYTES), ("a_scale", (3,), FLOATS)), "the scale of a"),
    "a scale for each of three": (
        "ctranslate2",
        arrays(("a", (2, 3), BYTES), ("a_scale", (3,), FLOATS)),
        "the scale of a",
    ),
    "an empty array beyond all tensors": (
        "ctranslate2",
        arrays(("a", (0, (1 << 32) - 1, (1 << 32) - 1, (1 << 32) - 1), FLOATS)),
        "lacks the array",
    ),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_folder_is_refused_in_a_line(foreign: Path, tmp_path: Path, name: str) -> None:
    kind, damage, reason = HOSTILE[name]
    shutil.copytree(foreign / kind, tmp_path / "theirs")
    damage(tmp_path / "theirs")
    with pytest.raises(ModelError, match=reason) as caught:
        import_folder(tmp_path / "theirs", tmp_path / "ours", Direction())
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "ours").exists()


@pytest.mark.parametrize("kind", ["marian", "pickled", "sharded", "ctranslate2", "converted"])
def test_the_folders_are_good_before_they_are_damaged(foreign: Path, tmp_path: Path, kind: str) -> None:
    import_folder(foreign / kind, tmp_path / "ours", Direction())
    assert load_model(tmp_path / "ours").model.config.encoder.d_model == 16


@pytest.mark.parametrize(
    ("values", "taken"),
    [
        ({"num_beams": True, "length_penalty": True, "no_repeat_ngram_size": True}, {}),
        ({"num_beams": 10**40, "length_penalty": 10**400}, {}),
        ({"num_beams": MAX_HYPOTHESES + 1, "length_penalty": MAX_LENGTH_PENALTY + 1}, {}),
        ({"num_beams": 0, "length_penalty": -1.0, "no_repeat_ngram_size": -3}, {}),
        ({"num_beams": 3, "length_penalty": 2}, {"beam_size": 3, "length_penalty": 2.0}),
        (
            {"num_beams": MAX_HYPOTHESES, "length_penalty": MAX_LENGTH_PENALTY},
            {"beam_size": MAX_HYPOTHESES, "length_penalty": float(MAX_LENGTH_PENALTY)},
        ),
    ],
)
def test_of_decoding_defaults_those_are_taken_over_that_can_be(
    foreign: Path, tmp_path: Path, values: dict[str, object], taken: dict[str, object]
) -> None:
    shutil.copytree(foreign / "marian", tmp_path / "theirs")
    (tmp_path / "theirs" / "generation_config.json").write_text(json.dumps(values))
    import_folder(tmp_path / "theirs", tmp_path / "ours", Direction())
    found = load_model(tmp_path / "ours").generation
    limit = found.pop("max_source_length")
    assert found == taken
    assert limit > 0
    SearchConfig(**found)


def test_the_limits_are_those_of_our_search() -> None:
    with pytest.raises(ConfigError, match="beam_size"):
        SearchConfig(beam_size=MAX_HYPOTHESES + 1)
    with pytest.raises(ConfigError, match="length_penalty"):
        SearchConfig(length_penalty=MAX_LENGTH_PENALTY + 1)
