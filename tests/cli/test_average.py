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
