import json
import shutil
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.job import run_job
from tests.training_task import metrics_without_times, reversed_strings, write_lines, write_task
from tokenizer import Tokenizer, TokenizerConfig, train_tokenizer
from transformer_core.errors import ConfigError, DataError, ModelError
from transformer_core.experiments import run_folder
from transformer_core.experiments import train_from_text as module
from transformer_core.experiments.config import ArchitectureConfig, TrainingRun
from transformer_core.experiments.progress import no_progress
from transformer_core.experiments.text_config import DataConfig
from transformer_core.experiments.train_from_text import train_from_text
from transformer_core.experiments.training_file import read_training_file
from transformer_core.model_directory import load_model, weights_of
from transformer_core.model_files import read_json, verify_hashes
from transformer_core.training.config import TrainingConfig
from transformer_core.training.distributed import ALONE, Job, this_job
from transformer_core.training.progress import Silent
from transformer_core.training.trainer import Decoded, Trainer

ARCHITECTURE = ArchitectureConfig(arch="tiny", num_layers=1, d_model=16, num_heads=2, d_ff=16)
# what follows from the data, or from a model to start from
PLAIN = {"arch": "auto", **dict.fromkeys(("num_layers", "d_model", "num_heads", "d_ff", "learning_rate"))}
TRAINING = TrainingConfig(
    batch_size=200, max_steps=6, valid_every=3, learning_rate=0.01, precision="fp32", device="cpu", threads=1
)


class Listener(Silent):
    def __init__(self) -> None:
        self.messages: list[str] = []
        self.warnings: list[str] = []

    def on_message(self, text: str) -> None:
        self.messages.append(text)

    def on_warning(self, text: str) -> None:
        self.warnings.append(text)


def make_run(place: Path, **values: Any) -> TrainingRun:  # noqa: ANN401
    """A run on the task in the folder `place`; values are those of fields of any of its records."""
    if not (place / "train.src").exists():
        write_task(place)
    files: dict[str, Any] = {"train_src": (place / "train.src",), "train_tgt": (place / "train.tgt",)}

    def taken(record: type) -> dict[str, Any]:
        names = {item.name for item in fields(record)} & values.keys()
        return {name: values.pop(name) for name in sorted(names)}

    if not {"tokenizer", "source_tokenizer", "init_from"} & values.keys():
        files["tokenizer_kind"] = "word"
    return TrainingRun(
        data=DataConfig(**{**files, **taken(DataConfig)}),
        architecture=replace(ARCHITECTURE, **taken(ArchitectureConfig)),
        training=replace(TRAINING, **taken(TrainingConfig)),
        **{"folder": place / "model", **values},
    )


def left_over(folder: Path) -> set[str]:
    """What lies beside the data."""
    return {str(path.relative_to(folder)) for path in folder.rglob("*")} - {"train.src", "train.tgt"}


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


# --- What a run leaves


def test_two_files_make_a_model_folder(tmp_path: Path) -> None:
    listener = Listener()
    result = train_from_text(make_run(tmp_path, command="transduce train ..."), listener)
    assert result is not None
    assert result.is_finished
    model = tmp_path / "model"
    assert {path.name for path in model.iterdir()} == {
        "config.json",
        "model.safetensors",
        "tokenizer.json",
        "generation.json",
        "training.toml",
        "metadata.json",
        "metrics.jsonl",
        "train.log",
        "checkpoints",
        "data",
    }
    assert {path.name for path in (model / "data").iterdir()} == {"held-back.src", "held-back.tgt"}
    assert "learned a joint word vocabulary of 13 entries from the training text" in listener.messages
    held_back = [message for message in listener.messages if message.startswith("held ")]
    assert held_back == [
        f"held 10 training pairs back for validation: {model}/data/held-back.src, {model}/data/held-back.tgt"
    ]
    metadata = read_json(model / "metadata.json")
    assert metadata["command"] == "transduce train ..."
    assert metadata["corpus"]["num_pairs"] == 190
    assert metadata["corpus"]["num_held_back"] == 10
    assert metadata["training"]["is_finished"]
    assert metadata["training"]["steps"] == 6
    assert set(metadata["training"]["validation"]) == {"loss", "perplexity"}
    assert verify_hashes(model) == []
    loaded = load_model(model)
    assert loaded.model.config.encoder.d_model == 16
    assert loaded.generation["max_length_ratio"] >= 1


def test_the_same_command_makes_the_same_model_anywhere(tmp_path: Path) -> None:
    for name in ("one", "other"):
        train_from_text(make_run(tmp_path / name))
    one, other = tmp_path / "one" / "model", tmp_path / "other" / "model"
    for name in ("model.safetensors", "config.json", "tokenizer.json", "generation.json"):
        assert (one / name).read_bytes() == (other / name).read_bytes()
    assert metrics_without_times(one) == metrics_without_times(other)


def test_another_seed_makes_another(tmp_path: Path) -> None:
    train_from_text(make_run(tmp_path))
    train_from_text(make_run(tmp_path, folder=tmp_path / "other", seed=2))
    assert (tmp_path / "model/model.safetensors").read_bytes() != (tmp_path / "other/model.safetensors").read_bytes()


def test_four_files_and_a_tokenizer_of_ones_own_for_each_side(tmp_path: Path) -> None:
    sources, targets = reversed_strings(20, seed=5)
    tokenizers = []
    for name, extra in (("source.json", "x y z"), ("target.json", "w")):
        tokenizer = train_tokenizer(["a b c d e f g h", extra], TokenizerConfig(kind="word", vocabulary_size=50))
        tokenizer.save(tmp_path / name)
        tokenizers.append(tokenizer)
    run = make_run(
        tmp_path,
        valid_src=(write_lines(tmp_path / "v.src", sources),),
        valid_tgt=(write_lines(tmp_path / "v.tgt", targets),),
        source_tokenizer=tmp_path / "source.json",
        target_tokenizer=tmp_path / "target.json",
        metric="exact",
    )
    result = train_from_text(run)
    assert result is not None
    loaded = load_model(run.folder)
    assert [loaded.source_tokenizer.sha256, loaded.target_tokenizer.sha256] == [t.sha256 for t in tokenizers]
    assert loaded.model.config.tie_embeddings == "decoder"
    assert not (run.folder / "data").exists() or not any((run.folder / "data").iterdir())
    assert set(result.state.best_values) == {"loss", "perplexity", "exact"}
    validations = [record for record in metrics_without_times(run.folder) if record["type"] == "validation"]
    assert all(0 <= record["values"]["exact"] <= 100 for record in validations)
    assert "version:" in validations[0]["signatures"]["exact"]


def test_dropped_pairs_are_counted_and_said(tmp_path: Path) -> None:
    sources, targets = reversed_strings(60)
    sources[3], targets[5] = "", "  "
    sources[5], sources[7] = "a b c d e f g h a b", "a " * 30
    write_lines(tmp_path / "train.src", sources)
    write_lines(tmp_path / "train.tgt", targets)
    listener = Listener()
    train_from_text(make_run(tmp_path, max_length=20, max_steps=1), listener)
    statistics = read_json(tmp_path / "model/metadata.json")["corpus"]
    held_back = statistics["num_held_back"]
    assert statistics["num_pairs"] + statistics["num_blank"] + statistics["num_long"] + held_back == 60
    dropped = [text for text in listener.warnings if "dropped" in text]
    assert any("dropped 2 pairs with a blank side" in text for text in dropped)


def test_what_follows_from_the_data_is_written_down(tmp_path: Path) -> None:
    run = make_run(tmp_path, arch="auto", num_layers=None, learning_rate=None, max_steps=None, valid_every=None)
    run.folder.mkdir()
    config = module._begin(run, torch.device("cpu"), no_progress, Silent(), ALONE).run.training
    options = read_training_file(run.folder)
    assert (options["arch"], options["dropout"], options["max_steps"]) == ("tiny", 0.3, 2000)
    assert options["lr"] == config.learning_rate
    assert options["valid_every"] == config.valid_every == 50
    assert (options["precision"], options["device"], options["threads"]) == ("fp32", "cpu", 1)


# --- The same command again


def interrupted(run: TrainingRun, step: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Die after this step."""

    class Killed(BaseException):
        pass

    update = Trainer._update

    def fatal(trainer: Trainer, micro_batches: Any) -> None:  # noqa: ANN401
        if trainer.state.step == step:
            raise Killed
        update(trainer, micro_batches)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_update", fatal)
        with pytest.raises(Killed):
            train_from_text(run)


def test_a_run_that_has_finished_is_left_alone(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    train_from_text(run)
    before = {path: path.read_bytes() for path in run.folder.rglob("*") if path.is_file()}
    listener = Listener()
    assert train_from_text(run, listener) is None
    assert listener.messages == [f"training of {run.folder} is finished; --overwrite starts anew"]
    assert {path: path.read_bytes() for path in run.folder.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize("step", [0, 2, 4])
def test_what_is_not_given_again_is_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    options = {"learning_rate": 0.02, "warmup_steps": 1, "save_every": 2, "valid_size": 17, "vocabulary_size": 9}
    train_from_text(make_run(tmp_path, folder=tmp_path / "whole", **options))
    interrupted(make_run(tmp_path, **options), step, monkeypatch)
    forgotten = dict.fromkeys(("learning_rate", "warmup_steps", "max_steps", "valid_every", "save_every"))
    forgotten |= {"arch": "auto"} | dict.fromkeys(("num_layers", "d_model", "num_heads", "d_ff", "threads"))
    run = make_run(tmp_path, **{**forgotten, "device": "auto", "precision": "auto"})
    result = train_from_text(run)
    assert result is not None
    for name in ("model.safetensors", "config.json", "tokenizer.json"):
        assert (run.folder / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    assert metrics_without_times(run.folder) == metrics_without_times(tmp_path / "whole")
    assert read_training_file(run.folder) == read_training_file(tmp_path / "whole")
    assert len((run.folder / "data/held-back.src").read_text().splitlines()) == 17


def test_a_changed_option_is_named_and_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    interrupted(make_run(tmp_path), 4, monkeypatch)
    before = {path: path.read_bytes() for path in (tmp_path / "model").rglob("*") if path.is_file()}
    for values, option in (({"seed": 2}, "--seed"), ({"d_model": 32}, "--d-model"), ({"max_steps": 9}, "--max-steps")):
        with pytest.raises(ConfigError, match=f"{option} was .* when the run in .* began and is .* now"):
            train_from_text(make_run(tmp_path, **values))
    assert {path: path.read_bytes() for path in (tmp_path / "model").rglob("*") if path.is_file()} == before


def test_what_changes_nothing_is_named(tmp_path: Path) -> None:
    listener = Listener()
    values = {"warmup_steps": 9, "max_steps": 5, "lr_schedule": "inverse-sqrt", "momentum": 0.5, "kernel_width": 5}
    train_from_text(make_run(tmp_path, **values, optimizer="adamw"), listener)
    assert [text.partition(":")[0] for text in listener.warnings] == [
        "--kernel-width changes nothing",
        "--momentum changes nothing",
        "--warmup-steps 9 are as many as training has updates (5), and the rate rises all the time; by default it "
        "would rise for 0 of them",
    ]
    listener = Listener()
    used = {"encoder_mixer": "conv", "optimizer": "muon", "max_steps": 10}
    train_from_text(make_run(tmp_path, **{**values, **used}, overwrite=True), listener)
    assert listener.warnings == []
    listener = Listener()
    idle: dict[str, Any] = {"batch_warmup_steps": 3, "feed_forward": "swiglu", "activation": "gelu"}
    idle |= {"positions": "rotary", "sinusoid_form": "vaswani", "fsdp": True, "max_steps": 1}
    train_from_text(make_run(tmp_path, **idle, overwrite=True), listener)
    assert [text.partition(":")[0] for text in listener.warnings] == [
        "--sinusoid-form changes nothing",
        "--activation changes nothing",
        "--batch-warmup-steps changes nothing",
        "--fsdp changes nothing",
    ]
    listener = Listener()
    used = {"accumulate": 2, "feed_forward": "plain", "positions": "sinusoidal", "fsdp": False}
    train_from_text(make_run(tmp_path, **{**idle, **used}, overwrite=True), listener)
    assert listener.warnings == []


def test_sides_of_different_length_are_found_before_the_vocabulary_is_learned(tmp_path: Path) -> None:
    run = make_run(tmp_path, tokenizer_kind="bpe")
    with (tmp_path / "train.src").open("a") as file:
        file.write("a b\n")
    listener = Listener()
    with pytest.raises(DataError, match=r"train.src has 201 lines but .*train.tgt has 200"):
        train_from_text(run, listener)
    assert listener.messages == []


def test_another_number_of_threads_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    interrupted(make_run(tmp_path), 4, monkeypatch)
    numbers = [1]
    monkeypatch.setattr(torch, "set_num_threads", numbers.append)  # two threads for so little work take seconds
    monkeypatch.setattr(torch, "get_num_threads", lambda: numbers[-1])
    listener = Listener()
    train_from_text(make_run(tmp_path, threads=2), listener)
    assert [text for text in listener.warnings if "threads" in text] == [
        "the run began with --threads 1 and goes on with 2: its weights will differ in the last bits from those of an "
        "uninterrupted run"
    ]
    assert read_training_file(tmp_path / "model")["threads"] == 1


def test_patience_may_grow_and_the_run_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    values = iter([1.0, *range(2, 50)])

    def validate(trainer: Trainer) -> tuple[dict[str, float], Decoded]:
        return {"loss": float(next(values)), "perplexity": 1.0}, Decoded(values={}, signatures={}, sample=None)

    monkeypatch.setattr(Trainer, "validate", validate)
    options = {"max_steps": 40, "valid_every": 2, "average_last": 0, "lr_schedule": "cosine"}
    result = train_from_text(make_run(tmp_path, **options, patience=2))
    assert result is not None
    assert (result.state.step, result.reason) == (6, "loss has not become better for 2 validations")
    assert train_from_text(make_run(tmp_path, **options, patience=2)) is None
    result = train_from_text(make_run(tmp_path, **options, patience=4))
    assert result is not None
    assert result.state.step == 10
    assert read_training_file(tmp_path / "model")["patience"] == 4
    assert train_from_text(make_run(tmp_path, **options, patience=4)) is None


def test_a_schedule_without_an_end_may_go_on_beyond_it(tmp_path: Path) -> None:
    for max_steps in (6, 9):
        result = train_from_text(make_run(tmp_path, lr_schedule="constant", max_steps=max_steps))
        assert result is not None
        assert result.state.step == max_steps
    assert verify_hashes(tmp_path / "model") == []
    assert read_json(tmp_path / "model/metadata.json")["training"]["steps"] == 9


def test_more_epochs_are_as_many_with_more_processes(tmp_path: Path) -> None:
    """The run keeps to updates of one batch, as one process began it; with those of two it would need half as many."""
    values = {"lr_schedule": "constant", "max_steps": None, "valid_every": 100}
    train_from_text(make_run(tmp_path, max_epochs=1, **values))
    longer = make_run(tmp_path, max_epochs=3, **values)
    assert run_job(tmp_path, lambda: train_from_text(longer, job=this_job())) == ["", ""]
    record = read_json(tmp_path / "model/metadata.json")["training"]
    assert (record["epochs"], record["reason"]) == (3, "all 3 epochs are done")


def test_a_run_that_goes_on_is_no_longer_finished(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    train_from_text(make_run(tmp_path, lr_schedule="constant"))
    interrupted(make_run(tmp_path, lr_schedule="constant", max_steps=12), 8, monkeypatch)
    with pytest.raises(ModelError, match="training has not ended yet"):
        verify_hashes(tmp_path / "model")
    result = train_from_text(make_run(tmp_path, lr_schedule="constant", max_steps=12))
    assert result is not None
    assert result.state.step == 12


def test_data_that_were_changed_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    interrupted(make_run(tmp_path), 4, monkeypatch)
    sources, _ = reversed_strings(200, seed=1)
    write_lines(tmp_path / "train.src", sources)
    with pytest.raises(ConfigError, match="the files of --train-src are missing or not what they were"):
        train_from_text(make_run(tmp_path))
    run = make_run(tmp_path)
    (tmp_path / "train.src").unlink()
    with pytest.raises(ConfigError, match="the files of --train-src are missing or not what they were"):
        train_from_text(run)


def test_a_model_goes_on_where_its_folder_was_moved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    train_from_text(make_run(tmp_path, folder=tmp_path / "whole"))
    interrupted(make_run(tmp_path), 4, monkeypatch)
    shutil.move(tmp_path / "model", tmp_path / "moved")
    train_from_text(make_run(tmp_path, folder=tmp_path / "moved"))
    assert (tmp_path / "moved/model.safetensors").read_bytes() == (tmp_path / "whole/model.safetensors").read_bytes()


def test_words_that_are_cut_at_random_are_cut_the_same_in_a_resumed_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    values: dict[str, Any] = {"tokenizer_kind": "byte-bpe", "vocabulary_size": 300, "max_steps": 6}
    train_from_text(make_run(tmp_path, folder=tmp_path / "whole", bpe_dropout=0.3, **values))
    train_from_text(make_run(tmp_path, folder=tmp_path / "plain", **values))
    interrupted(make_run(tmp_path, bpe_dropout=0.3, **values), 4, monkeypatch)
    train_from_text(make_run(tmp_path, bpe_dropout=0.3, **values))
    whole, plain, resumed = (
        (tmp_path / name / "model.safetensors").read_bytes() for name in ("whole", "plain", "model")
    )
    assert resumed == whole
    assert plain != whole


# --- A failure leaves nothing


def test_random_cuts_of_a_tokenizer_without_merges_are_refused_before_anything_is_written(tmp_path: Path) -> None:
    train_tokenizer(["a b c"], TokenizerConfig(kind="word", vocabulary_size=50)).save(tmp_path / "words.json")
    with pytest.raises(ConfigError, match="--bpe-dropout leaves merges out, and a tokenizer of kind word has none"):
        train_from_text(make_run(tmp_path, tokenizer=tmp_path / "words.json", bpe_dropout=0.1))
    assert left_over(tmp_path) == {"words.json"}


NAMES = ["describe_data", "choose_tokenizers", "prepare_data", "describe_run", "ValidationDecoder"]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("fault", [KeyboardInterrupt, OSError])
def test_a_run_that_fails_before_it_begins_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, fault: type[BaseException]
) -> None:
    original: Callable[..., object] = getattr(module, name)

    def failing(*arguments: Any, **options: Any) -> None:  # noqa: ANN401
        original(*arguments, **options)
        raise fault

    run = make_run(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(module, name, failing)
        with pytest.raises(fault):
            train_from_text(run)
    if name not in ("describe_run", "ValidationDecoder"):  # the run is described then, and can be resumed
        assert left_over(tmp_path) == set()
    result = train_from_text(run)
    assert result is not None
    assert result.is_finished


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "generation.json", "metadata.json", "training.toml"])
def test_a_disk_that_is_full_while_the_run_is_described_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    write_task(tmp_path)
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / ".note").touch()  # of the user's
    replace_file = Path.replace

    def full(path: Path, target: Path) -> Path:
        if Path(target).name == name:
            raise OSError(28, "No space left on device", str(target))
        return replace_file(path, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", full)
        with pytest.raises(OSError, match="No space left"):
            train_from_text(make_run(tmp_path))
    assert left_over(tmp_path) == {"model", "model/.note"}


@pytest.mark.parametrize("num_files", range(6))
def test_a_run_that_was_killed_while_it_was_described_begins_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, num_files: int
) -> None:
    """Kill it after each of the files; no handler runs then, so what is there stays there."""
    train_from_text(make_run(tmp_path, folder=tmp_path / "whole"))
    replace_file = Path.replace
    written: list[str] = []

    class Killed(BaseException):
        pass

    def counting(path: Path, target: Path) -> Path:
        if Path(target).name in run_folder.DESCRIPTIONS | {"training.toml"}:
            if len(written) == num_files:
                raise Killed
            written.append(Path(target).name)
        return replace_file(path, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", counting)
        patch.setattr(module, "abandon_run", lambda folder, before: None)
        if num_files < 5:
            with pytest.raises(Killed):
                train_from_text(make_run(tmp_path))
    train_from_text(make_run(tmp_path))
    for name in ("model.safetensors", "config.json", "tokenizer.json", "training.toml"):
        assert (tmp_path / "model" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_what_is_no_run_is_left_alone(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    run.folder.mkdir()
    (run.folder / "thesis.tex").touch()
    for overwrite in (False, True):
        with pytest.raises(ConfigError, match=r"holds thesis\.tex and no training run; name another folder"):
            train_from_text(replace(run, overwrite=overwrite))
    (run.folder / "thesis.tex").unlink()
    (run.folder / "data").mkdir()
    (run.folder / "data" / "train").mkdir()
    (run.folder / "data" / "train" / "corpus.en").touch()
    with pytest.raises(ConfigError, match="holds data and no training run"):
        train_from_text(run)
    assert (run.folder / "data/train/corpus.en").exists()
    shutil.rmtree(run.folder)
    run.folder.touch()
    with pytest.raises(ConfigError, match="is a file; name a folder for the model"):
        train_from_text(run)


def test_overwriting_starts_anew_but_not_before_the_data_are_found(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    train_from_text(run)
    weights = (run.folder / "model.safetensors").read_bytes()
    (run.folder / "notes.txt").write_text("mine")
    with pytest.raises(DataError, match="missing: there is no such file"):
        train_from_text(make_run(tmp_path, train_src=(tmp_path / "missing",), overwrite=True))
    assert (run.folder / "model.safetensors").read_bytes() == weights
    other = replace(run, training=replace(run.training, seed=7), overwrite=True)
    too_many = replace(other, data=replace(other.data, valid_size=5000))
    before = contents(run.folder)
    with pytest.raises(ConfigError, match="--valid-size 5000 would hold back all"):  # when the old run is set aside
        train_from_text(too_many)
    with pytest.raises(ConfigError, match="d_model"):
        train_from_text(replace(other, architecture=replace(other.architecture, d_model=15)))
    assert contents(run.folder) == before
    train_from_text(other)
    assert (run.folder / "model.safetensors").read_bytes() != weights
    assert (run.folder / "notes.txt").read_text() == "mine"
    assert not list(run.folder.glob(".*"))
    assert read_training_file(run.folder)["seed"] == 7


def test_overwriting_ends_as_a_fresh_run(tmp_path: Path) -> None:
    train_from_text(make_run(tmp_path, folder=tmp_path / "fresh"))
    train_from_text(make_run(tmp_path, seed=3, max_steps=9))
    train_from_text(make_run(tmp_path, overwrite=True))
    for name in ("model.safetensors", "training.toml"):
        assert (tmp_path / "model" / name).read_bytes() == (tmp_path / "fresh" / name).read_bytes()
    assert metrics_without_times(tmp_path / "model") == metrics_without_times(tmp_path / "fresh")


def test_a_job_that_starts_again_overwrites_what_an_earlier_one_of_its_name_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Jobs that torchrun names nothing are all called "none"."""

    def failing(*arguments: object) -> None:
        raise KeyboardInterrupt

    job, again = Job(id="none"), Job(id="none", is_restarted=True)
    train_from_text(make_run(tmp_path), job=job)
    run = make_run(tmp_path, seed=7, overwrite=True)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(module, "prepare_data", failing)
        train_from_text(run, job=job)
    assert read_training_file(run.folder)["seed"] == 1
    assert train_from_text(run, job=again) is not None
    assert read_training_file(run.folder)["seed"] == 7
    assert train_from_text(run, job=again) is None, "that one is of this job"


# --- Starting from a model


def test_fine_tuning_takes_weights_architecture_and_tokenizer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    train_from_text(make_run(tmp_path, folder=tmp_path / "first", norm="last", activation="gelu"))
    first = load_model(tmp_path / "first").model
    begun: list[dict[str, torch.Tensor]] = []
    monkeypatch.setattr(
        Trainer,
        "_try_largest_batch",
        lambda trainer: begun.append({n: w.clone() for n, w in weights_of(trainer.model).items()}),
    )
    other_text = make_run(tmp_path / "other", **PLAIN, init_from=tmp_path / "first", dropout=0.05)
    result = train_from_text(other_text)
    assert result is not None
    assert all(torch.equal(begun[-1][name], weight) for name, weight in weights_of(first).items())
    loaded = load_model(other_text.folder)
    assert loaded.model.config == replace(first.config, dropout=0.05)
    assert (other_text.folder / "tokenizer.json").read_bytes() == (tmp_path / "first/tokenizer.json").read_bytes()
    assert read_training_file(other_text.folder)["init_from"] == str(tmp_path / "first")
    assert read_json(other_text.folder / "metadata.json")["init_from"]["path"] == str(tmp_path / "first")
    assert train_from_text(other_text) is None


@pytest.mark.parametrize("step", [0, 2, 4])
def test_fine_tuning_that_was_killed_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    train_from_text(make_run(tmp_path, folder=tmp_path / "first"))
    whole, run = (make_run(tmp_path, **PLAIN, init_from=tmp_path / "first", folder=tmp_path / name) for name in "ab")
    train_from_text(whole)
    interrupted(run, step, monkeypatch)
    train_from_text(run)
    assert (run.folder / "model.safetensors").read_bytes() == (whole.folder / "model.safetensors").read_bytes()


def test_fine_tuning_does_not_go_on_from_another_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    train_from_text(make_run(tmp_path, folder=tmp_path / "first"))
    run = make_run(tmp_path, **PLAIN, init_from=tmp_path / "first", folder=tmp_path / "tuned")
    interrupted(run, 0, monkeypatch)
    train_from_text(make_run(tmp_path, folder=tmp_path / "first", seed=5, overwrite=True))
    with pytest.raises(ConfigError, match=r"first: is not the model that the run in .*tuned began"):
        train_from_text(run)


@pytest.mark.parametrize("values", [{"vocabulary_size": 300}, {"tokenizer_kind": "bpe"}])
def test_what_is_of_a_learned_vocabulary_does_not_go_with_another(tmp_path: Path, values: dict[str, Any]) -> None:
    train_from_text(make_run(tmp_path, folder=tmp_path / "first"))
    for given, brings in (
        ({"init_from": tmp_path / "first", **PLAIN}, "--init-from"),
        ({"tokenizer": tmp_path / "first/tokenizer.json"}, "a tokenizer that is given"),
    ):
        with pytest.raises(ConfigError, match=f"is of a vocabulary that is learned, and does not go with {brings}"):
            train_from_text(make_run(tmp_path, **given, **values))
    assert not (tmp_path / "model").exists()


def test_fine_tuning_into_the_same_folder_or_another_shape_is_refused(tmp_path: Path) -> None:
    train_from_text(make_run(tmp_path))
    with pytest.raises(ConfigError, match="--init-from and --output are both"):
        train_from_text(make_run(tmp_path, init_from=tmp_path / "model", overwrite=True))
    run = make_run(tmp_path, init_from=tmp_path / "model", folder=tmp_path / "new")
    with pytest.raises(ConfigError, match="--arch does not go with --init-from: the model brings its architecture"):
        train_from_text(run)
    plain = ArchitectureConfig(norm="last")
    with pytest.raises(ConfigError, match="--norm does not go with --init-from"):
        train_from_text(replace(run, architecture=plain))
    assert not (tmp_path / "new").exists()


def test_the_tokenizer_of_the_run_may_vanish_but_not_change(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "joint.json"
    tokenizer = train_tokenizer(["a b c d e f g h"], TokenizerConfig(kind="word", vocabulary_size=50))
    tokenizer.save(path)
    run = make_run(tmp_path, tokenizer=path)
    interrupted(run, 4, monkeypatch)
    train_tokenizer(["a b c"], TokenizerConfig(kind="word", vocabulary_size=50)).save(path)
    with pytest.raises(ConfigError, match=r"joint\.json: is not the tokenizer of .*model"):
        train_from_text(run)
    path.unlink()
    train_from_text(run)
    assert Tokenizer.load(run.folder / "tokenizer.json").sha256 == tokenizer.sha256


def test_validation_text_that_is_not_utf_8_is_replaced_if_asked_for(tmp_path: Path) -> None:
    sources, targets = reversed_strings(20, seed=5)
    write_lines(tmp_path / "v.tgt", targets)
    (tmp_path / "v.src").write_bytes(b"\xff" + "\n".join(sources).encode() + b"\n")
    valid = {"valid_src": (tmp_path / "v.src",), "valid_tgt": (tmp_path / "v.tgt",)}
    with pytest.raises(DataError, match=r"v\.src:1: is not UTF-8"):
        train_from_text(make_run(tmp_path, **valid))
    assert left_over(tmp_path) == {"v.src", "v.tgt"}
    listener = Listener()
    assert train_from_text(make_run(tmp_path, **valid, errors="replace", metric="chrf"), listener) is not None
    assert listener.warnings == ["validation: 1 pairs hold U+FFFD for bytes that are not UTF-8"]


def test_metadata_is_json_for_everybody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    values = {"loss": float("nan"), "perplexity": 1.0}
    decoded = Decoded(values={}, signatures={}, sample=None)
    monkeypatch.setattr(Trainer, "validate", lambda trainer: (values, decoded))
    train_from_text(make_run(tmp_path))
    text = (tmp_path / "model/metadata.json").read_text()
    content = json.loads(text, parse_constant=lambda name: pytest.fail(f"holds {name}"))
    assert content["training"]["validation"] == {"perplexity": 1.0}
