import pytest

from tests.tokenizer.examples import LINES, trained
from tokenizer import Tokenizer
from tokenizer.bpe_dropout import BpeDropout
from tokenizer.config import Kind

KINDS: list[Kind] = ["bpe", "byte-bpe"]
WORDS = [word for line in LINES for word in line.split()]


def ids_of(tokenizer: Tokenizer, word: str) -> tuple[int, ...]:
    return tuple(tokenizer.encode(word))


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_left_out_is_the_tokenizers_own_segmentation(kind: Kind) -> None:
    tokenizer = trained(kind)
    dropout = BpeDropout(tokenizer.merges, 0.0)
    segmented = [ids_of(tokenizer, word) for word in WORDS if word.isalpha()]
    assert any(len(ids) < len(word) for ids, word in zip(segmented, WORDS, strict=False)), "there are merges"
    for ids in segmented:
        assert dropout.segment(ids, 0) == ids


@pytest.mark.parametrize("kind", KINDS)
def test_everything_left_out_is_characters_or_bytes(kind: Kind) -> None:
    tokenizer = trained(kind)
    dropout = BpeDropout(tokenizer.merges, 1.0)
    for word in WORDS:
        ids = dropout.segment(ids_of(tokenizer, word), 0)
        assert all(len(tokenizer.decode([index])) <= 1 for index in ids)
        assert tokenizer.decode(ids) == tokenizer.normalize(word)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("number", range(4))
def test_every_segmentation_is_the_same_text(kind: Kind, number: int) -> None:
    tokenizer = trained(kind)
    dropout = BpeDropout(tokenizer.merges, 0.3)
    results = []
    for word in WORDS:
        ids = dropout.segment(ids_of(tokenizer, word), number)
        assert tokenizer.decode(ids) == tokenizer.normalize(word)
        results.append(ids)
    assert results != [ids_of(tokenizer, word) for word in WORDS]
    again = BpeDropout(tokenizer.merges, 0.3)  # the same in another process, in whatever order
    assert results[::-1] == [again.segment(ids_of(tokenizer, word), number) for word in WORDS[::-1]]


def test_the_numbers_give_different_segmentations() -> None:
    # a b c d, with the merges ab, cd, abcd: every merge is made with the probability 0.5 each time it could be
    dropout = BpeDropout([(0, 1, 4), (2, 3, 5), (4, 5, 6)], 0.5)
    found = [dropout.segment((6,), number) for number in range(400)]
    assert set(found) == {(6,), (4, 5), (4, 2, 3), (0, 1, 5), (0, 1, 2, 3)}
