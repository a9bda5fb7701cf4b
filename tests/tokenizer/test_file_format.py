import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import tokenizers
from tokenizers import models, normalizers, pre_tokenizers, processors, trainers

from tests.tokenizer.examples import LINES, trained
from tokenizer import KINDS, SPECIAL_TOKENS, Kind, Tokenizer, TokenizerFileError
from tokenizer.file_format import MAX_FILE_BYTES


def refusal(text: str) -> str:
    """The line with which a text is refused."""
    with pytest.raises(TokenizerFileError) as caught:
        Tokenizer.from_json(text, "some.json")
    message = str(caught.value)
    assert message.startswith("some.json: ")
    assert "\n" not in message
    assert len(message) < 400
    return message


# --- What is no tokenizer


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "is not JSON"),
        ("garbage", "is not JSON"),
        ('{"model": ', "is not JSON"),
        ("[" * 100_000, "nested too deeply"),
        ('{"model":' * 100_000, "nested too deeply"),
        ("9" * 10_000, "is not JSON"),
        ("[" + "[]," * (1 << 23) + "[]]", "it holds more than 4,194,304 values"),
        ("null", "it has no model"),
        ("[1, 2]", "it has no model"),
        ("{}", "it has no model"),
        ('{"model": []}', "it has no model"),
        ('{"model": {"type": "CNN"}}', "its model is of type 'CNN'"),
        ('{"model": {"type": ["BPE"]}}', "its model is of type"),
        ('{"model": {"type": "WordLevel", "vocab": {"a": 0}}}', "its vocabulary begins with a, not with <pad>, <bos>"),
        ('{"model": {"type": "WordLevel", "vocab": {"a": 1}}}', "ids of its vocabulary are not 0, 1, 2"),
        ('{"model": {"type": "WordLevel", "vocab": {"a": 1e400, "b": true}}}', "ids of its vocabulary are not 0, 1, 2"),
        ('{"model": {"type": "Unigram", "vocab": [["a", NaN]]}}', "an entry of its vocabulary is no piece and score"),
    ],
    ids=lambda value: value[:40],
)
def test_what_is_no_tokenizer_is_refused_in_a_line(text: str, reason: str) -> None:
    assert reason in refusal(text)


@pytest.mark.parametrize("kind", KINDS)
def test_a_truncated_file_is_refused(kind: Kind) -> None:
    text = trained(kind).to_json()
    for length in [*range(0, len(text) - 2, len(text) // 20), len(text) - 3]:
        refusal(text[:length])


# --- Files of others


def library_tokenizer(name: str) -> tokenizers.Tokenizer:
    """A tokenizer as somebody else would make it with the library."""
    match name:
        case "bert":
            made = tokenizers.Tokenizer(models.WordPiece(unk_token="[UNK]"))
            made.normalizer = normalizers.BertNormalizer()
            made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
            made.train_from_iterator(LINES, trainers.WordPieceTrainer(special_tokens=["[PAD]", "[UNK]"]))
        case "llama":
            made = tokenizers.Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>"))
            made.pre_tokenizer = pre_tokenizers.Metaspace()
            made.train_from_iterator(LINES, trainers.BpeTrainer(special_tokens=list(SPECIAL_TOKENS)))
        case "gpt2":
            made = tokenizers.Tokenizer(models.BPE())
            made.pre_tokenizer = pre_tokenizers.ByteLevel()
            made.train_from_iterator(LINES, trainers.BpeTrainer(special_tokens=list(SPECIAL_TOKENS)))
        case _:
            made = tokenizers.Tokenizer(models.Unigram())
            made.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 5)])
            special_tokens = [*SPECIAL_TOKENS, "</s>"]
            made.train_from_iterator(LINES, trainers.UnigramTrainer(special_tokens=special_tokens, unk_token="<unk>"))
    return made


@pytest.mark.parametrize("name", ["bert", "llama", "gpt2", "t5"])
def test_a_file_of_another_program_is_refused(name: str) -> None:
    assert "is not a tokenizer made by `transduce tokenizer train`" in refusal(library_tokenizer(name).to_str())


# --- Files that were changed

STRANGE_VALUES: list[Any] = [
    None,
    True,
    -1,
    1 << 70,
    float("inf"),
    "",
    "<eos>",
    [],
    {},
    {"type": "NFC"},
    "\ud800",
    [["a", 1]],
]


def places(document: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:  # noqa: ANN401 - JSON
    """The way to every value of a document; of long tables and lists to a few."""
    if path:
        yield path
    if isinstance(document, dict | list):
        keys = list(document) if isinstance(document, dict) else list(range(len(document)))
        for key in keys if len(keys) < 20 else keys[:4] + keys[-2:]:
            yield from places(document[key], (*path, key))


@pytest.mark.parametrize("kind", KINDS)
def test_a_changed_file_is_refused_or_does_the_same(kind: Kind) -> None:
    tokenizer = trained(kind)
    original = json.loads(tokenizer.to_json())
    num_refused = 0
    for path in places(original):
        for value in random.Random(str(path)).sample(STRANGE_VALUES, 3):
            document = json.loads(tokenizer.to_json())
            parent = document
            for key in path[:-1]:
                parent = parent[key]
            parent[path[-1]] = value
            try:
                changed = Tokenizer.from_json(json.dumps(document), "some.json")
            except TokenizerFileError as error:
                assert "\n" not in str(error)
                num_refused += 1
            else:  # only what decides nothing: a score of a special token, say
                assert changed.encode_batch(LINES[::10]) == tokenizer.encode_batch(LINES[::10])
    assert num_refused > 50


def changed(kind: Kind, **parts: object) -> str:
    return json.dumps({**json.loads(trained(kind).to_json()), **parts})


def test_a_component_that_is_not_ours_is_named() -> None:
    special = {"id": 2, "content": "<eos>", "special": True}
    assert "its added_tokens is not one of ours" in refusal(changed("bpe", added_tokens=[special]))
    assert "its pre_tokenizer is not one of ours" in refusal(changed("bpe", pre_tokenizer={"type": "Whitespace"}))
    assert "its decoder is not one of ours" in refusal(changed("word", decoder=None))
    assert "its normalizer is not one of ours" in refusal(changed("unigram", normalizer=None))
    assert "its truncation is not one of ours" in refusal(changed("char", truncation={"max_length": 3}))
    assert "its something is not one of ours" in refusal(changed("char", something=1))


def test_an_option_that_is_off_may_be_missing_or_new() -> None:
    document = json.loads(trained("bpe").to_json())
    del document["padding"], document["model"]["ignore_merges"]
    document["model"]["new_option"] = False
    assert Tokenizer.from_json(json.dumps(document)).encode_batch(LINES) == trained("bpe").encode_batch(LINES)
    document["model"]["new_option"] = True
    assert "its model is not one of ours" in refusal(json.dumps(document))


def test_a_pattern_of_the_file_is_never_run() -> None:
    # tries 2 ** 60 ways before it fails
    pre_tokenizer = {"type": "Split", "pattern": {"Regex": "(a*)*(a*)*b"}, "behavior": "Isolated", "invert": False}
    assert "its pre_tokenizer is not one of ours" in refusal(changed("bpe", pre_tokenizer=pre_tokenizer))


def test_a_vocabulary_without_a_byte_is_refused() -> None:
    document = json.loads(trained("bpe").to_json())
    document["model"]["vocab"] = {
        ("zz" if key == "<0x41>" else key): i for key, i in document["model"]["vocab"].items()
    }
    assert "its vocabulary lacks the byte <0x41>" in refusal(json.dumps(document))


# --- Files that cannot be read


def test_files_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    (tmp_path / "binary.json").write_bytes(b"\x80\x02}q\x00.")
    (tmp_path / "empty.json").write_bytes(b"")
    for path, reason in [
        (tmp_path / "missing.json", "no such file; `transduce tokenizer train` makes tokenizers"),
        (tmp_path, f"is a folder; name the file in it ({tmp_path / 'tokenizer.json'})"),
        (tmp_path / "binary.json", "is not UTF-8 text"),
        (tmp_path / "empty.json", "is not JSON"),
        (Path("nul\0.json"), "cannot be read"),
    ]:
        with pytest.raises(TokenizerFileError) as caught:
            Tokenizer.load(path)
        assert str(caught.value).startswith(f"{path}: {reason}")


def test_a_huge_file_is_not_read_into_memory(tmp_path: Path) -> None:
    path = tmp_path / "huge.json"
    with path.open("wb") as file:
        file.truncate(MAX_FILE_BYTES + 1)  # a hole: takes no disk
    with pytest.raises(TokenizerFileError, match="is larger than 64 MiB, which no tokenizer is"):
        Tokenizer.load(path)
