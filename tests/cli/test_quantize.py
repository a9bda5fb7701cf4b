from pathlib import Path

import pytest

from tests.program import run_program
from tests.transformer_core.decoding.random_model import random_lines, save_word_model

LINES = "".join(f"{line}\n" for line in random_lines(60, seed=4)).encode()


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_word_model(tmp_path_factory.mktemp("quantize") / "model", beam_size=3)


@pytest.mark.parametrize(("form", "smaller"), [("int8", 2.5), ("bf16", 1.8)])
def test_a_quantized_model_is_smaller_and_translates_almost_the_same(
    model: Path, tmp_path: Path, form: str, smaller: float
) -> None:
    small = tmp_path / "small"
    run = run_program("quantize", model, "-o", small, "--to", form)
    assert (run.code, run.stdout) == (0, b"")
    assert f"MiB in {small}: transduce translate -m {small}" in run.stderr
    sizes = [(folder / "model.safetensors").stat().st_size for folder in (model, small)]
    assert sizes[0] > smaller * sizes[1]
    expected, found = (run_program("translate", "-m", each, stdin=LINES).stdout.splitlines() for each in (model, small))
    assert len(found) == len(expected) == 60
    assert (
        sum(one == other for one, other in zip(found, expected, strict=True)) >= 35
    )  # of random weights: they are never sure
    assert run_program("inspect", "model", small, "--verify").code == 0


def test_what_is_there_stays_and_what_is_no_model_is_said(model: Path, tmp_path: Path) -> None:
    run = run_program("quantize", model, "-o", model)
    assert run.code == 2
    assert run.stderr == f"transduce: error: {model}: is there already; name another folder\n"
    run = run_program("quantize", tmp_path / "none", "-o", tmp_path / "new")
    assert run.code == 4
    assert run.stderr.count("\n") == 1
    assert not (tmp_path / "new").exists()
