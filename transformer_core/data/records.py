"""What a line of the input holds: text and nothing else, a row of TSV, or a JSON object.

form = RecordForm.choose("jsonl", ["text"], default_keys=SOURCE_KEYS)
with RecordReader([path], form) as reader:
    for record in reader:
        record.text
"""

import stat
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Literal, NamedTuple, Self

from transformer_core.data.byte_input import ByteSource
from transformer_core.data.json_lines import Member, split_object, text_of, texts_of
from transformer_core.data.lines import STANDARD_STREAM, Errors, LineReader
from transformer_core.data.tsv import RowParser
from transformer_core.errors import ConfigError, DataError

__all__ = [
    "PAIR_KEYS",
    "PLAIN",
    "SOURCE_KEYS",
    "InputFormat",
    "Record",
    "RecordForm",
    "RecordReader",
]

InputFormat = Literal["text", "tsv", "jsonl"]

SOURCE_KEYS = ("text",)
PAIR_KEYS = ("text", "translation")  # what `translate` reads, and what it adds
PREFIX_KEY = "target_prefix"


class Record(NamedTuple):
    """A line of the input."""

    texts: tuple[str, ...]  # of the columns that were asked for
    cells: tuple[str, ...] = ()  # of TSV: the whole row
    members: Mapping[str, Member] = {}  # of a JSON object: all of it, by key
    target_prefix: str = ""  # what a JSON object asks of the translation: its beginning,
    constraints: tuple[str, ...] = ()  # what must stand in it,
    avoid: tuple[str, ...] = ()  # and what must not
    is_mended: bool = False  # U+FFFD stands in it where bytes were not UTF-8, or half a character

    @property
    def text(self) -> str:
        """The text of the first column that was asked for."""
        return self.texts[0]


@dataclass(frozen=True)
class RecordForm:
    """What lines hold, and which parts of them are wanted."""

    format: InputFormat
    columns: tuple[str, ...]  # of TSV numbers from 1, of JSON lines keys; () of text
    asks: bool = False  # an object may ask something of its translation; else keys with these names are like any other

    def __post_init__(self) -> None:
        if self.format == "tsv":
            RowParser(self.columns)

    @classmethod
    def choose(cls, format: InputFormat, columns: Sequence[str], default_keys: Sequence[str]) -> Self:
        """Make the form of what the options say.

        Args:
            format: of the lines.
            columns: as they were given; none for the default.
            default_keys: of JSON lines; of TSV as many columns, from the first.

        Raises:
            ConfigError: the columns are not those of the format, or not as many as are needed.
        """
        if format == "text":
            if columns:
                raise ConfigError(f"--columns {columns[0]} needs --input-format tsv or jsonl: text has one column")
            return cls("text", ())
        if columns and len(columns) != len(default_keys):
            raise ConfigError(
                f"--columns is given {len(columns)} times; give it {len(default_keys)} times, in the order of "
                f"{' and '.join(default_keys)}"
            )
        defaults = default_keys if format == "jsonl" else [str(number + 1) for number in range(len(default_keys))]
        return cls(format, tuple(columns or defaults), asks=default_keys == SOURCE_KEYS)

    @property
    def column_index(self) -> int:
        """The place of the first column in a row of TSV, from 0."""
        return int(self.columns[0]) - 1 if self.format == "tsv" else 0

    def only(self, *places: int) -> "RecordForm":
        """The same of some of the columns, by their places."""
        return self if self.format == "text" else RecordForm(self.format, tuple(self.columns[i] for i in places))


PLAIN = RecordForm("text", ())


class RecordReader:
    """Iterates over the records of files or of standard input, one file after the other.

    Memory is bounded as LineReader's. Records before a fault are handed over first.

    Args:
        paths: files, at least one; "-" is standard input.
        form: what their lines hold.
        errors: what becomes of bytes that are not UTF-8, and of half a character in JSON.
        source: gives the bytes in place of the first path.

    Raises:
        ConfigError: standard input is named twice.
        DataError: here when a file cannot be opened; while iterating when it is damaged or not of the form.
    """

    def __init__(
        self,
        paths: Sequence[str | Path],
        form: RecordForm = PLAIN,
        *,
        errors: Errors = "strict",
        source: ByteSource | None = None,
    ) -> None:
        if [str(path) for path in paths].count(STANDARD_STREAM) > 1:
            raise ConfigError("standard input (-) can be only one of the files")
        for path in paths[1:]:
            _check_exists(path)
        self._paths = list(paths)
        self._form = form
        self._errors = errors
        self._file = _MarkingReader(paths[0], errors=errors, source=source)
        self._begins = [0]  # records before each file that has been opened
        self._names = [self._file.name]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def __iter__(self) -> Iterator[Record]:
        for parser in self._files():
            for line in self._file:
                yield self._record(parser, line, self._file.line_number)

    def windows(self, max_records: int) -> Iterator[list[Record]]:
        """Hand over the records in groups, as LineReader does; none has records of two files."""
        for parser in self._files():
            for lines in self._file.windows(max_records):
                records, fault = [], None
                for number, line in enumerate(lines, self._file.line_number - len(lines) + 1):
                    try:
                        records.append(self._record(parser, line, number))
                    except DataError as error:
                        fault = error
                        break
                if records:
                    yield records
                if fault is not None:
                    raise fault

    def place(self, number: int) -> tuple[str, int]:
        """Say where a record stands, by its number in all of the input, from 1: the name of the file, and the line."""
        index = bisect_right(self._begins, number - 1) - 1
        return self._names[index], number - self._begins[index]

    def _record(self, parser: "_Parser", line: str, number: int) -> Record:
        record = parser.parse(line, number)
        return record._replace(is_mended=True) if self._file.was_mended(number) else record

    def _files(self) -> Iterator["_Parser"]:
        """Open one file after the other; gives a parser for each."""
        for index, path in enumerate(self._paths):
            if index > 0:
                self._begins.append(self._begins[-1] + self._file.line_number)
                self._file = _MarkingReader(path, errors=self._errors)
                self._names.append(self._file.name)
            yield _Parser(self._form, self._errors, self._file.name)


class _MarkingReader(LineReader):
    """Remembers in which of the lines read ahead bytes were replaced."""

    def __init__(self, path: str | Path, *, errors: Errors = "strict", source: ByteSource | None = None) -> None:
        super().__init__(path, errors=errors, source=source)
        self._mended: set[int] = set()  # numbers of lines

    def was_mended(self, number: int) -> bool:
        """Tell it of a line, and forget it."""
        if number not in self._mended:
            return False
        self._mended.remove(number)
        return True

    def _decode_with_faults(self, raw_lines: Sequence[bytes]) -> list[str]:
        lines = super()._decode_with_faults(raw_lines)
        numbered = enumerate(zip(lines, raw_lines, strict=False), self._num_decoded + 1)
        self._mended.update(number for number, (line, raw_line) in numbered if line.encode() != raw_line)
        return lines


class _Parser:
    """Turns the lines of one file into records."""

    def __init__(self, form: RecordForm, errors: Errors, name: str) -> None:
        self._form = form
        self._errors = errors
        self._name = name
        self._rows = RowParser(form.columns) if form.format == "tsv" else None

    def parse(self, line: str, number: int) -> Record:
        """Turn a line into a record.

        Raises:
            DataError: the line is not of the form.
        """
        if self._form.format == "text":
            return Record((line,))
        try:
            if self._rows is not None:
                cells = self._rows.parse(line)
                return Record(tuple(cells[index] for index in self._rows.indices), cells)
            return self._object(line)
        except ValueError as error:
            raise DataError(f"{self._name}:{number}: {error}") from None

    def _object(self, line: str) -> Record:
        members = split_object(line)
        if not members and not line.strip():
            return Record(("",) * len(self._form.columns))
        has_prefix = self._form.asks and PREFIX_KEY in members
        found = [text_of(members, key) for key in (*self._form.columns, *([PREFIX_KEY] if has_prefix else []))]
        is_mended = any(has_half for _, has_half in found)
        if is_mended and self._errors == "strict":
            raise ValueError("has half a character (such as \\ud800); mend the text or pass --errors replace")
        texts = tuple(text for text, _ in found)
        if not self._form.asks:
            return Record(texts, members=members, is_mended=is_mended)
        return Record(
            texts[: len(self._form.columns)],
            members=members,
            target_prefix=texts[-1] if has_prefix else "",
            constraints=texts_of(members, "constraints"),
            avoid=texts_of(members, "avoid"),
            is_mended=is_mended,
        )


def _check_exists(path: str | Path) -> None:
    """Open and close a file that is read later; a pipe cannot be opened twice.

    Raises:
        DataError: it cannot be opened.
    """
    try:
        is_ordinary = stat.S_ISREG(Path(path).stat().st_mode)
    except (OSError, ValueError):
        is_ordinary = True  # so that opening it says what is wrong
    if str(path) != STANDARD_STREAM and (is_ordinary or Path(path).is_dir()):
        LineReader(path).close()
