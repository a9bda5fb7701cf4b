import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cli.main import app
from tests.transformer_core.decoding.random_model import save_word_model, word_model, word_tokenizer
from transformer_core.model_files import hash_model_files, save_architecture, write_json

METADATA = {
    "software": {"transduce": "0.1.0", "torch": "2.13.0"},
    "command": "transduce train -s a.src -t a.tgt -o model",
    "data": {"train_src": [{"path": "/data/a.src", "sha256": "0123456789abcdef"}], "valid_src": []},
    "training": {
        "is_finished": True,
        "reason": "all 60 steps are done",
        "best_step": 40,
        "averaged_steps": [],
        "validation": {"loss": 2.03231, "exact": 75.0},
    },
}


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = save_word_model(tmp_path / "model", beam_size=3)
    write_json(folder / "metadata.json", {**METADATA, "files": hash_model_files(folder)})
    return folder


def inspect(*arguments: str | Path) -> str:
    result = CliRunner().invoke(app, ["inspect", "model", *map(str, arguments)])
    assert (result.exit_code, result.stderr) == (0, "")
    return result.stdout


def test_it_says_what_the_model_is_and_where_it_comes_from(model: Path) -> None:
    # attention 4 d² + 4 d = 4,224; feed-forward 2 · 32 · 48 + 48 + 32 = 3,152; a norm 64. An encoder layer has one of
    # each and another norm, a decoder layer one attention and one norm more; either stack ends with a norm.
    assert inspect(model, "--verify").splitlines() == [
        f"model               {model}",
        "encoder             2 layers of attention, d_model 32, 4 heads, d_ff 48",
        "decoder             2 layers of attention, d_model 32, 4 heads, d_ff 48",
        "layers              LayerNorm first, relu, positions sinusoidal (marian), tied embeddings none",
        "dropout             0.1, of attention 0, of activations 0",
        f"parameters          {word_model().num_parameters():,}",
        "  decoder           23,648",
        "  encoder           15,072",
        "  output projection 2,080",
        "  source embedding  2,080",
        "  target embedding  2,080",
        "tokenizer           word, 65 entries, nfc, joint",
        "decoding            beam_size 3",
        "training            all 60 steps are done",
        "weights             of step 40",
        "validation          loss 2.032, exact 75",
        "made by             transduce 0.1.0, torch 2.13.0",
        "command             transduce train -s a.src -t a.tgt -o model",
        "  train-src         /data/a.src (sha256 0123456789ab)",
        "files               as they were written",
    ]


def test_it_is_one_json_object(model: Path) -> None:
    text = inspect(model, "--json")
    assert text.count("\n") == 1
    values = json.loads(text)
    assert values["metadata"]["command"] == METADATA["command"]
    assert values["num_parameters"]["total"] == word_model().num_parameters()
    assert values["is_verified"] is False
    assert json.loads(inspect(model, "--json", "--verify"))["is_verified"] is True


def test_a_changed_file_fails_the_verification(model: Path) -> None:
    (model / "generation.json").write_text("{}")
    result = CliRunner().invoke(app, ["inspect", "model", str(model), "--verify"])
    assert (result.exit_code, result.stdout) == (4, "")
    line = f"{model}/generation.json: is not the file that metadata.json speaks of; it was changed later"
    assert result.stderr == f"transduce: error: {line}\n"


def test_means_starting_points_and_teachers_are_named(model: Path) -> None:
    tokenizer = word_tokenizer()
    save_architecture(model, word_model().config, tokenizer, type(tokenizer).from_json(tokenizer.to_json()))
    file = {"path": "/m/step", "sha256": "f" * 64}
    training = {**METADATA["training"], "averaged_steps": [10, 20], "best_step": None}  # type: ignore[dict-item]
    write_json(
        model / "metadata.json",
        {
            "training": training,
            "averaged": [file, file],
            "init_from": file,
            "teacher": {"models": [file, file], "search": {"beam_size": 5}},
        },
    )
    shown = inspect(model).splitlines()
    for line in (
        "weights             the mean of those of steps 10, 20",
        "source tokenizer    word, 65 entries, nfc",
        "target tokenizer    word, 65 entries, nfc",
        "started from        /m/step (sha256 ffffffffffff)",
        "mean of             /m/step (sha256 ffffffffffff)",
        "                    /m/step (sha256 ffffffffffff)",
        "taught by           /m/step (sha256 ffffffffffff)",
        "                    /m/step (sha256 ffffffffffff)",
        "                    beam_size 5",
    ):
        assert line in shown


@pytest.mark.parametrize(
    "metadata",
    [
        {},
        {"training": 3, "data": [1], "software": "x", "averaged": {}, "init_from": [], "teacher": 7},
        {"data": {"train_src": [3, {}]}},
    ],
)
def test_metadata_that_says_nothing_or_nonsense_is_no_fault(model: Path, metadata: dict[str, object]) -> None:
    write_json(model / "metadata.json", metadata)
    assert "parameters " in inspect(model)
    json.loads(inspect(model, "--json"))
