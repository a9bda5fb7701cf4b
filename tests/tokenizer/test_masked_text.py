import random

import pytest
import tokenizers

from tests.tokenizer.test_word_edges import TEXT, trained, word_starts
from tokenizer import KINDS, Kind, TokenizerDataError
from tokenizer.masked_text import MASK_TEXT, MaskedLineEncoder, encode_masked_line

SUBWORDS: list[Kind] = ["bpe", "byte-bpe", "unigram", "wordpiece"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_line_without_a_mask_is_encoded_as_ever(kind: Kind) -> None:
    tokenizer = trained(kind)
    for text in [*TEXT, "", " "]:
        line = encode_masked_line(tokenizer, text)
        assert line.token_ids == tokenizer.encode(text)
        assert (line.num_masks, line.parts, line.filled([])) == (0, (text,), text)


@pytest.mark.parametrize("kind", SUBWORDS)
@pytest.mark.parametrize("seed", range(3))
def test_a_mask_stands_for_a_word_as_if_the_whole_line_had_been_encoded(kind: Kind, seed: int) -> None:
    """Hide words of one token, in the text and in the ids."""
    tokenizer = trained(kind)
    assert isinstance(tokenizer._library, tokenizers.Tokenizer)
    source = random.Random(seed)
    num_hidden = 0
    for text in ("The cat sat on the mat, the dog didn't.", "foo-bar_baz the 12 cat (the mat) on."):
        encoding = tokenizer._library.encode(text, add_special_tokens=False)
        ids, words = list(encoding.ids), encoding.word_ids
        cuts = []
        for place, (start, end) in enumerate(encoding.offsets):
            if words.count(words[place]) == 1 and source.random() < 0.5:
                ids[place] = tokenizer.mask_id
                cuts.append((start, end))
        line = text
        for start, end in reversed(cuts):
            space = " " if line[start] == " " else ""
            line = line[:start] + space + MASK_TEXT + line[end:]
        assert encode_masked_line(tokenizer, line).token_ids == ids
        num_hidden += len(cuts)
    assert num_hidden


@pytest.mark.parametrize("kind", SUBWORDS)
def test_it_says_whether_a_mask_begins_a_word(kind: Kind) -> None:
    line = encode_masked_line(trained(kind), "<mask> cat<mask> on <mask><mask>, <mask> (<mask>")
    assert line.begins_word == (True, False, True, False, True, False)
    filled = line.filled(["The", "s", "a", "b", "c", "d"])
    assert filled == "The cats on ab, c (d"


def test_words_and_characters_have_their_own_spaces() -> None:
    word = encode_masked_line(trained("word"), "the <mask> sat<mask>")
    assert trained("word").tokens(word.token_ids) == ["▁the", "<mask>", "▁sat", "<mask>"]
    assert word.begins_word == (True, True)
    char = encode_masked_line(trained("char"), "at <mask> m<mask>t")
    assert trained("char").tokens(char.token_ids) == ["a", "t", "▁", "<mask>", "▁", "m", "<mask>", "t"]
    assert char.begins_word == (None, None)


@pytest.mark.parametrize("kind", SUBWORDS)
def test_the_rest_of_a_line_is_the_line_without_its_first_space(kind: Kind) -> None:
    tokenizer = trained(kind)
    for text in TEXT:
        assert tokenizer.encode_rest(f" {text}") == tokenizer.encode(text)
    (first, *_) = tokenizer.encode_rest("cat")
    assert tokenizer.tokens([first])[0][0] not in "▁Ġ"
    assert tokenizer.encode_rest("") == []
    with pytest.raises(TokenizerDataError, match="half of a surrogate pair"):
        tokenizer.encode_rest("a \ud800")


def test_every_line_begins_with_its_tag_wherever_the_mask_is() -> None:
    tokenizer = trained("bpe").with_tags(["de"]).tagged("de")
    tag, plain = tokenizer.tags["de"], tokenizer.tagged(None)
    for line in ("the <mask> sat", "<mask> sat", " <mask>", "<mask>", "the cat"):
        assert encode_masked_line(tokenizer, line).token_ids == [tag, *encode_masked_line(plain, line).token_ids]
    assert encode_masked_line(tokenizer, "").token_ids == tokenizer.encode("") == []


def test_the_encoder_gives_the_ids() -> None:
    tokenizer = trained("bpe")
    encoder = MaskedLineEncoder(tokenizer)
    lines = ["the <mask> sat", "on the mat", ""]
    assert encoder.encode_batch(lines) == [encode_masked_line(tokenizer, line).token_ids for line in lines]
    assert encoder.encode(lines[0]).count(tokenizer.mask_id) == 1


def test_what_a_mask_begins_agrees_with_the_edges() -> None:
    tokenizer = trained("bpe")
    token_ids = encode_masked_line(tokenizer, "the cat <mask> on").token_ids
    place = token_ids.index(tokenizer.mask_id)
    assert word_starts(token_ids, tokenizer.word_edges)[place : place + 2] == [True, True]
