import pytest

from tokenizer import TokenizerConfig, train_tokenizer
from tokenizer.config import Kind
from transformer_core.inspection.labels import token_labels, visible


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("größer 北京 שלום", "größer 北京 שלום"),
        ("a\tb\nc\x1b[31m\x7f", "a␉b␊c␛[31m␡"),
        ("\u200b\u202e\u2028\ufeff\xa0", "<200B><202E><2028><FEFF><00A0>"),
        ("\udcff", "<DCFF>"),
        ("\u0301e", "◌\u0301e"),
        ("e\u0301", "e\u0301"),
        ("", ""),
    ],
)
def test_everything_can_be_seen(text: str, shown: str) -> None:
    assert visible(text) == shown


LINES = ["Grüße an 北京", "zwei  Leerzeichen\tund ein Tab", "wor▁ld"]


@pytest.mark.parametrize("kind", ["bpe", "byte-bpe", "unigram", "wordpiece", "char", "word"])
def test_every_token_has_a_label_that_can_be_seen(kind: Kind) -> None:
    tokenizer = train_tokenizer(LINES * 3, TokenizerConfig(kind=kind, vocabulary_size=320))
    for line in [*LINES, "unseen ⵣ"]:
        ids = [*tokenizer.encode(line), tokenizer.eos_id]
        labels = token_labels(tokenizer, ids)
        assert len(labels) == len(ids)
        assert all(label.isprintable() and label and " " not in label for label in labels)
        assert labels[-1] == "<eos>"


def test_bytes_that_are_characters_are_shown_as_such() -> None:
    tokenizer = train_tokenizer(["grün"] * 9, TokenizerConfig(kind="byte-bpe", vocabulary_size=280))
    assert token_labels(tokenizer, tokenizer.encode("grün x")) == ("▁grün", "▁", "x")
    euro = token_labels(tokenizer, tokenizer.encode("€"))  # three bytes, none of them a character
    assert euro[-3:] == tuple(tokenizer.tokens(tokenizer.encode("€"))[-3:])
