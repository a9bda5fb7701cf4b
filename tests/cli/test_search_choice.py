from pathlib import Path
from typing import Any

import pytest

from tests.cli.test_translate import MAX_LENGTH, invoke, results, texts
from tests.transformer_core.decoding.random_model import save_word_model
from transformer_core.decoding.config import SearchConfig

GREEDY = SearchConfig(beam_size=1, max_length=12)
DRAWN = SearchConfig(beam_size=1, sample=True, max_length=12)
FEW = SearchConfig(beam_size=1, sample=True, top_k=2, max_length=12)
BEAM = SearchConfig(beam_size=4, max_length=12)


@pytest.mark.parametrize(
    ("generation", "flags", "config"),
    [
        ({"greedy": True}, [], GREEDY),
        ({"greedy": True}, ["-b", "4"], BEAM),
        ({"greedy": True}, ["--sample"], DRAWN),
        ({"sample": True, "top_k": 2}, [], FEW),
        ({"sample": True, "top_k": 2}, ["--sample"], FEW),
        ({"sample": True, "top_k": 2}, ["--greedy"], GREEDY),
        ({"sample": True, "top_k": 2}, ["-b", "4"], BEAM),
        ({"beam_size": 4, "beam_groups": 2}, ["--greedy"], GREEDY),
        ({"beam_size": 4}, ["--sample"], DRAWN),
    ],
    ids=str,
)
def test_what_is_asked_for_overrules_what_the_model_does(
    tmp_path: Path, generation: dict[str, Any], flags: list[str], config: SearchConfig
) -> None:
    model = save_word_model(tmp_path, **generation)
    assert results("-m", model, *flags, *MAX_LENGTH) == texts(config)


def test_a_flag_overrules_a_configuration_file(tmp_path: Path) -> None:
    model, config = save_word_model(tmp_path / "model"), tmp_path / "config.toml"
    config.write_text("sample = true\ntop_k = 2\n")
    assert results("-m", model, "-c", config, *MAX_LENGTH) == texts(FEW)
    assert results("-m", model, "-c", config, "--greedy", *MAX_LENGTH) == texts(GREEDY)
    assert results("-m", model, "-c", config, "-b", "4", *MAX_LENGTH) == texts(BEAM)


@pytest.mark.parametrize(
    ("generation", "message"),
    [
        ({"greedy": True, "sample": True}, "greedy and sample contradict each other"),
        ({"greedy": True, "beam_size": 4}, "greedy keeps no beam, but beam_size is 4"),
    ],
    ids=str,
)
def test_a_model_that_contradicts_itself_is_named(tmp_path: Path, generation: dict[str, Any], message: str) -> None:
    model = save_word_model(tmp_path, **generation)
    code, _, stderr = invoke("-m", model)
    assert (code, stderr) == (4, f"transduce: error: generation.json: {message}\n")
    assert results("-m", model, "--greedy", *MAX_LENGTH) == texts(GREEDY)
