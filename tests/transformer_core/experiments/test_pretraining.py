import gzip
import math
from collections import Counter
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.training_task import metrics_without_times, write_lines
from tests.transformer_core.experiments.patterned_text import SOUNDS, animal_lines, write_animals
from tests.transformer_core.experiments.test_train_from_text import Listener, interrupted
from tokenizer import Tokenizer, TokenizerConfig, train_tokenizer
from transformer_core.data.shards import Corpus
from transformer_core.decoding.filling import Filler, Rewriter
from transformer_core.errors import ConfigError, DataError, ModelError
from transformer_core.experiments import train_from_text as module
from transformer_core.experiments.config import (
    PRETRAINING_DEFAULTS,
    ArchitectureConfig,
    PretrainingConfig,
    TrainingRun,
)
from transformer_core.experiments.progress import no_progress
from transformer_core.experiments.text_config import RawTextConfig
from transformer_core.experiments.train_from_text import train_from_text
from transformer_core.experiments.training_file import read_training_file
from transformer_core.inspection.model_summary import summarize_model
from transformer_core.model_directory import load_model
from transformer_core.model_files import read_json, verify_hashes
from transformer_core.training.averaged_model import average_models, find_weights
from transformer_core.training.distributed import ALONE
from transformer_core.training.progress import Silent

ARCHITECTURE = ArchitectureConfig(arch="tiny", num_layers=1, d_model=16, num_heads=2, d_ff=16)
TRAINING = replace(
    PRETRAINING_DEFAULTS,
    batch_size=200,
    max_steps=6,
    valid_every=3,
    learning_rate=0.01,
    precision="fp32",
    device="cpu",
    threads=1,
)


def make_run(place: Path, **values: Any) -> TrainingRun:  # noqa: ANN401
    """A run on raw text in the folder `place`; values are those of fields of any of its records."""
    if not (place / "raw.txt").exists():
        write_animals(place)

    def taken(record: type) -> dict[str, Any]:
        return {item.name: values.pop(item.name) for item in fields(record) if item.name in values}

    kind = {} if "tokenizer" in values else {"tokenizer_kind": "word"}
    return TrainingRun(
        data=RawTextConfig(**{"input": (place / "raw.txt",), **kind, **taken(RawTextConfig)}),
        pretraining=PretrainingConfig(**taken(PretrainingConfig)),
        architecture=replace(ARCHITECTURE, **taken(ArchitectureConfig)),
        training=replace(TRAINING, **taken(type(TRAINING))),
        **{"folder": place / "model", **values},
    )


# --- What a run leaves


@pytest.mark.parametrize("objective", ["masked", "denoising"])
def test_raw_text_makes_a_model_folder(tmp_path: Path, objective: str) -> None:
    listener = Listener()
    result = train_from_text(make_run(tmp_path, objective=objective, command="transduce pretrain ..."), listener)
    assert result is not None
    assert result.is_finished
    folder = tmp_path / "model"
    assert [path.name for path in (folder / "data").iterdir()] == ["held-back.txt"]
    assert listener.messages[:4] == [
        "learned a joint word vocabulary of 22 entries from the training text",
        "training: 288 lines, 1,440 tokens; 0 blank lines are left out",
        "validation: 12 lines, 60 tokens; 0 blank lines are left out",
        f"held 12 training lines back for validation: {folder}/data/held-back.txt",
    ]
    metadata = read_json(folder / "metadata.json")
    assert metadata["pretraining"] == {"objective": objective, "whole_words": False}
    assert list(metadata["data"]) == ["input", "valid"]
    assert set(metadata["training"]["validation"]) == {"loss", "perplexity", "accuracy"}
    assert verify_hashes(folder) == []
    loaded = load_model(folder)
    assert loaded.source_tokenizer is loaded.target_tokenizer
    assert loaded.model.config.is_encoder_only == (objective == "masked")
    assert loaded.model.config.dropout == 0.1
    expected = {"max_source_length": 256} | ({} if objective == "masked" else {"max_length_ratio": 1.5})
    assert loaded.generation == expected
    assert "`transduce pretrain -c training.toml" in (folder / "training.toml").read_text()
    validations = [record for record in metrics_without_times(folder) if record["type"] == "validation"]
    assert [len(record["sample"]) for record in validations] == [3, 3]
    assert "<mask>" in validations[0]["sample"][0]
    parts = set(summarize_model(folder, verify=True).num_parameters)
    assert parts == ({"encoder", "source_embedding"} | (set() if objective == "masked" else {"decoder"}))


@pytest.mark.parametrize("whole_words", [False, True])
def test_a_sample_shows_what_was_hidden(tmp_path: Path, whole_words: bool) -> None:
    run = make_run(tmp_path, whole_words=whole_words, tokenizer_kind="char", max_length=11)
    run.folder.mkdir()
    prepared = module._begin(run, torch.device("cpu"), no_progress, Silent(), ALONE)
    decoded = prepared.task.decode(prepared.model, 7)
    assert decoded.sample is not None
    shown, output, truth = (text.split(" ") for text in decoded.sample)
    assert len(shown) == 11, "a line is cut as in training"
    assert len(output) == len(truth) == shown.count("<mask>") > 0
    assert prepared.task.decode(prepared.model, 7) == decoded
    assert prepared.model.training
    assert len({prepared.task.decode(prepared.model, step).sample for step in range(9)}) > 3


def test_lines_are_stored_once_and_long_ones_are_cut(tmp_path: Path) -> None:
    lines = [*animal_lines(60), "", " ", " ".join(animal_lines(4)), "the red cat"]
    (tmp_path / "more.gz").write_bytes(gzip.compress("".join(f"{line}\n" for line in lines).encode()))
    valid = write_lines(tmp_path / "valid.txt", animal_lines(10, seed=1))
    files = {"input": (write_animals(tmp_path), tmp_path / "more.gz"), "valid": (valid,), "max_length": 7}
    listener = Listener()
    (tmp_path / "model").mkdir()
    prepared = module._begin(make_run(tmp_path, **files), torch.device("cpu"), no_progress, listener, ALONE)
    statistics = prepared.task.training.statistics
    assert (statistics.num_pairs, statistics.num_blank, statistics.num_cut) == (300 + 60 + 3 + 1, 2, 1)
    assert "training: 364 lines, 1,823 tokens; 2 blank lines are left out" in listener.messages
    assert listener.warnings == ["training: cut 1 lines with more than 7 tokens into pieces"]
    shards = list((tmp_path / "model/data/train").glob("shard-*"))
    assert [path.stat().st_size < 2 * 1823 + 8 * 366 + 500 for path in shards] == [True]
    corpus = Corpus(tmp_path / "model/data/train")
    assert not any(message.startswith("held") for message in listener.messages)
    assert np.array_equal(corpus.shard(0).source(360), corpus.shard(0).target(360))


# --- What is learned


def test_an_encoder_learns_the_pattern_and_fill_finds_the_word(tmp_path: Path) -> None:
    valid = write_lines(tmp_path / "valid.txt", animal_lines(200, seed=1))
    options = {"max_steps": 250, "valid_every": 50, "batch_size": 1000, "d_model": 32, "d_ff": 32, "patience": 0}
    run = make_run(tmp_path, **options, learning_rate=0.02, valid=(valid,))
    result = train_from_text(run)
    assert result is not None
    counts = Counter(word for line in animal_lines(300) for word in line.split())
    # The best that can be done without looking at the line: the entropy of the words.
    unigram = -sum(count / counts.total() * math.log(count / counts.total()) for count in counts.values())
    # Of five words only the colour cannot be known, and is one of three.
    assert unigram > 2.2
    assert result.state.best_values["loss"] < math.log(3) / 5 + 0.5 < unigram / 2
    loaded = load_model(run.folder)
    filler = Filler(loaded.model, loaded.source_tokenizer, 3)
    for animal, sound in SOUNDS.items():
        lines = filler.fill(
            [f"the blue {animal} <mask> .", f"the red <mask> {sound} .", f"the <mask> {animal} {sound} ."]
        )
        assert [line.masks[0][0].token for line in lines[:2]] == [sound, animal]
        assert {candidate.token for candidate in lines[2].masks[0]} == {"red", "blue", "green"}
        assert lines[0].text == f"the blue {animal} {sound} ."


def test_a_denoising_model_learns_the_pattern(tmp_path: Path) -> None:
    options = {"max_steps": 200, "valid_every": 50, "d_model": 32, "d_ff": 32, "learning_rate": 0.02, "patience": 0}
    run = make_run(tmp_path, objective="denoising", **options)
    train_from_text(run)
    loaded = load_model(run.folder)
    lines = [f"the blue {animal} <mask> ." for animal in SOUNDS]
    filled = Rewriter(loaded.model, loaded.source_tokenizer).fill(lines)
    assert [line.text for line in filled] == [f"the blue {animal} {sound} ." for animal, sound in SOUNDS.items()]


# --- The same command again


@pytest.mark.parametrize("objective", ["masked", "denoising"])
@pytest.mark.parametrize("step", [0, 2, 4])
def test_a_run_that_was_killed_goes_on_as_if_it_had_not_been(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int, objective: str
) -> None:
    options: dict[str, Any] = {"objective": objective, "save_every": 2, "whole_words": objective == "masked"}
    train_from_text(make_run(tmp_path, folder=tmp_path / "whole", **options))
    interrupted(make_run(tmp_path, **options), step, monkeypatch)
    train_from_text(make_run(tmp_path, **options, arch="auto", learning_rate=None, max_steps=None, valid_every=None))
    for name in ("model.safetensors", "config.json", "tokenizer.json", "generation.json", "training.toml"):
        assert (tmp_path / "model" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    assert metrics_without_times(tmp_path / "model") == metrics_without_times(tmp_path / "whole")
    listener = Listener()
    assert train_from_text(make_run(tmp_path, **options), listener) is None
    assert listener.messages == [f"training of {tmp_path}/model is finished; --overwrite starts anew"]


def test_what_was_asked_for_otherwise_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    interrupted(make_run(tmp_path), 4, monkeypatch)
    with pytest.raises(ConfigError, match=r"--objective was masked when the run in .* began and is denoising now"):
        train_from_text(make_run(tmp_path, objective="denoising"))
    with pytest.raises(ConfigError, match="--whole-words was False when"):
        train_from_text(make_run(tmp_path, whole_words=True))
    write_lines(tmp_path / "raw.txt", animal_lines(10))
    with pytest.raises(ConfigError, match="the files of --input are missing or not what they were"):
        train_from_text(make_run(tmp_path))


def test_a_mean_of_pretrained_encoders_is_one(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    train_from_text(run)
    average_models(find_weights([run.folder], 2), tmp_path / "mean")
    loaded = load_model(tmp_path / "mean")
    assert loaded.metadata["pretraining"]["objective"] == "masked"
    (line,) = Filler(loaded.model, loaded.source_tokenizer).fill(["the red <mask> meows ."])
    assert line.masks


# --- What cannot be


def test_a_run_says_what_does_not_go_together(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="pretraining needs text: --input FILE"):
        make_run(tmp_path, input=())
    with pytest.raises(ConfigError, match="--whole-words goes with --objective masked"):
        make_run(tmp_path, objective="denoising", whole_words=True)
    with pytest.raises(ConfigError, match=r"objective \('bert'\) must be one of masked, denoising"):
        make_run(tmp_path, objective="bert")
    with pytest.raises(ConfigError, match="--valid-size holds lines back; with --valid nothing is held back"):
        make_run(tmp_path, valid=(tmp_path / "raw.txt",), valid_size=3)
    for name, value, option in (
        ("num_decoder_layers", 2, "--dec-layers 2"),
        ("decoder_d_model", 8, "--dec-d-model 8"),
        ("decoder_d_ff", 9, "--dec-ffn-dim 9"),
        ("tie_embeddings", "none", "--tie-embeddings none"),
    ):
        with pytest.raises(ConfigError, match=f"{option} needs a decoder, but --objective masked trains an encoder"):
            make_run(tmp_path, **{name: value})
    assert make_run(tmp_path, num_decoder_layers=2, objective="denoising").architecture.num_decoder_layers == 2
    with pytest.raises(ConfigError, match=r"metric \('bleu'\) must be one of loss, accuracy"):
        make_run(tmp_path, metric="bleu")
    with pytest.raises(ConfigError, match="pretraining starts from nothing"):
        make_run(tmp_path, init_from=tmp_path)
    with pytest.raises(ConfigError, match="raw text goes with a PretrainingConfig"):
        replace(make_run(tmp_path), pretraining=None)


def test_text_that_holds_nothing_is_named(tmp_path: Path) -> None:
    train_tokenizer(animal_lines(9), TokenizerConfig(kind="word", vocabulary_size=30)).save(tmp_path / "t.json")
    blank = write_lines(tmp_path / "blank.txt", ["", " "])
    options: dict[str, Any] = {"input": (blank,), "tokenizer": tmp_path / "t.json"}
    with pytest.raises(DataError, match=r"blank\.txt: has 0 lines; training and validation need at least one each"):
        train_from_text(make_run(tmp_path, **options))
    same = write_lines(tmp_path / "same.txt", ["the cat"] * 30)
    with pytest.raises(DataError, match=r"too few different lines .* give validation lines \(--valid\)"):
        train_from_text(make_run(tmp_path, **{**options, "input": (same,)}))
    with pytest.raises(DataError, match="no line is left: all 2 are blank; look at the files"):
        train_from_text(make_run(tmp_path, **options, valid=(same,)))
    assert not (tmp_path / "model").exists()


def test_the_tokenizer_of_the_run_is_its_own(tmp_path: Path) -> None:
    tokenizer = train_tokenizer(animal_lines(99), TokenizerConfig(kind="word", vocabulary_size=99))
    tokenizer.save(tmp_path / "t.json")
    run = make_run(tmp_path, tokenizer=tmp_path / "t.json")
    train_from_text(run)
    assert Tokenizer.load(run.folder / "tokenizer.json").sha256 == tokenizer.sha256
    with pytest.raises(ModelError, match="was not pretrained to predict masked tokens"):
        denoising = make_run(tmp_path, objective="denoising", folder=tmp_path / "denoising")
        train_from_text(denoising)
        loaded = load_model(denoising.folder)
        Filler(loaded.model, loaded.source_tokenizer)
    assert read_training_file(run.folder)["tokenizer"] == str(tmp_path / "t.json")
