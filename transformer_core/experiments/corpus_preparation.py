"""From text files to a tokenizer and two corpora of token ids: one to train on, one to validate with.

Training reads its text once, in a stream; what is made of it lies in the model folder under data/ and is used again by
the same command. Which pairs are held back for validation follows from the text of the source alone, so no source line
is in both parts, and every run holds back the same.
"""

import hashlib
import json
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from tokenizer import Tokenizer, TokenizerConfig, train_tokenizer
from transformer_core.data.lines import open_output, read_lines, read_pairs
from transformer_core.data.shards import Corpus, write_corpus
from transformer_core.errors import ConfigError, DataError
from transformer_core.experiments.config import DataConfig
from transformer_core.experiments.recipe import default_vocabulary_size, held_back_pairs

__all__ = ["PreparedData", "Progress", "Tokenizers", "choose_tokenizers", "no_progress", "prepare_data"]

Tokenizers = tuple[Tokenizer, Tokenizer]  # of the source and of the target; one object twice when joint


class Progress(Protocol):
    """Makes something that shows how far a piece of work is."""

    def __call__(self, description: str, *, unit: str) -> AbstractContextManager[Callable[[int], None]]:
        """Show `description`; what is yielded is told how many units were just done."""


def no_progress(description: str, *, unit: str) -> AbstractContextManager[Callable[[int], None]]:
    """Show nothing."""
    return nullcontext(lambda count: None)


@dataclass(frozen=True, kw_only=True)
class PreparedData:
    """What training and validation read."""

    training: Corpus
    validation: Corpus
    valid_src: tuple[Path, ...]  # validation text as it is, for the metrics that need a translation
    valid_tgt: tuple[Path, ...]
    num_held_back: int  # pairs taken from the training text


def choose_tokenizers(data: DataConfig, progress: Progress, say: Callable[[str], None]) -> Tokenizers:
    """Load the tokenizers that are given, or learn a joint one from the training text.

    Raises:
        TokenizerError: a file is none, or the text cannot fill the vocabulary.
        DataError: the text cannot be read.
    """
    if data.tokenizer is not None:
        tokenizer = Tokenizer.load(data.tokenizer)
        return tokenizer, tokenizer
    if data.source_tokenizer is not None and data.target_tokenizer is not None:
        return Tokenizer.load(data.source_tokenizer), Tokenizer.load(data.target_tokenizer)
    paths = [*data.train_src, *data.train_tgt]
    size = data.vocabulary_size
    if size is None:
        with progress("counting words", unit="lines") as advance:
            num_words = 0
            for line in read_lines(paths, data.errors):
                num_words += len(line.split())
                advance(1)
        size = default_vocabulary_size(num_words)
    with progress("learning the vocabulary", unit="lines") as advance:
        config = TokenizerConfig(kind=data.tokenizer_kind, vocabulary_size=size)
        tokenizer = train_tokenizer(read_lines(paths, data.errors), config, advance)
    say(f"learned a joint {config.kind} vocabulary of {tokenizer.vocabulary_size} entries from the training text")
    return tokenizer, tokenizer


def prepare_data(folder: Path, data: DataConfig, tokenizers: Tokenizers, key: str, progress: Progress) -> PreparedData:
    """Tokenise the text into `folder`, or take what an earlier run of the same key left there.

    Raises:
        DataError: the text cannot be read, or no pair is left of it.
    """
    valid_src, valid_tgt = data.valid_src, data.valid_tgt
    if not valid_src:
        valid_src, valid_tgt = (folder / "held-back.src",), (folder / "held-back.tgt",)
    training = _find(folder / "train", key)
    validation = _find(folder / "valid", key)
    num_held_back = 0 if data.valid_src or training is None else _count(valid_src)
    if training is None or validation is None:
        pairs = read_pairs(data.train_src, data.train_tgt, data.errors)
        if not data.valid_src:
            folder.mkdir(parents=True, exist_ok=True)
            is_held_back = _hold_back(data, (valid_src[0], valid_tgt[0]), progress)
            num_held_back = _count(valid_src)
            pairs = (pair for pair in pairs if not is_held_back(pair[0]))
        with progress("tokenising the validation pairs", unit="pairs") as advance:
            validation = write_corpus(
                folder / "valid",
                read_pairs(valid_src, valid_tgt, data.errors),
                tokenizers,
                max_length=data.max_length,
                key=key,
                progress=advance,
            )
        with progress("tokenising the training pairs", unit="pairs") as advance:
            training = write_corpus(
                folder / "train", pairs, tokenizers, max_length=data.max_length, key=key, progress=advance
            )
    return PreparedData(
        training=training,
        validation=validation,
        valid_src=valid_src,
        valid_tgt=valid_tgt,
        num_held_back=num_held_back,
    )


def _hold_back(data: DataConfig, paths: tuple[Path, Path], progress: Progress) -> Callable[[str], bool]:
    """Write the pairs that are held back to `paths`; give the test that tells them by their source line.

    Raises:
        DataError: there are too few pairs to hold any back.
    """
    with progress("counting pairs", unit="pairs") as advance:
        num_pairs = 0
        for _ in read_pairs(data.train_src, data.train_tgt, data.errors):
            num_pairs += 1
            advance(1)
    if num_pairs < 2:
        raise DataError(f"{data.train_src[0]}: has {num_pairs} pairs; training and validation need at least one each")
    wanted = data.valid_size if data.valid_size is not None else held_back_pairs(num_pairs)
    if wanted >= num_pairs:
        raise ConfigError(f"--valid-size {wanted} would hold back all of the {num_pairs} pairs")
    share = wanted / num_pairs
    is_held_back = _chooser(share)
    num_written = _write_chosen(data, paths, is_held_back)
    while num_written == 0 and share < 1:  # few pairs, and the dice fell against all of them
        share = min(1.0, 2 * share)
        is_held_back = _chooser(share)
        num_written = _write_chosen(data, paths, is_held_back)
    return is_held_back


def _chooser(share: float) -> Callable[[str], bool]:
    """Choose about this share of all lines, each by its own text."""
    limit = int(share * 2**64)
    return lambda line: int.from_bytes(hashlib.blake2b(line.encode(), digest_size=8).digest(), "big") < limit


def _write_chosen(data: DataConfig, paths: tuple[Path, Path], is_chosen: Callable[[str], bool]) -> int:
    num_written = 0
    with open_output(paths[0]) as source_file, open_output(paths[1]) as target_file:
        for source, target in read_pairs(data.train_src, data.train_tgt, data.errors):
            if source.strip() and target.strip() and is_chosen(source):
                source_file.write_line(source)
                target_file.write_line(target)
                num_written += 1
    return num_written


def _find(folder: Path, key: str) -> Corpus | None:
    """Open a corpus that an earlier run completed, if it was made from the same text in the same way."""
    try:
        if json.loads((folder / "corpus.json").read_text(encoding="utf-8")).get("key") != key:
            return None
        return Corpus(folder)
    except (OSError, ValueError, AttributeError, DataError):
        return None


def _count(paths: tuple[Path, ...]) -> int:
    return sum(1 for _ in read_lines(paths))
