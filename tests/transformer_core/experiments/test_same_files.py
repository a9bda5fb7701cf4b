import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.training_task import write_lines
from tests.transformer_core.experiments.test_train_from_text import Listener, contents, interrupted, make_run
from tokenizer import TokenizerConfig, train_tokenizer
from transformer_core.errors import ConfigError
from transformer_core.experiments.config import ArchitectureConfig, TrainingRun
from transformer_core.experiments.train_from_text import train_from_text
from transformer_core.experiments.training_file import read_training_file

LETTERS = ["a b c d e f g h i j k l m n o p q r s t u v w x y z"]


@pytest.fixture
def run(tmp_path: Path) -> TrainingRun:
    """A run that starts from another one's model, with a tokenizer, in a folder with all its files."""
    project = tmp_path / "project"
    project.mkdir()
    train_tokenizer(LETTERS, TokenizerConfig(kind="word", vocabulary_size=40)).save(project / "tokenizer.json")
    first = make_run(project, folder=project / "first", tokenizer=project / "tokenizer.json", max_steps=1)
    train_from_text(first)
    run = make_run(project, tokenizer=project / "tokenizer.json", max_steps=4, save_every=1)
    return replace(run, architecture=ArchitectureConfig(), init_from=project / "first")


def moved(run: TrainingRun, before: Path, now: Path) -> TrainingRun:
    """The same run with all its files in another folder."""
    files: dict[str, Any] = {
        name: tuple(now / path.relative_to(before) for path in paths) for name, paths in run.data.files.items()
    }
    data = replace(run.data, **files, tokenizer=now / "tokenizer.json")
    return replace(run, folder=now / "model", data=data, init_from=now / "first")


def test_a_run_goes_on_when_all_was_moved(tmp_path: Path, run: TrainingRun, monkeypatch: pytest.MonkeyPatch) -> None:
    train_from_text(replace(run, folder=tmp_path / "whole"))
    interrupted(run, 2, monkeypatch)
    shutil.move(tmp_path / "project", tmp_path / "elsewhere")
    run = moved(run, tmp_path / "project", tmp_path / "elsewhere")
    assert train_from_text(run) is not None
    weights = [folder / "model.safetensors" for folder in (run.folder, tmp_path / "whole")]
    assert weights[0].read_bytes() == weights[1].read_bytes()
    options = read_training_file(run.folder)
    assert options["train_src"] == [str(path) for path in run.data.files["train_src"]]
    assert (options["tokenizer"], options["init_from"]) == tuple(map(str, (run.data.tokenizer, run.init_from)))


def test_a_moved_run_that_is_finished_says_so(tmp_path: Path, run: TrainingRun) -> None:
    train_from_text(run)
    shutil.move(tmp_path / "project", tmp_path / "elsewhere")
    listener = Listener()
    assert train_from_text(moved(run, tmp_path / "project", tmp_path / "elsewhere"), listener) is None
    assert any("is finished" in message for message in listener.messages)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("train.src", "--train-src was .* when the run in .* began and is .* now"),
        ("tokenizer.json", "is not the tokenizer of the run"),
        ("first/model.safetensors", "--init-from was .* when the run in .* began and is .* now"),
    ],
)
def test_another_file_in_another_place_is_named(
    tmp_path: Path, run: TrainingRun, monkeypatch: pytest.MonkeyPatch, name: str, message: str
) -> None:
    interrupted(run, 2, monkeypatch)
    shutil.move(tmp_path / "project", tmp_path / "elsewhere")
    changed = tmp_path / "elsewhere" / name
    if name == "tokenizer.json":
        train_tokenizer(LETTERS, TokenizerConfig(kind="char", vocabulary_size=40)).save(changed)
    elif name == "train.src":
        write_lines(changed, ["a b"] * 200)
    else:
        changed.write_bytes(changed.read_bytes()[:-1] + b"\x01")
    before = contents(tmp_path / "elsewhere")
    with pytest.raises(ConfigError, match=message):
        train_from_text(moved(run, tmp_path / "project", tmp_path / "elsewhere"))
    assert contents(tmp_path / "elsewhere") == before
