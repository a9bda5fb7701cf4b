import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tests.training_task import write_task
from transformer_core.config import StackConfig
from transformer_core.errors import ConfigError, DataError
from transformer_core.experiments import compare_cost, compare_quality
from transformer_core.experiments.compare import compare
from transformer_core.experiments.compare_config import MIXER_NAMES, CompareConfig, TrainingComparison
from transformer_core.experiments.compare_structure import structure_of

STACK = StackConfig(num_layers=2, d_model=16, num_heads=2, d_ff=16)
CONFIG = CompareConfig(stack=STACK, max_length=32, threads=1, device="cpu")


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compare_cost, "LONG_ENOUGH_SECONDS", 0.0)
    monkeypatch.setattr(compare_quality, "LONG_ENOUGH_SECONDS", 0.0)


def with_training(folder: Path, **values: object) -> CompareConfig:
    source, target = write_task(folder)
    training = TrainingComparison(
        folder=folder / "mixers", train_src=(source,), train_tgt=(target,), max_steps=3, batch_size=200
    )
    return replace(CONFIG, mixers=("attention", "conv"), training=replace(training, **values))  # type: ignore[arg-type]


def test_every_mixer_has_its_row_and_a_row_speaks_of_one_mixer() -> None:
    comparison = compare(CONFIG)
    assert [figures.structure.mixer for figures in comparison.mixers] == list(MIXER_NAMES)
    for figures in comparison.mixers:
        mixer = figures.structure.mixer
        assert figures.structure == structure_of(mixer, 32, STACK)
        assert figures.cost.mixer == mixer
        assert {reach.mixer for reach in figures.reaches} == {mixer}
    assert comparison.trained == ()
    assert comparison.threads == torch.get_num_threads() == 1


def test_what_does_not_depend_on_the_clock_is_the_same_every_time() -> None:
    def without_times() -> list[object]:
        record = compare(replace(CONFIG, mixers=("attention", "ssru"))).to_dict()
        for mixer in record["mixers"]:
            del mixer["time_exponent"]
            for point in mixer["points"]:
                del point["seconds"]
        return [record]

    assert without_times() == without_times()


def test_the_record_is_json_and_has_everything(tmp_path: Path) -> None:
    record = compare(with_training(tmp_path)).to_dict()
    assert json.loads(json.dumps(record, allow_nan=False)) == record
    assert record["stack"] == {"d_model": 16, "num_heads": 2, "num_layers": 2, "d_ff": 16, "kernel_width": 3}
    conv = record["mixers"][1]
    assert (conv["mixer"], conv["path"], conv["path_length"]) == ("conv", "O(n / k)", 31)
    assert [point["length"] for point in conv["points"]] == [16, 32]
    assert [(reach["first_offset"], reach["last_offset"]) for reach in conv["reach"]["encoder"]] == [(-1, 1), (-2, 2)]
    assert [(reach["first_offset"], reach["last_offset"]) for reach in conv["reach"]["decoder"]] == [(-2, 0), (-4, 0)]
    assert {"scaled", "unscaled", "d_head"} == set(record["scale"][0])
    training = record["training"]
    assert (training["minutes"], training["max_steps"]) == (None, 3)
    assert [model["name"] for model in training["models"]] == ["attention", "unscaled", "conv"]
    scores = training["models"][0]["quality"]["scores"]
    assert [score["metric"] for score in scores] == ["exact", "bleu"]
    assert set(scores[0]) == {"metric", "name", "score", "signature"}


def test_data_that_cannot_be_read_are_known_before_anything_is_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def measure(*_: object) -> None:
        raise AssertionError("it was measured")

    monkeypatch.setattr("transformer_core.experiments.compare.measure_cost", measure)
    with pytest.raises(DataError, match="there is no such file"):
        compare(with_training(tmp_path, train_src=(tmp_path / "none",)))
    with pytest.raises(ConfigError, match="has no device"):
        compare(replace(CONFIG, device="cuda:99"))
