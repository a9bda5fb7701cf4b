"""What a student learns from: the hypotheses of its teachers for given source lines, written as they come.

    STUDENT/distilled/train.src  train.tgt    a pair for every hypothesis that is learned
                      progress.json           how far it is, and of what; renewed when both files are on disk

Whoever was killed goes on from there: what was written after progress.json is cut off and made again, so that no line
is lost or doubled, and the files are those of a run that was not.
"""

import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields, replace
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from transformer_core.data.lines import LineWriter, is_blank, read_lines
from transformer_core.data.pairs import read_pairs
from transformer_core.decoding.config import SearchConfig
from transformer_core.errors import ConfigError, DataError, Interrupted, ModelError
from transformer_core.experiments.distillation_config import DISTILLED_FOLDER, DistillationConfig, distilled_files
from transformer_core.experiments.progress import Progress
from transformer_core.experiments.teacher import Row, Teacher
from transformer_core.model_files import hash_model_files, read_config, read_json, require_decoder, write_json
from transformer_core.provenance import describe_file, is_unchanged
from transformer_core.training.interruption import Interruption, interruptible

__all__ = ["DistilledText", "begin_distilled_text", "describe_teacher", "write_distilled_text"]

# Of the teacher's own search, where it has them: earlier versions went on without them, which is another text.
RULES = ("early_stopping", "no_repeat_ngram", "repetition_penalty")
PROGRESS_FILE = "progress.json"
WINDOW_LINES = 1024  # translated between two looks at the disk: enough for batches of similar length


@dataclass(frozen=True, kw_only=True)
class DistilledText:
    """How far the translations are, and of what."""

    teachers: list[dict[str, Any]]  # the path of each, and the hashes of its files
    search: dict[str, Any]  # how they look for hypotheses, and how many of them are learned
    data: dict[str, list[dict[str, Any]]]  # the files, by the names of their options
    num_lines: int = 0  # source lines that are done
    num_pairs: int = 0  # pairs that were made of them
    num_left_out: int = 0  # lines of which there is none: no hypothesis came to its end, or all were blank
    source_bytes: int = 0  # length of train.src when that was so
    target_bytes: int = 0  # length of train.tgt
    is_complete: bool = False

    @classmethod
    def load(cls, folder: Path) -> Self | None:
        """Read how far an earlier run came; None if there was none.

        Raises:
            ModelError: progress.json is damaged.
        """
        path = folder / DISTILLED_FOLDER / PROGRESS_FILE
        content = read_json(path)
        if not content:
            return None
        if set(content) != {item.name for item in fields(cls)} or not _is_sound(content):
            raise ModelError(f"{path}: is damaged or of another version; remove {path.parent} to translate anew")
        return cls(**content)

    def save(self, folder: Path) -> None:
        """Write how far it is."""
        write_json(folder / DISTILLED_FOLDER / PROGRESS_FILE, asdict(self))


def describe_teacher(folder: Path) -> dict[str, Any]:
    """Say for metadata.json who taught the student in a folder, and how."""
    text = DistilledText.load(folder)
    assert text is not None, "its text is written before it learns"
    return {
        "models": [
            {"path": teacher["path"], "sha256": teacher["files"].get("model.safetensors")} for teacher in text.teachers
        ],
        "search": text.search,
        "data": text.data,
        "num_lines": text.num_lines,
        "num_pairs": text.num_pairs,
        "num_left_out": text.num_left_out,
    }


def begin_distilled_text(config: DistillationConfig, folder: Path, *, overwrite: bool) -> DistilledText:
    """See what is to be translated, and how much of it an earlier run did; changes nothing.

    Args:
        config: who translates what.
        folder: of the student.
        overwrite: forget what an earlier run did, if it was anything else.

    Raises:
        ConfigError: the folder holds the translations of something else.
        DataError: a file is missing.
        ModelError: a teacher is no model, has no decoder, or damaged decoding defaults; the pairs are not those that an
            earlier run wrote.
    """
    for teacher in config.teachers:
        require_decoder(read_config(teacher), str(teacher))
    search = config.search(read_json(config.teachers[0] / "generation.json"))
    rules = {name: getattr(search, name) for name in RULES if getattr(search, name) != getattr(SearchConfig, name)}
    files = {"train_src": config.train_src, "train_tgt": config.references}
    wanted = DistilledText(
        teachers=[{"path": str(path.resolve()), "files": hash_model_files(path)} for path in config.teachers],
        search={
            "tag": config.tag,
            "beam_size": config.beam_size,
            "n_best": config.n_best,
            "length_penalty": config.length_penalty,
            "length_penalty_type": config.length_penalty_type,
            **rules,
        },
        data={name: [describe_file(path) for path in paths] for name, paths in files.items()},
    )
    found = DistilledText.load(folder)
    if found is None:
        return wanted
    differences = [] if _weights(found) == _weights(wanted) else ["the teacher"]
    differences += [_option(name) for name, value in wanted.search.items() if found.search.get(name) != value]
    differences += [_option(name) for name, paths in files.items() if not is_unchanged(found.data[name], paths)]
    if differences and not overwrite:
        raise ConfigError(
            f"{differences[0]} is not what it was when the translations in {folder / DISTILLED_FOLDER} were begun; "
            "give the same to go on, or start anew with --overwrite"
        )
    if differences:
        return wanted
    _require_pairs(found, folder)
    return found


def _require_pairs(text: DistilledText, folder: Path) -> None:
    """See that the pairs are there that progress.json speaks of; those of a text that is not complete may be more.

    Raises:
        ModelError: a file is shorter, or of a complete text longer.
    """
    for path, size in zip(distilled_files(folder), (text.source_bytes, text.target_bytes), strict=True):
        found = path.stat().st_size if path.exists() else 0
        if found < size or (text.is_complete and found > size):
            kind = "shorter" if found < size else "longer"
            raise ModelError(f"{path}: is {kind} than {PROGRESS_FILE} says; remove {path.parent} to translate anew")


def write_distilled_text(
    config: DistillationConfig, folder: Path, text: DistilledText, teacher: Teacher, progress: Progress
) -> DistilledText:
    """Translate what is not translated yet.

    Args:
        config: who translates what.
        folder: of the student.
        text: as `begin_distilled_text` gave it.
        teacher: translates.
        progress: is shown how far it is.

    Raises:
        DataError: the text cannot be read, its sides do not match, or nothing comes of it.
        Interrupted: a signal came; the same call goes on.
    """
    total = sum(1 for _ in _rows(config))  # finds what is wrong with the last line before the first is translated
    if not total:
        raise DataError(f"{config.train_src[0]}: holds no lines to translate")
    (folder / DISTILLED_FOLDER).mkdir(parents=True, exist_ok=True)
    with (
        _PairFiles(folder, text) as files,
        progress("translating with the teacher", total=total, unit="lines") as advance,
        interruptible() as interruption,
    ):
        advance(text.num_lines)
        rows = islice(_rows(config), text.num_lines, None)
        while window := list(islice(rows, WINDOW_LINES)):
            with _breakable(interruption, f"{text.num_lines:,} of {total:,}"):
                targets = teacher.teach(window, text.num_lines + 1)
            source_bytes, target_bytes = files.add([row[0] for row in window], targets)
            left_out = [row for row, of_row in zip(window, targets, strict=True) if not of_row and not is_blank(row[0])]
            text = replace(
                text,
                num_lines=text.num_lines + len(window),
                num_pairs=text.num_pairs + sum(map(len, targets)),
                num_left_out=text.num_left_out + len(left_out),
                source_bytes=source_bytes,
                target_bytes=target_bytes,
            )
            text.save(folder)
            advance(len(window))
    if not text.num_pairs:
        shutil.rmtree(folder / DISTILLED_FOLDER)
        num_blank = text.num_lines - text.num_left_out
        raise DataError(
            f"{config.train_src[0]}: the teacher makes nothing of its lines to learn from: {num_blank:,} are blank, "
            f"and of {text.num_left_out:,} no hypothesis came to its end; is it the teacher's source language?"
        )
    text = replace(text, is_complete=True)
    text.save(folder)
    return text


class _PairFiles:
    """The two files of pairs, as long as progress.json says; longer ones are cut."""

    def __init__(self, folder: Path, text: DistilledText) -> None:
        self.files, self.writers = [], []
        for path, size in zip(distilled_files(folder), (text.source_bytes, text.target_bytes), strict=True):
            file = path.open("r+b" if size else "wb")
            self.files.append(file)
            file.truncate(size)
            file.seek(size)
            self.writers.append(LineWriter(file, str(path), has_begun=size > 0))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for file in self.files:
            file.close()

    def add(self, sources: Sequence[str], targets: Sequence[Sequence[str]]) -> tuple[int, int]:
        """Write the pairs of some lines to the disk; give the length of the files.

        Raises:
            OSError: the disk is full.
        """
        for source, of_source in zip(sources, targets, strict=True):
            for target in of_source:
                self.writers[0].write_line(source)
                self.writers[1].write_line(target)
        for file, writer in zip(self.files, self.writers, strict=True):
            writer.flush()
            os.fsync(file.fileno())
        return self.files[0].tell(), self.files[1].tell()


@contextmanager
def _breakable(interruption: Interruption, done: str) -> Iterator[None]:
    """Let a signal break the block off.

    Raises:
        Interrupted: it did.
    """
    try:
        with interruption.immediate():
            yield
    except KeyboardInterrupt:
        if interruption.signal_number is None:  # not in the main thread, where nobody notes signals
            raise
        raise Interrupted(
            interruption.signal_number,
            f"interrupted after {done} lines were translated; the same command goes on from there",
        ) from None


def _rows(config: DistillationConfig) -> Iterator[Row]:
    """Read the source lines, each with its reference where there are references."""
    if config.references:
        yield from read_pairs(config.train_src, config.references, config.errors)
    else:
        for line in read_lines(config.train_src, config.errors):
            yield line, None


def _is_sound(content: dict[str, Any]) -> bool:
    """Tell whether progress.json, which may hold anything, holds what is used of it."""
    teachers, search, data = content["teachers"], content["search"], content["data"]
    counts = [value for name, value in content.items() if name.startswith("num_") or name.endswith("_bytes")]
    return (
        isinstance(teachers, list)
        and all(isinstance(teacher, dict) for teacher in teachers)
        and all(isinstance(teacher.get("path"), str) for teacher in teachers)
        and all(isinstance(teacher.get("files"), dict) for teacher in teachers)
        and isinstance(search, dict)
        and isinstance(data, dict)
        and {"train_src", "train_tgt"} <= set(data)
        and all(type(count) is int and 0 <= count < 1 << 53 for count in counts)
        and isinstance(content["is_complete"], bool)
    )


def _weights(text: DistilledText) -> list[dict[str, str]]:
    """The files of the teachers, wherever they lie."""
    return [teacher["files"] for teacher in text.teachers]


def _option(name: str) -> str:
    return f"--{name.replace('_', '-')}"
