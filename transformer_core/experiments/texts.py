"""The texts that a run learns from: which files belong together, and what is wanted of each."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path

from transformer_core.data.encoding import Row
from transformer_core.data.lines import read_lines
from transformer_core.data.pairs import read_pairs
from transformer_core.data.records import PLAIN, RecordForm
from transformer_core.experiments.text_config import DataConfig, RawTextConfig

__all__ = [
    "OUR_TEXT",
    "Rows",
    "Text",
    "TextConfig",
    "held_back_texts",
    "read_rows",
    "text_file_names",
    "training_texts",
    "validation_texts",
]

SUFFIXES = {"pairs": ("src", "tgt"), "lines": ("txt",)}  # of the files of each column
OUR_TEXT = re.compile(r"(held-back|validation-copy)(-\d+)?\.(src|tgt|txt)")  # names of the files of text that we write

Rows = Iterator[Row]
TextConfig = DataConfig | RawTextConfig


@dataclass(frozen=True)
class Text:
    """A file, or a file and its translation."""

    files: tuple[Path, ...]  # one for each column
    tag: str | None
    weight: float | None = None
    form: RecordForm = PLAIN  # what its lines hold


def training_texts(data: TextConfig) -> list[Text]:
    """Give the texts to train on."""
    texts = zip_longest(zip(*data.training_columns, strict=True), data.tags, data.weights)
    return [Text(*text, data.form) for text in texts]


def validation_texts(data: TextConfig) -> list[Text]:
    """Give the texts to validate with; none where some training rows are held back."""
    files = list(zip(*data.validation_columns, strict=True))
    return [Text(*text, form=data.form) for text in zip_longest(files, data.tags[: len(files)])]


def text_file_names(stem: str, unit: str, num_texts: int) -> list[tuple[str, ...]]:
    """Name the files of texts, one for each column: held-back.src and held-back.tgt, or held-back-1.src and so on."""
    numbers = [""] if num_texts == 1 else [f"-{number}" for number in range(1, num_texts + 1)]
    return [tuple(f"{stem}{number}.{suffix}" for suffix in SUFFIXES[unit]) for number in numbers]


def held_back_texts(folder: Path, data: TextConfig) -> list[Text]:
    """Give the files that rows are held back in: one for all, or with tags one for each text."""
    tags = data.tags or (None,)
    names = text_file_names("held-back", data.unit, len(tags))
    return [Text(tuple(folder / name for name in row), tag) for row, tag in zip(names, tags, strict=True)]


def read_rows(text: Text, data: TextConfig) -> Rows:
    """Read pairs of lines, or lines."""
    if len(text.files) > 1:
        return read_pairs(text.files[:1], text.files[1:], data.errors, text.form)
    return ((line,) for line in read_lines(text.files, data.errors))
