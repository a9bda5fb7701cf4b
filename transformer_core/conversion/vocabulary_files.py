"""The files that say which entries a foreign vocabulary has and how text is cut: vocab.json, *.spm, tokenizer.json.

They come from others, and may be damaged.
"""

import base64
import json
from pathlib import Path
from typing import Any

from tokenizer.bounded_file import read_bounded
from tokenizer.config import MAX_VOCABULARY_SIZE
from tokenizer.cutters import SentencePieceCutter
from transformer_core.errors import ModelError
from transformer_core.model_files import read_json

__all__ = ["M2M100_LANGUAGES", "read_entries", "read_sentencepiece"]

MAX_JSON_BYTES = 1 << 28
MAX_MODEL_BYTES = 1 << 27
# The 100 languages of M2M100 in their order (Fan et al. 2020); models of its kind for WMT21 have others.
M2M100_LANGUAGES = (
    "af am ar ast az ba be bg bn br bs ca ceb cs cy da de el en es et fa ff fi fr fy ga gd gl gu ha he hi hr ht hu hy "
    "id ig ilo is it ja jv ka kk km kn ko lb lg ln lo lt lv mg mk ml mn mr ms my ne nl no ns oc or pa pl ps pt ro ru "
    "sd si sk sl so sq sr ss su sv sw ta th tl tn tr uk ur uz vi wo xh yi yo zh zu"
)


def read_entries(folder: Path, model_type: str) -> tuple[dict[str, int], list[dict[str, Any]]]:
    """Read the ids of all entries, and how the source and the target are cut."""
    if (folder / "target_vocab.json").exists():
        raise ModelError(f"{folder}: has a vocabulary of its own for the target, which cannot be imported yet")
    if (folder / "source.spm").exists():
        cutters = [read_sentencepiece(folder / f"{side}.spm") for side in ("source", "target")]
        return _read_names(folder / "vocab.json"), cutters
    model = folder / "sentencepiece.bpe.model"
    if model.exists() and (folder / "vocab.json").exists():
        names = _read_names(folder / "vocab.json")
        if (codes := read_json(folder / "tokenizer_config.json").get("language_codes", "m2m100")) != "m2m100":
            raise ModelError(f"{folder}: has the languages {str(codes)[:40]!r}; only those of M2M100 are known here")
        return names | _m2m100_languages(len(names)), [read_sentencepiece(model)]
    if model.exists():
        return _names_of_library(folder), [read_sentencepiece(model)]
    if model_type == "bart":
        return _byte_level(folder)
    raise ModelError(
        f"{folder}: has none of the vocabularies that can be imported (source.spm and target.spm with vocab.json, "
        "sentencepiece.bpe.model, or for BART vocab.json and merges.txt)"
    )


def read_sentencepiece(path: Path) -> dict[str, Any]:
    """Read and check a SentencePiece model."""
    try:
        model = read_bounded(path, MAX_MODEL_BYTES)
        SentencePieceCutter(model)
    except OSError as error:
        raise ModelError(f"{path}: cannot be read ({error.strerror})") from None
    except ValueError as error:
        raise ModelError(f"{path}: {error}") from None
    return {"type": "sentencepiece", "model": base64.b64encode(model).decode("ascii")}


def _read_names(path: Path) -> dict[str, int]:
    """Read a table of entries and ids."""
    return _checked_names(_read_object(path), path)


def _checked_names(content: dict[str, Any], path: Path) -> dict[str, int]:
    """See that every entry has an id of its own.

    Raises:
        ModelError: one has not.
    """
    if not content or any(type(index) is not int or not 0 <= index < MAX_VOCABULARY_SIZE for index in content.values()):
        raise ModelError(f"{path}: is no table of entries and ids")
    if len(set(content.values())) != len(content):
        raise ModelError(f"{path}: gives an id to two entries")
    return content


def _read_object(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(read_bounded(path, MAX_JSON_BYTES))
    except OSError as error:
        raise ModelError(f"{path}: cannot be read ({error.strerror})") from None
    except (ValueError, RecursionError) as error:
        raise ModelError(f"{path}: is not JSON ({error})") from None
    if not isinstance(content, dict):
        raise ModelError(f"{path}: must hold a JSON object")
    return content


def _m2m100_languages(first: int) -> dict[str, int]:
    """The languages of M2M100, which stand in no file of theirs: they follow the vocabulary."""
    return {f"__{language}__": first + place for place, language in enumerate(M2M100_LANGUAGES.split())}


def _names_of_library(folder: Path) -> dict[str, int]:
    """Read the entries of a tokenizer.json of the library below `transformers` (NLLB, mBART)."""
    path = folder / "tokenizer.json"
    document = _read_object(path)
    try:
        vocabulary = document["model"]["vocab"]
        if isinstance(vocabulary, dict):
            names = dict(vocabulary)
        else:
            names = {str(piece): index for index, (piece, _) in enumerate(vocabulary)}
        names |= {str(token["content"]): token["id"] for token in document.get("added_tokens", [])}
    except (AttributeError, KeyError, RecursionError, TypeError, ValueError):
        raise ModelError(f"{path}: has no vocabulary that can be read") from None
    return _checked_names(names, path)


def _byte_level(folder: Path) -> tuple[dict[str, int], list[dict[str, Any]]]:
    """Read the byte-level BPE of BART, from vocab.json and merges.txt or from tokenizer.json."""
    path = folder / "merges.txt"
    if (folder / "vocab.json").exists() and path.exists():
        names = _read_names(folder / "vocab.json")
        try:
            lines = read_bounded(path, MAX_JSON_BYTES).decode("utf-8", "replace").split("\n")
        except OSError as error:
            raise ModelError(f"{path}: cannot be read ({error.strerror})") from None
        except ValueError as error:
            raise ModelError(f"{path}: {error}") from None
        merges: Any = [line for line in lines if line and not line.startswith("#version")]
    else:
        names = _names_of_library(folder)
        merges = _read_object(folder / "tokenizer.json")["model"].get("merges")
    if not isinstance(merges, list):
        raise ModelError(f"{folder}: has no merges for its byte-level BPE")
    pairs = [merge.split(" ") if isinstance(merge, str) else merge for merge in merges]
    return names, [{"type": "byte-level-bpe", "vocab": names, "merges": pairs}]
