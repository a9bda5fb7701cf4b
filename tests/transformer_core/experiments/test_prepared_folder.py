import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.training_task import reversed_strings, write_lines, write_task
from tests.transformer_core.experiments.test_train_from_text import contents, interrupted, make_run
from tokenizer import Tokenizer, TokenizerConfig, train_tokenizer
from transformer_core.errors import ConfigError, DataError
from transformer_core.experiments import locked_folder as locked_folder_module
from transformer_core.experiments import prepared_folder as module
from transformer_core.experiments.config import PretrainingConfig, TrainingRun
from transformer_core.experiments.corpus_preparation import PreparedData, prepare_data
from transformer_core.experiments.locked_folder import locked_folder
from transformer_core.experiments.prepared_folder import (
    Preparation,
    adopt_prepared,
    check_tokenizers,
    open_prepared,
    prepare_folder,
)
from transformer_core.experiments.progress import no_progress
from transformer_core.experiments.text_config import DataConfig, RawTextConfig
from transformer_core.experiments.texts import TextConfig
from transformer_core.experiments.train_from_text import train_from_text
from transformer_core.experiments.training_file import read_training_file
from transformer_core.model_directory import load_model
from transformer_core.model_files import read_json


def pairs_of(place: Path, **values: Any) -> DataConfig:  # noqa: ANN401
    source, target = write_task(place)
    kind = {} if "source_tokenizer" in values else {"tokenizer_kind": "word"}
    return DataConfig(train_src=(source,), train_tgt=(target,), **{**kind, **values})


def prepare(folder: Path, data: TextConfig, **values: Any) -> list[str]:  # noqa: ANN401
    """Prepare a folder and give what was said."""
    said: list[str] = []
    prepare_folder(Preparation(folder=folder, data=data, **values), no_progress, said.append)
    return said


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def same_model(one: Path, other: Path) -> bool:
    names = ("model.safetensors", "config.json", "tokenizer.json", "generation.json")
    return all((one / name).read_bytes() == (other / name).read_bytes() for name in names)


# --- What it is good for


@pytest.mark.parametrize("is_given", [False, True])
def test_a_prepared_folder_trains_the_model_that_its_text_would(tmp_path: Path, is_given: bool) -> None:
    options: dict[str, Any] = {"max_length": 5}
    if is_given:
        sources, targets = reversed_strings(20, seed=5)
        options["valid_src"] = (write_lines(tmp_path / "v.src", sources),)
        options["valid_tgt"] = (write_lines(tmp_path / "v.tgt", targets),)
    prepare(tmp_path / "prepared", pairs_of(tmp_path, **options))
    train_from_text(make_run(tmp_path, folder=tmp_path / "whole", metric="exact", **options))
    for name in ("train.src", "train.tgt", "v.src", "v.tgt"):  # it needs them no more, nor the place where it was
        (tmp_path / name).unlink(missing_ok=True)
    shutil.move(tmp_path / "prepared", tmp_path / "moved")
    before = content(tmp_path / "moved")
    for _ in range(2):
        data = DataConfig(prepared=tmp_path / "moved")
        run = replace(make_run(tmp_path / "elsewhere", metric="exact"), data=data, overwrite=True)
        train_from_text(run)
        assert same_model(run.folder, tmp_path / "whole")
    assert content(tmp_path / "moved") == before
    options = read_training_file(run.folder)
    assert (options["data"], options["max_length"]) == (str(tmp_path / "moved"), 5)
    assert "train_src" not in options
    (recorded,) = read_json(run.folder / "metadata.json")["data"]["data"]
    assert recorded["path"] == str(tmp_path / "moved/prepared.json")


def test_a_tokenizer_for_each_side_comes_along(tmp_path: Path) -> None:
    for name in ("source", "target"):
        tokenizer = train_tokenizer(["a b c d e f g h", name], TokenizerConfig(kind="word", vocabulary_size=50))
        tokenizer.save(tmp_path / f"{name}.json")
    tokenizers = {f"{name}_tokenizer": tmp_path / f"{name}.json" for name in ("source", "target")}
    prepare(tmp_path / "prepared", pairs_of(tmp_path, **tokenizers))
    run = replace(make_run(tmp_path), data=DataConfig(prepared=tmp_path / "prepared"))
    train_from_text(run)
    loaded = load_model(run.folder)
    assert loaded.source_tokenizer.tokens([5 + 8]) == ["▁source"]
    assert loaded.target_tokenizer.tokens([5 + 8]) == ["▁target"]


def test_a_run_on_a_prepared_folder_goes_on_where_it_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prepare(tmp_path / "prepared", pairs_of(tmp_path))
    run = replace(make_run(tmp_path), data=DataConfig(prepared=tmp_path / "prepared"))
    train_from_text(replace(run, folder=tmp_path / "whole"))
    interrupted(run, 4, monkeypatch)
    train_from_text(run)
    assert same_model(run.folder, tmp_path / "whole")


def test_a_run_goes_on_with_the_same_text_prepared_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prepare(tmp_path / "prepared", pairs_of(tmp_path), command="one")
    run = replace(make_run(tmp_path), data=DataConfig(prepared=tmp_path / "prepared"))
    train_from_text(replace(run, folder=tmp_path / "whole"))
    interrupted(run, 4, monkeypatch)
    shutil.rmtree(tmp_path / "prepared")
    prepare(tmp_path / "again", pairs_of(tmp_path), command="another")
    train_from_text(replace(run, data=DataConfig(prepared=tmp_path / "again")))
    assert same_model(run.folder, tmp_path / "whole")
    assert read_training_file(run.folder)["data"] == str(tmp_path / "again")


def test_another_preparation_is_named_when_a_run_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prepare(tmp_path / "prepared", pairs_of(tmp_path))
    run = replace(make_run(tmp_path), data=DataConfig(prepared=tmp_path / "prepared"))
    interrupted(run, 4, monkeypatch)
    prepare(tmp_path / "prepared", pairs_of(tmp_path, valid_size=7), overwrite=True)
    with pytest.raises(ConfigError, match="the files of --data are missing or not what they were"):
        train_from_text(run)


def test_raw_text_is_pretrained_on(tmp_path: Path) -> None:
    lines = write_lines(tmp_path / "raw", reversed_strings(200)[0])
    data = RawTextConfig(input=(lines,), tokenizer_kind="word", max_length=4)
    prepare(tmp_path / "prepared", data)
    run = make_run(tmp_path)
    values = {"pretraining": PretrainingConfig(), "architecture": run.architecture, "training": run.training}
    for name, text in (("whole", data), ("model", RawTextConfig(prepared=tmp_path / "prepared"))):
        train_from_text(TrainingRun(folder=tmp_path / name, data=text, **values))  # type: ignore[arg-type]
    assert same_model(tmp_path / "model", tmp_path / "whole")
    with pytest.raises(ConfigError, match=r"holds lines; `transduce pretrain --data .*` takes them"):
        adopt_prepared(DataConfig(prepared=tmp_path / "prepared"))


def test_weights_may_be_others_but_not_more(tmp_path: Path) -> None:
    data = pairs_of(tmp_path)
    two = replace(data, train_src=data.train_src * 2, train_tgt=data.train_tgt * 2, weights=(3.0, 1.0))
    prepare(tmp_path / "two", two)
    prepare(tmp_path / "one", data)
    assert open_prepared(tmp_path / "two").training.weights == (3, 1)
    assert open_prepared(tmp_path / "two", (1, 5)).training.weights == (1, 5)
    with pytest.raises(ConfigError, match="holds 2 texts with weights, and there are 3 --weights"):
        open_prepared(tmp_path / "two", (1, 2, 3))
    with pytest.raises(ConfigError, match="holds no texts with weights"):
        open_prepared(tmp_path / "one", (1, 2))


# --- What lies there already


def test_the_same_again_does_nothing_and_other_text_is_refused(tmp_path: Path) -> None:
    data, folder = pairs_of(tmp_path), tmp_path / "prepared"
    prepare(folder, data)
    before = content(folder)
    assert prepare(folder, data) == [f"{folder} holds this already; --overwrite makes it anew"]
    for other in (replace(data, max_length=3), replace(data, valid_size=3), replace(data, vocabulary_size=10)):
        with pytest.raises(ConfigError, match="holds other text, or text prepared otherwise; --overwrite replaces it"):
            prepare(folder, other)
    write_lines(tmp_path / "train.src", reversed_strings(200, seed=3)[0])
    with pytest.raises(ConfigError, match="holds other text"):
        prepare(folder, data)
    assert content(folder) == before
    prepare(folder, data, overwrite=True)
    assert content(folder).keys() == before.keys()
    assert content(folder) != before


def test_nobody_elses_files_are_touched(tmp_path: Path) -> None:
    data, folder = pairs_of(tmp_path), tmp_path / "prepared"
    folder.mkdir()
    (folder / "tokenizer.json").write_text("mine")
    for overwrite in (False, True):
        with pytest.raises(ConfigError, match="holds something else than prepared text; name another folder"):
            prepare(folder, data, overwrite=overwrite)
    (folder / "tokenizer.json").unlink()
    prepare(folder, data)  # an empty folder will do
    (folder / "notes.txt").write_text("mine")
    prepare(folder, data, overwrite=True)
    assert (folder / "notes.txt").read_text() == "mine"
    with pytest.raises(ConfigError, match="is a file"):
        prepare(tmp_path / "train.src", data)


@pytest.mark.parametrize("name", ["choose_tokenizers", "prepare_data", "_copy_validation_text", "write_json"])
@pytest.mark.parametrize("fault", [KeyboardInterrupt, OSError])
def test_a_failure_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, fault: type[BaseException]
) -> None:
    data, folder = pairs_of(tmp_path), tmp_path / "prepared"
    original: Callable[..., object] = getattr(module, name)

    def failing(*arguments: Any) -> None:  # noqa: ANN401
        if name != "write_json":
            original(*arguments)
        raise fault

    for is_there in (False, True):
        if is_there:
            folder.mkdir()
        with monkeypatch.context() as patch, pytest.raises(fault):
            patch.setattr(module, name, failing)
            prepare(folder, data)
        assert folder.exists() == is_there
        assert not is_there or list(folder.iterdir()) == []
    prepare(folder, data)
    assert open_prepared(folder).training.statistics.num_pairs == 190


@pytest.mark.parametrize("is_replacing", [False, True])
def test_nobody_else_prepares_the_same_folder_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_replacing: bool
) -> None:
    folder, refused = tmp_path / "prepared", []

    def prepare_beside_another(*arguments: Any) -> PreparedData:  # noqa: ANN401
        with pytest.raises(ConfigError, match="another process is writing there"), locked_folder(folder, "text"):
            pass
        refused.append(True)
        return prepare_data(*arguments)

    if is_replacing:
        prepare(folder, pairs_of(tmp_path))
    monkeypatch.setattr(locked_folder_module, "SECONDS_TO_WAIT", 0.0)
    monkeypatch.setattr(module, "prepare_data", prepare_beside_another)
    prepare(folder, pairs_of(tmp_path), overwrite=is_replacing)
    assert refused == [True]
    assert open_prepared(folder).num_held_back == 10


def test_what_was_killed_begins_again(tmp_path: Path) -> None:
    data, folder = pairs_of(tmp_path), tmp_path / "prepared"
    prepare(folder, data)
    whole = content(folder)
    for missing in (["prepared.json"], ["prepared.json", "metadata.json", "tokenizer.json", "train/corpus.json"]):
        for name in missing:
            (folder / name).unlink()
        prepare(folder, data)
        assert content(folder).keys() == whole.keys()


# --- What is no such folder


def test_what_is_none_or_incomplete_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match=r"is no folder of `transduce prepare`, or not complete: it has no prepared\.json"
    ):
        adopt_prepared(DataConfig(prepared=tmp_path / "nowhere"))
    prepare(tmp_path / "prepared", pairs_of(tmp_path, max_length=7))
    with pytest.raises(ConfigError, match="was prepared with --max-length 7, not 8"):
        adopt_prepared(DataConfig(prepared=tmp_path / "prepared", max_length=8))
    assert adopt_prepared(DataConfig(prepared=tmp_path / "prepared")).max_length == 7
    (tmp_path / "prepared/held-back.src").unlink()
    with pytest.raises(DataError, match=r"held-back\.src: is missing"):
        open_prepared(tmp_path / "prepared")


@pytest.mark.parametrize(
    "change",
    [
        {"format_version": 2},
        {"request": {"unit": "words"}},
        {"request": None},
        {"max_length": "7"},
        {"validation": [["../../secret"], ["x"]]},
        {"validation": None},
        {"tags": None},
        {"tags": [1]},
        {"max_length": True},
        {"max_length": 0},
        {"num_held_back": -1},
        {"request": {"unit": ["pairs"]}},
        {"validation": [["held-back.src"]]},
        {"validation": [["held-back.src"], []]},
        {"validation": [["held-back.src"], 3]},
        {"validation_tags": ["a", "b", "c"]},
    ],
)
def test_a_damaged_description_is_one_line(tmp_path: Path, change: dict[str, Any]) -> None:
    prepare(tmp_path / "prepared", pairs_of(tmp_path))
    path = tmp_path / "prepared/prepared.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(DataError, match=r"prepared\.json: is damaged.*; prepare the folder again"):
        open_prepared(tmp_path / "prepared")
    path.write_text("{")
    with pytest.raises(DataError, match=r"prepared\.json: is damaged"):
        adopt_prepared(DataConfig(prepared=tmp_path / "prepared"))


def test_a_tag_that_the_vocabulary_lacks_is_a_fault_of_the_folder(tmp_path: Path) -> None:
    prepare(tmp_path / "prepared", pairs_of(tmp_path))
    path = tmp_path / "prepared/prepared.json"
    tokenizer = Tokenizer.load(tmp_path / "prepared/tokenizer.json")
    check_tokenizers(path.parent, open_prepared(path.parent), (tokenizer, tokenizer))
    path.write_text(json.dumps(json.loads(path.read_text()) | {"tags": ["de"]}))
    with pytest.raises(DataError, match="speaks of the tag 'de', which its vocabulary lacks"):
        check_tokenizers(path.parent, open_prepared(path.parent), (tokenizer, tokenizer))


def test_another_tokenizer_beside_the_shards_is_noticed(tmp_path: Path) -> None:
    prepare(tmp_path / "prepared", pairs_of(tmp_path))
    config = TokenizerConfig(kind="char", vocabulary_size=200)
    train_tokenizer(["a b c d e f g h i j k l m n o p q r s t u v w x y z"], config).save(
        tmp_path / "prepared/tokenizer.json"
    )
    with pytest.raises(DataError, match="prepared: was tokenised with other"):
        train_from_text(replace(make_run(tmp_path / "elsewhere"), data=DataConfig(prepared=tmp_path / "prepared")))


def test_a_folder_without_its_shards_is_prepared_again(tmp_path: Path) -> None:
    data, folder = pairs_of(tmp_path), tmp_path / "prepared"
    prepare(folder, data)
    shard = folder / "train/shard-00000.safetensors"
    whole = shard.read_bytes()
    for content in (None, whole[: len(whole) // 2]):
        shard.unlink()
        if content is not None:
            shard.write_bytes(content)
        assert not any("holds this already" in line for line in prepare(folder, data))
        assert shard.read_bytes() == whole
    assert any("holds this already" in line for line in prepare(folder, data))


def test_what_is_to_be_replaced_stays_until_the_new_is_there(tmp_path: Path) -> None:
    folder = tmp_path / "prepared"
    prepare(folder, pairs_of(tmp_path))
    before = contents(folder)
    with pytest.raises(ConfigError, match="--valid-size 5000 would hold back all"):
        prepare(folder, pairs_of(tmp_path, valid_size=5000), overwrite=True)
    assert contents(folder) == before
    prepare(folder, pairs_of(tmp_path, valid_size=7), overwrite=True)
    assert contents(folder).keys() == before.keys() and contents(folder) != before
