"""From text files to two corpora of token ids: one to train on, one to validate with.

Text is read in a stream; what is made of it lies in the model folder under data/ and is used again by the same command.
It comes in rows: pairs of lines, or lines of raw text.
"""

import shutil
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from tokenizer.atomic_file import remove_temporary_files
from transformer_core.data.encoding import RowEncoder
from transformer_core.data.lines import read_lines
from transformer_core.data.records import PLAIN, RecordForm
from transformer_core.data.shards import Corpus, NothingLeftError, Part, is_corpus_file, write_corpus
from transformer_core.errors import DataError
from transformer_core.experiments.holding_back import hold_back
from transformer_core.experiments.progress import Progress
from transformer_core.experiments.texts import (
    OUR_TEXT,
    Text,
    TextConfig,
    held_back_texts,
    read_rows,
    training_texts,
    validation_texts,
)
from transformer_core.experiments.vocabulary_choice import Tokenizers

__all__ = [
    "TRAINING_CORPUS",
    "VALIDATION_CORPUS",
    "PreparedData",
    "clear_prepared_data",
    "is_prepared_data",
    "prepare_data",
    "prepared_data_names",
    "remove_corpora",
    "remove_prepared_data",
    "report_data",
]

TRAINING_CORPUS, VALIDATION_CORPUS = "train", "valid"


@dataclass(frozen=True, kw_only=True)
class PreparedData:
    """What training and validation read."""

    training: Corpus
    validation: Corpus
    validation_columns: tuple[tuple[Path, ...], ...]  # validation text as it is: the files of each column of a row
    num_held_back: int  # rows taken from the training text
    validation_tags: tuple[str | None, ...] = ()  # of each of these files; (): no text has any
    validation_form: RecordForm = PLAIN  # what their lines hold
    tags: tuple[str, ...] = ()  # of the training text


def prepare_data(
    folder: Path, data: TextConfig, tokenizers: Tokenizers, key: str, progress: Progress, processes: int = 1
) -> PreparedData:
    """Tokenise the text into `folder`, or take what an earlier run of the same key left there.

    Args:
        folder: where the corpora go, and what is held back.
        data: the text.
        tokenizers: of source and target.
        key: names all that the corpora follow from.
        progress: shows how far it is.
        processes: how many tokenise at once.

    Raises:
        DataError: the text cannot be read, or nothing is left of it.
        ConfigError: more rows are to be held back than there are.
        TokenizerConfigError: the vocabulary lacks a tag.
    """
    for tag in data.tags:
        tokenizers[0].tagged(tag)
    texts, given = training_texts(data), validation_texts(data)
    held_out = given or held_back_texts(folder, data)
    training, validation = _find(folder / TRAINING_CORPUS, key), _find(folder / VALIDATION_CORPUS, key)
    all_exist = all(path.exists() for text in held_out for path in text.files)
    if training is None or validation is None or not all_exist:
        parts = [Part(read_rows(text, data), text.tag, text.weight) for text in texts]
        if not given:
            folder.mkdir(parents=True, exist_ok=True)
            remove_temporary_files(folder)
            parts = hold_back(data, texts, held_out, progress)
        encoder = RowEncoder(tokenizers[: len(data.training_columns)], data.max_length)
        writing = _Writing(data.unit, encoder, key, progress, processes)
        validation_parts = [Part(read_rows(text, data), text.tag) for text in held_out]
        validation = writing.write(folder / VALIDATION_CORPUS, validation_parts, held_out)
        training = writing.write(folder / TRAINING_CORPUS, parts, texts)
    columns = tuple(zip(*(text.files for text in held_out), strict=True))
    return PreparedData(
        training=training,
        validation=validation,
        validation_columns=columns,
        num_held_back=0 if given else sum(1 for _ in read_lines(columns[0])),
        validation_tags=tuple(text.tag for text in held_out) if data.tags else (),
        validation_form=held_out[0].form,
        tags=data.tags,
    )


@dataclass(frozen=True)
class _Writing:
    """How rows become corpora."""

    unit: str
    encoder: RowEncoder
    key: str
    progress: Progress
    processes: int

    def write(self, folder: Path, parts: Sequence[Part], texts: Sequence[Text]) -> Corpus:
        """Tokenise rows, which were read from these texts, into a corpus."""
        name = {TRAINING_CORPUS: "training", VALIDATION_CORPUS: "validation"}[folder.name]
        with self.progress(f"tokenising the {name} {self.unit}", unit=self.unit) as advance:
            try:
                return write_corpus(
                    folder, parts, self.encoder, key=self.key, processes=self.processes, progress=advance
                )
            except NothingLeftError as error:
                files = ", ".join(str(path) for text in texts for path in text.files)
                raise DataError(f"{name} {self.unit} of {files}: {error}") from None


def is_prepared_data(folder: Path, others: Sequence[str] = ()) -> bool:
    """Tell whether a folder holds nothing but what `prepare_data` writes, and `others`.

    A user's own text must never be removed.
    """
    for path in folder.iterdir():
        if path.name in (TRAINING_CORPUS, VALIDATION_CORPUS) and path.is_dir():
            if not all(is_corpus_file(entry.name) for entry in path.iterdir()):
                return False
        elif not (OUR_TEXT.fullmatch(path.name) or path.name.startswith(".") or path.name in others):
            return False
    return True


def remove_corpora(folder: Path) -> None:
    """Remove the token ids; the lines that were held back stay, for people."""
    for name in (TRAINING_CORPUS, VALIDATION_CORPUS):
        shutil.rmtree(folder / name, ignore_errors=True)


def prepared_data_names(folder: Path) -> list[str]:
    """Name all in a folder that `prepare_data` wrote."""
    texts = [path.name for path in folder.iterdir() if OUR_TEXT.fullmatch(path.name)] if folder.is_dir() else []
    return [TRAINING_CORPUS, VALIDATION_CORPUS, *texts]


def clear_prepared_data(folder: Path) -> None:
    """Remove all that `prepare_data` wrote, but not the folder, which may be locked."""
    for name in prepared_data_names(folder):
        if (folder / name).is_dir():
            shutil.rmtree(folder / name, ignore_errors=True)
        else:
            with suppress(OSError):
                (folder / name).unlink()
    remove_temporary_files(folder)


def remove_prepared_data(folder: Path) -> None:
    """Remove all that `prepare_data` wrote, and the folder, if nothing else is in it."""
    clear_prepared_data(folder)
    with suppress(OSError):  # there is none, or it holds something else
        folder.rmdir()


def _find(folder: Path, key: str) -> Corpus | None:
    """Open a corpus that an earlier run completed, if it was made from the same text in the same way."""
    try:
        corpus = Corpus(folder)
    except DataError:
        return None
    return corpus if corpus.key == key else None


def report_data(
    data: PreparedData, config: TextConfig, say: Callable[[str], None], warn: Callable[[str], None]
) -> None:
    """Say what became of the text."""
    for name, corpus in (("training", data.training), ("validation", data.validation)):
        statistics = corpus.statistics
        if statistics.num_replaced:
            warn(f"{name}: {statistics.num_replaced:,} {config.unit} hold U+FFFD for bytes that are not UTF-8")
        if len(data.validation_columns) == 1:
            say(
                f"{name}: {statistics.num_pairs:,} lines, {statistics.num_source_tokens:,} tokens; "
                f"{statistics.num_blank:,} blank lines are left out"
            )
            if statistics.num_cut:
                warn(f"{name}: cut {statistics.num_cut:,} lines with more than {config.max_length} tokens into pieces")
            continue
        say(
            f"{name}: {statistics.num_pairs:,} pairs, {statistics.num_source_tokens:,} source and "
            f"{statistics.num_target_tokens:,} target tokens"
        )
        if statistics.num_blank or statistics.num_long:
            warn(
                f"{name}: dropped {statistics.num_blank:,} pairs with a blank side and {statistics.num_long:,} with "
                f"more than {config.max_length} tokens on a side"
            )
    if data.num_held_back:
        files = ", ".join(str(path) for column in data.validation_columns for path in column)
        say(f"held {data.num_held_back:,} training {config.unit} back for validation: {files}")
