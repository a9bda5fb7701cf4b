from pathlib import Path
from typing import Any

import pytest
import torch

from tests.transformer_core.decoding.random_model import (
    WORDS,
    random_lines,
    random_model,
    save_word_model,
    word_tokenizer,
)
from tokenizer import train_tokenizer
from tokenizer.errors import TokenizerConfigError
from transformer_core.decoding.config import SearchConfig
from transformer_core.decoding.translation import TargetText, Translation
from transformer_core.decoding.translator import Translator
from transformer_core.errors import ConfigError, ModelError
from transformer_core.evaluation.metrics import evaluate_lines
from transformer_core.experiments.distillation_config import DistillationConfig
from transformer_core.experiments.teacher import Teacher
from transformer_core.model_directory import load_model, weights_of
from transformer_core.weight_file import write_weights

LINES = [*random_lines(12, seed=2), "", "  "]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_word_model(tmp_path_factory.mktemp("teacher") / "model", max_length_ratio=2.0)


def teacher(folder: Path, **values: Any) -> Teacher:  # noqa: ANN401
    config = DistillationConfig(**{"teachers": (folder,), "train_src": (Path("text"),), **values})
    return Teacher(config, torch.device("cpu"), "auto")


def beams(folder: Path, beam_size: int) -> list[list[str]]:
    """What `translate` gives of the lines, but for what did not come to its end."""
    loaded = load_model(folder)
    search = SearchConfig(beam_size=beam_size, n_best=beam_size, max_length_ratio=2.0)
    translator = Translator(loaded.model, loaded.source_tokenizer, loaded.target_tokenizer, search)
    return [
        list(dict.fromkeys(item.text for item in found.hypotheses if item.text and not item.is_truncated))
        for found in translator.translate(LINES)
    ]


@pytest.mark.parametrize("n_best", [1, 3])
def test_the_best_hypotheses_are_learned(folder: Path, n_best: int) -> None:
    taught = teacher(folder, beam_size=4, n_best=n_best).teach([(line, None) for line in LINES], 1)
    assert taught == [texts[:n_best] for texts in beams(folder, 4)]
    assert taught[-2:] == [[], []]
    assert max(map(len, taught)) == n_best


def test_several_teachers_search_together(folder: Path, tmp_path: Path) -> None:
    other = save_word_model(tmp_path / "other", max_length_ratio=2.0)
    vocabulary = word_tokenizer().vocabulary_size
    write_weights(other / "model.safetensors", weights_of(random_model(vocabulary, seed=4)))
    taught = teacher(folder, teachers=(folder, other)).teach([(line, None) for line in LINES], 1)
    first, second = load_model(folder), load_model(other)
    translator = Translator(
        [first.model, second.model],
        first.source_tokenizer,
        first.target_tokenizer,
        SearchConfig(n_best=5, max_length_ratio=2.0),
    )
    for found, translation in zip(taught, translator.translate(LINES), strict=True):
        texts = [item.text for item in translation.hypotheses if item.text and not item.is_truncated]
        assert found == texts[:1]
    assert taught != teacher(folder).teach([(line, None) for line in LINES], 1)
    assert taught != teacher(other).teach([(line, None) for line in LINES], 1)


def test_teachers_of_two_vocabularies_are_refused(folder: Path, tmp_path: Path) -> None:
    other = save_word_model(tmp_path / "other")
    train_tokenizer([" ".join(WORDS), WORDS[-1]], word_tokenizer().config).save(other / "tokenizer.json")
    with pytest.raises(ConfigError, match=r"other has another source vocabulary than .*model; models decode together"):
        teacher(folder, teachers=(folder, other))


@pytest.mark.parametrize("n_best", [1, 2])
def test_with_references_the_nearest_are_learned(folder: Path, n_best: int) -> None:
    references = list(reversed(LINES))
    taught = teacher(folder, beam_size=4, n_best=n_best).teach(list(zip(LINES, references, strict=True)), 1)
    differs = False
    for found, texts, reference in zip(taught, beams(folder, 4), references, strict=True):
        scores = (
            [score.value for (score,) in evaluate_lines(texts, [[reference] * len(texts)], ["chrf"])] if texts else []
        )
        ranked = sorted(range(len(texts)), key=lambda index: (-scores[index], index))
        assert found == [texts[index] for index in ranked[:n_best]]
        differs |= found != texts[:n_best]
    assert differs, "another one is chosen now and then"


def test_what_did_not_come_to_its_end_is_not_learned(folder: Path) -> None:
    def hypothesis(text: str, *, is_truncated: bool = False) -> TargetText:
        return TargetText(
            text=text, score=0.0, log_probability=0.0, num_tokens=1, piece_ids=((9,),), is_truncated=is_truncated
        )

    choose = teacher(folder, n_best=3)._choose
    found = [hypothesis("a a a", is_truncated=True), hypothesis("b"), hypothesis(" "), hypothesis("b"), hypothesis("c")]
    assert choose(Translation(hypotheses=tuple(found)), None) == ["b", "c"]
    assert choose(Translation(hypotheses=tuple(found[:1])), "a a a") == []


def test_its_limit_of_length_holds(folder: Path, tmp_path: Path) -> None:
    other = save_word_model(tmp_path / "model", max_length=2)
    taught = teacher(other).teach([(line, None) for line in LINES], 1)
    assert all(len(text.split()) <= 2 for texts in taught for text in texts)


def test_a_folder_that_is_no_model_is_no_teacher(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="does not exist"):
        teacher(tmp_path / "missing")


@pytest.mark.parametrize("tag", [None, "de"])
def test_a_teacher_that_names_tags_which_it_lacks_is_refused(tmp_path: Path, tag: str | None) -> None:
    folder = save_word_model(tmp_path / "model", tags=["de", "fr"])
    with pytest.raises(ModelError, match=r"generation.json: 'de' is no tag of the vocabulary"):
        teacher(folder, tag=tag)


def test_a_tag_that_a_teacher_does_not_know_is_named(tmp_path: Path) -> None:
    with pytest.raises(TokenizerConfigError, match="the vocabulary has no tag <2de>"):
        teacher(save_word_model(tmp_path / "model"), tag="de")
