import pytest
import torch

from tests.tokenizer.examples import LINES, trained
from tests.transformer_core.decoding.random_model import random_lines, random_model, word_model, word_tokenizer
from tokenizer.config import Kind
from transformer_core.attention_walk import walk
from transformer_core.decoding.alignment import Aligner, best_words, first_words, words_of
from transformer_core.decoding.config import BatchConfig, LongInput, SearchConfig
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
    pairs = [(line, translation.hypotheses[0].piece_ids) for line, translation in zip(lines, found, strict=True)]
    together = Aligner(model, tokenizer, tokenizer, BatchConfig(batch_size=100)).align(pairs, range(1, 22))
    assert together[0] == ()
    for (line, (target,)), alignment in list(zip(pairs, together, strict=True))[1:]:
        assert Aligner(model, tokenizer, tokenizer).align([(line, [target])], [1]) == [alignment]
        source = torch.tensor([[*tokenizer.encode(line), tokenizer.eos_id]])
        weights = walk(model, source, None, torch.tensor([[tokenizer.bos_id, *target]])).weights["cross"][0, 0]
        best = weights.mean(dim=0)[: len(target), :-1].argmax(dim=1)
        assert alignment == tuple((int(place), number) for number, place in enumerate(best))


def test_the_pieces_of_a_long_line_are_aligned_each_by_itself() -> None:
    model, tokenizer, limit = word_model(), word_tokenizer(), BatchConfig(max_source_length=4)
    halves, search = ("ba be bi bo", "bu da de di"), SearchConfig(beam_size=1, max_length=9)
    (found,) = Translator(model, tokenizer, tokenizer, search, limit).translate([" ".join(halves)])
    (alignment,) = Aligner(model, tokenizer, tokenizer, limit).align(
        [(" ".join(halves), found.hypotheses[0].piece_ids)], [1]
    )
    first, second = found.hypotheses[0].piece_ids
    left, right = Aligner(model, tokenizer, tokenizer).align([(halves[0], [first]), (halves[1], [second])], [1, 1])
    num_words = len(tokenizer.decode(list(first)).split())
    assert alignment == (*left, *((source + 4, target + num_words) for source, target in right))


@pytest.mark.parametrize("long_input", ["split", "truncate"])
def test_words_that_were_cut_through_are_single_words(long_input: LongInput) -> None:
    """A line without spaces, or with a few, of more tokens than are seen at once: no number is beyond its words."""
    tokenizer = trained("char")
    model = random_model(tokenizer.vocabulary_size)
    batching = BatchConfig(max_source_length=5, long_input=long_input)
    translator = Translator(model, tokenizer, tokenizer, SearchConfig(beam_size=1, max_length=9), batching)
    lines = ["a" * 40, "ab " + "c" * 30 + " d", "a b"]
    pairs = [(line, found.hypotheses[0]) for line, found in zip(lines, translator.translate(lines), strict=True)]
    aligner = Aligner(model, tokenizer, tokenizer, batching)
    for line, best in pairs:
        (alignment,) = aligner.align([(line, best.piece_ids)], [1])
        assert all(source < len(line.split()) and target < len(best.text.split()) for source, target in alignment)
        assert [target for _, target in alignment] == sorted(target for _, target in alignment)


def test_the_first_words_of_pieces() -> None:
    # "a b" + "c d" + " " + "" + "" + "e" + " " + "f" is "a bc d e f"
    assert first_words(["", "", " ", "", " "], ["a b", "c d", "", "e", "f"]) == [0, 1, 3, 3, 4]
    assert first_words([" ", "", ""], ["", "a ", "b"]) == [0, 0, 1]
