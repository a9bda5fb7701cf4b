import shutil
from pathlib import Path

import pytest
import torch
from torch import Tensor

from tests.transformer_core.decoding.random_model import random_model, save_word_model, word_tokenizer
from tokenizer import TokenizerConfig, train_tokenizer
from transformer_core import new_model
from transformer_core.errors import ConfigError, ModelError
from transformer_core.model_directory import load_model, weights_of
from transformer_core.model_files import hash_file, read_json, save_architecture, verify_hashes, write_json
from transformer_core.training.averaged_model import average_models, find_weights, saved_steps
from transformer_core.weight_file import write_weights


def add_weights(path: Path, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_weights(path, weights_of(random_model(word_tokenizer().vocabulary_size, seed=seed)))


def add_checkpoint(model: Path, step: int, *, is_extra: bool = False) -> Path:
    folder = model / "checkpoints" / f"step-{step:08d}"
    add_weights(folder / "model.safetensors", seed=step)
    write_json(folder / "state.json", {"is_extra": is_extra})
    return folder


def add_snapshot(model: Path, step: int) -> Path:
    path = model / "checkpoints" / "snapshots" / f"step-{step:08d}.safetensors"
    add_weights(path, seed=step)
    return path


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A model with checkpoints of steps 10 and 30, snapshots of 20 and 30, and an extra checkpoint of 35."""
    folder = save_word_model(tmp_path / "model", beam_size=2)
    write_json(folder / "metadata.json", {"data": {"train_src": [{"path": "a", "sha256": "0"}]}})
    for step in (10, 30):
        add_checkpoint(folder, step)
    for step in (20, 30):
        add_snapshot(folder, step)
    add_checkpoint(folder, 35, is_extra=True)
    (folder / "checkpoints" / "LATEST").write_text("step-00000035\n")
    return folder


def weights_of_seeds(*seeds: int) -> dict[str, Tensor]:
    """The mean of random models."""
    size = word_tokenizer().vocabulary_size
    sets = [weights_of(random_model(size, seed=seed)) for seed in seeds]
    return {name: torch.stack([weights[name] for weights in sets]).mean(0) for name in sets[0]}


def require_mean(folder: Path, *seeds: int) -> None:
    found = weights_of(load_model(folder).model)
    for name, weight in weights_of_seeds(*seeds).items():
        torch.testing.assert_close(found[name], weight)


def test_the_last_weights_of_a_model_are_those_that_were_due(model: Path) -> None:
    saved = saved_steps(model)
    assert {step: str(path.relative_to(model / "checkpoints")) for step, path in saved.items()} == {
        10: "step-00000010/model.safetensors",
        20: "snapshots/step-00000020.safetensors",
        30: "snapshots/step-00000030.safetensors",
    }
    assert [source.path for source in find_weights([model])] == [saved[10], saved[20], saved[30]]
    assert [source.path for source in find_weights([model], 2)] == [saved[20], saved[30]]


def test_what_a_user_put_beside_the_checkpoints_is_none(model: Path) -> None:
    for name in ("step-00000010", "snapshots/step-00000020.safetensors"):
        path = model / "checkpoints" / name
        path.rename(path.with_name(f"{path.stem}.old{path.suffix}"))
    assert sorted(saved_steps(model)) == [30]


def test_weights_can_be_chosen(model: Path) -> None:
    found = find_weights([model], checkpoints=["10", "last", "best"])
    extra = model / "checkpoints" / "step-00000035" / "model.safetensors"
    assert [source.path for source in found] == [saved_steps(model)[10], extra, model / "model.safetensors"]
    assert find_weights([model], checkpoints=["35", "best"])[0].path == extra


def test_a_mean_is_a_whole_model(model: Path, tmp_path: Path) -> None:
    sources = find_weights([model], 2)
    average_models(sources, tmp_path / "mean", command="transduce average ...")
    require_mean(tmp_path / "mean", 20, 30)
    assert {path.name for path in (tmp_path / "mean").iterdir()} == {
        "config.json",
        "model.safetensors",
        "tokenizer.json",
        "generation.json",
        "metadata.json",
    }
    assert verify_hashes(tmp_path / "mean") == []
    metadata = read_json(tmp_path / "mean" / "metadata.json")
    assert metadata["command"] == "transduce average ..."
    assert metadata["averaged"] == [{"path": str(s.path), "sha256": hash_file(s.path)} for s in sources]
    assert metadata["data"] == {"train_src": [{"path": "a", "sha256": "0"}]}
    assert read_json(tmp_path / "mean" / "generation.json") == {"beam_size": 2}
    assert not list(tmp_path.glob(".*"))


def test_models_and_checkpoint_folders_go_together(model: Path, tmp_path: Path) -> None:
    other = save_word_model(tmp_path / "other")
    add_weights(other / "model.safetensors", seed=7)
    sources = find_weights([other, model / "checkpoints" / "step-00000010"])
    assert [source.folder for source in sources] == [other, model]
    average_models(sources, tmp_path / "mean")
    require_mean(tmp_path / "mean", 7, 10)
    assert "data" not in read_json(tmp_path / "mean" / "metadata.json")  # they did not have the same


def test_an_empty_folder_may_be_there_and_nothing_else(model: Path, tmp_path: Path) -> None:
    (tmp_path / "mean").mkdir()
    average_models(find_weights([model]), tmp_path / "mean")
    with pytest.raises(ConfigError, match="mean: is there already; name another folder"):
        average_models(find_weights([model]), tmp_path / "mean")
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="file: is there already"):
        average_models(find_weights([model]), tmp_path / "file")


def test_a_fault_leaves_nothing(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, content: object) -> None:
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr(new_model, "write_json", full)
    with pytest.raises(OSError, match="No space left"):
        average_models(find_weights([model]), tmp_path / "new" / "mean")
    assert not (tmp_path / "new").exists() or not list((tmp_path / "new").iterdir())


def test_dropout_makes_no_difference(model: Path, tmp_path: Path) -> None:
    other = shutil.copytree(model, tmp_path / "other")
    config = (other / "config.json").read_text().replace('"dropout": 0.1', '"dropout": 0.5')
    (other / "config.json").write_text(config)
    average_models(find_weights([model, other]), tmp_path / "mean")


def test_another_architecture_is_named(model: Path, tmp_path: Path) -> None:
    other = save_word_model(tmp_path / "other", positions="learned")
    with pytest.raises(ModelError, match=r"other: has positions learned, .*model has sinusoidal; only like models"):
        average_models(find_weights([model, other]), tmp_path / "mean")
    assert not (tmp_path / "mean").exists()


def test_another_vocabulary_is_named(model: Path, tmp_path: Path) -> None:
    other = shutil.copytree(model, tmp_path / "other")
    size = word_tokenizer().vocabulary_size
    config = load_model(other).model.config
    stranger = train_tokenizer(
        [" ".join(f"x{number}" for number in range(size - 5))], TokenizerConfig(kind="word", vocabulary_size=size)
    )
    save_architecture(other, config, stranger, stranger)
    with pytest.raises(ModelError, match="other: has another vocabulary than"):
        average_models(find_weights([model, other]), tmp_path / "mean")


def test_a_choice_that_makes_no_sense_is_refused(model: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="say the same in two ways"):
        find_weights([model], 2, ["10"])
    with pytest.raises(ConfigError, match="choose among the weights of one model folder, but there are several"):
        find_weights([model, model], 2)
    with pytest.raises(ModelError, match="1 saved weights are too few for a mean"):
        find_weights([model], checkpoints=["10"])
    with pytest.raises(ModelError, match="has no checkpoint 11"):
        find_weights([model], checkpoints=["10", "11"])
    with pytest.raises(ModelError, match="does not exist"):
        find_weights([tmp_path / "nowhere"])
    alone = save_word_model(tmp_path / "alone")
    with pytest.raises(ModelError, match="alone: 0 saved weights are too few"):
        find_weights([alone])
    with pytest.raises(ModelError, match=r"config\.json: is missing"):
        find_weights([model, tmp_path])
