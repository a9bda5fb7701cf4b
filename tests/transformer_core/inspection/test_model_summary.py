import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.program import program_environment
from tests.transformer_core.decoding.random_model import save_word_model, word_model, word_tokenizer
from transformer_core.errors import ModelError
from transformer_core.inspection.model_summary import summarize_model
from transformer_core.model_files import hash_model_files, save_architecture, write_json


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return save_word_model(tmp_path / "model", beam_size=3)


def test_it_counts_what_the_model_has(folder: Path) -> None:
    summary = summarize_model(folder)
    model = word_model()
    assert summary.config == model.config
    assert sum(summary.num_parameters.values()) == model.num_parameters()
    assert summary.num_parameters == {
        part: sum(weight.numel() for name, weight in model.named_parameters() if name.startswith(f"{part}."))
        for part in ("decoder", "encoder", "output_projection", "source_embedding", "target_embedding")
    }
    assert summary.generation == {"beam_size": 3}
    assert summary.source_tokenizer is summary.target_tokenizer
    assert not summary.is_verified


def test_it_is_json(folder: Path) -> None:
    values = json.loads(json.dumps(summarize_model(folder).to_dict()))
    assert values["num_parameters"]["total"] == word_model().num_parameters()
    assert values["config"]["decoder"]["d_model"] == 32
    assert values["tokenizers"]["joint"]["kind"] == "word"
    assert values["tokenizers"]["joint"]["sha256"] == word_tokenizer().sha256
    tokenizer = word_tokenizer()
    save_architecture(folder, word_model().config, tokenizer, type(tokenizer).from_json(tokenizer.to_json()))
    assert set(summarize_model(folder).to_dict()["tokenizers"]) == {"source", "target"}


def test_while_training_goes_on_the_best_validation_is_that_of_the_log(folder: Path) -> None:
    records = [
        {"type": "validation", "step": 10, "values": {"loss": 3.0}, "is_best": True},
        {"type": "step", "step": 15},
        {"type": "validation", "step": 20, "values": {"loss": 2.0}, "is_best": True},
        {"type": "validation", "step": 30, "values": {"loss": 2.5}, "is_best": False},
    ]
    text = "".join(json.dumps(record) + "\n" for record in records) + '{"type": "vali'
    (folder / "metrics.jsonl").write_text(text)
    best = summarize_model(folder).best_validation
    assert best is not None
    assert best["step"] == 20


def test_files_are_verified_if_asked_for(folder: Path) -> None:
    with pytest.raises(ModelError, match="holds no hashes to verify"):
        summarize_model(folder, verify=True)
    write_json(folder / "metadata.json", {"files": hash_model_files(folder)})
    assert summarize_model(folder, verify=True).is_verified
    path = folder / "model.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1  # one bit of one weight
    path.write_bytes(content)
    assert not summarize_model(folder).is_verified
    with pytest.raises(ModelError, match=r"model\.safetensors: is not the file that metadata\.json speaks of"):
        summarize_model(folder, verify=True)


@pytest.mark.parametrize("content", [None, b"", b"garbage", b"\x00" * 100])
def test_weights_that_are_none_are_one_line(folder: Path, content: bytes | None) -> None:
    path = folder / "model.safetensors"
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ModelError, match=r"model\.safetensors: is "):
        summarize_model(folder)


def test_no_torch_is_needed(folder: Path) -> None:
    code = (
        "import sys\nfrom pathlib import Path\nfrom transformer_core.inspection.model_summary import summarize_model\n"
        f"summarize_model(Path({str(folder)!r}))\nassert 'torch' not in sys.modules"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, env=program_environment(), check=False)
    assert run.stderr == b""
