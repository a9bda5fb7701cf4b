import base64
import io
import json
from typing import Any

import pytest
import sentencepiece

from tokenizer import SPECIAL_TOKENS, Tokenizer, TokenizerDataError, TokenizerFileError
from tokenizer.imported import ImportedVocabulary

LINES = [
    "the cat sat on the mat",
    "a dog, 12 days",
    "Ünder the <eos> mat ▁ <2de>",
    "日本 the mat",
    "  two  spaces ",
    "",
]


def vocabulary(**values: Any) -> ImportedVocabulary:  # noqa: ANN401 - any part of it
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(LINES[:2] * 20), model_writer=model, vocab_size=40, hard_vocab_limit=False, minloglevel=2
    )
    processor = sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())
    pieces = [processor.id_to_piece(index) for index in range(3, processor.get_piece_size())]
    cutter = {"type": "sentencepiece", "model": base64.b64encode(model.getvalue()).decode("ascii")}
    return ImportedVocabulary(
        **{"cutter": cutter, "pieces": [*SPECIAL_TOKENS, *pieces, "<2de>"], "start": "<pad>", **values}
    )


def test_lines_come_back_but_for_what_is_unknown() -> None:
    tokenizer = Tokenizer.from_json(vocabulary().to_json())
    assert tokenizer.config.kind == "imported"
    assert tokenizer.bos_id == tokenizer.pad_id == 0
    for line in LINES:
        ids = tokenizer.encode(line)
        assert tokenizer.decode([0, *ids, 2]) == tokenizer.decode(ids)
        assert not {0, 1, 2, 4, tokenizer.tags["de"]} & set(ids), "no text reaches a special token or a tag"
        if tokenizer.unk_id not in ids:
            assert tokenizer.decode(ids) == tokenizer.normalize(line)
    assert tokenizer.decode(tokenizer.encode("日本 the mat")) == "⁇ the mat"
    assert tokenizer.encode("") == []
    with pytest.raises(TokenizerDataError, match="surrogate"):
        tokenizer.encode("\ud800")


def test_every_line_begins_with_what_the_file_says() -> None:
    tokenizer = Tokenizer.from_json(vocabulary(first=["<2de>"]).to_json())
    assert tokenizer.encode("the mat")[0] == tokenizer.tags["de"]
    assert tokenizer.tagged(None).first_ids == [tokenizer.tags["de"]]
    assert tokenizer.decode(tokenizer.encode("the mat")) == "the mat"


def test_tags_can_be_added_and_tokens_be_read_again() -> None:
    tokenizer = Tokenizer.from_json(vocabulary().to_json()).with_tags(["de", "fr"])
    assert list(tokenizer.tags) == ["de", "fr"]
    ids = list(range(tokenizer.vocabulary_size))
    assert tokenizer.token_ids(tokenizer.tokens(ids)) == ids
    assert len(tokenizer.pieces) == len(tokenizer.word_edges.left) == len(ids)


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"pieces": [*SPECIAL_TOKENS]}, "its pieces are no list of some length"),
        ({"pieces": [*SPECIAL_TOKENS, "a", "a"]}, "there twice"),
        ({"pieces": ["<bos>", "<pad>", "<eos>", "<unk>", "<mask>", "a"]}, "do not begin with <pad>"),
        ({"pieces": [*SPECIAL_TOKENS, "\ud800"]}, "holds half a character"),
        ({"names": {"<bos>": "\ud800"}}, "holds half a character"),
        ({"start": "a"}, "it starts with no special token"),
        ({"first": ["the"]}, "neither a special token nor a tag"),
        ({"names": ["a"]}, "its names are no table"),
        ({"cutter": {"type": "regex"}}, "how it cuts text is not known"),
        ({"cutter": {"type": "sentencepiece", "model": "????"}}, "no base64"),
        ({"cutter": {"type": "sentencepiece", "model": "aaaa"}}, "the SentencePiece model is"),
        (
            {"cutter": {"type": "byte-level-bpe", "vocab": {"a": 0}, "merges": [["a", "b"]]}},
            "do not fit the vocabulary",
        ),
        ({"cutter": {"type": "byte-level-bpe", "vocab": {"a": -1}, "merges": []}}, "is no number"),
        ({"more": 1}, "unexpected keyword"),
        ({"version": 2}, "of another version"),
    ],
    ids=str,
)
def test_a_damaged_file_is_refused_in_a_line(values: dict[str, object], reason: str) -> None:
    document = {**json.loads(vocabulary().to_json()), **values}
    with pytest.raises(TokenizerFileError, match=reason) as caught:
        Tokenizer.from_json(json.dumps(document), "tokenizer.json")
    assert "\n" not in str(caught.value)
