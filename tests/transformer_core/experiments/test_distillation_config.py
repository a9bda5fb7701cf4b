from pathlib import Path
from typing import Any

import pytest

from transformer_core.decoding.config import SearchConfig
from transformer_core.errors import ConfigError, ModelError
from transformer_core.experiments.distillation_config import DistillationConfig, distilled_files


def config(**values: Any) -> DistillationConfig:  # noqa: ANN401
    return DistillationConfig(**{"teachers": (Path("big"),), "train_src": (Path("a.src"),), **values})


def test_the_search_gives_the_whole_beam_within_the_teachers_own_limits() -> None:
    asked = config(beam_size=3, length_penalty=0.5, length_penalty_type="gnmt")
    generation = {"max_length_ratio": 1.7, "max_source_length": 9, "beam_size": 8, "sample": True}
    assert asked.search(generation) == SearchConfig(
        beam_size=3, n_best=3, length_penalty=0.5, length_penalty_type="gnmt", max_length_ratio=1.7
    )


def test_the_search_obeys_the_rules_of_the_teacher() -> None:
    rules: dict[str, Any] = {"no_repeat_ngram": 3, "early_stopping": True, "repetition_penalty": 1.2, "min_length": 2}
    others = {"shortlist": True, "per_token": True, "beam_groups": 2, "beam_size": 4, "length_penalty": 0.2}
    assert config().search({**rules, **others}) == SearchConfig(n_best=5, **rules)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"teachers": ()}, "nobody teaches: name a model folder, or several"),
        ({"train_src": ()}, "the teacher needs source lines: --train-src FILE"),
        ({"references": (Path("a"), Path("b"))}, "there are 1 source files and 2 of references"),
        ({"n_best": 6}, r"n_best \(6\) must not exceed beam_size \(5\)"),
        ({"beam_size": 0}, r"beam_size \(0\) must be between 1 and"),
    ],
)
def test_what_cannot_be_is_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        config(**values)


@pytest.mark.parametrize("generation", [{"max_length_ratio": -1}, {"min_length": "x"}])
def test_a_damaged_file_of_the_teacher_is_one_line(generation: dict[str, Any]) -> None:
    with pytest.raises(ModelError, match=r"big.generation\.json: "):
        config().search(generation)


def test_the_pairs_lie_in_the_students_folder() -> None:
    assert distilled_files(Path("s")) == (Path("s/distilled/train.src"), Path("s/distilled/train.tgt"))
