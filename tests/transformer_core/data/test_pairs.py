import sys
from io import BytesIO, TextIOWrapper
from pathlib import Path

import pytest

from transformer_core.data.pairs import pair_windows, read_pairs
from transformer_core.data.records import PAIR_KEYS, RecordForm
from transformer_core.errors import ConfigError, DataError

TSV = RecordForm.choose("tsv", ["3", "1"], PAIR_KEYS)
JSON_LINES = RecordForm.choose("jsonl", [], PAIR_KEYS)


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8", newline="")
    return path


def test_read_pairs_pairs_files_in_their_order(tmp_path: Path) -> None:
    sources = [write(tmp_path / "a.en", "one\n\n"), write(tmp_path / "b.en", "three\n")]
    targets = [write(tmp_path / "a.de", "eins\n\n"), write(tmp_path / "b.de", "drei")]
    assert list(read_pairs(sources, targets)) == [("one", "eins"), ("", ""), ("three", "drei")]


@pytest.mark.parametrize(("num_source", "num_target"), [(3, 5), (5, 3), (0, 2)])
def test_read_pairs_names_both_files_and_both_counts(num_source: int, num_target: int, tmp_path: Path) -> None:
    source, target = write(tmp_path / "s", "x\n" * num_source), write(tmp_path / "t", "y\n" * num_target)
    pairs = read_pairs([source], [target])
    with pytest.raises(DataError) as caught:
        list(pairs)
    assert str(caught.value).startswith(f"{source} has {num_source} lines but {target} has {num_target};")


def test_read_pairs_refuses_before_reading(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="2 source files but 1 target files"):
        read_pairs(["a", "b"], ["c"])
    with pytest.raises(ConfigError, match="standard input"):
        read_pairs(["-"], ["-"])


def test_one_file_holds_both_sides(tmp_path: Path) -> None:
    rows = write(tmp_path / "rows", "eins\tx\tone\n\nzwei\ty\ttwo\n")
    assert list(read_pairs([rows], [rows], form=TSV)) == [("one", "eins"), ("", ""), ("two", "zwei")]
    objects = write(tmp_path / "objects", '{"id": 7, "text": "one", "translation": "eins"}\n')
    assert list(read_pairs([objects], [objects], form=JSON_LINES)) == [("one", "eins")]
    ((record,),) = pair_windows(objects, objects, 5, form=JSON_LINES)
    assert record.texts == ("one", "eins")
    assert record.members["id"].value == "7"


def test_each_side_has_its_column_where_there_are_two_files(tmp_path: Path) -> None:
    sources = write(tmp_path / "sources", '{"text": "one"}\n{"text": "two"}\n')
    targets = write(tmp_path / "targets", '{"translation": "eins"}\n{"translation": "zwei"}\n')
    assert list(read_pairs([sources], [targets], form=JSON_LINES)) == [("one", "eins"), ("two", "zwei")]
    shorter = write(tmp_path / "shorter", '{"translation": "eins"}\n')
    with pytest.raises(DataError, match=r"sources has 2 lines but .*shorter has 1"):
        list(read_pairs([sources], [shorter], form=JSON_LINES))


def test_standard_input_may_hold_both_sides_but_not_be_two_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", TextIOWrapper(BytesIO(b"eins\tx\tone\n")))
    assert list(read_pairs(["-"], ["-"], form=TSV)) == [("one", "eins")]
    with pytest.raises(ConfigError, match="standard input"):
        read_pairs(["-", "-"], ["-", "-"], form=TSV)
    with pytest.raises(ConfigError, match="standard input"):
        pair_windows("-", "-", 5)


def test_a_fault_names_the_line_of_its_file(tmp_path: Path) -> None:
    rows = write(tmp_path / "rows", "a\tb\tc\na\tb\n")
    with pytest.raises(DataError, match="rows:2: has 2 columns, but the rows before have 3"):
        list(read_pairs([rows], [rows], form=TSV))


def test_what_comes_before_a_fault_of_either_side_is_handed_over(tmp_path: Path) -> None:
    whole, broken = write(tmp_path / "whole", '{"text": "a", "translation": "b"}\n' * 4), tmp_path / "broken"
    write(broken, '{"text": "a", "translation": "b"}\n' * 3 + "{\n")
    for source, target in ((broken, broken), (whole, broken), (broken, whole)):
        windows = pair_windows(source, target, 2, form=JSON_LINES)
        assert [record.texts for record in next(windows)] == [("a", "b")] * 2
        assert [record.texts for record in next(windows)] == [("a", "b")]
        with pytest.raises(DataError, match=f"{broken}:4: "):
            next(windows)


@pytest.mark.parametrize(("num_source", "num_target"), [(3, 5), (5, 3), (0, 2), (4, 1)])
def test_windows_end_with_the_shorter_file_and_name_both_counts(
    num_source: int, num_target: int, tmp_path: Path
) -> None:
    source, target = write(tmp_path / "s", "x\n" * num_source), write(tmp_path / "t", "y\n" * num_target)
    found = []
    with pytest.raises(DataError, match=f"{source} has {num_source} lines but {target} has {num_target};"):
        for window in pair_windows(source, target, 2):
            found += window
    assert [record.texts for record in found] == [("x", "y")] * min(num_source, num_target)
