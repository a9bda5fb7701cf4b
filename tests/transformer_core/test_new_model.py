"""No model is made of weights that are none."""

import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from tests.transformer_core.decoding.random_model import save_word_model
from transformer_core.conversion.export_ctranslate2 import export_ctranslate2
from transformer_core.conversion.export_hugging_face import export_hugging_face
from transformer_core.decoding.config import SearchConfig
from transformer_core.decoding.linear import for_decoding
from transformer_core.errors import ModelError
from transformer_core.experiments.starting_point import fresh_model, take_weights
from transformer_core.model_directory import load_model, weights_of
from transformer_core.quantized_model import quantize_model
from transformer_core.training.averaged_model import average_models, find_weights
from transformer_core.weight_file import write_weights


def take(model: Path) -> None:
    loaded = load_model(model)
    fresh = fresh_model(loaded.model.config, seed=1)
    take_weights(fresh, (loaded.source_tokenizer, loaded.target_tokenizer), model)


def average_with_copy(model: Path, folder: Path) -> None:
    with tempfile.TemporaryDirectory() as other:
        shutil.copytree(model, other, dirs_exist_ok=True)
        average_models(find_weights([model, Path(other)]), folder)


@pytest.mark.parametrize(
    "make",
    [
        lambda model, folder: quantize_model(model, folder, "bf16"),
        lambda model, folder: quantize_model(model, folder, "int8"),
        lambda model, folder: average_with_copy(model, folder),
        lambda model, folder: export_ctranslate2(load_model(model), folder, "int8"),
        lambda model, folder: export_hugging_face(load_model(model), folder, SearchConfig()),
        lambda model, _: take(model),
        lambda model, _: for_decoding(load_model(model).model, "int8"),
    ],
    ids=["bf16", "int8", "average", "ctranslate2", "huggingface", "init-from", "decoding in int8"],
)
@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_weights_that_are_no_numbers_are_refused(
    make: Callable[[Path, Path], object], value: float, tmp_path: Path
) -> None:
    model = save_word_model(tmp_path / "model")
    weights = weights_of(load_model(model).model)
    weights["encoder.layers.1.mixer.query_projection.weight"][3, 4] = value
    write_weights(model / "model.safetensors", weights)
    with pytest.raises(ModelError, match=r"infinite or none \(NaN\): its training diverged, or the file is damaged"):
        make(model, tmp_path / "new")
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
