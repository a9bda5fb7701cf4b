"""The rows of a new vocabulary, against what can be said of each entry by itself."""

import pytest
import torch

from tests.tokenizer.test_imported import vocabulary
from tokenizer import Kind, Tokenizer, TokenizerConfig, train_tokenizer
from tokenizer.special_tokens import BYTE_TOKENS, SPECIAL_TOKENS
from transformer_core.experiments.vocabulary_extension import extend_vocabulary

OLD_LINES = ["the cat sat on the mat", "ein Kätzchen saß auf der Matte"] * 20
NEW_LINES = ["the mat and the hat", "eine Matte, ein Hütchen", "мат"] * 20
KINDS: tuple[Kind, ...] = ("bpe", "byte-bpe", "unigram", "wordpiece", "char", "word")
SIZES = {"char": 60, "word": 60}


def learn(kind: Kind, lines: list[str]) -> Tokenizer:
    return train_tokenizer(lines, TokenizerConfig(kind=kind, vocabulary_size=SIZES.get(kind, 320)))


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_vocabulary_is_known_whole(kind: Kind) -> None:
    tokenizer = learn(kind, OLD_LINES)
    extension = extend_vocabulary(tokenizer, tokenizer)
    assert extension.origins == tuple((index,) for index in range(tokenizer.vocabulary_size))
    assert extension.num_known == tokenizer.vocabulary_size
    old = torch.randn(tokenizer.vocabulary_size, 4)
    assert torch.equal(extension.rows(torch.zeros_like(old), old), old)


@pytest.mark.parametrize("old_kind", KINDS)
@pytest.mark.parametrize("new_kind", KINDS)
def test_every_entry_is_known_or_spelled_or_fresh(old_kind: Kind, new_kind: Kind) -> None:
    old, new = learn(old_kind, OLD_LINES), learn(new_kind, NEW_LINES)
    extension = extend_vocabulary(old, new)
    assert extension.origins[: len(SPECIAL_TOKENS)] == tuple((index,) for index in range(len(SPECIAL_TOKENS)))
    num_known = 0
    for index, old_ids in enumerate(extension.origins):
        piece = new.pieces[index]
        if len(old_ids) == 1 and old.pieces[old_ids[0]] == piece:
            num_known += 1
            continue
        assert piece not in set(old.pieces) or "\ufffd" in piece, piece
        if old_ids:  # it is spelled: decoding gives the text back
            assert old.unk_id not in old_ids
            assert old.decode(old_ids).strip() == piece.strip()
        else:
            text = piece.strip()
            assert "\ufffd" in piece or piece in BYTE_TOKENS or not text or old.unk_id in old.encode(text), piece
    assert num_known == extension.num_known


def test_a_new_word_begins_as_the_mean_of_its_pieces() -> None:
    old, new = learn("char", OLD_LINES), learn("word", ["cat tax"])
    extension = extend_vocabulary(old, new)
    old_rows = torch.randn(old.vocabulary_size, 6)
    fresh = torch.randn(new.vocabulary_size, 6)
    rows = extension.rows(fresh, old_rows)
    characters = [old_rows[old.pieces.index(character)] for character in "cat"]
    torch.testing.assert_close(rows[new.pieces.index(" cat")], sum(characters) / 3)
    place = new.pieces.index(" tax")  # there is no x
    assert torch.equal(rows[place], fresh[place])
    assert str(extension) == (
        "5 of 7 entries are known and keep their vectors, 1 begin as the mean of the pieces that spelled them, "
        "1 are fresh"
    )


def test_a_word_in_the_middle_is_spelled_without_a_space() -> None:
    old = learn("bpe", OLD_LINES)
    new = learn("bpe", ["undthe thethe"] * 30)
    extension = extend_vocabulary(old, new)
    for index, old_ids in enumerate(extension.origins):
        piece = new.pieces[index]
        if len(old_ids) > 1:
            assert "".join(old.pieces[old_id] for old_id in old_ids) == piece


def test_a_tag_is_no_text() -> None:
    old = learn("bpe", OLD_LINES)
    new = old.with_tags(["de"])
    extension = extend_vocabulary(old, new)
    assert extension.origins == (*((index,) for index in range(old.vocabulary_size)), ())


def test_the_decoder_begins_with_the_vectors_that_it_began_with() -> None:
    own = learn("bpe", OLD_LINES)
    padding, end = (Tokenizer.from_json(vocabulary(start=start).to_json()) for start in ("<pad>", "<eos>"))
    assert extend_vocabulary(padding, own).origins[:5] == ((0,), (0,), (2,), (3,), (4,))
    assert extend_vocabulary(end, own).origins[:5] == ((0,), (2,), (2,), (3,), (4,))
    assert extend_vocabulary(own, padding).origins[:5] == ((1,), (1,), (2,), (3,), (4,))
    assert extend_vocabulary(own, end).origins[:5] == ((0,), (1,), (2,), (3,), (4,))  # an end stays an end
