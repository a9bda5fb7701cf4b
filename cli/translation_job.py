"""What `translate` is asked to do: all of its input or a part, anew or from where an earlier run of it stopped."""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from cli.line_translator import weights_of
from cli.translation_work import Window
from transformer_core.data.compression import is_compressed
from transformer_core.data.line_count import count_lines
from transformer_core.data.lines import STANDARD_STREAM, LineWriter, open_output, require_place
from transformer_core.data.records import RecordReader
from transformer_core.errors import ConfigError

__all__ = ["describe_job", "numbered_windows", "open_job_output", "shard_bounds"]

# Options that do not decide what is in the output.
FREE_OPTIONS = (
    "output",
    "resume",
    "workers",
    "engine",
    "config",
    "print_config",
    "quiet",
    "verbose",
    "no_color",
    "debug",
)


def shard_bounds(shard: str | None, inputs: Sequence[Path]) -> tuple[int, int | None]:
    """Give the records that a shard begins and ends before, counted from 0; all of them where there is no shard.

    Args:
        shard: "K/N", the K-th of N parts that are as equal as can be, K from 1.
        inputs: what is read.

    Raises:
        ConfigError: it is no such thing, or nobody knows how many lines there are.
    """
    if shard is None:
        return 0, None
    number, slash, count = shard.partition("/")
    if not (slash and number.isdecimal() and count.isdecimal() and 1 <= int(number) <= int(count)):
        raise ConfigError(f"--shard {shard}: write K/N, with K from 1 to N, such as 2/8")
    total = None if any(str(path) == STANDARD_STREAM for path in inputs) else count_lines(inputs)
    if total is None:
        raise ConfigError(
            "--shard needs plain files (-i): the lines of what is packed or piped cannot be counted before"
        )
    return total * (int(number) - 1) // int(count), total * int(number) // int(count)


def numbered_windows(reader: RecordReader, buffer_size: int, begin: int, end: int | None) -> Iterator[Window]:
    """Give the windows of a part of the input.

    They begin where those of the whole do, so that its batches are the same.

    Args:
        reader: of the input.
        buffer_size: records of a window.
        begin: records before the part.
        end: records before its end; None: it goes to the end of the input.
    """
    before = 0
    for window in reader.windows(buffer_size):
        records = window[max(0, begin - before) : None if end is None else max(0, end - before)]
        if records:
            first = max(before, begin) + 1
            file, line = reader.place(first)
            yield Window(records=records, first=first, file=file, line=line)
        before += len(window)
        if end is not None and before >= end:
            return


def describe_job(params: Mapping[str, Any], inputs: Sequence[Path]) -> dict[str, object]:
    """Name all that decides about the output: options, weights, and what the files of the models and the input hold.

    Raises:
        ConfigError: the input is no file.
        ModelError: a model has no such checkpoint, or no server listens.
    """
    if any(not path.is_file() for path in inputs):
        raise ConfigError("--resume needs files (-i): what was piped once cannot be read again")
    from transformer_core.model_files import SHORTLIST_FILE, TOKENIZER_FILES, hash_file

    names = ("config.json", "generation.json", SHORTLIST_FILE, *TOKENIZER_FILES)
    paths = [*inputs, *(path for folder in params["model"] for name in names if (path := folder / name).is_file())]
    values = {name.replace("_", "-"): value for name, value in params.items() if name not in FREE_OPTIONS}
    contents = {f"content of {path}": hash_file(path) for path in paths}
    described = {**values, "weights": weights_of(params), **contents}
    return dict(json.loads(json.dumps(described, default=str)))


def open_job_output(output: Path, job: Mapping[str, object] | None) -> AbstractContextManager[LineWriter | None]:
    """Open the output; with a job, go on where an earlier run of it stopped (None: it is complete).

    Raises:
        ConfigError: the output has no place, or cannot be gone on with.
        OSError: it cannot be written.
    """
    if job is None:
        return open_output(output)
    from tokenizer.atomic_file import is_replaceable

    if str(output) == STANDARD_STREAM or not is_replaceable(output):
        raise ConfigError("--resume needs an ordinary file to write to: -o FILE")
    if is_compressed(output):
        raise ConfigError(
            f"--resume cannot go on with a packed file: give -o {output.with_suffix('')} and pack it later"
        )
    require_place(output)
    from transformer_core.data.resumable_output import open_resumable

    return open_resumable(output, job)
