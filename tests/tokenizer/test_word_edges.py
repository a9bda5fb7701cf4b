from collections.abc import Sequence
from functools import cache

import pytest
import tokenizers
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tokenizer import KINDS, Kind, Tokenizer, TokenizerConfig, train_tokenizer
from tokenizer.pipeline import build_pre_tokenizer
from tokenizer.special_tokens import SPECIAL_TOKENS
from tokenizer.word_edges import Edge, WordEdges

TEXT = [
    "The cat sat on the mat, the dog didn't.",
    "Ein Mann, 23 Jahre alt, läuft 3,5 km (schnell)!",
    "foo-bar_baz 12ab 2024/03/06 a.b.c",
    "नमस्ते दुनिया, 日本語 も。 می‌خواهم",
    "   three spaces before and two after  ",
    "tab\tinside and\u00a0no-break",
]


@cache
def trained(kind: Kind) -> Tokenizer:
    vocabulary_size = {"word": 40, "char": 200}.get(kind, 420)
    return train_tokenizer(TEXT * 3, TokenizerConfig(kind=kind, vocabulary_size=vocabulary_size))


def word_starts(ids: Sequence[int], edges: WordEdges) -> list[bool]:
    """The rule of `Edge`, token by token."""
    starts = []
    for place, index in enumerate(ids):
        left, before = edges.left[index], edges.right[ids[place - 1]] if place else Edge.OPEN
        starts.append(place == 0 or left == Edge.SPACE or (Edge.OPEN not in (left, before) and left != before))
    return starts


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "char"])
@pytest.mark.parametrize("line", [line for line in TEXT if "  " not in line])
def test_words_begin_where_the_pre_tokenizer_cuts(kind: Kind, line: str) -> None:
    tokenizer = trained(kind)
    assert isinstance(tokenizer._library, tokenizers.Tokenizer)
    encoding = tokenizer._library.encode(line, add_special_tokens=False)
    words = encoding.word_ids
    assert encoding.ids == tokenizer.encode(line)
    assert word_starts(encoding.ids, tokenizer.word_edges) == [
        place == 0 or words[place] != words[place - 1] for place in range(len(words))
    ]


@settings(deadline=None, max_examples=60)
@given(
    st.sampled_from(["bpe", "byte-bpe"]), st.lists(st.text("aThe12,.!-_'äदम日本も", min_size=1, max_size=6), min_size=1)
)
def test_words_of_any_text_begin_where_the_pre_tokenizer_cuts(kind: Kind, words: list[str]) -> None:
    tokenizer = trained(kind)
    assert isinstance(tokenizer._library, tokenizers.Tokenizer)
    encoding = tokenizer._library.encode(" ".join(words), add_special_tokens=False)
    pieces = [tokenizer.pieces[index] for index in encoding.ids]
    assume("\ufffd" not in "".join(pieces))  # a part of a character: nobody knows what it is of
    numbers = encoding.word_ids
    assert word_starts(encoding.ids, tokenizer.word_edges) == [
        place == 0 or numbers[place] != numbers[place - 1] for place in range(len(numbers))
    ]


def test_characters_make_the_words_that_pieces_make() -> None:
    pre_tokenizer = build_pre_tokenizer("bpe")
    assert pre_tokenizer is not None
    tokenizer = trained("char")
    for line in TEXT:
        text = line.strip().replace("  ", " ")
        lengths = [end - start for _, (start, end) in pre_tokenizer.pre_tokenize_str(text)]
        expected = [place == 0 for length in lengths for place in range(length)]
        assert word_starts(tokenizer.encode(text), tokenizer.word_edges) == expected


def test_a_character_in_bytes_is_no_word_of_its_own() -> None:
    tokenizer = train_tokenizer(["abc def"] * 9, TokenizerConfig(kind="bpe", vocabulary_size=300))
    ids = tokenizer.encode("abc dé!f")
    assert tokenizer.tokens(ids)[-4:] == ["<0xC3>", "<0xA9>", "<0x21>", "f"]
    # an ASCII byte is a character, so it may begin a word; of a longer character nobody knows
    assert word_starts(ids, tokenizer.word_edges)[-4:] == [False, False, False, True]


@pytest.mark.parametrize(("kind", "expected"), [("wordpiece", [True, True, True]), ("unigram", [True, False, True])])
def test_an_unknown_token_is_a_word_or_a_part_of_one(kind: Kind, expected: list[bool]) -> None:
    tokenizer = train_tokenizer(["abc def ."] * 9, TokenizerConfig(kind=kind, vocabulary_size=30))
    ids = [tokenizer.encode("abc")[0], tokenizer.unk_id, tokenizer.encode("def")[0]]
    assert word_starts(ids, tokenizer.word_edges) == expected


@pytest.mark.parametrize("kind", KINDS)
def test_there_is_an_edge_for_every_token_and_special_ones_are_words(kind: Kind) -> None:
    tokenizer = trained(kind)
    edges = tokenizer.word_edges
    assert len(edges.left) == len(edges.right) == tokenizer.vocabulary_size
    for index in (tokenizer.pad_id, tokenizer.bos_id, tokenizer.eos_id, tokenizer.mask_id):
        assert (edges.left[index], edges.right[index]) == (Edge.SPACE, Edge.CLOSED)
    assert Edge.SPACE not in edges.right
    assert Edge.CLOSED not in edges.left
    assert len(SPECIAL_TOKENS) == 5
