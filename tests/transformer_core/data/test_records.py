import json
import os
import threading
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from transformer_core.data.records import PAIR_KEYS, PLAIN, SOURCE_KEYS, InputFormat, RecordForm, RecordReader
from transformer_core.data.tsv import join_row
from transformer_core.errors import ConfigError, DataError

JSON_LINES = RecordForm.choose("jsonl", [], SOURCE_KEYS)
SECOND_COLUMN = RecordForm.choose("tsv", ["2"], SOURCE_KEYS)
TEXTS = st.text(st.characters(exclude_categories=["Cs"]))


def write(path: Path, *lines: str) -> Path:
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return path


def texts(form: RecordForm, *paths: Path) -> list[str]:
    with RecordReader(paths, form) as reader:
        return [record.text for record in reader]


@settings(deadline=None)
@given(lines=st.lists(TEXTS))
def test_json_lines_round_trip(lines: list[str], tmp_path_factory: pytest.TempPathFactory) -> None:
    path = write(tmp_path_factory.mktemp("json") / "in.jsonl", *(json.dumps({"text": line}) for line in lines))
    assert texts(JSON_LINES, path) == lines


@settings(deadline=None)
@given(rows=st.lists(st.tuples(TEXTS, TEXTS, TEXTS)))
def test_tsv_round_trip(rows: list[tuple[str, str, str]], tmp_path_factory: pytest.TempPathFactory) -> None:
    clean = [[cell.replace("\t", " ").replace("\n", " ").replace("\r", " ") for cell in row] for row in rows]
    path = write(tmp_path_factory.mktemp("tsv") / "in.tsv", *map(join_row, clean))
    with RecordReader([path], SECOND_COLUMN) as reader:
        records = list(reader)
    # a byte order mark at the start of a file is none of the text
    assert [list(record.cells)[1:] for record in records] == [row[1:] for row in clean]
    assert [record.text for record in records] == [row[1] for row in clean]


@settings(deadline=None)
@given(lines=st.lists(TEXTS, min_size=1, max_size=6), data=st.data())
def test_damage_anywhere_is_one_line_that_names_the_place(
    lines: list[str], data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("damaged") / "in.jsonl"
    content = bytearray("".join(f"{json.dumps({'text': line})}\n" for line in lines).encode())
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(content)
    found: list[str] = []
    with RecordReader([path], JSON_LINES) as reader:
        try:
            for window in reader.windows(2):
                found += [record.text for record in window]
        except DataError as error:
            assert str(error).startswith(f"{path}:{len(found) + 1}: ")
            assert "\n" not in str(error)


@pytest.mark.parametrize("form", [PLAIN, JSON_LINES, SECOND_COLUMN], ids=lambda form: form.format)
def test_records_one_by_one_and_in_windows_are_the_same(form: RecordForm, tmp_path: Path) -> None:
    shapes = {"text": "{}", "jsonl": '{{"text": "{}"}}', "tsv": "a\t{}\tb"}
    make = shapes[form.format].format
    paths = [write(tmp_path / f"{name}", *map(make, numbers)) for name, numbers in (("a", range(5)), ("b", range(0)))]
    paths.append(write(tmp_path / "c", *map(make, range(5, 8))))
    expected = [str(number) for number in range(8)]
    assert texts(form, *paths) == expected
    with RecordReader(paths, form) as reader:
        windows = [[record.text for record in window] for window in reader.windows(3)]
        assert [len(window) for window in windows] == [3, 2, 3]
        assert [text for window in windows for text in window] == expected
        assert [reader.place(number) for number in (1, 5, 6, 8)] == [
            (str(tmp_path / "a"), 1),
            (str(tmp_path / "a"), 5),
            (str(tmp_path / "c"), 1),
            (str(tmp_path / "c"), 3),
        ]


def test_what_comes_before_a_fault_is_handed_over(tmp_path: Path) -> None:
    path = write(tmp_path / "in", '{"text": "a"}', '{"text": "b"}', "c", '{"text": "d"}')
    windows = RecordReader([path], JSON_LINES).windows(100)
    assert [record.text for record in next(windows)] == ["a", "b"]
    with pytest.raises(DataError, match="in:3: is no JSON object"):
        next(windows)


def test_a_blank_line_is_a_blank_record(tmp_path: Path) -> None:
    path = write(tmp_path / "in", '{"text": "a"}', "", " ")
    assert texts(JSON_LINES, path) == ["a", "", ""]
    assert texts(SECOND_COLUMN, write(tmp_path / "rows", "", "a\tb", "")) == ["", "b", ""]


def test_half_a_character_is_an_error_or_replaced_and_counted(tmp_path: Path) -> None:
    path = write(tmp_path / "in", '{"text": "a\\ud800b"}', '{"text": "\\ud83d\\ude00"}')
    with pytest.raises(DataError, match=r"in:1: has half a character .*; mend the text or pass --errors replace"):
        texts(JSON_LINES, path)
    with RecordReader([path], JSON_LINES, errors="replace") as reader:
        assert [(record.text, record.is_mended) for record in reader] == [("a\ufffdb", True), ("😀", False)]


@pytest.mark.parametrize("max_records", [1, 3, 100])
def test_a_record_says_whether_bytes_were_replaced(max_records: int, tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    first.write_bytes("\ufeffa\n\ufffd\n".encode() + b"b\xff\r\n\xff")
    second.write_bytes(b"\xff\nc\n")
    with RecordReader([first, second], errors="replace") as reader:
        found = [record for window in reader.windows(max_records) for record in window]
    assert [record.is_mended for record in found] == [False, False, True, True, True, False]
    with RecordReader([first, second], errors="replace") as reader:
        assert list(reader) == found


def test_what_is_asked_of_a_translation_is_read(tmp_path: Path) -> None:
    asked = {"text": "a", "target_prefix": "b c", "constraints": ["d", "e f"], "avoid": ["g"]}
    with RecordReader([write(tmp_path / "in", json.dumps(asked), json.dumps({"text": "h"}))], JSON_LINES) as reader:
        first, second = reader
    assert (first.text, first.target_prefix, first.constraints, first.avoid) == ("a", "b c", ("d", "e f"), ("g",))
    assert (second.text, second.target_prefix, second.constraints, second.avoid) == ("h", "", (), ())


@pytest.mark.parametrize("key", ["constraints", "avoid"])
@pytest.mark.parametrize("value", ["a", [1], [[]], None, [" "], {"a": 1}])
def test_phrases_are_a_list_of_texts(key: str, value: object, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=f'in:1: "{key}" is no list of phrases; write it as in'):
        texts(JSON_LINES, write(tmp_path / "in", json.dumps({"text": "a", key: value})))


def test_a_prefix_is_a_text(tmp_path: Path) -> None:
    with pytest.raises(DataError, match='in:1: "target_prefix" is a number, not text'):
        texts(JSON_LINES, write(tmp_path / "in", json.dumps({"text": "a", "target_prefix": 5})))


def test_files_are_looked_for_before_anything_is_read(tmp_path: Path) -> None:
    first = write(tmp_path / "first", "a")
    with pytest.raises(DataError, match="missing: there is no such file"):
        RecordReader([first, tmp_path / "missing"])
    with pytest.raises(DataError, match="is a folder"):
        RecordReader([first, tmp_path])
    with pytest.raises(ConfigError, match=r"standard input \(-\) can be only one of the files"):
        RecordReader(["-", first, "-"])


def test_a_named_pipe_may_be_one_of_several_files(tmp_path: Path) -> None:
    first, pipe = write(tmp_path / "first", "a"), tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=lambda: pipe.write_text("b\n"))
    writer.start()
    assert texts(PLAIN, first, pipe) == ["a", "b"]
    writer.join()


@pytest.mark.parametrize(
    ("format", "columns", "keys", "message"),
    [
        ("text", ["1"], SOURCE_KEYS, "--columns 1 needs --input-format tsv or jsonl"),
        ("tsv", ["text"], SOURCE_KEYS, "--columns text: is no column of TSV"),
        ("tsv", ["1"], PAIR_KEYS, "--columns is given 1 times; give it 2 times, in the order of text and translation"),
    ],
)
def test_columns_that_do_not_fit(format: InputFormat, columns: list[str], keys: tuple[str, ...], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        RecordForm.choose(format, columns, keys)
    assert str(caught.value).startswith(message)


def test_what_is_asked_is_read_only_where_something_is_translated(tmp_path: Path) -> None:
    line = {"text": "a", "translation": "b", "constraints": None, "target_prefix": 5, "avoid": "c"}
    with RecordReader([write(tmp_path / "in", json.dumps(line))], RecordForm.choose("jsonl", [], PAIR_KEYS)) as reader:
        (record,) = reader
    assert record.texts == ("a", "b")
    assert (record.target_prefix, record.constraints, record.avoid) == ("", (), ())
