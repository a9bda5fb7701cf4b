"""A toy task from end to end: every letter becomes its capital."""

import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.training_task import write_lines
from tests.transformer_core.experiments.test_pretraining import make_run as make_pretraining
from tests.transformer_core.experiments.test_train_from_text import Listener, interrupted
from tests.transformer_core.experiments.test_train_from_text import make_run as make_training
from tokenizer import TokenizerConfigError, TokenizerFileError
from transformer_core.data.lines import read_lines
from transformer_core.decoding.translator import Translator
from transformer_core.errors import ConfigError, DataError, ModelError
from transformer_core.experiments import distilled_text
from transformer_core.experiments.config import ArchitectureConfig, TrainingRun
from transformer_core.experiments.distill import distill
from transformer_core.experiments.distillation_config import DistillationConfig, distilled_files
from transformer_core.experiments.teacher import Row, Teacher
from transformer_core.experiments.train_from_text import train_from_text
from transformer_core.experiments.training_file import read_training_file
from transformer_core.model_directory import load_model
from transformer_core.model_files import hash_file, read_json

LEARNING: dict[str, Any] = {
    "d_model": 32,
    "num_heads": 2,
    "d_ff": 32,
    "dropout": 0.0,
    "label_smoothing": 0.0,
    "batch_size": 500,
    "max_steps": 160,
    "valid_every": 80,
    "learning_rate": 0.01,
}


def letters(count: int, seed: int) -> list[str]:
    source = random.Random(seed)
    return [" ".join(source.choices("abcdef", k=source.randrange(1, 4))) for _ in range(count)]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a teacher, lines for it to translate, and validation pairs."""
    folder = tmp_path_factory.mktemp("place")
    for name, (count, seed) in {"train": (400, 1), "more": (400, 2), "valid": (20, 3)}.items():
        lines = letters(count, seed)
        write_lines(folder / f"{name}.src", lines)
        write_lines(folder / f"{name}.tgt", [line.upper() for line in lines])
    train_from_text(make_training(folder, **LEARNING, folder=folder / "teacher"))
    return folder


def make(place: Path, folder: Path, **values: Any) -> tuple[DistillationConfig, TrainingRun]:  # noqa: ANN401
    """A teacher, and a run on what it makes of the lines."""
    config = DistillationConfig(teachers=(place / "teacher",), train_src=(place / "more.src",))
    source, target = distilled_files(folder)
    files = {"train_src": (source,), "train_tgt": (target,)}
    validation = {"valid_src": (place / "valid.src",), "valid_tgt": (place / "valid.tgt",)}
    tokenizer = {"tokenizer_kind": "auto"}  # the teacher's
    return config, make_training(place, **files, **validation, **(tokenizer | values), folder=folder)


def translations(model: Path, lines: list[str]) -> list[str]:
    loaded = load_model(model)
    translator = Translator(loaded.model, loaded.source_tokenizer, loaded.target_tokenizer)
    return [translation.text for translation in translator.translate(lines)]


def test_a_student_reproduces_its_teacher(place: Path, tmp_path: Path) -> None:
    config, run = make(place, tmp_path / "student", **{**LEARNING, "d_model": 16, "d_ff": 16, "max_steps": 300})
    listener = Listener()
    result = distill(config, run, listener)
    assert result is not None
    assert result.is_finished
    unseen = letters(50, seed=9)
    taught = translations(place / "teacher", unseen)
    assert sum(map(str.__eq__, taught, map(str.upper, unseen))) >= 45, "the teacher is worth it"
    assert sum(map(str.__eq__, taught, translations(run.folder, unseen))) >= 45
    assert load_model(run.folder).model.config.encoder.d_model == 16
    assert (run.folder / "tokenizer.json").read_bytes() == (place / "teacher/tokenizer.json").read_bytes()
    assert list(read_lines(distilled_files(run.folder))) == [
        *read_lines([place / "more.src"]),
        *translations(place / "teacher", list(read_lines([place / "more.src"]))),
    ]
    metadata = read_json(run.folder / "metadata.json")["teacher"]
    sha256 = hash_file(place / "teacher/model.safetensors")
    assert metadata["models"] == [{"path": str(place / "teacher"), "sha256": sha256}]
    assert (metadata["search"]["beam_size"], metadata["num_lines"], metadata["num_pairs"]) == (5, 400, 400)
    assert "the teacher translated 400 lines into 400 pairs (beam 5, length penalty avg 1)" in listener.messages
    assert distill(config, run) is None, "it is finished"


def test_it_is_ordinary_training_on_what_the_teacher_wrote(place: Path, tmp_path: Path) -> None:
    config, run = make(place, tmp_path / "student", tokenizer=place / "teacher/tokenizer.json")
    distill(config, run)
    train_from_text(replace(run, folder=tmp_path / "plain"))
    for name in ("model.safetensors", "config.json", "tokenizer.json", "training.toml"):
        assert (tmp_path / "plain" / name).read_bytes() == (run.folder / name).read_bytes()


class Killed(BaseException):
    pass


@pytest.mark.parametrize("window", [0, 3])
def test_whoever_was_killed_while_translating_ends_as_one_who_was_not(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, window: int
) -> None:
    monkeypatch.setattr(distilled_text, "WINDOW_LINES", 90)
    distill(*make(place, tmp_path / "whole"))
    config, run = make(place, tmp_path / "killed")
    original: Callable[..., list[list[str]]] = Teacher.teach

    def fatal(teacher: Teacher, rows: list[Row], first_line_number: int) -> list[list[str]]:
        if first_line_number > 90 * window:
            raise Killed
        return original(teacher, rows, first_line_number)

    with monkeypatch.context() as patch:
        patch.setattr(Teacher, "teach", fatal)
        with pytest.raises(Killed):
            distill(config, run)
    listener = Listener()
    distill(config, run, listener)
    assert any(text.startswith("going on after 270 lines") for text in listener.messages) == (window == 3)
    for name in ("distilled/train.src", "distilled/train.tgt", "model.safetensors", "config.json"):
        assert (run.folder / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


@pytest.mark.parametrize("step", [0, 4])
def test_whoever_was_killed_while_training_goes_on(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    distill(*make(place, tmp_path / "whole"))
    config, run = make(place, tmp_path / "killed")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            "tests.transformer_core.experiments.test_train_from_text.train_from_text", lambda run: distill(config, run)
        )
        interrupted(run, step, monkeypatch)
    monkeypatch.setattr(Teacher, "teach", lambda *arguments: pytest.fail("translates again"))
    distill(config, run)
    assert (run.folder / "model.safetensors").read_bytes() == (tmp_path / "whole/model.safetensors").read_bytes()


def test_another_run_takes_the_pairs_that_are_there(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, run = make(place, tmp_path / "student")
    distill(config, run)
    monkeypatch.setattr(Teacher, "teach", lambda *arguments: pytest.fail("translates again"))
    with pytest.raises(ConfigError, match="--seed was 1 when the run in"):
        distill(config, replace(run, training=replace(run.training, seed=2)))
    listener = Listener()
    distill(config, replace(run, training=replace(run.training, seed=2), overwrite=True), listener)
    num_pairs = read_json(run.folder / "metadata.json")["teacher"]["num_pairs"]
    assert f"the {num_pairs} pairs that {place}/teacher made are there already" in listener.messages
    assert read_training_file(run.folder)["seed"] == 2


def test_a_student_may_have_a_vocabulary_or_a_start_of_its_own(place: Path, tmp_path: Path) -> None:
    config, run = make(place, tmp_path / "letters", tokenizer_kind="char", max_steps=1)
    distill(config, run)
    assert load_model(run.folder).source_tokenizer.config.kind == "char"
    config, run = make(place, tmp_path / "own", tokenizer_kind="word", vocabulary_size=14)
    distill(config, run)
    assert load_model(run.folder).source_tokenizer.vocabulary_size == 14
    plain = {"arch": "auto"} | dict.fromkeys(("num_layers", "d_model", "num_heads", "d_ff", "learning_rate"))
    config, run = make(place, tmp_path / "started", **plain, init_from=tmp_path / "own")
    distill(config, run)
    assert (run.folder / "tokenizer.json").read_bytes() == (tmp_path / "own/tokenizer.json").read_bytes()


BEFORE: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"d_model": 15}, ConfigError, r"d_model \(15\) must be divisible"),
    ({"valid_src": (Path("none"),)}, DataError, "none: there is no such file"),
    ({"tokenizer": Path("none.json")}, TokenizerFileError, "none.json: "),
    ({"folder": "teacher"}, ConfigError, "the teacher and --output are both"),
    ({"init_from": "teacher"}, ConfigError, "--arch does not go with --init-from"),
    ({"architecture": {"positions": "rotary", "num_heads": 16}}, ConfigError, r"d_head \(1\) must be even"),
    ({"init_from": "teacher", "init_checkpoint": "999"}, ModelError, "has no checkpoint 999"),
    ({"vocabulary_size": 9, "tokenizer_kind": "bpe"}, TokenizerConfigError, r"vocabulary_size \(9\) must be between"),
]


@pytest.mark.parametrize(("values", "kind", "message"), BEFORE)
def test_what_would_stop_training_is_said_before_anything_is_translated(
    place: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    values: dict[str, Any],
    kind: type[Exception],
    message: str,
) -> None:
    monkeypatch.setattr(Teacher, "teach", lambda *arguments: pytest.fail("translates"))
    config, run = make(place, tmp_path / "student")
    if "d_model" in values:
        run = replace(run, architecture=replace(run.architecture, d_model=15))
    elif "architecture" in values:
        run = replace(run, architecture=replace(run.architecture, **values["architecture"]))
    elif "init_checkpoint" in values:
        run = replace(run, architecture=ArchitectureConfig(), init_from=place / "teacher", init_checkpoint="999")
    elif values.keys() & {"valid_src", "tokenizer", "vocabulary_size"}:
        run = replace(run, data=replace(run.data, **values))
    else:
        run = replace(run, **{name: place / value for name, value in values.items()})
    with pytest.raises(kind, match=message):
        distill(config, run)
    assert not (tmp_path / "student").exists()


def test_an_encoder_alone_teaches_nobody(place: Path, tmp_path: Path) -> None:
    train_from_text(make_pretraining(tmp_path, folder=tmp_path / "encoder", max_steps=1))
    config, run = make(place, tmp_path / "student")
    with pytest.raises(ModelError, match="is a pretrained encoder without a decoder"):
        distill(replace(config, teachers=(tmp_path / "encoder",)), run)


def test_one_of_several_processes_does_not_translate(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "2"}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError, match="distill is one process"):
        distill(*make(place, tmp_path / "student"))
    assert not (tmp_path / "student").exists()


def test_plain_training_does_not_begin_in_the_folder_of_a_teacher(place: Path, tmp_path: Path) -> None:
    (tmp_path / "student" / "distilled").mkdir(parents=True)
    run = make_training(place, folder=tmp_path / "student")
    with pytest.raises(ConfigError, match="holds distilled and no training run"):
        train_from_text(run)
