"""tokenizer.json: the library's own format, and what makes such a file ours.

The library refuses keys that it does not know, so the file has no room for our configuration, and needs none: the kind
shows in the model, the normalisation in the normaliser. Reading takes from the file these and the vocabulary, builds
the tokenizer anew from them, and compares: a file whose components differ from ours in anything was not written by us,
or was changed, and its promises (text reaches no special token, lines come back exactly) are not ours to keep. Nothing
else in a file ever reaches the library, so no pattern or table of a hostile one is run.
"""

import json
import math
from collections.abc import Sequence
from typing import Any

import tokenizers

from tokenizer.config import MAX_VOCABULARY_SIZE, Kind, Normalization, TokenizerConfig
from tokenizer.errors import TokenizerConfigError, TokenizerFileError
from tokenizer.imported import ImportedLibrary, parse_imported
from tokenizer.pipeline import build_decoder, build_normalizer, build_pre_tokenizer, byte_pieces
from tokenizer.special_tokens import SPECIAL_TOKENS
from tokenizer.tags import tag_names
from tokenizer.vocabulary import Vocabulary, build_model

__all__ = ["MAX_FILE_BYTES", "add_tags", "parse_tokenizer", "write_tokenizer"]

MAX_FILE_BYTES = 1 << 26  # 64 MiB; a vocabulary of 256 thousand pieces takes 30

# Three bytes of JSON can be a list, which takes sixty of memory. 1.3 million pieces with their merges have so many.
MAX_VALUES = 1 << 22


def write_tokenizer(config: TokenizerConfig, vocabulary: Vocabulary) -> str:
    """The text of the tokenizer.json of a vocabulary."""
    return _build(config, vocabulary).to_str(pretty=True) + "\n"


def add_tags(text: str, config: TokenizerConfig, names: Sequence[str]) -> str:
    """The text of a tokenizer.json of ours with tags at the end of its vocabulary; all else keeps its id.

    Raises:
        TokenizerConfigError: a name cannot be a tag.
    """
    if config.kind == "imported":
        _, library = parse_imported(json.loads(text), "the tokenizer")
        return library.vocabulary.with_tags(names).to_json()
    vocabulary = _vocabulary_of(json.loads(text)["model"], config.kind)
    return write_tokenizer(config, vocabulary.with_tags(names))


def parse_tokenizer(text: str, name: str) -> tuple[TokenizerConfig, tokenizers.Tokenizer | ImportedLibrary]:
    """Read the text of a tokenizer.json; `name` is the file that messages speak of.

    Raises:
        TokenizerFileError: the text is not JSON, not a tokenizer, or not one of ours.
    """
    if text.count(",") > MAX_VALUES:
        raise TokenizerFileError(_foreign(name, f"it holds more than {MAX_VALUES:,} values"))
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        reason = "nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise TokenizerFileError(f"{name}: is not JSON ({reason}); the file is damaged or not a tokenizer") from None
    if isinstance(document, dict) and document.get("type") == "imported":
        return parse_imported(document, name)
    try:
        model = _require_dict(document, "model")
        kind = _kind_of(document)
        vocabulary = _vocabulary_of(model, kind)
        config = TokenizerConfig(
            kind=kind, vocabulary_size=len(vocabulary.pieces), **_text_settings_of(document.get("normalizer"))
        )
        library = _build(config, vocabulary)
    except _ForeignFileError as error:
        raise TokenizerFileError(_foreign(name, str(error))) from None
    except TokenizerConfigError:
        raise TokenizerFileError(_foreign(name, "its vocabulary is too small")) from None
    except Exception as error:  # the library raises no narrower class for a vocabulary that contradicts itself
        raise TokenizerFileError(_foreign(name, f"its vocabulary is damaged: {error}")) from None
    expected = json.loads(library.to_str())
    for part in sorted({*document, *expected}):
        found, wanted = ({key: value for key, value in whole.items() if key == part} for whole in (document, expected))
        if not _agrees(found, wanted):
            raise TokenizerFileError(_foreign(name, f"its {part[:40]} is not one of ours"))
    return config, library


class _ForeignFileError(Exception):
    """The file is something else than a tokenizer of ours; says why."""


def _foreign(name: str, reason: str) -> str:
    reason = " ".join(reason.split())
    return f"{name}: is not a tokenizer made by `transduce tokenizer train` ({reason}); train one, or name another file"


def _build(config: TokenizerConfig, vocabulary: Vocabulary) -> tokenizers.Tokenizer:
    library = tokenizers.Tokenizer(build_model(config.kind, vocabulary))
    library.normalizer = build_normalizer(config)
    pre_tokenizer = build_pre_tokenizer(config.kind)
    if pre_tokenizer is not None:
        library.pre_tokenizer = pre_tokenizer
    library.decoder = build_decoder(config.kind, has_tags=bool(tag_names(vocabulary.pieces)))
    return library


def _require_dict(document: object, key: str) -> dict[str, Any]:
    value = document.get(key) if isinstance(document, dict) else None
    if not isinstance(value, dict):
        raise _ForeignFileError(f"it has no {key}")
    return value


def _kind_of(document: dict[str, Any]) -> Kind:
    """Tell the kind by the parts that no two kinds share."""
    model = document["model"]
    match model.get("type"):
        case "Unigram":
            return "unigram"
        case "WordPiece":
            return "wordpiece"
        case "WordLevel":
            return "word"
        case "BPE" if model.get("byte_fallback") is True:
            return "bpe"
        case "BPE":
            return "char" if document.get("pre_tokenizer") is None else "byte-bpe"
        case other:
            raise _ForeignFileError(f"its model is of type {str(other)[:40]!r}")


def _text_settings_of(normalizer: object) -> dict[str, Any]:
    """Tell normalization and lowercase by the steps of the normalizer."""
    steps = normalizer.get("normalizers") if isinstance(normalizer, dict) else None
    types = [step.get("type") for step in steps if isinstance(step, dict)] if isinstance(steps, list) else []
    forms: dict[str, Normalization] = {"NFC": "nfc", "NFD": "nfd", "NFKC": "nfkc"}
    normalization = next((form for name, form in forms.items() if name in types), "none")
    return {"normalization": normalization, "lowercase": "Lowercase" in types}


def _vocabulary_of(model: dict[str, Any], kind: Kind) -> Vocabulary:
    """Take the vocabulary out of parsed JSON, which may hold anything."""
    scores: list[float] = []
    if kind == "unigram":
        pieces, scores = _scored_pieces(model.get("vocab"))
    else:
        pieces = _numbered_pieces(model.get("vocab"))
    if tuple(pieces[: len(SPECIAL_TOKENS)]) != SPECIAL_TOKENS:
        first = ", ".join(piece[:20] for piece in pieces[: len(SPECIAL_TOKENS)])
        raise _ForeignFileError(f"its vocabulary begins with {first}, not with {', '.join(SPECIAL_TOKENS)}")
    set_of_pieces = set(pieces)
    if "" in set_of_pieces or len(set_of_pieces) != len(pieces):
        raise _ForeignFileError("a piece of its vocabulary is empty or there twice")
    if missing := [byte for byte in byte_pieces(kind) if byte not in set_of_pieces]:
        raise _ForeignFileError(f"its vocabulary lacks the byte {missing[0]}")
    return Vocabulary(pieces=pieces, merges=_merges_of(model.get("merges", [])), scores=scores)


def _numbered_pieces(vocab: object) -> list[str]:
    """The pieces in the order of their ids, which must be 0, 1, 2 and so on."""
    if not isinstance(vocab, dict) or len(vocab) > MAX_VOCABULARY_SIZE:
        raise _ForeignFileError("its vocabulary is no table of pieces and ids")
    pieces: dict[int, str] = {index: piece for piece, index in vocab.items() if type(index) is int}
    if len(pieces) != len(vocab) or any(index not in pieces for index in range(len(vocab))):
        raise _ForeignFileError("the ids of its vocabulary are not 0, 1, 2 and so on")
    return [pieces[index] for index in range(len(vocab))]


def _scored_pieces(vocab: object) -> tuple[list[str], list[float]]:
    if not isinstance(vocab, list) or len(vocab) > MAX_VOCABULARY_SIZE:
        raise _ForeignFileError("its vocabulary is no list of pieces and scores")
    pieces: list[str] = []
    scores: list[float] = []
    for entry in vocab:
        match entry:
            case [str(piece), float(score)] if math.isfinite(score):
                pieces.append(piece)
                scores.append(score)
            case _:
                raise _ForeignFileError("an entry of its vocabulary is no piece and score")
    return pieces, scores


def _merges_of(merges: object) -> list[tuple[str, str]]:
    if not isinstance(merges, list):
        raise _ForeignFileError("its merges are no list")
    pairs: list[tuple[str, str]] = []
    for merge in merges:
        match merge:
            case [str(left), str(right)]:
                pairs.append((left, right))
            case _:
                raise _ForeignFileError("one of its merges is no pair of pieces")
    return pairs


def _agrees(found: object, expected: object) -> bool:
    """Tell whether a part of the file says what ours says.

    Other versions of the library may write an option more, or leave one out, that is off (null or false).
    """
    if found == expected:
        return True
    if isinstance(found, dict) and isinstance(expected, dict):
        return all(_agrees(found[key], expected[key]) for key in found.keys() & expected.keys()) and all(
            value is None or value is False
            for key, value in (*found.items(), *expected.items())
            if (key in found) != (key in expected)
        )
    if isinstance(found, list) and isinstance(expected, list):
        return len(found) == len(expected) and all(map(_agrees, found, expected))
    return False
