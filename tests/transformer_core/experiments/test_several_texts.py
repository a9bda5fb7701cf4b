"""Runs on several texts at once: with weights, with tags, interrupted and not."""

import random
from collections.abc import Callable
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from tests.training_task import metrics_without_times, write_lines
from tests.transformer_core.data.number_corpus import read_numbers
from tests.transformer_core.experiments.test_train_from_text import interrupted, make_run
from tokenizer import Tokenizer
from transformer_core.data import shards
from transformer_core.data.lines import read_lines
from transformer_core.decoding.config import SearchConfig
from transformer_core.decoding.translator import Translator
from transformer_core.errors import ConfigError
from transformer_core.experiments import train_from_text as module
from transformer_core.experiments.config import TrainingRun
from transformer_core.experiments.corpus_preparation import PreparedData
from transformer_core.experiments.train_from_text import train_from_text
from transformer_core.experiments.training_file import read_training_file
from transformer_core.model_directory import load_model
from transformer_core.training.trainer import Trainer


def strings(count: int, seed: int, letters: str = "abcd", longest: int = 3) -> list[str]:
    source = random.Random(seed)
    return [" ".join(source.choices(letters, k=source.randrange(2, longest + 1))) for _ in range(count)]


def backwards(line: str) -> str:
    return " ".join(reversed(line.split()))


def two_tasks(place: Path, sizes: tuple[int, int] = (200, 200)) -> dict[str, Any]:
    """Write texts to copy and texts to reverse; give the options that name them."""
    copied, reversed_ = strings(sizes[0], 1), strings(sizes[1], 2)
    sources = write_lines(place / "copy.src", copied), write_lines(place / "reverse.src", reversed_)
    targets = (
        write_lines(place / "copy.tgt", copied),
        write_lines(place / "reverse.tgt", [backwards(line) for line in reversed_]),
    )
    return {"train_src": sources, "train_tgt": targets}


def prepared_by(run: TrainingRun, monkeypatch: pytest.MonkeyPatch) -> PreparedData:
    """Begin a run and give what it reads."""
    found: list[PreparedData] = []
    original: Callable[..., PreparedData] = vars(module)["prepare_data"]

    def prepare(*arguments: Any) -> PreparedData:  # noqa: ANN401
        found.append(original(*arguments))
        return found[-1]

    monkeypatch.setattr(module, "prepare_data", prepare)
    interrupted(run, 0, monkeypatch)
    return found[0]


# --- Weights


@pytest.mark.parametrize("step", [1, 4, 7])
@pytest.mark.parametrize("accumulate", [1, 3])
def test_a_run_with_weights_goes_on_in_the_middle_of_an_epoch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int, accumulate: int
) -> None:
    monkeypatch.setattr(shards, "SHARD_TOKENS", 150)
    options = {**two_tasks(tmp_path, (120, 40)), "weights": (1.0, 3.0), "batch_size": 60, "accumulate": accumulate}
    options |= {"max_steps": 9, "valid_every": 4, "save_every": 1}
    train_from_text(make_run(tmp_path, folder=tmp_path / "whole", **options))
    interrupted(make_run(tmp_path, **options), step, monkeypatch)
    forgotten = {**options, "weights": ()}  # what is not given again is as it was
    train_from_text(make_run(tmp_path, **forgotten))
    for name in ("model.safetensors", "training.toml"):
        assert (tmp_path / "model" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    assert metrics_without_times(tmp_path / "model") == metrics_without_times(tmp_path / "whole")
    assert read_training_file(tmp_path / "model")["weights"] == [1.0, 3.0]
    with pytest.raises(ConfigError, match=r"--weights was 1\.0 3\.0 when the run"):
        train_from_text(make_run(tmp_path, **{**options, "weights": (1.0, 2.0)}))


def test_a_run_with_weights_goes_on_from_one_epoch_into_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = {**two_tasks(tmp_path, (30, 10)), "weights": (1.0, 1.0), "batch_size": 40, "save_every": 1}
    options |= {"max_steps": 14, "valid_every": 7}
    train_from_text(make_run(tmp_path, folder=tmp_path / "whole", **options))
    epochs = [record["epoch"] for record in metrics_without_times(tmp_path / "whole")]
    assert max(epochs) > 2
    interrupted(make_run(tmp_path, **options), 5, monkeypatch)
    interrupted(make_run(tmp_path, **options), 11, monkeypatch)
    train_from_text(make_run(tmp_path, **options))
    weights = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("model", "whole")]
    assert weights[0] == weights[1]


def test_batches_are_drawn_by_weight_and_without_weights_from_all_alike(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sources = [write_lines(tmp_path / name, strings(100, 1, letters)) for name, letters in (("x", "ab"), ("y", "cd"))]
    files = {"train_src": tuple(sources), "train_tgt": tuple(sources), "batch_size": 40}

    def letters_of_batches(count: int, **options: Any) -> list[set[int]]:  # noqa: ANN401
        trainers: list[Trainer] = []
        make = Trainer.__init__

        def remember(trainer: Trainer, *arguments: Any) -> None:  # noqa: ANN401
            make(trainer, *arguments)
            trainers.append(trainer)

        with monkeypatch.context() as patch:
            patch.setattr(Trainer, "__init__", remember)
            interrupted(make_run(tmp_path, overwrite=True, **files, **options), 0, monkeypatch)
        batches = trainers[0].batching.epoch(trainers[0].task.training, 0)
        return [set(batch.target_output.flatten().tolist()) - {0, 2} for batch in islice(batches, count)]

    mixed = letters_of_batches(8, weights=(3.0, 1.0))
    first, second = mixed[0], mixed[2]
    assert not first & second
    assert mixed == [first, first, second, first, first, first, second, first]
    together = letters_of_batches(8)
    assert any(letters & first and letters & second for letters in together)


# --- Tags


def test_a_model_with_tags_does_what_the_tag_says(tmp_path: Path) -> None:
    options = {**two_tasks(tmp_path, (600, 600)), "tags": ("copy", "rev"), "weights": (1.0, 1.0), "dropout": 0.0}
    options |= {"num_layers": 2, "d_model": 32, "num_heads": 4, "d_ff": 64, "label_smoothing": 0.0, "average_last": 0}
    options |= {"max_steps": 600, "valid_every": 50, "batch_size": 400, "lr_schedule": "linear", "learning_rate": 0.005}
    run = make_run(tmp_path, metric="exact", **options)
    result = train_from_text(run)
    assert result is not None
    assert result.state.best_values["exact"] > 90  # each validation line is translated with its own tag
    loaded = load_model(run.folder)
    assert list(loaded.source_tokenizer.tags) == ["copy", "rev"]
    assert loaded.generation["tags"] == ["copy", "rev"]
    lines = [f"{one} {other} {third}" for one in "abcd" for other in "abcd" for third in "abcd"]
    for tag, expected in (("copy", lines), ("rev", [backwards(line) for line in lines])):
        tagged = loaded.source_tokenizer.tagged(tag)
        translator = Translator(loaded.model, tagged, loaded.target_tokenizer, SearchConfig(beam_size=2))
        found = [translation.text for translation in translator.translate(lines)]
        assert sum(one == other for one, other in zip(found, expected, strict=True)) > 0.9 * len(lines)


def test_what_is_held_back_keeps_its_tag_and_is_in_neither_direction(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = sorted(set(strings(400, 1, "abcdefgh", 6)))
    source = write_lines(tmp_path / "a.src", lines)
    target = write_lines(tmp_path / "a.tgt", [backwards(line) for line in lines])
    files = {"train_src": (source, source), "train_tgt": (source, target)}
    run = make_run(tmp_path, **files, tags=("copy", "rev"), valid_size=30)
    data = prepared_by(run, monkeypatch)
    tokenizer = Tokenizer.load(run.folder / "tokenizer.json")
    tags = {index: tag for tag, index in tokenizer.tags.items()}
    training, validation = (
        [(tags[source[0]], tokenizer.decode(source), tokenizer.decode(target)) for source, target in read_numbers(one)]
        for one in (data.training, data.validation)
    )
    for tag, one, other in training + validation:
        assert other == (one if tag == "copy" else backwards(one))
    assert len(validation) == 30
    assert not {line for _, line, _ in training} & {line for _, line, _ in validation}
    assert data.validation_tags == ("copy", "rev")
    for number, tag in enumerate(("copy", "rev"), start=1):
        held_back = [line for name, line, _ in validation if name == tag]
        assert len(held_back) == 15
        assert list(read_lines([run.folder / f"data/held-back-{number}.src"])) == held_back


def test_validation_files_have_the_tags_of_the_training_files_in_their_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = two_tasks(tmp_path) | {"tags": ("copy", "rev")}
    valid = write_lines(tmp_path / "v", ["a b", "c d"])
    run = make_run(tmp_path, **options, valid_src=(valid,), valid_tgt=(valid,))
    data = prepared_by(run, monkeypatch)
    assert data.validation_tags == ("copy",)
    tokenizer = Tokenizer.load(run.folder / "tokenizer.json")
    assert [source[0] for source, _ in read_numbers(data.validation)] == [tokenizer.tags["copy"]] * 2


def test_a_tokenizer_that_is_given_gets_the_tags(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options = two_tasks(tmp_path)
    train_from_text(make_run(tmp_path, folder=tmp_path / "plain", max_steps=1, **options))
    plain = load_model(tmp_path / "plain").source_tokenizer
    options |= {"tokenizer": tmp_path / "plain/tokenizer.json", "tags": ("copy", "rev")}
    interrupted(make_run(tmp_path, **options), 4, monkeypatch)
    train_from_text(make_run(tmp_path, **options))  # it is still the tokenizer that was given
    tokenizer = load_model(tmp_path / "model").source_tokenizer
    assert tokenizer.vocabulary_size == plain.vocabulary_size + 2
    assert tokenizer.encode("a b c") == plain.encode("a b c")
    with pytest.raises(ConfigError, match="--tag was copy rev when the run"):
        train_from_text(make_run(tmp_path, **{**options, "tags": ("copy", "back")}))


def test_one_tag_needs_not_be_said_again(tmp_path: Path) -> None:
    options = two_tasks(tmp_path)
    one = {name: files[:1] for name, files in options.items()}
    train_from_text(make_run(tmp_path, **one, tags=("copy",), max_steps=1))
    assert load_model(tmp_path / "model").generation["tag"] == "copy"
    assert "tags" not in load_model(tmp_path / "model").generation


def test_a_model_to_start_from_brings_its_tags(tmp_path: Path) -> None:
    options = two_tasks(tmp_path)
    train_from_text(make_run(tmp_path, folder=tmp_path / "first", **options, tags=("copy", "rev"), max_steps=2))
    run = make_run(tmp_path, folder=tmp_path / "second", **options, tags=("rev", "copy"), max_steps=2)
    data = replace(run.data, tokenizer_kind="auto")
    bare = replace(run, data=data, init_from=tmp_path / "first", architecture=type(run.architecture)())
    assert train_from_text(bare) is not None
