"""`train --shortlist`, `shortlist` and `translate --shortlist` from the outside."""

from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from cli.main import app
from tests.cli.test_serve import serving
from tests.training_task import TINY_RUN, write_task
from transformer_core.lexicon.shortlist import Shortlist
from transformer_core.model_directory import load_model
from transformer_core.model_files import SHORTLIST_FILE, read_json, verify_hashes

LINES = b"a b c\n\nh g\nb\n"


def run(*arguments: str | Path, stdin: bytes = b"") -> tuple[int, str, str]:
    """Exit code, standard output and standard error."""
    found = CliRunner().invoke(app, [*map(str, arguments)], input=stdin)
    return found.exit_code, found.stdout, found.stderr


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with pairs and a model that has a shortlist."""
    folder = tmp_path_factory.mktemp("shortlist")
    source, target = write_task(folder)
    code, _, said = run("train", "-s", source, "-t", target, "-o", folder / "model", *TINY_RUN, "--shortlist")
    assert code == 0, said
    return folder


def shortlist_of(model: Path) -> Shortlist:
    loaded = load_model(model, needs_shortlist=True)
    assert loaded.shortlist is not None
    return loaded.shortlist


def test_training_learns_it_in_the_end(folder: Path) -> None:
    assert SHORTLIST_FILE in read_json(folder / "model" / "metadata.json")["files"]
    assert verify_hashes(folder / "model") == []
    code, found, said = run("translate", "-m", folder / "model", "--shortlist", stdin=LINES)
    assert (code, len(found.split("\n"))) == (0, 5), said
    assert "shortlist" in run("-v", "translate", "-m", folder / "model", "--shortlist", stdin=LINES)[2]


def test_the_command_learns_the_same_from_the_same_pairs(folder: Path, tmp_path: Path) -> None:
    """But for the pairs that training held back, of which the table has as many entries here: eight letters."""
    source, target = write_task(tmp_path)
    model = tmp_path / "model"
    code, _, said = run("train", "-s", source, "-t", target, "-o", model, *TINY_RUN)
    assert code == 0, said
    assert not (model / SHORTLIST_FILE).exists()
    code, _, said = run("translate", "-m", model, "--shortlist", stdin=LINES)
    assert code == 4
    assert f"{model}/shortlist.safetensors: is missing, and --shortlist needs it" in said
    code, stdout, said = run("shortlist", model, "-s", source, "-t", target)
    assert (code, stdout) == (0, ""), said
    assert f"learned from 200 pairs: transduce translate -m {model} --shortlist < new.txt" in said
    assert verify_hashes(model) == []
    ours, trained = shortlist_of(model), shortlist_of(folder / "model")
    assert torch.equal(ours.candidates, trained.candidates)
    assert torch.equal(ours.offsets, trained.offsets)
    code, _, said = run("shortlist", model, "-s", source, "-t", target, "--best", "1", "--frequent", "0")
    assert code == 0, said
    fewer = shortlist_of(model)
    assert fewer.candidates.numel() < ours.candidates.numel()
    assert fewer.always.tolist() == [0, 1, 2, 3, 4]


def test_a_finished_run_learns_it_when_asked_again(tmp_path: Path) -> None:
    source, target = write_task(tmp_path)
    command: list[str | Path] = ["train", "-s", source, "-t", target, "-o", tmp_path / "model", *TINY_RUN]
    assert run(*command)[0] == 0
    weights = (tmp_path / "model" / "model.safetensors").read_bytes()
    code, _, said = run(*command, "--shortlist")
    assert code == 0, said
    assert (tmp_path / "model" / SHORTLIST_FILE).exists()
    assert (tmp_path / "model" / "model.safetensors").read_bytes() == weights
    assert "is finished" in run(*command, "--shortlist")[2]
    assert run(*command, "--shortlist", "--overwrite")[0] == 0
    assert run(*command, "--overwrite")[0] == 0
    assert not (tmp_path / "model" / SHORTLIST_FILE).exists()


@pytest.mark.parametrize("command", ["quantize", "average"])
def test_a_model_made_of_this_one_has_it_too(folder: Path, tmp_path: Path, command: str) -> None:
    model = folder / "model"
    arguments = [model, "--checkpoint", "best", "--checkpoint", "last"] if command == "average" else [model]
    code, _, said = run(command, *arguments, "-o", tmp_path / "other")
    assert code == 0, said
    assert (tmp_path / "other" / SHORTLIST_FILE).read_bytes() == (model / SHORTLIST_FILE).read_bytes()
    assert verify_hashes(tmp_path / "other") == []


def test_a_server_has_it_too(folder: Path, tmp_path: Path) -> None:
    with serving(folder / "model", path=tmp_path / "s"):
        through = run("translate", "--socket", tmp_path / "s", "--shortlist", stdin=LINES)
    assert through[0] == 0, through[2]
    assert through[1] == run("translate", "-m", folder / "model", "--shortlist", stdin=LINES)[1]


def test_what_cannot_be_is_one_line(folder: Path, tmp_path: Path) -> None:
    source, target = folder / "train.src", folder / "train.tgt"
    code, _, said = run("shortlist", folder / "none", "-s", source, "-t", target)
    assert (code, said.count("\n")) == (4, 1)
    code, _, said = run("shortlist", folder / "model", "-s", source)
    assert (code, said.count("\n")) == (2, 1)
    (tmp_path / "empty").write_text("\n")
    code, _, said = run("shortlist", folder / "model", "-s", tmp_path / "empty", "-t", tmp_path / "empty")
    assert (code, said.count("\n")) == (3, 1)
