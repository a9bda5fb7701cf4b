"""From text files to a tokenizer and two corpora of token ids: one to train on, one to validate with.

Text is read in a stream; what is made of it lies in the model folder under data/ and is used again by the same command.
Which pairs are held back for validation follows from the text of the source alone, so no source line is in both parts,
and every run holds back the same.
"""

import hashlib
import heapq
import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from tokenizer import Tokenizer, TokenizerConfig, train_tokenizer
from tokenizer.atomic_file import remove_temporary_files
from transformer_core.data.lines import is_blank, open_output, read_lines, read_pairs
from transformer_core.data.shards import Corpus, is_corpus_file, write_corpus
from transformer_core.errors import ConfigError, DataError
from transformer_core.experiments.config import DataConfig
from transformer_core.experiments.recipe import MOST_HELD_BACK, default_vocabulary_size, held_back_pairs

__all__ = [
    "HELD_BACK_FILES",
    "PreparedData",
    "Progress",
    "Tokenizers",
    "choose_tokenizers",
    "is_prepared_data",
    "no_progress",
    "prepare_data",
    "remove_corpora",
    "remove_prepared_data",
]

TRAINING_CORPUS, VALIDATION_CORPUS = "train", "valid"
HELD_BACK_FILES = ("held-back.src", "held-back.tgt")

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
        num_words, characters = 0, set[str]()
        with progress("counting words", unit="lines") as advance:
            for line in read_lines(paths, data.errors):
                num_words += len(line.split())
                characters.update(line)
                advance(1)
        size = default_vocabulary_size(num_words, len(characters))
    with progress("learning the vocabulary", unit="lines") as advance:
        config = TokenizerConfig(kind=data.tokenizer_kind, vocabulary_size=size)
        tokenizer = train_tokenizer(read_lines(paths, data.errors), config, advance)
    say(f"learned a joint {config.kind} vocabulary of {tokenizer.vocabulary_size} entries from the training text")
    return tokenizer, tokenizer


def prepare_data(folder: Path, data: DataConfig, tokenizers: Tokenizers, key: str, progress: Progress) -> PreparedData:
    """Tokenise the text into `folder`, or take what an earlier run of the same key left there.

    Raises:
        DataError: the text cannot be read, or no pair is left of it.
        ConfigError: more pairs are to be held back than there are.
    """
    valid_src, valid_tgt = data.valid_src, data.valid_tgt
    if not valid_src:
        valid_src, valid_tgt = (folder / HELD_BACK_FILES[0],), (folder / HELD_BACK_FILES[1],)
    training, validation = _find(folder / TRAINING_CORPUS, key), _find(folder / VALIDATION_CORPUS, key)
    if training is None or validation is None or not all(path.exists() for path in (*valid_src, *valid_tgt)):
        pairs = read_pairs(data.train_src, data.train_tgt, data.errors)
        if not data.valid_src:
            folder.mkdir(parents=True, exist_ok=True)
            pairs = _hold_back(data, (valid_src[0], valid_tgt[0]), progress)
        with progress("tokenising the validation pairs", unit="pairs") as advance:
            validation = write_corpus(
                folder / VALIDATION_CORPUS,
                read_pairs(valid_src, valid_tgt, data.errors),
                tokenizers,
                max_length=data.max_length,
                key=key,
                progress=advance,
            )
        with progress("tokenising the training pairs", unit="pairs") as advance:
            training = write_corpus(
                folder / TRAINING_CORPUS, pairs, tokenizers, max_length=data.max_length, key=key, progress=advance
            )
    return PreparedData(
        training=training,
        validation=validation,
        valid_src=valid_src,
        valid_tgt=valid_tgt,
        num_held_back=0 if data.valid_src else _count(valid_src),
    )


def is_prepared_data(folder: Path) -> bool:
    """Tell whether a folder holds nothing but what `prepare_data` writes: a user's own text must never be removed."""
    for path in folder.iterdir():
        if path.name in (TRAINING_CORPUS, VALIDATION_CORPUS) and path.is_dir():
            if not all(is_corpus_file(entry.name) for entry in path.iterdir()):
                return False
        elif path.name not in HELD_BACK_FILES and not path.name.startswith("."):
            return False
    return True


def remove_corpora(folder: Path) -> None:
    """Remove the token ids; the lines that were held back stay, for people."""
    for name in (TRAINING_CORPUS, VALIDATION_CORPUS):
        shutil.rmtree(folder / name, ignore_errors=True)


def remove_prepared_data(folder: Path) -> None:
    """Remove all that `prepare_data` wrote."""
    remove_corpora(folder)
    for name in HELD_BACK_FILES:
        (folder / name).unlink(missing_ok=True)
    remove_temporary_files(folder)
    with suppress(OSError):  # there is none, or it holds something else
        folder.rmdir()


def _hold_back(data: DataConfig, paths: tuple[Path, Path], progress: Progress) -> Iterator[tuple[str, str]]:
    """Write the pairs that are held back to `paths`; give the others.

    Raises:
        DataError: there are too few pairs to hold any back.
        ConfigError: more are asked for than there are.
    """
    num_pairs, drawn = _count_and_draw(data, progress)
    wanted = data.valid_size or held_back_pairs(num_pairs)
    if num_pairs < 2:
        raise DataError(f"{data.train_src[0]}: has {num_pairs} pairs; training and validation need at least one each")
    if wanted >= num_pairs:
        raise ConfigError(f"--valid-size {wanted} would hold back all of the {num_pairs} pairs")
    chosen = _choose(drawn, wanted)
    num_held_back = 0
    with open_output(paths[0]) as source_file, open_output(paths[1]) as target_file:
        for source, target in read_pairs(data.train_src, data.train_tgt, data.errors):
            if _hash(source) in chosen and not (is_blank(source) or is_blank(target)):
                source_file.write_line(source)
                target_file.write_line(target)
                num_held_back += 1
    if num_held_back == num_pairs:
        raise DataError(
            f"{data.train_src[0]}: holds too few different lines to hold some back for validation; "
            "give validation pairs (--valid-src, --valid-tgt)"
        )
    return (pair for pair in read_pairs(data.train_src, data.train_tgt, data.errors) if _hash(pair[0]) not in chosen)


def _count_and_draw(data: DataConfig, progress: Progress) -> tuple[int, dict[int, int]]:
    """Count the pairs with text on both sides, and draw source lines: those with the smallest hashes.

    Returns:
        the number of pairs; and by the hash of each line that was drawn, smallest first, how many pairs it has. A line
        that was drawn was so when it was first seen (the limit only falls), so no pair of it is missed.
    """
    most = data.valid_size or MOST_HELD_BACK
    num_pairs = 0
    heap: list[int] = []  # negated: its first is the largest of the smallest
    drawn: dict[int, int] = {}
    with progress("counting pairs", unit="pairs") as advance:
        for source, target in read_pairs(data.train_src, data.train_tgt, data.errors):
            advance(1)
            if is_blank(source) or is_blank(target):
                continue
            num_pairs += 1
            number = _hash(source)
            if number in drawn:
                drawn[number] += 1
            elif len(heap) < most or number < -heap[0]:
                drawn[number] = 1
                heapq.heappush(heap, -number)
                if len(heap) > most:
                    del drawn[-heapq.heappop(heap)]
    return num_pairs, dict(sorted(drawn.items()))


def _choose(drawn: dict[int, int], wanted: int) -> set[int]:
    """Choose lines that have `wanted` pairs together, or a few less: a line that has too many is left to training."""
    chosen: set[int] = set()
    num_pairs = 0
    for number, count in drawn.items():
        if num_pairs + count <= wanted:
            chosen.add(number)
            num_pairs += count
    return chosen or {min(drawn, key=drawn.__getitem__)}


def _hash(line: str) -> int:
    return int.from_bytes(hashlib.blake2b(line.encode(), digest_size=8).digest(), "big")


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
