"""Tokenizer files that `AutoTokenizer` of `transformers` loads, and that cut text as ours do.

Our own kinds are files of the library below `transformers`; what is added is the end token after every line, and that
text which spells a special token is split like any other. Imported ones are written in the form that they came in.
"""

import json
import re
from pathlib import Path

import tokenizers
from tokenizers import processors

from tokenizer import SPECIAL_TOKENS, Tokenizer
from tokenizer.atomic_file import write_bytes, write_text
from tokenizer.imported import ImportedVocabulary
from transformer_core.conversion.vocabulary_files import M2M100_LANGUAGES
from transformer_core.errors import ModelError
from transformer_core.model_files import write_json

__all__ = ["PAD_BEFORE_BOS", "TARGET_FOLDER", "write_tokenizers"]

TARGET_FOLDER = "target_tokenizer"  # within the model's, where source and target have tokenizers of their own
PAD_BEFORE_BOS = {0: 1, 1: 0}  # ids in M2M100, which counts positions from the id of pad: <bos> is 0 and <pad> 1 there

LANGUAGE_TOKEN = re.compile(">>.+<<")  # what MarianTokenizer does not cut at the beginning of a line


def write_tokenizers(
    folder: Path, model_type: str, source: Tokenizer, target: Tokenizer, max_length: int
) -> str | None:
    """Write the tokenizers of a model.

    Args:
        folder: to write into.
        model_type: of the model, as `transformers` calls it.
        source: of the source lines, tagged as lines are to be read.
        target: of the target.
        max_length: the longest line in tokens, its end included.

    Returns:
        What whoever uses them has to put before every source line, because they do not; None: nothing.

    Raises:
        ModelError: an imported tokenizer is of another kind than this type of model has.
    """
    if source.imported is not None or target.imported is not None:
        return _write_imported(folder, model_type, source, target, max_length)
    _write_own(folder, model_type, source, max_length)
    if source.sha256 != target.sha256:
        (folder / TARGET_FOLDER).mkdir()
        _write_own(folder / TARGET_FOLDER, model_type, target, max_length)
    return None


def _write_own(folder: Path, model_type: str, tokenizer: Tokenizer, max_length: int) -> None:
    """Write a tokenizer of one of our kinds."""
    text = _pad_before_bos(tokenizer.to_json()) if model_type == "m2m_100" else tokenizer.to_json()
    library = tokenizers.Tokenizer.from_str(text)
    eos = SPECIAL_TOKENS[tokenizer.eos_id]
    first = [tokenizer.raw_pieces[index] for index in tokenizer.first_ids]
    library.post_processor = processors.TemplateProcessing(
        single=[*first, "$A", eos],
        pair=[*first, "$A", eos, "$B:1", f"{eos}:1"],
        special_tokens=[(token, library.token_to_id(token)) for token in (*first, eos)],
    )
    write_text(folder / "tokenizer.json", library.to_str(pretty=True) + "\n")
    write_json(
        folder / "tokenizer_config.json",
        {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "pad_token": SPECIAL_TOKENS[tokenizer.pad_id],
            "bos_token": SPECIAL_TOKENS[tokenizer.bos_id],
            "eos_token": eos,
            "split_special_tokens": True,  # a line that spells one is just a line
            "clean_up_tokenization_spaces": False,
            "model_max_length": max_length,
            "model_input_names": ["input_ids", "attention_mask"],
        },
    )


def _pad_before_bos(text: str) -> str:
    """Exchange the ids of <pad> and <bos>."""
    document = json.loads(text)
    vocabulary = document["model"]["vocab"]
    if isinstance(vocabulary, list):
        vocabulary[0], vocabulary[1] = vocabulary[1], vocabulary[0]
    else:
        for piece, index in list(vocabulary.items()):
            vocabulary[piece] = PAD_BEFORE_BOS.get(index, index)
    return json.dumps(document, ensure_ascii=False)


def _write_imported(folder: Path, model_type: str, source: Tokenizer, target: Tokenizer, max_length: int) -> str | None:
    """Write tokenizers that were imported.

    Returns:
        What goes before every source line by hand; None: nothing.

    Raises:
        ModelError: they are of another kind than this type of model has, or begin lines with what it cannot.
    """
    from_, into = source.imported, target.imported
    if from_ and into and from_.foreign_names == into.foreign_names and from_.sentencepiece_model:
        is_of_one_model = from_.sentencepiece_model == into.sentencepiece_model
        if model_type == "marian" and into.sentencepiece_model:
            by_hand = _language_token(source, from_)
            _write_marian(folder, from_, into, max_length)
            return by_hand
        if model_type == "m2m_100" and is_of_one_model and from_.tags == M2M100_LANGUAGES.split():
            _write_m2m100(folder, from_, into, max_length)
            return None
    raise ModelError(
        f"a model of type {model_type} cannot be written with the tokenizer that this model was imported with; "
        "--to ctranslate2 takes any"
    )


def _language_token(source: Tokenizer, vocabulary: ImportedVocabulary) -> str | None:
    """Give what every line begins with for a Marian; its tokenizer puts nothing there, but keeps a language whole.

    Raises:
        ModelError: it would cut that like any text.
    """
    first = [vocabulary.foreign_names[index] for index in source.first_ids]
    for name in first:
        if not LANGUAGE_TOKEN.fullmatch(name):
            raise ModelError(
                f"the lines of this model begin with {name}, which MarianTokenizer would cut like any text; "
                "--to ctranslate2 takes it as a token"
            )
    return "".join(first) or None


def _write_marian(folder: Path, source: ImportedVocabulary, target: ImportedVocabulary, max_length: int) -> None:
    for side, vocabulary in (("source", source), ("target", target)):
        write_bytes(folder / f"{side}.spm", vocabulary.sentencepiece_model or b"")
    names = source.foreign_names
    write_json(folder / "vocab.json", {name: index for index, name in enumerate(names)})
    special = dict(zip(SPECIAL_TOKENS, names, strict=False))
    write_json(
        folder / "tokenizer_config.json",
        {
            "tokenizer_class": "MarianTokenizer",
            "pad_token": special["<pad>"],
            "eos_token": special["<eos>"],
            "unk_token": special["<unk>"],
            "split_special_tokens": True,
            "model_max_length": max_length,
        },
    )


def _write_m2m100(folder: Path, source: ImportedVocabulary, target: ImportedVocabulary, max_length: int) -> None:
    write_bytes(folder / "sentencepiece.bpe.model", source.sentencepiece_model or b"")
    names = source.foreign_names[
        : -len(source.tags)
    ]  # the class gives the languages their ids itself, after all others
    places = [PAD_BEFORE_BOS.get(index, index) for index in range(len(names))]
    write_json(folder / "vocab.json", {names[place]: index for index, place in enumerate(places)})
    write_json(
        folder / "tokenizer_config.json",
        {
            "tokenizer_class": "M2M100Tokenizer",
            "language_codes": "m2m100",
            "num_madeup_words": 0,
            "src_lang": source.language,
            "tgt_lang": target.language,
            "split_special_tokens": True,
            "model_max_length": max_length,
        },
    )
