"""Text never reaches a special token, whatever it spells, for any kind, any training text, and after loading."""

import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.tokenizer.examples import LINES, ODD_LINES, lines_of_text, trained
from tokenizer import KINDS, SPECIAL_TOKENS, Kind, Tokenizer, TokenizerConfig, train_tokenizer

SPECIAL_IDS = set(range(len(SPECIAL_TOKENS)))


def allowed(tokenizer: Tokenizer) -> set[int]:
    """unk, where the kind has words for it; no special token at all where there are bytes."""
    return set() if tokenizer.config.kind in ("bpe", "byte-bpe") else {tokenizer.unk_id}


@pytest.mark.parametrize("kind", KINDS)
def test_the_special_tokens_come_first(kind: Kind) -> None:
    tokenizer = trained(kind)
    assert [tokenizer.pad_id, tokenizer.bos_id, tokenizer.eos_id, tokenizer.unk_id, tokenizer.mask_id] == [
        0,
        1,
        2,
        3,
        4,
    ]
    assert tokenizer.tokens(range(5)) == ["<pad>", "<bos>", "<eos>", "<unk>", "<mask>"]
    library = tokenizers.Tokenizer.from_str(tokenizer.to_json())
    assert [library.token_to_id(token) for token in SPECIAL_TOKENS] == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("kind", KINDS)
def test_traps_reach_no_special_token_in_ours_or_in_the_library(kind: Kind) -> None:
    tokenizer = Tokenizer.from_json(trained(kind).to_json())
    library = tokenizers.Tokenizer.from_str(tokenizer.to_json())
    for line in (*LINES, *ODD_LINES):
        assert SPECIAL_IDS.intersection(tokenizer.encode(line)) <= allowed(tokenizer), line
        assert SPECIAL_IDS.intersection(library.encode(line).ids) <= allowed(tokenizer), line


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("token", [*SPECIAL_TOKENS, "<0x41>"])
def test_a_text_of_nothing_but_one_spelling_is_learned_as_text(kind: Kind, token: str) -> None:
    lines = [token, f"{token} {token}", f"x{token}{token}y", token * 3] * 200
    tokenizer = train_tokenizer(lines, TokenizerConfig(kind=kind, vocabulary_size=400))
    for line in lines[:4]:
        ids = tokenizer.encode(line)
        assert not SPECIAL_IDS.intersection(ids)  # not even unk: the text is known
        assert tokenizer.decode(ids) == line


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("lowercase", [False, True])
def test_normalisation_leads_to_no_special_token(kind: Kind, lowercase: bool) -> None:
    tokenizer = trained(kind, normalization="nfkc", lowercase=lowercase)
    for line in ("\uff1ceos\uff1e", "<EOS>", "<\uff30\uff21\uff24>", "\ufe64mask\ufe65"):  # wide and small forms
        assert SPECIAL_IDS.intersection(tokenizer.encode(line)) <= allowed(tokenizer)


@pytest.mark.parametrize("kind", KINDS)
@given(line=lines_of_text)
@settings(max_examples=100, deadline=None)
def test_no_line_reaches_one(kind: Kind, line: str) -> None:
    tokenizer = trained(kind)
    assert SPECIAL_IDS.intersection(tokenizer.encode(line)) <= allowed(tokenizer)


@pytest.mark.parametrize("kind", KINDS)
@given(lines=st.lists(lines_of_text, min_size=1, max_size=5), line=lines_of_text)
@settings(max_examples=10, deadline=None)
def test_no_training_text_opens_a_way(kind: Kind, lines: list[str], line: str) -> None:
    text = [*lines, *(f"{first}{second}" for first in lines for second in lines), "a"] * 3
    tokenizer = train_tokenizer(text, TokenizerConfig(kind=kind, vocabulary_size=1000))
    for known in (*text, line):
        assert SPECIAL_IDS.intersection(tokenizer.encode(known)) <= allowed(tokenizer)


def test_the_name_of_a_byte_is_text_too() -> None:
    tokenizer = trained("bpe")
    assert tokenizer.decode(tokenizer.encode("<0x41>")) == "<0x41>"
    assert tokenizer.decode(tokenizer.encode("<0xE2><0x96><0x81>")) == "<0xE2><0x96><0x81>"
    assert tokenizer.decode(tokenizer.token_ids(["<0x41>"])) == "A"  # the token of that name is the byte
