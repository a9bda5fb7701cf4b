"""Hold some of the training rows back to validate with.

Which ones follows from the text of the source alone, so no source line is in both parts, and every run holds back the
same.
"""

import hashlib
import heapq
from collections.abc import Sequence
from contextlib import ExitStack
from itertools import chain

from transformer_core.data.lines import is_blank, open_output
from transformer_core.data.shards import Part
from transformer_core.errors import ConfigError, DataError
from transformer_core.experiments.progress import Progress
from transformer_core.experiments.recipe import MOST_HELD_BACK, held_back_rows
from transformer_core.experiments.texts import Rows, Text, TextConfig, read_rows

__all__ = ["hold_back"]


def hold_back(data: TextConfig, texts: Sequence[Text], held_back: Sequence[Text], progress: Progress) -> list[Part]:
    """Write the rows that are held back to the files of `held_back`; give the others of every text.

    Raises:
        DataError: there are too few rows to hold any back.
        ConfigError: more are asked for than there are.
    """
    first_file = texts[0].files[0]
    num_rows, drawn = _count_and_draw(data, texts, progress)
    wanted = data.valid_size or held_back_rows(num_rows)
    if num_rows < 2:
        raise DataError(f"{first_file}: has {num_rows} {data.unit}; training and validation need at least one each")
    if wanted >= num_rows:
        raise ConfigError(f"--valid-size {wanted} would hold back all of the {num_rows} {data.unit}")
    chosen = _choose(drawn, wanted)
    num_held_back = 0
    with ExitStack() as stack:
        writers = [[stack.enter_context(open_output(path)) for path in text.files] for text in held_back]
        for number, text in enumerate(texts):
            for row in read_rows(text, data):
                if _hash(row[0]) in chosen and not any(map(is_blank, row)):
                    for writer, line in zip(writers[number % len(writers)], row, strict=True):
                        writer.write_line(line)
                    num_held_back += 1
    if num_held_back == num_rows:
        options = "--valid-src, --valid-tgt" if len(texts[0].files) > 1 else "--valid"
        raise DataError(
            f"{first_file}: holds too few different lines to hold some back for validation; "
            f"give validation {data.unit} ({options})"
        )
    return [Part(_others(read_rows(text, data), chosen), text.tag, text.weight) for text in texts]


def _others(rows: Rows, chosen: set[int]) -> Rows:
    return (row for row in rows if _hash(row[0]) not in chosen)


def _count_and_draw(data: TextConfig, texts: Sequence[Text], progress: Progress) -> tuple[int, dict[int, int]]:
    """Count the rows with text in all columns, and draw source lines: those with the smallest hashes.

    Returns:
        the number of rows; and by the hash of each line that was drawn, smallest first, how many rows it has. A line
        that was drawn was so when it was first seen (the limit only falls), so no row of it is missed.
    """
    most = max(data.valid_size or 0, MOST_HELD_BACK)  # of few lines, all may have too many rows
    num_rows = 0
    heap: list[int] = []  # negated: its first is the largest of the smallest
    drawn: dict[int, int] = {}
    with progress(f"counting {data.unit}", unit=data.unit) as advance:
        for row in chain.from_iterable(read_rows(text, data) for text in texts):
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
