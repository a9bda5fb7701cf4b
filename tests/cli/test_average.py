from pathlib import Path

from typer.testing import CliRunner

from cli.main import app
from tests.transformer_core.decoding.random_model import save_word_model
from tests.transformer_core.training.test_averaged_model import add_snapshot, require_mean
from transformer_core.model_files import read_json


def invoke(*arguments: str | Path) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, ["average", *map(str, arguments)])
    return result.exit_code, result.stdout, result.stderr


def test_the_mean_of_the_last_weights(tmp_path: Path) -> None:
    model = save_word_model(tmp_path / "model")
    for step in (10, 20, 30):
        add_snapshot(model, step)
    code, stdout, stderr = invoke(model, "-n", "2", "-o", tmp_path / "mean", "-v")
    assert (code, stdout) == (0, "")
    assert stderr.splitlines() == [
        f"averaged {model}/checkpoints/snapshots/step-00000020.safetensors",
        f"averaged {model}/checkpoints/snapshots/step-00000030.safetensors",
        f"the mean of 2 sets of weights is in {tmp_path}/mean: transduce translate -m {tmp_path}/mean < new.txt",
    ]
    require_mean(tmp_path / "mean", 20, 30)
    assert read_json(tmp_path / "mean/metadata.json")["command"].startswith("transduce")


def test_the_mean_of_chosen_weights_and_of_models(tmp_path: Path) -> None:
    models = [save_word_model(tmp_path / name) for name in ("one", "other")]
    for step in (10, 20, 30):
        add_snapshot(models[0], step)
    assert invoke(models[0], "--checkpoint", "10", "--checkpoint", "30", "-o", tmp_path / "a")[0] == 0
    require_mean(tmp_path / "a", 10, 30)
    assert invoke(*models, "-o", tmp_path / "b")[0] == 0
    require_mean(tmp_path / "b", 3)  # both have the weights of seed 3
    result = CliRunner().invoke(app, ["translate", "-m", str(tmp_path / "b"), "--max-length", "4"], input="ba be\n")
    assert (result.exit_code, result.stdout.count("\n")) == (0, 1)


def test_fewer_weights_than_asked_for_are_told(tmp_path: Path) -> None:
    model = save_word_model(tmp_path / "model")
    for step in (10, 20):
        add_snapshot(model, step)
    code, _, stderr = invoke(model, "-n", "50", "-o", tmp_path / "mean")
    assert code == 0
    assert f"warning: {model} has 2 saved weights, not 50: the mean is of all that there are\n" in stderr
    assert "warning" not in invoke(model, "-o", tmp_path / "other")[2]


def test_nothing_counts_twice(tmp_path: Path) -> None:
    model = save_word_model(tmp_path / "model")
    add_snapshot(model, 10)
    snapshot = f"{model}/checkpoints/snapshots/step-00000010.safetensors"
    (tmp_path / "link").symlink_to(model)
    for arguments, path in (
        ([model, "--checkpoint", "10", "--checkpoint", "10"], snapshot),
        ([model, "--checkpoint", "10", "--checkpoint", "010"], snapshot),
        ([model, model], model / "model.safetensors"),
        ([model, tmp_path / "link"], tmp_path / "link" / "model.safetensors"),
    ):
        code, _, stderr = invoke(*arguments, "-o", tmp_path / "mean")
        assert code == 2
        assert f"error: {path}: is named 2 times; name every set of weights once\n" in stderr
