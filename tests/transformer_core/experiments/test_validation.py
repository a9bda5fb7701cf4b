from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest

from tests.training_task import write_lines
from tests.transformer_core.decoding.random_model import (
    WORDS,
    random_lines,
    save_word_model,
    word_model,
    word_tokenizer,
)
from tokenizer import Tokenizer, train_tokenizer
from transformer_core.data.shards import Corpus
from transformer_core.decoding.config import SearchConfig
from transformer_core.decoding.translator import Translator
from transformer_core.evaluation.metrics import evaluate_corpus
from transformer_core.experiments.config import TrainingRun
from transformer_core.experiments.corpus_preparation import PreparedData
from transformer_core.experiments.text_config import DataConfig
from transformer_core.experiments.validation import ValidationDecoder
from transformer_core.training.config import TrainingConfig, TranslationMetric

SOURCES, REFERENCES = random_lines(30), random_lines(30, seed=1)


def make_decoder(
    folder: Path,
    metric: TranslationMetric,
    beam_size: int = 1,
    references: list[str] = REFERENCES,
    target_tokenizer: Tokenizer | None = None,
) -> ValidationDecoder:
    save_word_model(folder / "model", max_length_ratio=2.0)
    source, target = write_lines(folder / "v.src", SOURCES), write_lines(folder / "v.tgt", references)
    data = DataConfig(train_src=(source,), train_tgt=(target,), valid_src=(source,), valid_tgt=(target,))
    training = TrainingConfig(metric=metric, valid_beam_size=beam_size)
    none = cast(Corpus, None)  # it looks at the text alone
    prepared = PreparedData(training=none, validation=none, validation_columns=data.validation_columns, num_held_back=0)
    run = TrainingRun(folder=folder / "model", data=data, training=training)
    return ValidationDecoder(run, prepared, (word_tokenizer(), target_tokenizer or word_tokenizer()))


def translations(beam_size: int) -> list[str]:
    config = SearchConfig(beam_size=beam_size, max_length_ratio=2.0)
    translator = Translator(word_model(), word_tokenizer(), word_tokenizer(), config)
    return [translation.text for translation in translator.translate(SOURCES)]


@pytest.mark.parametrize(("metric", "beam_size"), [("bleu", 1), ("chrf", 3), ("exact", 1), ("wer", 1), ("cer", 1)])
def test_it_is_what_translate_and_evaluate_give(tmp_path: Path, metric: TranslationMetric, beam_size: int) -> None:
    assert metric != "loss"
    decoded = make_decoder(tmp_path, metric, beam_size)(word_model(), 7)
    hypotheses = translations(beam_size)
    (score,) = evaluate_corpus(hypotheses, [REFERENCES], [metric])
    assert decoded.values == {metric: score.value}
    assert decoded.signatures == {metric: score.signature}
    assert decoded.sample in list(zip(SOURCES, hypotheses, REFERENCES, strict=True))


@pytest.mark.parametrize("metric", ["bleu", "chrf", "exact"])
def test_a_model_that_writes_no_capitals_is_not_judged_by_them(tmp_path: Path, metric: TranslationMetric) -> None:
    references = [text.upper() for text in translations(1)]
    small = train_tokenizer([" ".join(WORDS)], replace(word_tokenizer().config, lowercase=True))
    assert small.pieces == word_tokenizer().pieces
    of_small, of_all = (
        make_decoder(tmp_path, metric, references=references, target_tokenizer=tokenizer)(word_model(), 1)
        for tokenizer in (small, word_tokenizer())
    )
    assert of_small.values[metric] == pytest.approx(100.0)
    assert of_all.values[metric] < 1


def test_for_the_loss_a_sample_alone_is_decoded_and_follows_from_the_step(tmp_path: Path) -> None:
    decode = make_decoder(tmp_path, "loss")
    samples = [decode(word_model(), step).sample for step in range(0, 200, 25)]
    assert samples == [decode(word_model(), step).sample for step in range(0, 200, 25)]
    assert len(set(samples)) > 4
    assert set(samples) <= set(zip(SOURCES, translations(1), REFERENCES, strict=True))
    decoded = decode(word_model(), 1)
    assert (decoded.values, decoded.signatures) == ({}, {})


def test_a_model_that_trains_goes_on_training(tmp_path: Path) -> None:
    model = word_model().train()
    make_decoder(tmp_path, "loss")(model, 1)
    assert model.training
