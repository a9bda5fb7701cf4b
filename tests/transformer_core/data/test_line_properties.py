"""Lines are the same however their bytes come: in which pieces, packed in which members, damaged or not."""

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.transformer_core.data.test_lines import PACK, PACKED_SUFFIXES, lines_of
from transformer_core.data.lines import Errors, LineReader
from transformer_core.errors import DataError


class Chunks:
    """Gives bytes piece by piece, as a pipe does."""

    name = "chunks"

    def __init__(self, chunks: list[bytes]) -> None:
        self.chunks = chunks

    def read(self) -> bytes | None:
        return self.chunks.pop(0) if self.chunks else None

    def pauses(self) -> bool:
        return len(self.chunks) % 2 == 1

    def close(self) -> None:
        pass


def outcome(chunks: list[bytes], errors: Errors, max_lines: int | None) -> tuple[list[str], str, int]:
    """The lines, what was said of the fault behind them, and how many were mended."""
    reader = LineReader("-", errors=errors, source=Chunks(chunks))
    found: list[str] = []
    fault = ""
    try:
        if max_lines is None:
            found.extend(reader)
        else:
            for window in reader.windows(max_lines):
                assert 1 <= len(window) <= max_lines
                found += window
    except DataError as error:
        fault = str(error)
    assert reader.line_number == len(found)
    return found, fault, reader.num_invalid


HARD_BYTES = st.lists(
    st.sampled_from([b"\n", b"\r", b"\r\n", b"\xef\xbb\xbf", b"\xff", b"\xfe", b"\xc3", b"\xa9", b"a", b"\x85", b"\0"])
    | st.binary(max_size=3)
    | st.text(max_size=3).map(lambda text: text.encode("utf-8", "ignore")),
    max_size=20,
).map(b"".join)


@settings(deadline=None, max_examples=200)
@given(HARD_BYTES, st.lists(st.integers(0, 60), max_size=8), st.sampled_from(["strict", "replace"]), st.integers(1, 4))
def test_it_does_not_matter_how_bytes_come(content: bytes, cuts: list[int], errors: Errors, max_lines: int) -> None:
    places = [0, *sorted(min(cut, len(content)) for cut in cuts), len(content)]
    pieces = [content[start:end] for start, end in pairwise(places)]  # empty ones among them
    whole = outcome([content], errors, None)
    assert outcome(list(pieces), errors, None) == whole
    assert outcome(list(pieces), errors, max_lines) == whole


@settings(deadline=None, max_examples=80)
@given(suffix=st.sampled_from(PACKED_SUFFIXES), content=HARD_BYTES, cuts=st.lists(st.integers(0, 60), max_size=3))
def test_it_does_not_matter_how_a_packed_text_is_cut_into_members(
    suffix: str, content: bytes, cuts: list[int], tmp_path_factory: pytest.TempPathFactory
) -> None:
    places = [0, *sorted(min(cut, len(content)) for cut in cuts), len(content)]
    path = tmp_path_factory.getbasetemp() / f"members{suffix}"
    path.write_bytes(b"".join(PACK[suffix](content[start:end]) for start, end in pairwise(places)))
    try:
        expected, fault = lines_of(content, path.parent, "plain", "replace"), ""
    except DataError as error:
        expected, fault = [], str(error).replace("plain", path.name)
    if fault:
        with pytest.raises(DataError) as caught, LineReader(path, errors="replace") as reader:
            list(reader)
        assert str(caught.value) == fault
    else:
        with LineReader(path, errors="replace") as reader:
            assert list(reader) == expected


@settings(deadline=None, max_examples=120)
@given(
    suffix=st.sampled_from(PACKED_SUFFIXES),
    content=st.binary(max_size=200),
    changes=st.lists(st.tuples(st.integers(0, 300), st.binary())),
)
def test_damage_of_a_packed_file_is_a_data_error_or_none(
    suffix: str, content: bytes, changes: list[tuple[int, bytes]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    packed = bytearray(PACK[suffix](content))
    for place, put in changes:
        packed[place : place + len(put)] = put
    path = tmp_path_factory.getbasetemp() / f"damaged{suffix}"
    path.write_bytes(packed)
    try:
        with LineReader(path, errors="replace") as reader:
            list(reader)
    except DataError as error:
        assert str(error).startswith(f"{path}: ")
        assert "\n" not in str(error)
