import math
import re
import weakref
from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from tests.transformer_core.decoding.random_model import random_lines, random_model, word_model, word_tokenizer
from tokenizer import TokenizerConfig, train_tokenizer
from transformer_core.config import Positions
from transformer_core.decoding.config import NOTHING_ASKED, BatchConfig, LineGuide, SearchConfig
from transformer_core.decoding.piece_search import Piece, PieceSearch
from transformer_core.decoding.scoring import Scorer
from transformer_core.decoding.step import StepState
from transformer_core.decoding.translation import Translation
from transformer_core.decoding.translator import Translator
from transformer_core.errors import DataError, LineError, ModelError, OutOfMemoryError
from transformer_core.model import Transformer

LINES = ["", *random_lines(40), "   ", *random_lines(60, seed=1), "ba", "qqq ba unknown", ""]
GREEDY = SearchConfig(beam_size=1, max_length=12)
BEAM = SearchConfig(beam_size=5, n_best=3, max_length=12)
SAMPLE = SearchConfig(sample=True, beam_size=1, n_best=2, max_length=12, top_p=0.95)
UNEVEN = replace(BEAM, max_length=40, max_length_ratio=1.0)  # some end early, and what is left of batches is merged
SEARCHES = [GREEDY, BEAM, SAMPLE, UNEVEN]


def make(
    config: SearchConfig = GREEDY,
    model: Transformer | None = None,
    positions: Positions = "sinusoidal",
    **batching: object,
) -> Translator:
    tokenizer = word_tokenizer()
    batch_config = BatchConfig(**batching)  # type: ignore[arg-type]
    return Translator(model or word_model(positions), tokenizer, tokenizer, config, batch_config)


def assert_same(found: Sequence[Translation], expected: Sequence[Translation]) -> None:
    assert [t.text for t in found] == [t.text for t in expected]
    for ours, theirs in zip(found, expected, strict=True):
        assert [h.text for h in ours.hypotheses] == [h.text for h in theirs.hypotheses]
        for first, second in zip(ours.hypotheses, theirs.hypotheses, strict=True):
            assert first.log_probability == pytest.approx(second.log_probability, abs=1e-4)
            assert first.is_truncated == second.is_truncated


@pytest.mark.parametrize("config", SEARCHES, ids=str)
def test_same_translation_whatever_the_batch_size_and_order(config: SearchConfig) -> None:
    expected = make(config).translate(LINES)
    for batch_size in (1, 7, 64):
        assert_same(make(config, batch_type="sentences", batch_size=batch_size).translate(LINES), expected)
    if not config.sample:  # a sample belongs to its place in the input
        assert_same(make(config).translate(LINES[::-1])[::-1], expected)
        assert_same([make(config).translate([line])[0] for line in LINES], expected)


def test_default_batches_give_the_same() -> None:
    assert_same(make(BEAM, batch_size=60).translate(LINES), make(BEAM).translate(LINES))


def test_sample_belongs_to_the_line_number() -> None:
    whole = make(SAMPLE).translate(LINES)
    windows = [make(SAMPLE).translate(LINES[start : start + 9], start + 1) for start in range(0, len(LINES), 9)]
    assert_same([translation for window in windows for translation in window], whole)
    alone = make(SearchConfig(sample=True, beam_size=1, max_length=12, top_p=0.95)).translate(LINES)
    assert [translation.text for translation in alone] == [translation.text for translation in whole]
    moved = make(SAMPLE).translate(LINES, first_line_number=2)
    assert [translation.text for translation in moved] != [translation.text for translation in whole]
    two_samples = [[h.text for h in translation.hypotheses] for translation in whole if not translation.is_blank]
    assert sum(first != second for first, second in two_samples) > 50


def test_blank_line_gives_a_blank_line_without_the_model(monkeypatch: pytest.MonkeyPatch) -> None:
    model = word_model()

    def refuse(*arguments: object) -> Tensor:
        raise AssertionError("the model was asked")

    monkeypatch.setattr(model, "encode", refuse)
    for config in SEARCHES:
        for translation in make(config, model).translate(["", "  ", "\t"]):
            assert (translation.text, translation.score, translation.log_probability) == ("", 0.0, 0.0)
            assert translation.is_blank
            assert not translation.is_truncated
    assert make(GREEDY, model).translate([]) == []


def test_n_best_is_ranked_and_consistent() -> None:
    for translation in make(BEAM).translate(random_lines(30)):
        assert len(translation.hypotheses) == 3
        scores = [found.score for found in translation.hypotheses]
        assert scores == sorted(scores, reverse=True)
        assert len({found.text for found in translation.hypotheses}) == 3
        for found in translation.hypotheses:
            assert found.score == pytest.approx(found.log_probability / found.num_tokens)
        assert translation.text == translation.hypotheses[0].text


@pytest.mark.parametrize("config", SEARCHES, ids=str)
@pytest.mark.parametrize("positions", ["sinusoidal", "learned"])
def test_scoring_gives_what_translation_said(config: SearchConfig, positions: Positions) -> None:
    tokenizer, model = word_tokenizer(), word_model(positions)
    lines = random_lines(40)
    pairs, said = [], []
    for line, translation in zip(lines, make(config, model).translate(lines), strict=True):
        for found in translation.hypotheses:
            # some ids are not the tokenizer's own segmentation of their text
            if len(tokenizer.encode(found.text)) == found.num_tokens - 1:
                pairs.append((line, found.text))
                said.append(found)
    assert len(pairs) > 30
    assert any(found.is_truncated for found in said)
    scores = Scorer(model, tokenizer, tokenizer, config).score(pairs)
    for pair_score, found in zip(scores, said, strict=True):
        assert pair_score.log_probability == pytest.approx(found.log_probability, abs=1e-4)
        assert pair_score.score == pytest.approx(found.score, abs=1e-4)


def test_truncation_is_flagged() -> None:
    found = [translation.hypotheses[0] for translation in make(GREEDY).translate(random_lines(40))]
    truncated = [hypothesis for hypothesis in found if hypothesis.is_truncated]
    assert 0 < len(truncated) < len(found)
    assert {hypothesis.num_tokens for hypothesis in truncated} == {13}  # 12 and the end token
    ratio = SearchConfig(beam_size=1, max_length_ratio=0.5)
    for line, translation in zip(random_lines(40), make(ratio).translate(random_lines(40)), strict=True):
        if translation.is_truncated:
            assert translation.hypotheses[0].num_tokens == math.ceil(len(line.split()) / 2) + 10 + 1


class TestLongInput:
    line = " ".join(["ba be bi bo bu da de."] * 3).replace(".", " .")
    # 7 words and an unknown full stop, three times

    def test_split_and_rejoined(self) -> None:
        (translation,) = make(BEAM, max_source_length=9).translate([self.line])
        assert translation.is_split
        pieces = make(BEAM).translate(["ba be bi bo bu da de .", "ba be bi bo bu da", "de . ba be bi bo bu da de ."])
        assert len(translation.text.split()) > 3
        assert translation.hypotheses[0].log_probability < pieces[0].log_probability
        found = translation.hypotheses[0]
        assert found.score == pytest.approx(found.log_probability / found.num_tokens)

    def test_pieces_are_what_they_are_alone(self) -> None:
        (translation,) = make(BEAM, max_source_length=4).translate(["ba be bi bo bu da de du"])
        alone = make(BEAM).translate(["ba be bi bo", "bu da de du"])
        assert [h.text for h in translation.hypotheses] == [
            f"{first.text} {second.text}"
            for first, second in zip(alone[0].hypotheses, alone[1].hypotheses, strict=True)
        ]
        assert translation.log_probability == pytest.approx(sum(t.log_probability for t in alone), abs=1e-4)

    def test_white_space_before_a_long_line_changes_nothing(self) -> None:
        line = "ba be bi bo bu da de di"
        guides = [LineGuide(prefix="ki lo")] * 2
        found, expected = make(BEAM, max_source_length=4).translate([" " * 90 + line, line], 1, guides)
        assert found.text.startswith("ki lo")
        assert_same([found], [expected])

    def test_truncated(self) -> None:
        (translation,) = make(GREEDY, max_source_length=4, long_input="truncate").translate(["ba be bi bo bu da de du"])
        assert translation.is_source_cut
        assert translation.is_truncated
        assert translation.text == make(GREEDY).translate(["ba be bi bo"])[0].text

    def test_error_names_the_line(self) -> None:
        with pytest.raises(DataError, match=r"^input:12: has 8 tokens, more than the 4 "):
            make(GREEDY, max_source_length=4, long_input="error").translate(["ba", "ba be bi bo bu da de du"], 11)

    def test_learned_positions_are_a_limit_that_is_never_passed(self) -> None:
        line = " ".join(["ba"] * 200)
        config = SearchConfig(beam_size=2, max_length_ratio=100.0)
        model = word_model("learned")
        with torch.no_grad():
            model.output_projection.weight[2] = -10 * model.output_projection.weight[7]
        short, long = make(config, model).translate(["ba be", line])
        assert long.is_split
        assert short.hypotheses[0].num_tokens <= 64


def test_out_of_memory_makes_smaller_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = make(BEAM).translate(LINES)
    model = word_model()
    encode = model.encode

    def encode_few(source: Tensor, source_mask: Tensor | None) -> Tensor:
        if len(source) > 3:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes")
        return encode(source, source_mask)

    monkeypatch.setattr(model, "encode", encode_few)
    translator = make(BEAM, model)
    assert_same(translator.translate(LINES), expected)
    assert translator.num_halvings > 0


def test_out_of_memory_for_one_line_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    model = word_model()

    def refuse(*arguments: object) -> Tensor:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(model, "encode", refuse)
    with pytest.raises(OutOfMemoryError, match=r"^input:7: "):
        make(GREEDY, model).translate(["", "ba"], first_line_number=6)


@pytest.mark.parametrize("config", SEARCHES, ids=str)
def test_model_that_computes_nan_is_an_error(config: SearchConfig) -> None:
    model = word_model()
    with torch.no_grad():
        model.target_embedding.token_embedding.weight[1] = math.nan
    with pytest.raises(ModelError, match=r"NaN.*input:1"):
        make(config, model).translate(["ba be"])


def test_validation_may_translate_in_the_middle_of_training() -> None:
    model = word_model().train()
    expected = make(BEAM).translate(LINES)
    assert_same(make(BEAM, model).translate(LINES), expected)
    assert model.training
    model(torch.tensor([[7, 8, 2]]), None, torch.tensor([[1, 9]])).sum().backward()
    assert all(parameter.grad is not None for parameter in model.decoder.parameters())


def test_ban_unk_leaves_the_unknown_token_out() -> None:
    model = word_model()
    with torch.no_grad():  # make it the favourite
        model.output_projection.weight[3] = model.output_projection.weight[5:].sum(dim=0)
    lines = random_lines(30)
    unk_id = word_tokenizer().unk_id
    free = Translator(model, word_tokenizer(), word_tokenizer(), GREEDY)
    bound = make(SearchConfig(beam_size=1, max_length=12, ban_unk=True), model)

    def count_unknown(translator: Translator) -> int:
        return sum(line.hypotheses[0].token_ids.count(unk_id) for line in translator.translate(lines))

    assert count_unknown(free) > 0
    assert count_unknown(bound) == 0


def test_greedy_search_finds_the_same_without_scores() -> None:
    lines = ["", *random_lines(40)]
    scored = make(GREEDY).translate(lines)
    bare = make(replace(GREEDY, scores=False)).translate(lines)
    assert [line.hypotheses[0].token_ids for line in bare] == [line.hypotheses[0].token_ids for line in scored]
    assert math.isnan(bare[1].score) and math.isnan(bare[1].log_probability)
    assert_same(make(replace(BEAM, scores=False)).translate(lines), make(BEAM).translate(lines))  # a beam needs them


def test_what_does_not_fit_together_is_decoded_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    def run_out(self: StepState, other: StepState) -> None:
        too_large.append(weakref.ref(self))
        raise MemoryError

    def watched_try(self: PieceSearch, pieces: Sequence[Piece]) -> object:
        assert all(state() is None for state in too_large)  # its memory is free for the second try
        return try_to_search(self, pieces)

    lines, try_to_search = random_lines(40), PieceSearch._try_to_search
    too_large: list[weakref.ref[StepState]] = []
    expected = make(UNEVEN, batch_size=200).translate(lines)
    monkeypatch.setattr(StepState, "merge", run_out)
    monkeypatch.setattr(PieceSearch, "_try_to_search", watched_try)
    assert_same(make(UNEVEN, batch_size=200).translate(lines), expected)
    assert too_large


@pytest.mark.parametrize("precision", ["bf16", "fp16", "int8"])
def test_half_precision_stays_near(precision: str) -> None:
    lines = random_lines(20)
    exact, rough = make(BEAM).translate(lines), make(BEAM, precision=precision).translate(lines)
    same = sum(first.text == second.text for first, second in zip(exact, rough, strict=True))
    assert same >= 10
    assert all(math.isfinite(translation.score) for translation in rough)


def test_spaces_are_blank_even_where_the_tokenizer_has_tokens_for_them() -> None:
    tokenizer = train_tokenizer(["a b  c"] * 3, TokenizerConfig(kind="char", vocabulary_size=20))
    assert tokenizer.encode("  ")
    translator = Translator(random_model(tokenizer.vocabulary_size), tokenizer, tokenizer)
    assert [found.text for found in translator.translate(["  ", "\t "])] == ["", ""]


# --- What is asked of a translation


def test_prefix_avoid_and_constraints_as_text() -> None:
    lines = random_lines(20, seed=5)
    free = make(BEAM).translate(lines)
    words = [translation.text.split() for translation in free]
    guides = [
        LineGuide(
            prefix="ba de" if index % 3 == 0 else "", avoid=tuple(of_line[:1]), constraints=("ki lo",) * (index % 2)
        )
        for index, of_line in enumerate(words)
    ]
    found = make(BEAM).translate(lines, 1, guides)
    for guide, translation in zip(guides, found, strict=True):
        assert translation.text.startswith(guide.prefix)
        assert all(phrase not in translation.text.split() for phrase in guide.avoid)
        assert all(phrase in translation.text for phrase in guide.constraints)
        assert translation.unmet == ()
    # each by itself gives the same, and a line of which nothing is asked is what it is without any
    for line, guide, translation in zip(lines, guides, found, strict=True):
        assert_same(make(BEAM).translate([line], 1, [guide]), [translation])
    mixed = make(BEAM).translate(lines, 1, [*guides[:10], *[LineGuide()] * 10])
    assert_same(mixed[10:], free[10:])


def test_what_cannot_be_met_is_said() -> None:
    short = SearchConfig(beam_size=2, max_length=2)
    (found,) = make(short).translate(["ba"], 1, [LineGuide(prefix="ki lo", avoid=("ki",), constraints=("de fa",))])
    assert found.unmet == ("ki",)  # the prefix goes first; the limit makes room for what is asked
    tokenizer = word_tokenizer()
    unknown = LineGuide(constraints=("qqq",))  # the vocabulary has no such word
    assert "qqq" not in tokenizer.decode(tokenizer.encode("qqq"))
    assert make(BEAM).translate(["ba"], 1, [unknown])[0].unmet == ("qqq",)
    ordered = LineGuide(constraints=("ki", "de"), is_ordered=True)
    assert make(BEAM).translate(["ba"], 1, [ordered])[0].unmet == ()


def test_what_is_asked_is_looked_for_as_the_vocabulary_writes_it() -> None:
    # an "é" of two characters and capitals, in a vocabulary that knows neither
    config = TokenizerConfig(kind="word", vocabulary_size=9, lowercase=True)
    tokenizer = train_tokenizer(["ki lo ba \u00e9"], config)
    translator = Translator(random_model(tokenizer.vocabulary_size), tokenizer, tokenizer, BEAM)
    met = LineGuide(constraints=("Ki Lo", "e\u0301"), is_ordered=True)
    (found,) = translator.translate(["ba"], 1, [met])
    assert re.search("ki lo.*\u00e9", found.text)
    assert found.unmet == ()
    unmet = LineGuide(prefix="ki", avoid=("KI",))  # the prefix goes first
    assert translator.translate(["ba"], 1, [unmet])[0].unmet == ("KI",)
    assert translator.translate([""], 1, [met])[0].unmet == met.constraints  # as they were given


def test_what_is_named_twice_in_an_order_stands_there_twice() -> None:
    guide = LineGuide(constraints=("ki", "de", "ki"), is_ordered=True)
    for translation in make(BEAM).translate(["ba", "be bi bo"], 1, [guide] * 2):
        assert re.search(r"\bki\b.*\bde\b.*\bki\b", translation.text)
        assert translation.unmet == ()


def test_constraints_need_a_beam() -> None:
    for config in (GREEDY, SAMPLE, SearchConfig(beam_size=4, beam_groups=2)):
        with pytest.raises(LineError, match=r"^input:8: asks for constraints, which are met by beam search") as caught:
            make(config).translate(["be", "ba"], 7, [NOTHING_ASKED, LineGuide(constraints=("ki",))])
        assert caught.value.line_number == 8


def test_rules_that_leave_nothing_are_named() -> None:
    config = SearchConfig(beam_size=1, min_length=80, max_length=100, no_repeat_ngram=1)
    with pytest.raises(DataError, match=r"input:1: what is asked of its translation leaves no token to go on with"):
        make(config).translate(["ba"])


@pytest.mark.parametrize("config", [SearchConfig(beam_size=6, beam_groups=3, n_best=6, max_length=12)])
def test_groups_are_one_list_best_first(config: SearchConfig) -> None:
    for translation in make(config).translate(LINES):
        scores = [hypothesis.score for hypothesis in translation.hypotheses]
        assert scores == sorted(scores, reverse=True)
        texts = [hypothesis.text for hypothesis in translation.hypotheses]
        assert len(set(texts)) == len(texts)  # groups may find the same
        assert translation.is_blank or 2 <= len(scores) <= 6


# --- Ensembles


@pytest.mark.parametrize("config", SEARCHES, ids=str)
def test_an_ensemble_of_one_model_twice_is_that_model(config: SearchConfig) -> None:
    tokenizer = word_tokenizer()
    twice = Translator([word_model(), word_model()], tokenizer, tokenizer, config)
    assert_same(twice.translate(LINES[:40]), make(config).translate(LINES[:40]))


def test_an_ensemble_decodes_by_the_mean_of_the_probabilities() -> None:
    tokenizer = word_tokenizer()
    models = [word_model(), random_model(tokenizer.vocabulary_size, seed=4)]
    (found,) = Translator(models, tokenizer, tokenizer, GREEDY).translate(["ba de ki"])
    source = torch.tensor([[*tokenizer.encode("ba de ki"), tokenizer.eos_id]])
    written, total = [tokenizer.bos_id], 0.0
    banned = [tokenizer.pad_id, tokenizer.bos_id, tokenizer.mask_id]
    with torch.no_grad():
        while len(written) <= 12:
            target = torch.tensor([written])
            outputs = [model.project(model(source, None, target))[0, -1].softmax(dim=-1) for model in models]
            mean = torch.stack(outputs).mean(dim=0).log()
            mean[banned] = -math.inf
            best = tokenizer.eos_id if len(written) == 13 else int(mean.argmax())
            total += float(mean[best])
            if best == tokenizer.eos_id:
                break
            written.append(best)
    assert list(found.hypotheses[0].token_ids) == written[1:]
    if not found.is_truncated:
        assert found.log_probability == pytest.approx(total, abs=1e-4)


# --- Different texts, and tokens


class _FirstWords:
    """A tokenizer that says the first two words of what it is to say, so that many hypotheses are one text."""

    def __init__(self) -> None:
        self.tokenizer = word_tokenizer()

    def __getattr__(self, name: str) -> object:
        return getattr(self.tokenizer, name)

    def decode_batch(self, rows: Sequence[list[int]]) -> list[str]:
        return self.tokenizer.decode_batch([row[:2] for row in rows])


def test_n_best_are_different_texts_and_the_beam_fills_them_up() -> None:
    """By hand: all of the beam, of hypotheses that are one text the best, the first three of these."""
    everything = make(SearchConfig(beam_size=8, n_best=8, max_length=12)).translate(LINES)
    say: object = _FirstWords()
    config = SearchConfig(beam_size=8, n_best=3, max_length=12)
    found = Translator(word_model(), word_tokenizer(), say, config).translate(LINES)  # type: ignore[arg-type]
    num_merged = 0
    for short, whole in zip(found, everything, strict=True):
        texts = [" ".join(hypothesis.text.split()[:2]) for hypothesis in whole.hypotheses]
        distinct = list(dict.fromkeys(texts))[:3]
        num_merged += len(set(texts[:3])) < 3
        assert [hypothesis.text for hypothesis in short.hypotheses] == distinct
        assert [h.score for h in short.hypotheses] == [whole.hypotheses[texts.index(text)].score for text in distinct]
    assert num_merged > 5


@pytest.mark.parametrize("config", SEARCHES, ids=str)
def test_tokens_have_the_log_probabilities_that_scoring_gives_them(config: SearchConfig) -> None:
    tokenizer = word_tokenizer()
    found = make(replace(config, per_token=True)).translate(LINES)
    assert_same(found, make(config).translate(LINES))
    pairs = [(line, translation.hypotheses[0]) for line, translation in zip(LINES, found, strict=True)]
    # some ids are not the tokenizer's own segmentation of their text
    pairs = [(line, best) for line, best in pairs if len(tokenizer.encode(best.text)) == best.num_tokens - 1]
    assert len(pairs) > 20
    scores = Scorer(word_model(), tokenizer, tokenizer).score([(line, best.text) for line, best in pairs])
    for (_, best), score in zip(pairs, scores, strict=True):
        assert list(best.tokens) == tokenizer.tokens(list(score.token_ids))
        assert best.token_log_probabilities == pytest.approx(score.token_log_probabilities, abs=1e-4)
        assert sum(best.token_log_probabilities) == pytest.approx(best.log_probability, abs=1e-9)


def test_tokens_of_constrained_translations_and_of_groups_add_up() -> None:
    guides = [LineGuide(constraints=("ki lo",))] * 10
    for config, asked in ((replace(BEAM, per_token=True), guides), (SearchConfig(beam_groups=5, per_token=True), None)):
        for translation in make(config).translate(random_lines(10), 1, asked):
            for found in translation.hypotheses:
                assert len(found.tokens) == len(found.token_log_probabilities) == found.num_tokens
                assert sum(found.token_log_probabilities) == pytest.approx(found.log_probability)


def test_pieces_of_a_long_line_have_an_end_token_each() -> None:
    (found,) = make(replace(BEAM, per_token=True), max_source_length=4).translate(["ba be bi bo bu da de di"])
    best = found.hypotheses[0]
    assert found.is_split
    assert len(best.tokens) == len(best.token_log_probabilities) == best.num_tokens
    assert sum(best.token_log_probabilities) == pytest.approx(best.log_probability)
