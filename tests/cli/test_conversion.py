import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cli.main import app
from tests.transformer_core.conversion.models import LINES, save_model, tokenizer, untrained
from transformer_core.config import StackConfig
from transformer_core.model_files import read_json, save_architecture, verify_hashes

TEXT = "".join(f"{line}\n" for line in LINES[:6]).encode()
SHORT = ["--max-length", "8", "--threads", "1"]


def invoke(*arguments: str | Path, stdin: bytes = b"") -> tuple[int, str, str]:
    """Run the program in this process: exit code, stdout, stderr."""
    result = CliRunner().invoke(app, list(map(str, arguments)), input=stdin)
    return result.exit_code, result.stdout_bytes.decode(), result.stderr


def results(*arguments: str | Path, stdin: bytes = b"") -> str:
    """What a run that went well wrote."""
    code, stdout, stderr = invoke(*arguments, stdin=stdin)
    assert code == 0, stderr
    return stdout


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("conversion") / "model"
    save_model(folder, tokenizer(), values={"norm_first": False})
    return folder


def test_a_model_goes_to_ctranslate2_and_comes_back(model: Path, tmp_path: Path) -> None:
    code, stdout, stderr = invoke("export", model, "--to", "ctranslate2", "-o", tmp_path / "theirs")
    assert (code, stdout) == (0, "")
    assert "in the format of ctranslate2" in stderr
    results("import", tmp_path / "theirs", "-o", tmp_path / "ours")
    assert verify_hashes(tmp_path / "ours") == []
    assert read_json(tmp_path / "ours" / "metadata.json")["imported"]["path"].endswith("model.bin")
    translate = ["translate", *SHORT, "-m"]
    assert results(*translate, tmp_path / "ours", stdin=TEXT) == results(*translate, model, stdin=TEXT)


def test_int8_takes_a_quarter_of_the_place(model: Path, tmp_path: Path) -> None:
    results("export", model, "--to", "ctranslate2", "-o", tmp_path / "whole")
    results("export", model, "--to", "ctranslate2", "--quantization", "int8", "-o", tmp_path / "int8")
    tables = 2048 * 32 * 4  # of positions, which stay floats
    whole, int8 = ((tmp_path / name / "model.bin").stat().st_size - tables for name in ("whole", "int8"))
    assert int8 < 0.4 * whole


def test_a_model_goes_to_hugging_face(model: Path, tmp_path: Path) -> None:
    results("export", model, "--to", "huggingface", "-o", tmp_path / "theirs")
    names = sorted(path.name for path in (tmp_path / "theirs").iterdir())
    assert names == [
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
    ]
    generation = json.loads((tmp_path / "theirs" / "generation_config.json").read_text())
    assert (generation["num_beams"], generation["length_penalty"]) == (5, 1.0)


def test_what_cannot_be_exported_has_its_exit_code(tmp_path: Path) -> None:
    output = tmp_path / "theirs"
    save_model(tmp_path / "rotary", tokenizer(), values={"positions": "rotary"})
    code, _, stderr = invoke("export", tmp_path / "rotary", "--to", "huggingface", "-o", output)
    assert (code, stderr.count("\n")) == (4, 1)
    assert "a model with --positions rotary cannot be exported" in stderr


@pytest.mark.parametrize("to", ["huggingface", "ctranslate2"])
def test_an_encoder_alone_is_named(tmp_path: Path, to: str) -> None:
    encoder = tmp_path / "encoder"
    loaded = untrained({"decoder": StackConfig(num_layers=0, d_model=32, num_heads=4, d_ff=48)})
    encoder.mkdir()
    save_architecture(encoder, loaded.model.config, loaded.source_tokenizer, loaded.target_tokenizer)
    code, _, stderr = invoke("export", encoder, "--to", to, "-o", tmp_path / "theirs")
    assert (code, stderr.count("\n")) == (4, 1)
    assert f"{encoder}: is a pretrained encoder without a decoder; `transduce fill -m {encoder}`" in stderr


def test_what_is_no_model_has_its_exit_code(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for folder in (tmp_path / "nowhere", tmp_path / "empty"):
        code, _, stderr = invoke("import", folder, "-o", tmp_path / "ours")
        assert (code, stderr.count("\n")) == (4, 1)
        code, _, stderr = invoke("export", folder, "--to", "ctranslate2", "-o", tmp_path / "ours")
        assert (code, stderr.count("\n")) == (4, 1)
    assert not (tmp_path / "ours").exists()


@pytest.mark.filterwarnings("ignore:Recommended:UserWarning")
def test_everything_works_on_an_imported_model(tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    from tests.transformer_core.conversion.foreign_models import save_marian

    save_marian(tmp_path / "theirs")
    ours, tuned = tmp_path / "ours", tmp_path / "tuned"
    results("import", tmp_path / "theirs", "-o", ours)
    (tmp_path / "source").write_bytes(TEXT * 10)
    (tmp_path / "target").write_bytes(TEXT * 10)
    pairs = ["-s", str(tmp_path / "source"), "-t", str(tmp_path / "target")]
    assert len(results("translate", "-m", ours, *SHORT, stdin=TEXT).splitlines()) == 6
    before = float(results("score", "-m", ours, *pairs, "--summary", "--json").split('"perplexity": ')[1].split(",")[0])
    steps = ["--max-steps", "20", "--valid-every", "10", "--threads", "1", "--lr", "1e-2", "--dropout", "0"]
    results("train", "--init-from", ours, *pairs, "--valid-src", tmp_path / "source", "--valid-tgt",
            tmp_path / "target", "-o", tuned, *steps)  # fmt: skip
    after = float(results("score", "-m", tuned, *pairs, "--summary", "--json").split('"perplexity": ')[1].split(",")[0])
    assert after < before / 2
    results("average", ours, tuned, "-o", tmp_path / "mean")
    assert len(results("translate", "-m", tmp_path / "mean", *SHORT, stdin=TEXT).splitlines()) == 6
    assert "imported" in results("inspect", "model", tuned)
    results("export", tuned, "--to", "huggingface", "-o", tmp_path / "again")
    results("export", tuned, "--to", "ctranslate2", "-o", tmp_path / "ct2")
    results("import", tmp_path / "again", "-o", tmp_path / "back")
    assert results("translate", "-m", tmp_path / "back", *SHORT, stdin=TEXT) == results(
        "translate", "-m", tuned, *SHORT, stdin=TEXT
    )
