import random
from functools import cache

import pytest
import torch

from tests.tokenizer.test_word_edges import trained
from tests.transformer_core.decoding.masked_model import masked_model
from tests.transformer_core.decoding.random_model import random_lines, word_model, word_tokenizer
from tokenizer import Kind, Tokenizer
from tokenizer.masked_text import MaskedLineEncoder, encode_masked_line
from tokenizer.special_tokens import SPECIAL_TOKENS
from transformer_core.config import Positions
from transformer_core.decoding.config import BatchConfig, SearchConfig
from transformer_core.decoding.filling import Candidate, FilledLine, Filler, Rewriter
from transformer_core.decoding.translator import Translator
from transformer_core.errors import ModelError
from transformer_core.model import Transformer

EVERYTHING = 10_000  # candidates: more than any vocabulary here has


@cache
def masked_lines(count: int = 40) -> list[str]:
    """Lines of words with some of them hidden, some lines without any, some blank."""
    source = random.Random(3)
    lines = []
    for line in random_lines(count, seed=2):
        words = [word if source.random() < 0.75 else "<mask>" for word in line.split()]
        lines.append(" ".join(words) if source.random() < 0.9 else "")
    return lines


def slowly(model: Transformer, tokenizer: Tokenizer, line: str) -> list[list[tuple[str, float]]]:
    """Every token of the right kind with its probability, for each mask, one line at a time."""
    encoded = encode_masked_line(tokenizer, line)
    ids = torch.tensor([[*encoded.token_ids, tokenizer.eos_id]])
    with torch.no_grad():
        probabilities = model.project(model.encode(ids, None))[0].double().softmax(dim=-1)
    found = []
    for place, begins_word in zip(
        (ids[0] == tokenizer.mask_id).nonzero().flatten().tolist(), encoded.begins_word, strict=True
    ):
        candidates = []
        for index in range(len(SPECIAL_TOKENS), tokenizer.vocabulary_size):
            text, shown = tokenizer.decode([index]), tokenizer.tokens([index])[0]
            begins = shown.startswith(("▁", "Ġ"))
            visible = text.replace("\u200c", "").strip()
            is_text = "\ufffd" not in text and visible.isprintable() and visible != ""
            if is_text and begins_word in (None, begins):
                candidates.append((text, probabilities[place, index].item()))
        found.append(sorted(candidates, key=lambda candidate: -candidate[1]))
    return found


def as_pairs(line: FilledLine) -> list[list[tuple[str, float]]]:
    return [[(candidate.token, candidate.probability) for candidate in candidates] for candidates in line.masks]


def require_close(found: list[list[tuple[str, float]]], expected: list[list[tuple[str, float]]]) -> None:
    assert [[token for token, _ in one] for one in found] == [[token for token, _ in one] for one in expected]
    for one, other in zip(found, expected, strict=True):
        assert [value for _, value in one] == pytest.approx([value for _, value in other], rel=1e-4)


@pytest.mark.parametrize("top_k", [1, 3, EVERYTHING])
def test_it_is_what_a_slow_reference_finds(top_k: int) -> None:
    model, tokenizer = masked_model(), word_tokenizer()
    lines = masked_lines()
    for line, filled in zip(lines, Filler(model, tokenizer, top_k).fill(lines), strict=True):
        expected = [candidates[:top_k] for candidates in slowly(model, tokenizer, line)]
        require_close(as_pairs(filled), expected)
        text = line
        for candidates in expected:
            text = text.replace("<mask>", candidates[0][0], 1)
        assert filled.text == text


@pytest.mark.parametrize("kind", ["bpe", "byte-bpe", "unigram", "wordpiece", "char"])
def test_candidates_fit_the_spaces_of_the_line(kind: Kind) -> None:
    tokenizer = trained(kind)
    model = masked_model(tokenizer.vocabulary_size)
    for line in ("the <mask> sat", "the c<mask> sat on<mask>", "<mask>", "<mask><mask> (<mask>)"):
        (filled,) = Filler(model, tokenizer, EVERYTHING).fill([line])
        require_close(as_pairs(filled), slowly(model, tokenizer, line))
        assert all(candidates for candidates in filled.masks)
        assert sum(candidate.probability for candidate in filled.masks[0]) < 1
        tokens = {candidate.token for candidates in filled.masks for candidate in candidates}
        assert not any(token.startswith(" ") or not token.strip() for token in tokens)
    filled_word = Filler(model, tokenizer).fill(["the <mask>, sat"])[0].text
    assert filled_word.startswith("the ")
    assert filled_word.endswith(", sat")


@pytest.mark.parametrize("batching", [BatchConfig(batch_size=1), BatchConfig(batch_size=7, batch_type="sentences")])
def test_the_result_does_not_depend_on_the_batch_or_the_order(batching: BatchConfig) -> None:
    model, tokenizer = masked_model(), word_tokenizer()
    lines = masked_lines()
    together = Filler(model, tokenizer, 4).fill(lines)
    for one, other in zip(together, Filler(model, tokenizer, 4, batching).fill(lines), strict=True):
        assert one.text == other.text
        require_close(as_pairs(one), as_pairs(other))
    backwards = Filler(model, tokenizer, 4).fill(lines[::-1])[::-1]
    assert [line.text for line in backwards] == [line.text for line in together]


def test_a_line_without_a_mask_comes_back_as_it_is() -> None:
    lines = ["", "   ", "ba  be", "\t<MASK> < mask >", "unknown words, too"]
    filled = Filler(masked_model(), word_tokenizer()).fill(lines)
    assert filled == [FilledLine(text=line) for line in lines]
    assert Filler(masked_model(), word_tokenizer()).fill([]) == []


def test_what_stands_round_a_mask_stays_as_it_was_typed() -> None:
    tokenizer = word_tokenizer()
    (filled,) = Filler(masked_model(), tokenizer).fill(["  UNKNOWN   <mask>\tba  <mask> "])
    first, second = (candidates[0].token for candidates in filled.masks)
    assert filled.text == f"  UNKNOWN   {first}\tba  {second} "


@pytest.mark.parametrize(("positions", "limit"), [("sinusoidal", 10), ("learned", 63)])
def test_a_line_that_is_too_long_is_seen_in_pieces(positions: Positions, limit: int) -> None:
    model, tokenizer = masked_model(positions=positions), word_tokenizer()
    words = [word if place % 7 else "<mask>" for place, word in enumerate(" ".join(random_lines(30)).split())]
    assert len(words) > 2 * 63
    batching = BatchConfig(max_source_length=10) if positions == "sinusoidal" else BatchConfig()
    line, short = Filler(model, tokenizer, 2, batching).fill([" ".join(words), " ".join(words[:limit])])
    assert (line.is_cut, short.is_cut) == (True, False)
    pieces = [words[start : start + limit] for start in range(0, len(words), limit)]
    expected = [candidates[:2] for piece in pieces for candidates in slowly(model, tokenizer, " ".join(piece))]
    require_close(as_pairs(line), expected)
    assert "<mask>" not in line.text
    assert len(line.text.split()) == len(words)


def test_logits_are_computed_some_masks_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = masked_lines()
    expected = Filler(masked_model(), word_tokenizer(), 2).fill(lines)
    monkeypatch.setattr("transformer_core.decoding.filling.PROJECTED_MASKS", 3)
    for one, other in zip(Filler(masked_model(), word_tokenizer(), 2).fill(lines), expected, strict=True):
        require_close(as_pairs(one), as_pairs(other))


def test_batches_are_halved_where_memory_runs_out() -> None:
    model, tokenizer = masked_model(), word_tokenizer()
    encode = model.encode

    def small(source: torch.Tensor, source_mask: torch.Tensor | None) -> torch.Tensor:
        if source.numel() > 60:
            raise RuntimeError("can't allocate memory")
        return encode(source, source_mask)

    expected = Filler(model, tokenizer).fill(masked_lines())
    model.encode = small  # type: ignore[method-assign]
    filler = Filler(model, tokenizer)
    assert [line.text for line in filler.fill(masked_lines())] == [line.text for line in expected]
    assert filler.num_halvings > 0


def test_a_model_that_is_no_encoder_or_computes_nothing_is_refused() -> None:
    with pytest.raises(ModelError, match="was not pretrained to predict masked tokens; `transduce pretrain` makes one"):
        Filler(word_model(), word_tokenizer())
    with pytest.raises(ModelError, match="the model: is a pretrained encoder without a decoder"):
        Translator(masked_model(), word_tokenizer(), word_tokenizer())
    model = masked_model()
    with torch.no_grad():
        model.encoder.final_norm.weight.fill_(torch.nan)  # type: ignore[operator]
    with pytest.raises(ModelError, match=r"computes no probabilities \(NaN\) for input:1: "):
        Filler(model, word_tokenizer()).fill(["ba <mask>"])


def test_a_vocabulary_that_has_nothing_of_a_kind_gives_what_it_has() -> None:
    (filled,) = Filler(masked_model(), word_tokenizer()).fill(["ba<mask>"])  # every token of this one begins a word
    assert isinstance(filled.masks[0][0], Candidate)


# --- Denoising


def test_a_denoising_model_writes_lines_with_masks_anew() -> None:
    model, tokenizer = word_model(), word_tokenizer()
    lines = masked_lines()
    config = SearchConfig(beam_size=2, max_length_ratio=2.0)
    filled = Rewriter(model, tokenizer, config).fill(lines)
    translator = Translator(model, MaskedLineEncoder(tokenizer), tokenizer, config)
    with_mask = [line for line in lines if "<mask>" in line]
    texts = iter([translation.text for translation in translator.translate(with_mask)])
    assert 0 < len(with_mask) < len(lines)
    for line, found in zip(lines, filled, strict=True):
        assert found.text == (next(texts) if "<mask>" in line else line)
        assert found.masks == ()
