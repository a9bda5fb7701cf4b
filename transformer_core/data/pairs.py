"""Pairs of lines: line N of one file with line N of another, or two columns of one file."""

from collections.abc import Iterator, Sequence
from itertools import zip_longest
from pathlib import Path

from transformer_core.data.lines import STANDARD_STREAM, Errors, LineReader
from transformer_core.data.records import PLAIN, Record, RecordForm, RecordReader
from transformer_core.errors import ConfigError, DataError

__all__ = ["pair_windows", "read_pairs"]

WINDOW_PAIRS = 1024  # read ahead where they are handed over one by one


def read_pairs(
    source_paths: Sequence[str | Path],
    target_paths: Sequence[str | Path],
    errors: Errors = "strict",
    form: RecordForm = PLAIN,
) -> Iterator[tuple[str, str]]:
    """Yield the pairs of line-aligned files: the first source file with the first target file, and so on.

    Args:
        source_paths: files of the source side.
        target_paths: files of the target side; where one is the source file too, it holds both sides in two columns.
        errors: what bytes that are not UTF-8 do.
        form: what a line holds; of its two columns the first is that of the source.

    Raises:
        ConfigError: there are more files on one side, or standard input is named twice; raised before anything is read.
        DataError: a file cannot be read or is not of the form, or one of a pair has more lines than the other.
    """
    _check_paths(source_paths, target_paths, form)
    if form.format == "text":
        return _line_pairs(source_paths, target_paths, errors)
    return (
        (record.texts[0], record.texts[1])
        for paths in zip(source_paths, target_paths, strict=True)
        for window in _windows(*paths, WINDOW_PAIRS, errors, form)
        for record in window
    )


def pair_windows(
    source_path: str | Path,
    target_path: str | Path,
    max_pairs: int,
    errors: Errors = "strict",
    form: RecordForm = PLAIN,
) -> Iterator[list[Record]]:
    """Yield the pairs of one file or two as records of two texts each; what else they hold is the source's.

    They come in groups, as RecordReader has them: what there is when the source pauses, and pairs before a fault first.

    Raises:
        ConfigError: as for read_pairs.
        DataError: as for read_pairs.
    """
    _check_paths([source_path], [target_path], form)
    return _windows(source_path, target_path, max_pairs, errors, form)


def _check_paths(source_paths: Sequence[str | Path], target_paths: Sequence[str | Path], form: RecordForm) -> None:
    if len(source_paths) != len(target_paths):
        raise ConfigError(
            f"{len(source_paths)} source files but {len(target_paths)} target files; "
            "each source file needs the target file that belongs to it, in the same order"
        )
    read_at_once = [{str(source), str(target)} for source, target in zip(source_paths, target_paths, strict=True)]
    num_streams = sum(STANDARD_STREAM in names for names in read_at_once)
    if form.format == "text":
        num_streams = [str(path) for path in (*source_paths, *target_paths)].count(STANDARD_STREAM)
    if num_streams > 1:
        raise ConfigError("standard input (-) can be only one of the files")


def _line_pairs(
    source_paths: Sequence[str | Path], target_paths: Sequence[str | Path], errors: Errors
) -> Iterator[tuple[str, str]]:
    for source_path, target_path in zip(source_paths, target_paths, strict=True):
        with LineReader(source_path, errors=errors) as source, LineReader(target_path, errors=errors) as target:
            for source_line, target_line in zip_longest(source, target):
                if source_line is not None and target_line is not None:
                    yield source_line, target_line
            _check_counts(source.name, source.line_number, target.name, target.line_number)


def _windows(
    source_path: str | Path, target_path: str | Path, max_pairs: int, errors: Errors, form: RecordForm
) -> Iterator[list[Record]]:
    if form.format != "text" and str(source_path) == str(target_path):
        with RecordReader([source_path], form, errors=errors) as reader:
            yield from reader.windows(max_pairs)
        return
    with (
        RecordReader([source_path], form.only(0), errors=errors) as sources,
        RecordReader([target_path], form.only(1), errors=errors) as targets,
    ):
        num_sources = num_targets = 0
        lines = iter(targets)
        for window in sources.windows(max_pairs):
            pairs, fault = [], None
            try:
                for source, target in zip(window, lines, strict=False):
                    is_mended = source.is_mended or target.is_mended
                    pairs.append(source._replace(texts=source.texts + target.texts, is_mended=is_mended))
            except DataError as error:
                fault = error
            if pairs:
                yield pairs
            if fault is not None:
                raise fault
            num_sources += len(window)
            num_targets += len(pairs)
        num_targets += sum(1 for _ in lines)
        _check_counts(sources.place(1)[0], num_sources, targets.place(1)[0], num_targets)


def _check_counts(source_name: str, num_sources: int, target_name: str, num_targets: int) -> None:
    """See that no line was left alone; the loops go on to the end of the longer file to count it."""
    if num_sources != num_targets:
        raise DataError(
            f"{source_name} has {num_sources} lines but {target_name} has {num_targets}; "
            "line N of one must belong to line N of the other"
        )
