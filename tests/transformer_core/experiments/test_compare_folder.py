import hashlib
from dataclasses import replace
from pathlib import Path

import pytest

from tests.training_task import write_lines, write_task
from tokenizer import Tokenizer
from transformer_core.errors import ConfigError, DataError
from transformer_core.experiments.compare_config import TrainingComparison
from transformer_core.experiments.compare_folder import COMPARED_FILE, shared_data
from transformer_core.experiments.progress import no_progress
from transformer_core.experiments.text_config import DataConfig
from transformer_core.model_files import read_json


def comparison(folder: Path, **values: object) -> TrainingComparison:
    source, target = write_task(folder)
    training = TrainingComparison(folder=folder / "mixers", train_src=(source,), train_tgt=(target,))
    return replace(training, **values)  # type: ignore[arg-type]


def shared(training: TrainingComparison) -> DataConfig:
    return shared_data(training, no_progress, lambda text: None)


def begin_model(folder: Path) -> None:
    (folder / "gru").mkdir()
    (folder / "gru" / "training.toml").touch()


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def other_pairs(folder: Path) -> dict[str, object]:
    source, target = write_task(folder / "other", 30, seed=7)
    return {"train_src": (source,), "train_tgt": (target,)}


def test_what_the_tokenizer_was_learned_from_is_written_beside_it(tmp_path: Path) -> None:
    training = comparison(tmp_path)
    data = shared(training)
    assert data.tokenizer == tmp_path / "mixers" / "tokenizer.json"
    source, target = (hashlib.sha256(path.read_bytes()).hexdigest() for path in (*data.train_src, *data.train_tgt))
    assert read_json(tmp_path / "mixers" / COMPARED_FILE) == {
        "pairs": {"train_src": [source], "train_tgt": [target], "valid_src": [], "valid_tgt": []},
        "tokenizers": [Tokenizer.load(data.tokenizer).sha256] * 2,
    }


def test_a_tokenizer_of_other_pairs_is_learned_anew_as_long_as_no_model_has_it(tmp_path: Path) -> None:
    training, others = comparison(tmp_path), other_pairs(tmp_path)
    shared(training)
    learned = (tmp_path / "mixers" / "tokenizer.json").read_bytes()
    shared(replace(training, **others))  # type: ignore[arg-type]
    assert (tmp_path / "mixers" / "tokenizer.json").read_bytes() != learned
    shared(training)
    assert (tmp_path / "mixers" / "tokenizer.json").read_bytes() == learned


def test_models_of_other_pairs_or_of_another_tokenizer_are_refused(tmp_path: Path) -> None:
    training, others = comparison(tmp_path), other_pairs(tmp_path)
    folder = training.folder
    shared(replace(training, folder=tmp_path / "else", **others))  # type: ignore[arg-type]
    shared(training)
    begin_model(folder)
    before = contents(folder)
    with pytest.raises(ConfigError, match=r"its models were trained on other pairs; .*--overwrite"):
        shared(replace(training, **others))  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=r"its models were trained with another tokenizer; .*--overwrite"):
        shared(replace(training, tokenizer=tmp_path / "else" / "tokenizer.json"))
    assert contents(folder) == before
    (folder / "tokenizer.json").unlink()
    with pytest.raises(ConfigError, match="its models were trained with another tokenizer"):
        shared(training)
    shared(replace(training, overwrite=True, **others))  # type: ignore[arg-type]
    assert (folder / "tokenizer.json").read_bytes() == (tmp_path / "else" / "tokenizer.json").read_bytes()


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("name", ["tokenizer.json", "config.json", "gru", "notes"])
def test_what_is_no_comparison_is_left_alone(name: str, overwrite: bool, tmp_path: Path) -> None:
    training = comparison(tmp_path, overwrite=overwrite)
    training.folder.mkdir()
    (training.folder / name).write_text("somebody's", encoding="utf-8")
    with pytest.raises(ConfigError, match=f"mixers: holds {name} and no comparison; name another folder"):
        shared(training)
    assert contents(training.folder) == {name: b"somebody's"}


def test_an_empty_folder_and_one_of_models_alone_are_taken(tmp_path: Path) -> None:
    training = comparison(tmp_path)
    training.folder.mkdir()
    begin_model(training.folder)
    assert shared(training).tokenizer is not None
    (training.folder / "figure.svg").touch()  # beside a comparison there may be anything
    assert shared(training).tokenizer is not None


def test_the_tokenizer_that_is_given_may_lie_in_the_folder(tmp_path: Path) -> None:
    own = shared(comparison(tmp_path)).tokenizer
    assert own is not None
    (tmp_path / "mixers" / COMPARED_FILE).unlink()
    assert shared(comparison(tmp_path, tokenizer=own)).tokenizer == own


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "mixers").touch()
    with pytest.raises(ConfigError, match="mixers: is a file; name a folder for the models"):
        shared(comparison(tmp_path))


def test_sides_that_do_not_match_leave_nothing_behind(tmp_path: Path) -> None:
    training = comparison(tmp_path)
    write_lines(tmp_path / "short", ["a b"])
    for values in (
        {"train_tgt": (tmp_path / "short",)},
        {"valid_src": training.train_src, "valid_tgt": (tmp_path / "short",)},
    ):
        with pytest.raises(DataError, match="lines"):
            shared(replace(training, **values))
        assert not training.folder.exists()
