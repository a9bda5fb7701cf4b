import shlex
import sys
import tomllib
from pathlib import Path
from types import ModuleType

import pytest
from typer.testing import CliRunner

from cli.main import app
from tests.training_task import TINY_MODEL, TINY_RUN, metrics_without_times, write_task
from transformer_core.model_directory import load_model
from transformer_core.model_files import read_json, write_json


def invoke(*arguments: str | Path, **variables: str) -> tuple[int, str, str]:
    """Run the program in this process: exit code, stdout, stderr."""
    result = CliRunner().invoke(app, [*map(str, arguments)], env=variables)
    return result.exit_code, result.stdout_bytes.decode(), result.stderr


def train(*arguments: str | Path, **variables: str) -> str:
    """Train and give what was said on stderr; stdout must stay empty."""
    code, stdout, stderr = invoke("train", *arguments, **variables)
    assert code == 0, stderr
    assert stdout == ""
    return stderr


def files_of(folder: Path) -> list[str | Path]:
    source, target = write_task(folder)
    return ["-s", source, "-t", target]


def test_two_files_and_a_folder_make_a_model(tmp_path: Path) -> None:
    said = train(*files_of(tmp_path), "-o", tmp_path / "model", *TINY_RUN).splitlines()
    assert said[0] == "learned a joint word vocabulary of 13 entries from the training text"
    assert said[1].startswith("training: 190 pairs, ")
    assert any(line.startswith("step 3/20  epoch ") for line in said)
    assert any(line.startswith("valid at step 5  loss ") for line in said)
    assert said[-1] == (
        f"all 20 steps are done; the model is in {tmp_path}/model: transduce translate -m {tmp_path}/model < new.txt"
    )
    assert load_model(tmp_path / "model").model.config.encoder.num_layers == 1
    again = train(*files_of(tmp_path), "-o", tmp_path / "model", *TINY_RUN)
    assert again == f"training of {tmp_path}/model is finished; --overwrite starts anew\n"


def test_quiet_is_silent(tmp_path: Path) -> None:
    assert train("-q", *files_of(tmp_path), "-o", tmp_path / "model", *TINY_RUN, "--max-steps", "2") == ""
    assert (tmp_path / "model/train.log").read_text().count("\n") == 2  # a report and a validation


def test_verbose_shows_what_a_sample_became(tmp_path: Path) -> None:
    said = train("-v", *files_of(tmp_path), "-o", tmp_path / "model", *TINY_RUN, "--max-steps", "5")
    assert "sample: '" in said


def test_the_file_of_a_run_makes_another_one_like_it(tmp_path: Path) -> None:
    train(*files_of(tmp_path), "-o", tmp_path / "model", *TINY_RUN, "--average-last", "0", "--valid-size", "13")
    train("-c", tmp_path / "model/training.toml", "-o", tmp_path / "copy")
    for name in ("model.safetensors", "config.json", "tokenizer.json", "training.toml"):
        assert (tmp_path / "copy" / name).read_bytes() == (tmp_path / "model" / name).read_bytes()
    assert metrics_without_times(tmp_path / "copy") == metrics_without_times(tmp_path / "model")


def test_a_key_that_is_no_option_is_named_with_its_neighbour(tmp_path: Path) -> None:
    (tmp_path / "c.toml").write_text("beam_siz = 3\nlayer = 2\n")
    code, _, stderr = invoke("train", "-c", tmp_path / "c.toml", *files_of(tmp_path), "-o", tmp_path / "model")
    assert code == 2
    assert stderr.startswith(f"transduce: error: {tmp_path}/c.toml: unknown key 'beam_siz'")
    (tmp_path / "c.toml").write_text("layer = 2\n")
    _, _, stderr = invoke("train", "-c", tmp_path / "c.toml", *files_of(tmp_path), "-o", tmp_path / "model")
    assert stderr == f"transduce: error: {tmp_path}/c.toml: unknown key 'layer'; did you mean 'layers'?\n"


def test_flag_beats_environment_beats_file_beats_default(tmp_path: Path) -> None:
    (tmp_path / "c.toml").write_text("lr = 0.25\nlabel-smoothing = 0.2\n")

    def setting(*arguments: str | Path, **variables: str) -> str:
        code, stdout, stderr = invoke("train", "--print-config", *arguments, **variables)
        assert (code, stderr) == (0, "")
        (line,) = [line for line in stdout.splitlines() if line.startswith("label_smoothing")]
        return line

    environment = {"TRANSDUCE_TRAIN_LABEL_SMOOTHING": "0.3"}
    assert setting() == "label_smoothing = 0.1  # built-in default"
    assert setting("-c", tmp_path / "c.toml") == f"label_smoothing = 0.2  # {tmp_path}/c.toml"
    assert setting("-c", tmp_path / "c.toml", **environment) == (
        "label_smoothing = 0.3  # TRANSDUCE_TRAIN_LABEL_SMOOTHING"
    )
    flag = setting("-c", tmp_path / "c.toml", "--label-smoothing", "0.4", **environment)
    assert flag == "label_smoothing = 0.4  # command line"


def test_the_command_that_follows_can_be_pasted(tmp_path: Path) -> None:
    folder = tmp_path / "run one"
    said = train(*files_of(tmp_path), "-o", folder, *TINY_RUN, "--max-steps", "1")
    assert said.endswith(f"the model is in {folder}: transduce translate -m '{folder}' < new.txt\n")


def test_time_ends_a_run_and_the_same_command_goes_on(tmp_path: Path) -> None:
    command = [*files_of(tmp_path), "-o", tmp_path / "model", *TINY_RUN]
    train(*command[:4], "-o", tmp_path / "whole", *TINY_RUN)
    said = train(*command, "--max-time", "0.000001")
    assert said.endswith("the time of 1e-06 minutes is up at step 1; the same command goes on from there\n")
    assert not read_json(tmp_path / "model/metadata.json")["training"]["is_finished"]
    code, _, stderr = invoke("inspect", "model", tmp_path / "model")
    assert (code, stderr.count("\n")) == (4, 1)  # nothing has been validated, so there are no best weights yet
    for _ in range(4):
        train(*command, "--max-time", "0.000001")
    _, stdout, _ = invoke("inspect", "model", tmp_path / "model")
    assert "weights             of step 5\n" in stdout
    assert train(*command).splitlines()[-1].startswith("all 20 steps are done; the model is in ")
    assert (tmp_path / "model/model.safetensors").read_bytes() == (tmp_path / "whole/model.safetensors").read_bytes()
    assert metrics_without_times(tmp_path / "model") == metrics_without_times(tmp_path / "whole")


@pytest.mark.parametrize("content", ["x", 3, None, [[]], ["x"], {"a": [None]}, [{"bytes": 3}]])
def test_what_a_run_knows_of_other_files_is_not_asked(tmp_path: Path, content: object) -> None:
    command = [*files_of(tmp_path), "-o", tmp_path / "model", *TINY_RUN]
    train(*command, "--max-time", "0.000001")
    record = read_json(tmp_path / "model/metadata.json")
    record["data"]["train"] = record["data"][""] = content
    write_json(tmp_path / "model/metadata.json", record)
    assert train(*command).splitlines()[-1].startswith("all 20 steps are done")


def test_files_without_a_hash_are_not_those_of_the_run(tmp_path: Path) -> None:
    command = [*files_of(tmp_path), "-o", tmp_path / "model", *TINY_RUN]
    train(*command, "--max-time", "0.000001")
    record = read_json(tmp_path / "model/metadata.json")
    del record["data"]["train_src"][0]["sha256"]
    write_json(tmp_path / "model/metadata.json", record)
    code, stdout, stderr = invoke("train", *command)
    assert (code, stdout, stderr.count("\n")) == (2, "", 1)
    assert "the files of --train-src are missing or not what they were" in stderr


def test_a_changed_option_is_refused(tmp_path: Path) -> None:
    command = [*files_of(tmp_path), "-o", tmp_path / "model", *TINY_RUN]
    train(*command, "--max-time", "0.000001")
    code, stdout, stderr = invoke("train", *command, "--heads", "4")
    assert (code, stdout) == (2, "")
    assert stderr == (
        f"transduce: error: --heads was 2 when the run in {tmp_path}/model began and is 4 now; give the same value to "
        "go on, or --overwrite to start anew\n"
    )
    assert train(*command, "--heads", "4", "--overwrite").splitlines()[-1].startswith("all 20 steps are done")


# --- TensorBoard


class FakeWriter:
    """Stands for TensorBoard's."""

    opened: list["FakeWriter"]

    def __init__(self, folder: str, purge_step: int) -> None:
        self.folder, self.purge_step = folder, purge_step
        self.scalars: dict[str, list[int]] = {}
        self.is_closed = False
        self.opened.append(self)

    def add_scalar(self, name: str, value: float, step: int) -> None:
        self.scalars.setdefault(name, []).append(step)

    def close(self) -> None:
        self.is_closed = True


def test_tensorboard_gets_the_numbers_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("torch.utils.tensorboard")
    module.SummaryWriter = FakeWriter  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", module)
    FakeWriter.opened = []
    train(*files_of(tmp_path), "-o", tmp_path / "model", *TINY_RUN, "--tensorboard")
    (writer,) = FakeWriter.opened
    assert (writer.folder, writer.purge_step, writer.is_closed) == (f"{tmp_path}/model/tensorboard", 3, True)
    assert writer.scalars["training/loss"] == [3, 6, 9, 12, 15, 18, 20]
    assert writer.scalars["validation/loss"] == [5, 10, 15, 20]


def test_without_the_package_one_line_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    arguments = [*files_of(tmp_path), "-o", tmp_path / "model", *TINY_RUN, "--tensorboard"]
    code, _, stderr = invoke("train", *arguments)
    assert code == 2
    assert stderr == "transduce: error: --tensorboard needs a package: pip install 'transduce[tensorboard]'\n"
    assert not (tmp_path / "model").exists()


# --- The whole path


@pytest.mark.slow
def test_a_small_model_learns_to_reverse_strings(tmp_path: Path) -> None:
    command = [*files_of(tmp_path), "-o", tmp_path / "model", *TINY_MODEL]
    write_task(tmp_path, 3000)
    budget = (
        "--d-model 64 --heads 4 --ffn-dim 128 --dropout 0 --lr 0.004 --batch-size 1500 --max-steps 700 --patience 0"
    )
    train(*command, *shlex.split(budget), "--valid-every", "100", "--metric", "exact")
    assert read_json(tmp_path / "model/metadata.json")["training"]["validation"]["exact"] >= 99
    lines = ["a b c", "h", "", "g f e d c b a", "a a b a"]
    result = CliRunner().invoke(
        app, ["translate", "-m", str(tmp_path / "model")], input="".join(f"{line}\n" for line in lines)
    )
    assert result.exit_code == 0
    assert result.stdout == "c b a\nh\n\na b c d e f g\na b a a\n"


def test_of_a_model_to_start_from_no_other_architecture_is_asked_for_be_it_the_usual_one(tmp_path: Path) -> None:
    files = files_of(tmp_path)
    train(*files, "-o", tmp_path / "model", *TINY_RUN, "--max-steps", "2", "--norm", "last", "--decoder-mixer", "gru")
    start = [*files, "--init-from", tmp_path / "model", "--max-steps", "2", "--threads", "1", "--device", "cpu"]
    for option, other, own in (("--norm", "first", "last"), ("--decoder-mixer", "attention", "gru")):
        result = CliRunner().invoke(app, ["train", *map(str, start), "-o", str(tmp_path / "new"), option, other])
        assert result.exit_code == 2
        assert f"{option} does not go with --init-from: the model brings its architecture" in result.stderr
        train(*start, "-o", tmp_path / own, option, own)
        options = tomllib.loads((tmp_path / own / "training.toml").read_text())
        assert options.get(option.removeprefix("--").replace("-", "_"), own) == own


def test_a_trained_model_is_adapted_in_part(tmp_path: Path) -> None:
    files = files_of(tmp_path)
    train(*files, "-o", tmp_path / "model", *TINY_RUN, "--max-steps", "2")
    start = [*files, "--init-from", tmp_path / "model", "--max-steps", "2", "--threads", "1", "--device", "cpu"]
    said = train(*start, "-o", tmp_path / "frozen", "--freeze", "encoder.1", "--freeze", "embeddings")
    assert " weights are trained, " in said
    said = train(*start, "-o", tmp_path / "adapted", "--lora-rank", "2", "--lora-alpha", "4", "--freeze", "encoder")
    assert "adapters of rank 2 beside 8 matrices: " in said
    shapes = [
        {name: weight.shape for name, weight in load_model(tmp_path / name).model.state_dict().items()}
        for name in ("model", "adapted")
    ]
    assert shapes[0] == shapes[1]
    options = tomllib.loads((tmp_path / "adapted/training.toml").read_text())
    assert (options["lora_rank"], options["lora_alpha"], options["freeze"]) == (2, 4.0, ["encoder"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--freeze", "encoder"], "--freeze keeps what a model has learned; name the model with --init-from"),
        (
            ["--fsdp", "--lora-rank", "2", "--init-from", "m"],
            "--fsdp does not go with --lora-rank: adapters leave little",
        ),
        (["--freeze", "head", "--init-from", "x"], "--freeze head: is no part of a model; use encoder, decoder,"),
        (["--lora-alpha", "2", "--init-from", "x"], "--lora-alpha says how much adapters count; it goes with --lora-"),
    ],
)
def test_what_cannot_be_adapted_is_one_line(tmp_path: Path, options: list[str], message: str) -> None:
    code, _, stderr = invoke("train", *files_of(tmp_path), "-o", tmp_path / "model", *options)
    assert (code, stderr.count("\n")) == (2, 1)
    assert message in stderr
