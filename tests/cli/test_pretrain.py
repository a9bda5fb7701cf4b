import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cli.main import app
from tests.training_task import TINY_RUN, metrics_without_times, write_lines
from tests.transformer_core.experiments.patterned_text import animal_lines, write_animals
from transformer_core.experiments.train_from_text import train_from_text
from transformer_core.model_directory import load_model
from transformer_core.model_files import read_json

RUN = [*TINY_RUN, "--keep-last", "9", "--average-last", "0"]


def invoke(*arguments: str | Path, stdin: str = "", **variables: str) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, [*map(str, arguments)], input=stdin, env=variables)
    return result.exit_code, result.stdout_bytes.decode(), result.stderr


def succeed(*arguments: str | Path, stdin: str = "") -> str:
    """Run a command that must go well; give what was said on stderr."""
    code, stdout, stderr = invoke(*arguments, stdin=stdin)
    assert code == 0, stderr
    assert stdout == ""
    return stderr


def test_from_raw_text_to_filled_lines_and_a_translating_model(tmp_path: Path) -> None:
    raw = write_animals(tmp_path)
    pretrained, model = tmp_path / "pretrained", tmp_path / "model"
    said = succeed("pretrain", "-i", raw, "-o", pretrained, *RUN).splitlines()
    assert said[0] == "learned a joint word vocabulary of 22 entries from the training text"
    assert any(line.startswith("valid at step 5  loss ") and "  accuracy " in line for line in said)
    assert said[-2:] == [
        f"all 20 steps are done; the model is in {pretrained}: "
        f"transduce train --init-from {pretrained} -s ... -t ... -o ...",
        f"to see what it has learned: echo 'some <mask> text' | transduce fill -m {pretrained} --format tsv",
    ]
    code, stdout, stderr = invoke("fill", "-m", pretrained, stdin="the red <mask> meows .\n\n")
    assert (code, stderr, stdout.count("\n")) == (0, "", 2)
    assert stdout.startswith("the red ")
    source, target = (write_lines(tmp_path / name, animal_lines(60)) for name in ("t.src", "t.tgt"))
    options = shlex.split("--max-steps 4 --valid-every 2 --batch-size 100 --threads 1 --device cpu --precision fp32")
    told = succeed("train", "-s", source, "-t", target, "--init-from", pretrained, "-o", model, *options)
    count = load_model(pretrained).model.num_parameters()
    assert f"took encoder and embeddings ({count:,} weights) from {pretrained}; the decoder is fresh\n" in told
    assert succeed("average", pretrained, "-n", "2", "-o", tmp_path / "mean").endswith(
        f"is in {tmp_path}/mean: transduce fill -m {tmp_path}/mean < new.txt\n"
    )
    code, stdout, _ = invoke("translate", "-m", model, "--max-length", "5", stdin="the red cat\n")
    assert (code, stdout.count("\n")) == (0, 1)
    code, stdout, _ = invoke("inspect", "model", model)
    assert f"started from        {pretrained}" in stdout


def test_the_same_command_goes_on_and_then_says_that_it_has_finished(tmp_path: Path) -> None:
    raw = write_animals(tmp_path)
    command: list[str | Path] = ["pretrain", "-i", raw, "-o", tmp_path / "model", *RUN, "--whole-words"]
    succeed("pretrain", "-i", raw, "-o", tmp_path / "whole", *RUN, "--whole-words")
    said = succeed(*command, "--max-time", "0.000001")
    assert said.endswith("the time of 1e-06 minutes is up at step 1; the same command goes on from there\n")
    assert "going on from step 1\n" in succeed(*command)
    assert (tmp_path / "model/model.safetensors").read_bytes() == (tmp_path / "whole/model.safetensors").read_bytes()
    assert metrics_without_times(tmp_path / "model") == metrics_without_times(tmp_path / "whole")
    assert succeed(*command) == f"training of {tmp_path}/model is finished; --overwrite starts anew\n"


def test_the_file_of_a_run_makes_another_one_like_it(tmp_path: Path) -> None:
    raw, valid = write_animals(tmp_path), write_lines(tmp_path / "valid.txt", animal_lines(9, seed=3))
    objective: list[str | Path] = [
        "--objective",
        "denoising",
        "--dec-layers",
        "2",
        "--valid",
        valid,
        "--metric",
        "accuracy",
    ]
    succeed("pretrain", "-i", raw, "-i", valid, "-o", tmp_path / "model", *RUN, *objective)
    succeed("pretrain", "-c", tmp_path / "model/training.toml", "-o", tmp_path / "copy")
    for name in ("model.safetensors", "config.json", "tokenizer.json", "training.toml"):
        assert (tmp_path / "copy" / name).read_bytes() == (tmp_path / "model" / name).read_bytes()
    metadata = read_json(tmp_path / "copy/metadata.json")
    assert metadata["pretraining"] == {"objective": "denoising", "whole_words": False}
    assert [file["path"] for file in metadata["data"]["input"]] == [str(raw), str(valid)]


def test_a_folder_holds_one_kind_of_run(tmp_path: Path) -> None:
    raw = write_animals(tmp_path)
    succeed("pretrain", "-i", raw, "-o", tmp_path / "model", *RUN)
    code, _, stderr = invoke("train", "-s", raw, "-t", raw, "-o", tmp_path / "model", *RUN)
    assert (code, stderr.count("\n")) == (2, 1)
    assert "--train-src was not given when the run in" in stderr
    succeed("train", "-s", raw, "-t", raw, "-o", tmp_path / "model", *RUN, "--overwrite", "--max-steps", "2")
    assert "pretraining" not in read_json(tmp_path / "model/metadata.json")
    code, _, stderr = invoke("pretrain", "-i", raw, "-o", tmp_path / "model", *RUN)
    assert (code, stderr.count("\n")) == (2, 1)
    assert "--input was not given when the run in" in stderr


FAULTS = [
    ("-i missing", 3, "missing: there is no such file"),
    ("-i .", 3, ".: is a folder; training reads its data more than once, so name a file"),
    ("-i raw.txt --valid missing", 3, "missing: there is no such file"),
    ("-i empty", 3, "empty: there is no text to learn a vocabulary from: there are no lines"),
    ("-i latin1", 3, "latin1:1: is not UTF-8"),
    ("-i raw.txt --valid empty", 3, "validation lines of empty: no line is left: all 0 are blank; look"),
    ("-i raw.txt --valid-size 300", 2, "--valid-size 300 would hold back all of the 300 lines"),
    ("-i raw.txt --valid raw.txt --valid-size 3", 2, "--valid-size holds lines back; with --valid nothing is held"),
    ("-i raw.txt --objective bart", 2, "--objective: 'bart' is not one of masked, denoising"),
    ("-i raw.txt --objective denoising --whole-words", 2, "--whole-words goes with --objective masked"),
    ("-i raw.txt --dec-layers 2", 2, "--dec-layers 2 needs a decoder, but --objective masked trains an encoder alone"),
    ("-i raw.txt --tie-embeddings none", 2, "--tie-embeddings none needs a decoder"),
    ("-i raw.txt --metric bleu", 2, "--metric: 'bleu' is not one of loss, accuracy"),
    ("-i raw.txt --init-from model", 2, "no such option '--init-from'"),
    ("-i raw.txt --tokenizer missing.json", 4, "missing.json: no such file"),
    ("", 2, "pretraining needs text: --input FILE; or --data"),
]


@pytest.mark.parametrize(("arguments", "code", "line"), FAULTS, ids=[arguments for arguments, _, _ in FAULTS])
def test_a_fault_is_one_line_and_the_code_of_its_kind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: str, code: int, line: str
) -> None:
    write_animals(tmp_path)
    write_lines(tmp_path / "empty", [])
    (tmp_path / "latin1").write_bytes(b"caf\xe9\n" * 9)
    monkeypatch.chdir(tmp_path)
    run = [word for word in RUN if "--tokenizer " not in arguments or word not in ("--tokenizer-kind", "word")]
    found_code, stdout, stderr = invoke("pretrain", *shlex.split(arguments), "-o", "model", *run)
    assert (found_code, stdout) == (code, "")
    assert stderr.splitlines()[-1].startswith(f"transduce: error: {line}")
    assert not (tmp_path / "model").exists()


def test_it_is_the_call_that_three_lines_of_python_make(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runs = []
    monkeypatch.setattr(
        "transformer_core.experiments.train_from_text.train_from_text", lambda run, *_: runs.append(run)
    )
    raw = write_animals(tmp_path)
    succeed("pretrain", "-i", raw, "-o", tmp_path / "model", "--whole-words", "--valid-size", "7")
    (run,) = runs
    assert (run.data.input, run.data.valid_size, run.pretraining.whole_words) == ((raw,), 7, True)
    assert run.training.label_smoothing == 0.0
    assert callable(train_from_text)
