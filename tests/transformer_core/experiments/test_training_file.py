import tomllib
from dataclasses import fields, replace
from pathlib import Path

import pytest

from cli.lazy_group import load
from cli.main import COMMANDS
from cli.settings import key_of
from transformer_core.errors import ConfigError, ModelError
from transformer_core.experiments.config import ArchitectureConfig, PretrainingConfig, TrainingRun
from transformer_core.experiments.text_config import DataConfig, RawTextConfig
from transformer_core.experiments.training_file import (
    FREE_OPTIONS,
    LIMITS,
    OPTION_NAMES,
    option_name,
    option_values,
    read_training_file,
    recall_options,
    refuse_changes,
    write_training_file,
)
from transformer_core.training.adaptation_config import AdaptationConfig
from transformer_core.training.config import TrainingConfig

DATA = DataConfig(train_src=(Path("a.src"), Path("b.src")), train_tgt=(Path("a.tgt"), Path("b.tgt")))
RECORDS = (DataConfig, ArchitectureConfig, AdaptationConfig, TrainingConfig)


def test_every_field_is_an_option_of_train_and_every_option_a_field() -> None:
    command = load(next(entry for entry in COMMANDS if entry.name == "train"))
    keys = {key_of(parameter) for parameter in command.params if parameter.expose_value}
    names = {option_name(item.name) for record in RECORDS for item in fields(record)}
    # what is left says where the model goes and how training is shown, and is no part of the run
    assert keys - names == {"output", "init_from", "init_checkpoint", "overwrite", "tensorboard"}
    assert names - keys == set()
    assert set(OPTION_NAMES) <= {item.name for record in RECORDS for item in fields(record)}
    assert names >= FREE_OPTIONS | LIMITS


def test_every_field_is_an_option_of_pretrain_and_every_option_a_field() -> None:
    command = load(next(entry for entry in COMMANDS if entry.name == "pretrain"))
    keys = {key_of(parameter) for parameter in command.params if parameter.expose_value}
    records = (RawTextConfig, PretrainingConfig, ArchitectureConfig, TrainingConfig)
    names = {option_name(item.name) for record in records for item in fields(record)}
    assert keys - names == {"output", "overwrite", "tensorboard"}
    assert names - keys == {"valid_beam_size", "r_drop"}  # run_options leaves them out


def test_a_file_comes_back_and_fills_what_is_not_given(tmp_path: Path) -> None:
    data = replace(DATA, tokenizer=Path("joint.json"), valid_size=7)
    architecture = ArchitectureConfig(arch="tiny", num_heads=2, dropout=0.3)
    training = TrainingConfig(
        learning_rate=0.001, max_steps=10, warmup_steps=3, precision="bf16", device="cpu", threads=2
    )
    values = option_values(data, architecture, training)
    write_training_file(tmp_path, values)
    stored = read_training_file(tmp_path)
    assert stored == values
    assert stored["lr"] == 0.001
    assert stored["train_src"] == [str(Path("a.src").resolve()), str(Path("b.src").resolve())]
    recalled = recall_options(DATA, stored, tmp_path)
    assert (recalled.tokenizer, recalled.valid_size) == (Path("joint.json").resolve(), 7)
    assert recall_options(ArchitectureConfig(), stored, tmp_path) == architecture
    assert recall_options(TrainingConfig(), stored, tmp_path) == training


def test_the_file_is_toml_that_says_what_it_is_for(tmp_path: Path) -> None:
    write_training_file(tmp_path, {"lr": 0.5})
    text = (tmp_path / "training.toml").read_text()
    assert text.startswith("# The effective options of this run")
    assert tomllib.loads(text) == {"lr": 0.5}


def test_what_is_given_holds_and_a_limit_of_time_is_not_recalled(tmp_path: Path) -> None:
    stored = {"max_time": 5.0, "patience": 3, "valid_every": 20, "max_steps": 100, "max_epochs": 4}
    recalled = recall_options(TrainingConfig(valid_every=10), stored, tmp_path)
    assert (recalled.valid_every, recalled.max_time, recalled.max_steps, recalled.max_epochs) == (10, None, 100, 4)
    assert recall_options(TrainingConfig(max_epochs=4), stored, tmp_path).max_steps == 100
    assert recall_options(TrainingConfig(max_epochs=8), stored, tmp_path).max_steps is None  # follows from the epochs


@pytest.mark.parametrize("stored", [{"lr": "fast"}, {"warmup_steps": -1}, {"threads": []}])
def test_a_file_with_values_that_cannot_be_is_one_line(tmp_path: Path, stored: dict[str, object]) -> None:
    with pytest.raises(ModelError, match=r"training\.toml: .*; start anew with --overwrite"):
        recall_options(TrainingConfig(), stored, tmp_path)


@pytest.mark.parametrize("content", [b"lr = ", b"\xff", None])
def test_a_damaged_file_is_one_line(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "training.toml").write_bytes(content)
    with pytest.raises(ModelError, match=r"training\.toml: cannot be read"):
        read_training_file(tmp_path)


STORED = option_values(
    DATA,
    ArchitectureConfig(arch="tiny", dropout=0.3),
    TrainingConfig(batch_size=4096, max_steps=100, lr_schedule="cosine", device="cuda"),
)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            {"seed": 2},
            r"--seed was 1 when the run in model began and is 2 now; give the same value to go on, or --over",
        ),
        ({"batch_size": 10}, "--batch-size was 4096"),
        ({"layers": 3}, "--layers was not given"),
        ({"max_steps": 200}, "--max-steps was 100"),  # the cosine ends there
        ({"max_epochs": 3}, "--max-epochs was not given"),
        ({"train_src": ["c.src"]}, "--train-src was"),
        ({"init_from": "other"}, "--init-from was not given"),
        ({"device": "cpu"}, "--device was cuda"),
    ],
)
def test_a_change_that_would_break_the_run_is_named(values: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        refuse_changes(Path("model"), STORED, {**STORED, **values})


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"patience": 3, "log_every": 1, "save_every": 7, "keep_last": 9, "threads": 4, "max_time": 1.0},
        {"precision": "auto"},
        {"device": "auto"},
        {"device": "cuda:1"},
    ],
)
def test_what_breaks_nothing_may_change(values: dict[str, object]) -> None:
    refuse_changes(Path("model"), STORED, {**STORED, **values})


def test_a_schedule_without_an_end_may_get_another_one() -> None:
    stored = {**STORED, "lr_schedule": "inverse-sqrt"}
    refuse_changes(Path("model"), stored, {**stored, "max_steps": 200, "max_epochs": 3})


def test_a_run_names_its_own_options() -> None:
    run = TrainingRun(folder=Path("model"), data=DATA)
    assert "max_time" not in option_values(run.training)
    assert option_values(replace(run.training, max_time=2.0))["max_time"] == 2.0
