"""The vocabulary of a foreign model, and its order under ours: special tokens first, languages last.

Our five special tokens have fixed ids, so the rows of the foreign tables change places. What the foreign vocabulary
lacks (most have no mask) takes an entry without a name, or else gets a row that nothing is ever predicted by.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tokenizer import SPECIAL_TOKENS, Tokenizer, TokenizerFileError
from tokenizer.imported import ImportedVocabulary
from tokenizer.tags import tag_piece
from transformer_core.conversion.vocabulary_files import read_entries, read_sentencepiece
from transformer_core.errors import ConfigError, ModelError

__all__ = [
    "DEAD_BIAS",
    "STARTS_FROM_ZERO",
    "Direction",
    "ForeignVocabulary",
    "read_vocabularies",
    "require_direction",
    "vocabulary_of",
]

STARTS_FROM_ZERO = "zero"  # a decoder_start_token_id: the first input is no token, but a vector of zeros
DEAD_BIAS = -100.0  # added to the logit of a row that stands for nothing: e^-100 is nothing beside any other

# How languages are written: M2M100, OPUS-MT; NLLB and mBART name them without marks.
MARKED_LANGUAGE = re.compile(r"__([A-Za-z]{2,3})__|>>([A-Za-z0-9_-]+)<<")
PLAIN_LANGUAGE = re.compile(r"[a-z]{3}_[A-Z][a-z]{3}|[a-z]{2}_[A-Z]{2}")


@dataclass(frozen=True, kw_only=True)
class Direction:
    """From which language into which, by the names of the model; None: it has one direction only."""

    source: str | None = None
    target: str | None = None


@dataclass(frozen=True, kw_only=True)
class ForeignVocabulary:
    """The entries of a foreign vocabulary."""

    names: list[str | None]  # by foreign id; None for a row without a name
    special: dict[str, int | None]  # foreign ids of our special tokens; None for what is not there
    languages: dict[str, int]  # foreign ids by the names of our tags
    start: str  # the special token that decoding begins with
    source_cutter: dict[str, Any]
    target_cutter: dict[str, Any]
    begins_with_bos: bool = False  # every line of either side does (BART)
    is_told_target: bool = False  # a source line begins with the language to write (Marian), not with its own

    @property
    def order(self) -> list[int | None]:
        """The foreign id of each of ours; None for a row that has to be made."""
        first = [self.special[token] for token in SPECIAL_TOKENS]
        last = sorted(self.languages.values())
        taken = {*first, *last}
        return [*first, *(index for index in range(len(self.names)) if index not in taken), *last]

    def reorder(self, table: Tensor, filling: float = 0.0) -> Tensor:
        """Put the rows of a table, (foreign vocabulary, …), in the order of our ids."""
        padded = torch.cat((table, table.new_full((1, *table.shape[1:]), filling)))
        return padded[[table.size(0) if index is None else index for index in self.order]]

    def reordered(self, weights: Mapping[str, Tensor], name: str) -> dict[str, Tensor]:
        """Put whatever has a row for each entry, by our names, in the order of our ids.

        Raises:
            ModelError: a table has another number of rows than the vocabulary entries.
        """
        found = dict(weights)
        for weight_name, weight in weights.items():
            if weight_name.endswith("token_embedding.weight") or weight_name.startswith("output_projection."):
                if (num_rows := len(weight) if weight.dim() else 1) != len(self.names):
                    raise ModelError(f"{name}: {weight_name} has {num_rows} rows for {len(self.names)} entries")
                found[weight_name] = self.reorder(weight, DEAD_BIAS if weight.dim() == 1 else 0.0)
        return found

    def tokenizers(self, direction: Direction, name: str) -> tuple[Tokenizer, Tokenizer]:
        """Make the tokenizers of both sides; one object twice where they are the same.

        Raises:
            ConfigError: a language is not there, or is needed and not named.
        """
        tags = self._language(direction.source, "source", name), self._language(direction.target, "target", name)
        if self.is_told_target:
            if direction.source is not None:
                raise ConfigError(f"--source-language: {name} has languages to write alone; give --target-language")
            tags = tags[1], None
        source = self._tokenizer(self.source_cutter, tags[0], name)
        target = self._tokenizer(self.target_cutter, tags[1], name)
        return source, source if source.sha256 == target.sha256 else target

    def _language(self, language: str | None, side: str, name: str) -> str | None:
        """Check the language of a side, as a tag."""
        if language is None:
            return None
        known = {item.lower(): item for item in self.languages}
        if language.lower() not in known:
            some = ", ".join(list(self.languages)[:8]) or "none"
            raise ConfigError(f"--{side}-language {language}: {name} has no such language; it has {some} …")
        return tag_piece(known[language.lower()])

    def _tokenizer(self, cutter: dict[str, Any], tag: str | None, name: str) -> Tokenizer:
        pieces, names = self._pieces()
        first = [SPECIAL_TOKENS[1]] if self.begins_with_bos else [] if tag is None else [tag]
        vocabulary = ImportedVocabulary(cutter=cutter, pieces=pieces, start=self.start, first=first, names=names)
        try:
            return Tokenizer.from_json(vocabulary.to_json(), name)
        except TokenizerFileError as error:
            raise ModelError(str(error)) from None

    def _pieces(self) -> tuple[list[str], dict[str, str]]:
        """The entries in the order of our ids under our names, and the foreign names of those that have another."""
        tags = {index: tag_piece(language) for language, index in self.languages.items()}
        taken = {*SPECIAL_TOKENS, *tags.values()}
        pieces: list[str] = []
        names: dict[str, str] = {}
        for place, index in enumerate(self.order):
            foreign = None if index is None else self.names[index]
            if place < len(SPECIAL_TOKENS):
                piece = SPECIAL_TOKENS[place]
            elif index in tags:
                piece = tags[index]
            else:
                piece = f"<unused-{index}>" if not foreign or foreign in taken else foreign
                taken.add(piece)
            if foreign is not None and foreign != piece:
                names[piece] = foreign
            pieces.append(piece)
        return pieces, names


def read_vocabularies(folder: Path, config: Mapping[str, Any], num_rows: int) -> ForeignVocabulary:
    """Read the vocabulary of a folder of Hugging Face.

    Args:
        folder: with vocab.json and SentencePiece models, or tokenizer.json.
        config: its config.json.
        num_rows: of the table of embeddings.

    Raises:
        ModelError: files are missing or damaged, or are of a kind that is not known.
    """
    names, cutters = read_entries(folder, str(config.get("model_type")))
    return _make(folder, names, config, num_rows, cutters)


def vocabulary_of(
    folder: Path, names: Mapping[str, int], config: Mapping[str, Any], num_rows: int
) -> ForeignVocabulary:
    """Make the vocabulary of a folder that has SentencePiece models, and its entries elsewhere.

    Args:
        folder: with source.spm and target.spm, or one model for both.
        names: the ids of the entries.
        config: has the ids of special tokens, by the names of Hugging Face.
        num_rows: of the table of embeddings.

    Raises:
        ModelError: there is no such model, or a special token is not there.
    """
    paths = [folder / "source.spm", folder / "target.spm"]
    if not paths[0].exists():
        paths = [folder / "sentencepiece.bpe.model"]
    if not paths[0].exists():
        raise ModelError(
            f"{folder}: has neither a tokenizer.json of ours nor source.spm and target.spm beside model.bin, so there "
            "is no telling how text is cut; copy them there, or import the folder that it was converted from"
        )
    return _make(folder, names, config, num_rows, [read_sentencepiece(path) for path in paths])


def require_direction(vocabulary: ForeignVocabulary, direction: Direction, folder: Path) -> None:
    """See that two languages are named where lines begin with their languages.

    Raises:
        ConfigError: they are not.
    """
    has_many = bool(vocabulary.languages) and not vocabulary.is_told_target
    if has_many and (direction.source is None or direction.target is None):
        some = " ".join(list(vocabulary.languages)[:4])
        raise ConfigError(
            f"{folder}: translates between many languages; name two with --source-language and --target-language, "
            f"such as {some}"
        )


def _make(
    folder: Path,
    names: Mapping[str, int],
    config: Mapping[str, Any],
    num_rows: int,
    cutters: Sequence[dict[str, Any]],
) -> ForeignVocabulary:
    """Put a vocabulary together.

    Raises:
        ModelError: it does not fit the table, or a special token is not there.
    """
    try:
        "".join(names).encode("utf-8")
    except UnicodeEncodeError:
        raise ModelError(f"{folder}: an entry of its vocabulary holds half a character (such as \\ud800)") from None
    if not 0 < (num_entries := max(names.values(), default=-1) + 1) <= num_rows:
        raise ModelError(f"{folder}: the vocabulary has {num_entries} entries, the table {num_rows} rows")
    by_id: list[str | None] = [None] * num_rows
    for entry, index in names.items():
        by_id[index] = entry
    special = _special_ids(names, config, by_id, folder)
    languages = {}
    for entry, index in names.items():
        if (language := _language_of(entry, config)) and index not in special.values():
            languages[language] = index
    starts = {index: token for token, index in special.items() if index is not None}
    start_id = config.get("decoder_start_token_id")
    start = starts.get(start_id) if type(start_id) is int else None
    if start_id == STARTS_FROM_ZERO:
        special["<bos>"], start = None, "<bos>"
    if start is None:
        raise ModelError(
            f"{folder}: its decoder starts with {str(start_id)[:20]}, which is no pad, start or end token; "
            "such models cannot be imported"
        )
    return ForeignVocabulary(
        names=by_id,
        special=special,
        languages=languages,
        start=start,
        source_cutter=cutters[0],
        target_cutter=cutters[-1],
        begins_with_bos=config.get("model_type") == "bart",
        is_told_target=(folder / "source.spm").exists(),
    )


def _language_of(entry: str, config: Mapping[str, Any]) -> str | None:
    """The name of our tag for an entry that stands for a language."""
    if config.get("model_type") == "bart":
        return None
    if found := MARKED_LANGUAGE.fullmatch(entry):
        return found[1] or found[2]
    if config.get("model_type") in ("m2m_100", "mbart", None) and PLAIN_LANGUAGE.fullmatch(entry):
        return entry
    return None


def _special_ids(
    names: Mapping[str, int], config: Mapping[str, Any], by_id: Sequence[str | None], folder: Path
) -> dict[str, int | None]:
    """Find the special tokens.

    Raises:
        ModelError: pad, end or unknown token is not there.
    """
    special: dict[str, int | None] = {}
    for token, key, usual in (("<pad>", "pad_token_id", "<pad>"), ("<eos>", "eos_token_id", "</s>")):
        index = config.get(key, names.get(usual))
        if token == "<pad>" and index is None:  # padding is never read, so it needs no row
            special[token] = None
            continue
        if type(index) is not int or not 0 <= index < len(by_id):
            raise ModelError(f"{folder}: its {key} is {str(index)[:20]}, which is no entry of its vocabulary")
        special[token] = index
    if "<unk>" not in names:
        raise ModelError(f"{folder}: its vocabulary has no <unk>")
    special["<unk>"] = names["<unk>"]
    special["<bos>"] = names.get("<s>")
    unnamed = (index for index, entry in enumerate(by_id) if entry is None)
    special["<mask>"] = names.get("<mask>", next(unnamed, None))
    found = [index for index in special.values() if index is not None]
    if len(set(found)) != len(found):
        raise ModelError(f"{folder}: two of its special tokens are the same entry")
    return special
