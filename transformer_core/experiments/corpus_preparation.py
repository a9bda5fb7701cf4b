"""From text files to a tokenizer and two corpora of token ids: one to train on, one to validate with.

Text is read in a stream; what is made of it lies in the model folder under data/ and is used again by the same command.
It comes in rows: pairs of lines, or lines of raw text. Which rows are held back for validation follows from the text of
the source alone, so no source line is in both parts, and every run holds back the same.
"""

import hashlib
import heapq
import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from tokenizer import Tokenizer, TokenizerConfig, train_tokenizer
from tokenizer.atomic_file import remove_temporary_files
from transformer_core.data.lines import is_blank, open_output, read_lines, read_pairs
from transformer_core.data.shards import Corpus, is_corpus_file, write_corpus
from transformer_core.errors import ConfigError, DataError
from transformer_core.experiments.config import DataConfig, RawTextConfig
from transformer_core.experiments.recipe import MOST_HELD_BACK, default_vocabulary_size, held_back_rows

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
HELD_BACK_FILES = {"pairs": ("held-back.src", "held-back.tgt"), "lines": ("held-back.txt",)}  # a file for each column
ALL_HELD_BACK_FILES = tuple(name for names in HELD_BACK_FILES.values() for name in names)

Rows = Iterator[tuple[str, ...]]
TextConfig = DataConfig | RawTextConfig
Tokenizers = tuple[Tokenizer, Tokenizer]  # of the source and of the target; one object twice when joint


class Progress(Protocol):
    """Makes something that shows how far a piece of work is."""

    def __call__(
        self, description: str, *, total: int | None = None, unit: str
    ) -> AbstractContextManager[Callable[[int], None]]:
        """Show `description`, of `total` units where that is known; what is yielded is told how many were just done."""


def no_progress(
    description: str, *, total: int | None = None, unit: str
) -> AbstractContextManager[Callable[[int], None]]:
    """Show nothing."""
    return nullcontext(lambda count: None)


@dataclass(frozen=True, kw_only=True)
class PreparedData:
    """What training and validation read."""

    training: Corpus
    validation: Corpus
    validation_columns: tuple[tuple[Path, ...], ...]  # validation text as it is: the files of each column of a row
    num_held_back: int  # rows taken from the training text


def choose_tokenizers(data: TextConfig, progress: Progress, say: Callable[[str], None]) -> Tokenizers:
    """Load the tokenizers that are given, or learn a joint one from the training text.

    Raises:
        TokenizerError: a file is none, or the text cannot fill the vocabulary.
        DataError: the text cannot be read.
    """
    if data.tokenizer is not None:
        tokenizer = Tokenizer.load(data.tokenizer)
        return tokenizer, tokenizer
    if isinstance(data, DataConfig) and data.source_tokenizer is not None and data.target_tokenizer is not None:
        return Tokenizer.load(data.source_tokenizer), Tokenizer.load(data.target_tokenizer)
    paths = [path for column in data.training_columns for path in column]
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


def prepare_data(folder: Path, data: TextConfig, tokenizers: Tokenizers, key: str, progress: Progress) -> PreparedData:
    """Tokenise the text into `folder`, or take what an earlier run of the same key left there.

    Raises:
        DataError: the text cannot be read, or nothing is left of it.
        ConfigError: more rows are to be held back than there are.
    """
    columns = data.validation_columns
    is_given = bool(columns[0])
    if not is_given:
        columns = tuple((folder / name,) for name in HELD_BACK_FILES[data.unit])
    training, validation = _find(folder / TRAINING_CORPUS, key), _find(folder / VALIDATION_CORPUS, key)
    if training is None or validation is None or not all(path.exists() for column in columns for path in column):
        rows = _read_rows(data.training_columns, data)
        if not is_given:
            folder.mkdir(parents=True, exist_ok=True)
            rows = _hold_back(data, [column[0] for column in columns], progress)
        both_rows = {VALIDATION_CORPUS: _read_rows(columns, data), TRAINING_CORPUS: rows}
        validation, training = (
            _write(folder / name, both_rows[name], data, tokenizers, key, progress)
            for name in (VALIDATION_CORPUS, TRAINING_CORPUS)
        )
    return PreparedData(
        training=training,
        validation=validation,
        validation_columns=columns,
        num_held_back=0 if is_given else sum(1 for _ in read_lines(columns[0])),
    )


def _write(folder: Path, rows: Rows, data: TextConfig, tokenizers: Tokenizers, key: str, progress: Progress) -> Corpus:
    """Tokenise rows into a corpus."""
    name = {TRAINING_CORPUS: "training", VALIDATION_CORPUS: "validation"}[folder.name]
    with progress(f"tokenising the {name} {data.unit}", unit=data.unit) as advance:
        return write_corpus(
            folder,
            rows,
            tokenizers[: len(data.training_columns)],
            max_length=data.max_length,
            key=key,
            progress=advance,
        )


def _read_rows(columns: tuple[tuple[Path, ...], ...], data: TextConfig) -> Rows:
    """Read pairs of lines, or lines."""
    if len(columns) > 1:
        source_paths, target_paths = columns
        return read_pairs(source_paths, target_paths, data.errors)
    return ((line,) for line in read_lines(columns[0], data.errors))


def is_prepared_data(folder: Path) -> bool:
    """Tell whether a folder holds nothing but what `prepare_data` writes: a user's own text must never be removed."""
    for path in folder.iterdir():
        if path.name in (TRAINING_CORPUS, VALIDATION_CORPUS) and path.is_dir():
            if not all(is_corpus_file(entry.name) for entry in path.iterdir()):
                return False
        elif path.name not in ALL_HELD_BACK_FILES and not path.name.startswith("."):
            return False
    return True


def remove_corpora(folder: Path) -> None:
    """Remove the token ids; the lines that were held back stay, for people."""
    for name in (TRAINING_CORPUS, VALIDATION_CORPUS):
        shutil.rmtree(folder / name, ignore_errors=True)


def remove_prepared_data(folder: Path) -> None:
    """Remove all that `prepare_data` wrote."""
    remove_corpora(folder)
    for name in ALL_HELD_BACK_FILES:
        (folder / name).unlink(missing_ok=True)
    remove_temporary_files(folder)
    with suppress(OSError):  # there is none, or it holds something else
        folder.rmdir()


def _hold_back(data: TextConfig, paths: Sequence[Path], progress: Progress) -> Rows:
    """Write the rows that are held back to `paths`, a file for each column; give the others.

    Raises:
        DataError: there are too few rows to hold any back.
        ConfigError: more are asked for than there are.
    """
    columns = data.training_columns
    num_rows, drawn = _count_and_draw(data, progress)
    wanted = data.valid_size or held_back_rows(num_rows)
    if num_rows < 2:
        raise DataError(f"{columns[0][0]}: has {num_rows} {data.unit}; training and validation need at least one each")
    if wanted >= num_rows:
        raise ConfigError(f"--valid-size {wanted} would hold back all of the {num_rows} {data.unit}")
    chosen = _choose(drawn, wanted)
    num_held_back = 0
    with ExitStack() as stack:
        writers = [stack.enter_context(open_output(path)) for path in paths]
        for row in _read_rows(columns, data):
            if _hash(row[0]) in chosen and not any(map(is_blank, row)):
                for writer, line in zip(writers, row, strict=True):
                    writer.write_line(line)
                num_held_back += 1
    if num_held_back == num_rows:
        options = "--valid-src, --valid-tgt" if len(columns) > 1 else "--valid"
        raise DataError(
            f"{columns[0][0]}: holds too few different lines to hold some back for validation; "
            f"give validation {data.unit} ({options})"
        )
    return (row for row in _read_rows(columns, data) if _hash(row[0]) not in chosen)


def _count_and_draw(data: TextConfig, progress: Progress) -> tuple[int, dict[int, int]]:
    """Count the rows with text in all columns, and draw source lines: those with the smallest hashes.

    Returns:
        the number of rows; and by the hash of each line that was drawn, smallest first, how many rows it has. A line
        that was drawn was so when it was first seen (the limit only falls), so no row of it is missed.
    """
    most = data.valid_size or MOST_HELD_BACK
    num_rows = 0
    heap: list[int] = []  # negated: its first is the largest of the smallest
    drawn: dict[int, int] = {}
    with progress(f"counting {data.unit}", unit=data.unit) as advance:
        for row in _read_rows(data.training_columns, data):
            advance(1)
            if any(map(is_blank, row)):
                continue
            num_rows += 1
            number = _hash(row[0])
            if number in drawn:
                drawn[number] += 1
            elif len(heap) < most or number < -heap[0]:
                drawn[number] = 1
                heapq.heappush(heap, -number)
                if len(heap) > most:
                    del drawn[-heapq.heappop(heap)]
    return num_rows, dict(sorted(drawn.items()))


def _choose(drawn: dict[int, int], wanted: int) -> set[int]:
    """Choose lines that have `wanted` rows together, or a few less: a line that has too many is left to training."""
    chosen: set[int] = set()
    num_rows = 0
    for number, count in drawn.items():
        if num_rows + count <= wanted:
            chosen.add(number)
            num_rows += count
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
