import pytest
import torch

from tests.tokenizer.examples import LINES, trained
from tests.transformer_core.decoding.random_model import random_lines, word_model, word_tokenizer
from tokenizer.config import Kind
from transformer_core.attention_walk import walk
from transformer_core.decoding.alignment import Aligner, best_words, words_of
from transformer_core.decoding.config import BatchConfig, SearchConfig
from transformer_core.decoding.translator import Translator

KINDS: list[Kind] = ["bpe", "byte-bpe", "unigram", "wordpiece", "char", "word"]
PLAIN = [line for line in LINES if line.strip() and line.isascii() and line.split(" ") == line.split()]


@pytest.mark.parametrize("kind", KINDS)
def test_words_are_what_stands_between_spaces(kind: Kind) -> None:
    tokenizer = trained(kind)
    for line in PLAIN:
        ids = tokenizer.encode(line)
        words = words_of(tokenizer, ids)
        assert sorted(set(words) - {-1}) == list(range(len(line.split())))
        assert [word for word in words if word >= 0] == sorted(word for word in words if word >= 0)
        if tokenizer.unk_id not in ids:
            for number, word in enumerate(line.split()):
                of_word = [index for index, place in zip(ids, words, strict=True) if place == number]
                assert tokenizer.decode(of_word) == word


def test_a_tag_is_no_word() -> None:
    tokenizer = trained("bpe").with_tags(["de"]).tagged("de")
    assert words_of(tokenizer, tokenizer.encode("a b"))[0] == -1
    assert max(words_of(tokenizer, tokenizer.encode("a b"))) == 1


def test_weights_of_tokens_are_summed_over_words() -> None:
    # the first target word is made of two tokens: 0.3 + 0.3 of source word 1, 0.4 + 0.3 of word 0 (tokens 0 and 1)
    weights = torch.tensor([[0.2, 0.2, 0.3, 0.3], [0.2, 0.1, 0.3, 0.4], [0.0, 0.1, 0.2, 0.7]])
    assert best_words(weights, [0, 0, 1, -1], [0, 0, 1]) == ((0, 0), (1, 1))
    assert best_words(weights[:, :0], [], [0, 0, 1]) == ()


def test_lines_are_aligned_by_the_last_layer_but_one_whatever_the_batch() -> None:
    model, tokenizer = word_model(), word_tokenizer()
    lines = ["", *random_lines(20, seed=3)]
    found = Translator(model, tokenizer, tokenizer, SearchConfig(beam_size=1, max_length=9)).translate(lines)
    pairs = [(line, translation.hypotheses[0].token_ids) for line, translation in zip(lines, found, strict=True)]
    together = Aligner(model, tokenizer, tokenizer, BatchConfig(batch_size=100)).align(pairs, range(1, 22))
    assert together[0] == ()
    for (line, target), alignment in list(zip(pairs, together, strict=True))[1:]:
        assert Aligner(model, tokenizer, tokenizer).align([(line, target)], [1]) == [alignment]
        source = torch.tensor([[*tokenizer.encode(line), tokenizer.eos_id]])
        weights = walk(model, source, None, torch.tensor([[tokenizer.bos_id, *target]])).weights["cross"][0, 0]
        best = weights.mean(dim=0)[: len(target), :-1].argmax(dim=1)
        assert alignment == tuple((int(place), number) for number, place in enumerate(best))
