"""Decoding with a shortlist beside its slow twin: every logit is computed, and those of other tokens are dropped."""

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from tests.transformer_core.decoding.random_model import random_lines, random_model, word_model, word_tokenizer
from tests.transformer_core.decoding.test_translator import assert_same
from tests.transformer_core.lexicon.test_shortlist import VOCABULARY, random_shortlist
from transformer_core.decoding import shortlisted as shortlisted_module
from transformer_core.decoding import step as step_module
from transformer_core.decoding.config import BatchConfig, LineGuide, SearchConfig
from transformer_core.decoding.linear import for_decoding, projection_to
from transformer_core.decoding.shortlisted import Shortlisted
from transformer_core.decoding.step import ModelStep, StepState
from transformer_core.decoding.translation import Translation
from transformer_core.decoding.translator import Translator
from transformer_core.errors import ModelError
from transformer_core.model import Transformer

LINES = random_lines(50)
SEARCHES = [
    SearchConfig(beam_size=1, max_length=12, shortlist=True),
    SearchConfig(beam_size=1, max_length=12, shortlist=True, scores=False),
    SearchConfig(beam_size=4, n_best=3, max_length=12, shortlist=True),
    SearchConfig(beam_size=4, beam_groups=2, max_length=12, shortlist=True),
    SearchConfig(beam_size=1, sample=True, n_best=2, top_k=3, max_length=12, shortlist=True),
    SearchConfig(beam_size=1, sample=True, n_best=2, max_length=12, shortlist=True),
    SearchConfig(beam_size=3, no_repeat_ngram=1, repetition_penalty=1.2, max_length=12, shortlist=True),
]


def translator(
    config: SearchConfig, models: Transformer | Sequence[Transformer] | None = None, **batching: object
) -> Translator:
    tokenizer = word_tokenizer()
    batch_config = BatchConfig(**batching)  # type: ignore[arg-type]
    made = Translator(models or word_model(), tokenizer, tokenizer, config, batch_config)
    made.choose_among(random_shortlist())
    return made


class WholeVocabulary(Shortlisted):
    """The slow twin: the projection to all tokens, minus infinity for those that a sentence may not produce."""

    def __init__(
        self,
        models: Sequence[Transformer],
        candidates: tuple[Tensor, Tensor],
        num_sentences: int,
        eos_id: int,
        banned_ids: Tensor,
    ) -> None:
        self._models = models
        self._eos_id = self.end_column = eos_id
        self._banned_ids = self.banned_columns = banned_ids
        self._vocabulary = self._num_tokens = VOCABULARY
        self.token_ids = torch.arange(VOCABULARY)
        self._is_other = torch.ones(num_sentences, VOCABULARY, dtype=torch.bool)
        self._is_other[candidates] = False
        self._projections = [model.output_projection for model in models]


def ids_of(translations: Sequence[Translation]) -> list[list[tuple[int, ...]]]:
    return [[found.token_ids for found in each.hypotheses] for each in translations]


@pytest.mark.parametrize("config", SEARCHES, ids=str)
def test_it_writes_what_the_whole_projection_without_other_tokens_does(
    config: SearchConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = translator(config, batch_type="sentences", batch_size=8).translate(LINES)
    monkeypatch.setattr(step_module, "Shortlisted", WholeVocabulary)
    expected = translator(config, batch_type="sentences", batch_size=8).translate(LINES)
    assert ids_of(found) == ids_of(expected)
    if config.scores:
        assert_same(found, expected)


@pytest.mark.parametrize("config", SEARCHES, ids=str)
def test_a_translation_does_not_depend_on_the_lines_beside_it(config: SearchConfig) -> None:
    together = translator(config).translate(LINES)
    for batch_size in (1, 7):
        assert ids_of(translator(config, batch_type="sentences", batch_size=batch_size).translate(LINES)) == ids_of(
            together
        )


def test_nothing_but_candidates_is_written_and_they_matter() -> None:
    config = SEARCHES[2]
    shortlist, tokenizer = random_shortlist(), word_tokenizer()
    found = translator(config).translate(LINES)
    for line, each in zip(LINES, found, strict=True):
        _, candidates = shortlist.of_lines([tokenizer.encode(line)])
        for hypothesis in each.hypotheses:
            assert set(hypothesis.token_ids) <= set(candidates.tolist()) - set(tokenizer.unwritten_ids)
    free = Translator(word_model(), tokenizer, tokenizer, SearchConfig(beam_size=4, n_best=3, max_length=12))
    assert ids_of(free.translate(LINES)) != ids_of(found)


@pytest.mark.parametrize("beam_size", [1, 3])
def test_with_all_tokens_as_candidates_it_is_as_without(beam_size: int) -> None:
    config = SearchConfig(beam_size=beam_size, max_length=12, shortlist=True)
    whole = translator(config)
    shortlist = random_shortlist()
    object.__setattr__(shortlist, "always", torch.arange(VOCABULARY, dtype=torch.int32))
    whole.choose_among(shortlist)
    tokenizer = word_tokenizer()
    free = Translator(word_model(), tokenizer, tokenizer, SearchConfig(beam_size=beam_size, max_length=12))
    assert_same(whole.translate(LINES), free.translate(LINES))


def test_what_is_asked_of_a_translation_is_a_candidate() -> None:
    line, tokenizer = LINES[0], word_tokenizer()
    _, token_ids = random_shortlist().of_lines([tokenizer.encode(line)])
    missing = [tokenizer.pieces[index].strip() for index in range(5, VOCABULARY) if index not in token_ids.tolist()]
    guides = [LineGuide(prefix=missing[0]), LineGuide(constraints=(missing[1],))]
    found = translator(SEARCHES[2]).translate([line, line], guides=guides)
    assert found[0].text.split()[0] == missing[0]
    assert missing[1] in found[1].text.split()


@pytest.mark.parametrize("beam_size", [1, 3])
def test_an_ensemble_chooses_among_the_same(beam_size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    config = SearchConfig(beam_size=beam_size, max_length=12, shortlist=True)
    models = [word_model(), random_model(VOCABULARY, seed=4)]
    found = translator(config, models).translate(LINES)
    monkeypatch.setattr(step_module, "Shortlisted", WholeVocabulary)
    assert_same(found, translator(config, models).translate(LINES))


@pytest.mark.parametrize("precision", ["fp32", "bf16", "int8"])
def test_the_projection_to_some_entries_is_a_part_of_the_whole(precision: str) -> None:
    model = for_decoding(word_model(), precision)  # type: ignore[arg-type]
    hidden = torch.randn(9, 32, generator=torch.Generator().manual_seed(1))
    token_ids = torch.tensor([40, 3, 41])
    with torch.inference_mode():
        part = projection_to(model.output_projection, token_ids)(hidden)
        torch.testing.assert_close(part, model.project(hidden)[:, token_ids], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("precision", ["bf16", "int8"])
def test_other_precisions_take_a_shortlist(precision: str) -> None:
    found = translator(SEARCHES[0], precision=precision).translate(LINES)
    exact = translator(SEARCHES[0]).translate(LINES)
    assert sum(ours.text == theirs.text for ours, theirs in zip(found, exact, strict=True)) > len(LINES) // 2


def test_dropping_and_merging_sentences_keeps_each_with_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shortlisted_module, "COLUMNS", 4)
    models = [word_model()]
    banned_ids = torch.tensor([0, 8])
    first = Shortlisted(models, (torch.tensor([0, 0, 1, 2, 2]), torch.tensor([2, 9, 2, 7, 2])), 3, 2, banned_ids)
    second = Shortlisted(models, (torch.tensor([0, 0]), torch.tensor([2, 8])), 1, 2, banned_ids)
    first.keep_sentences(torch.tensor([0, 2]))
    merged = first.merged(second)
    assert (first.end_column, first.banned_columns.tolist()) == (0, [])
    assert (merged.end_column, merged.banned_columns.tolist()) == (0, [2])
    assert merged.token_ids.tolist()[:4] == [2, 7, 8, 9]
    hidden = torch.randn(3, 32)
    with torch.no_grad():
        (logits,) = merged.project([hidden], 0, 1)
        (beams,) = merged.project([hidden], 2, 2)  # the second sentence's beam, and one row of the third
        expected = models[0].project(hidden)
    assert torch.equal(merged.spread(beams).isfinite(), merged.spread(logits).isfinite()[[1, 1, 2]])
    for row, own in enumerate([{2, 9}, {2, 7}, {2, 8}]):
        spread = merged.spread(logits)[row]
        assert {int(index) for index in spread.isfinite().nonzero()} == own
        for token_id in own:
            assert spread[token_id] == pytest.approx(float(expected[row, token_id]), abs=1e-5)


def test_without_a_shortlist_a_search_that_needs_one_is_refused() -> None:
    tokenizer = word_tokenizer()
    made = Translator(word_model(), tokenizer, tokenizer, SEARCHES[0])
    with pytest.raises(
        ModelError, match=r"the model has no shortlist.safetensors; learn it: transduce shortlist MODEL"
    ):
        made.translate(LINES[:1])


def test_the_projection_is_gathered_once_for_a_cohort(monkeypatch: pytest.MonkeyPatch) -> None:
    made = []

    class Counted(Shortlisted):
        def __init__(self, *arguments: object) -> None:
            made.append(arguments)
            super().__init__(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(step_module, "Shortlisted", Counted)
    translator(SEARCHES[2], batch_type="sentences", batch_size=64).translate(LINES)
    assert len(made) == 1
    step = ModelStep([word_model()], 2, [0], 1)
    assert isinstance(step.start([torch.zeros(1, 1, 32)], None), StepState)
    assert len(made) == 1
