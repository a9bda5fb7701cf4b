import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.training_task import write_lines
from tests.transformer_core.decoding.random_model import save_word_model
from transformer_core.data.lines import read_lines
from transformer_core.errors import ConfigError, DataError, ModelError
from transformer_core.experiments import distilled_text as module
from transformer_core.experiments.distillation_config import DistillationConfig, distilled_files
from transformer_core.experiments.distilled_text import (
    DistilledText,
    begin_distilled_text,
    describe_teacher,
    write_distilled_text,
)
from transformer_core.experiments.progress import no_progress
from transformer_core.experiments.teacher import Row, Teacher
from transformer_core.model_files import write_json

# A byte order mark begins a line that is the first of a window, and one that is not; blank lines make nothing.
LINES = ["\ufeffone", *(f"line {number}" for number in range(2, 20)), "", "\ufeffmark", "  ", "x\ry", "end\r", "last"]
WINDOW = 5


class Killed(BaseException):
    pass


class Repeater(Teacher):
    """Makes as many hypotheses of a line as its number modulo 3, so that pairs and lines do not go together."""

    def __init__(self, die_at: int | None = None) -> None:
        self.num_calls = 0
        self.die_at = die_at

    def teach(self, rows: Sequence[Row], first_line_number: int) -> list[list[str]]:
        if self.num_calls == self.die_at:
            raise Killed
        self.num_calls += 1
        return [
            [f"{source} {reference} {copy}" for copy in range((first_line_number + place) % 3)]
            for place, (source, reference) in enumerate(rows)
        ]


@pytest.fixture(autouse=True)
def _short_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "WINDOW_LINES", WINDOW)


def make_config(place: Path, **values: Any) -> DistillationConfig:  # noqa: ANN401
    if not (place / "teacher").exists():
        save_word_model(place / "teacher")
        write_lines(place / "a.src", LINES[:11])
        write_lines(place / "b.src", LINES[11:])
        write_lines(place / "a.tgt", [f"{number}" for number in range(11)])
        write_lines(place / "b.tgt", [f"{number}" for number in range(11, len(LINES))])
    sources = (place / "a.src", place / "b.src")
    return DistillationConfig(**{"teachers": (place / "teacher",), "train_src": sources, **values})


def write(config: DistillationConfig, folder: Path, teacher: Teacher | None = None) -> DistilledText:
    text = begin_distilled_text(config, folder, overwrite=False)
    return write_distilled_text(config, folder, text, teacher or Repeater(), no_progress)


def bytes_of(folder: Path) -> list[bytes]:
    return [path.read_bytes() for path in distilled_files(folder)]


@pytest.mark.parametrize("has_references", [False, True])
def test_every_hypothesis_is_a_pair(tmp_path: Path, has_references: bool) -> None:
    references = (tmp_path / "a.tgt", tmp_path / "b.tgt") if has_references else ()
    config = make_config(tmp_path, references=references)
    text = write(config, tmp_path)
    sources, targets = (list(read_lines([path])) for path in distilled_files(tmp_path))
    pairs = []
    for number, line in enumerate(read_lines(config.train_src), 1):
        reference = str(number - 1) if has_references else None
        pairs += [(line, f"{line} {reference} {copy}") for copy in range(number % 3)]
    assert list(zip(sources, targets, strict=True)) == pairs
    assert (text.num_lines, text.num_pairs, text.is_complete) == (len(LINES), len(pairs), True)
    blank = {number for number, line in enumerate(LINES, 1) if not line.strip()}
    assert text.num_left_out == len(
        [number for number in range(1, len(LINES) + 1) if number % 3 == 0 and number not in blank]
    )
    assert DistilledText.load(tmp_path) == text


@pytest.mark.parametrize("call", range(5))
def test_whoever_was_killed_while_translating_writes_the_same_files(tmp_path: Path, call: int) -> None:
    config = make_config(tmp_path)
    whole = write(config, tmp_path / "whole")
    folder = tmp_path / "killed"
    with pytest.raises(Killed):
        write(config, folder, Repeater(call))
    begun = begin_distilled_text(config, folder, overwrite=False)
    assert (begun.num_lines, begun.is_complete) == (WINDOW * call, False)
    rest = Repeater()
    assert write(config, folder, rest) == whole
    assert rest.num_calls == 5 - call, "what was done is not done again"
    assert bytes_of(folder) == bytes_of(tmp_path / "whole")


@pytest.mark.parametrize("name", ["save", "add"])
@pytest.mark.parametrize("call", range(5))
def test_whoever_was_killed_between_writing_and_noting_it_writes_the_same_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, call: int
) -> None:
    config = make_config(tmp_path)
    write(config, tmp_path / "whole")
    folder, calls = tmp_path / "killed", 0
    owner: Any = {"save": DistilledText, "add": module._PairFiles}[name]
    original: Callable[..., Any] = getattr(owner, name)

    def fatal(*arguments: Any) -> Any:  # noqa: ANN401
        nonlocal calls
        calls += 1
        if name == "save" and calls > call:  # the pairs are on the disk, but nobody knows
            raise Killed
        result = original(*arguments)
        if calls > call:
            raise Killed
        return result

    with monkeypatch.context() as patch:
        patch.setattr(owner, name, fatal)
        with pytest.raises(Killed):
            write(config, folder)
    assert begin_distilled_text(config, folder, overwrite=False).num_lines == WINDOW * call
    with distilled_files(folder)[1].open("ab") as file:
        file.write(b"half a li")
    write(config, folder)
    assert bytes_of(folder) == bytes_of(tmp_path / "whole")


def test_what_is_complete_is_not_begun_again(tmp_path: Path) -> None:
    config = make_config(tmp_path)
    text = write(config, tmp_path)
    assert begin_distilled_text(config, tmp_path, overwrite=True) == text


def test_rules_that_an_earlier_version_did_not_obey_are_another_search(tmp_path: Path) -> None:
    config = make_config(tmp_path)
    write_json(tmp_path / "teacher" / "generation.json", {"no_repeat_ngram": 2, "max_length": 40})
    text = write(config, tmp_path / "new")
    assert text.search["no_repeat_ngram"] == 2
    search = {name: value for name, value in text.search.items() if name != "no_repeat_ngram"}
    replace(text, search=search).save(tmp_path / "new")
    with pytest.raises(ConfigError, match="--no-repeat-ngram is not what it was when the translations"):
        begin_distilled_text(config, tmp_path / "new", overwrite=False)
    assert begin_distilled_text(config, tmp_path / "new", overwrite=True).num_lines == 0


CHANGES: list[tuple[Callable[[DistillationConfig], object], dict[str, Any], str]] = [
    (lambda config: None, {"beam_size": 4}, "--beam-size"),
    (lambda config: None, {"n_best": 2}, "--n-best"),
    (lambda config: None, {"tag": "de"}, "--tag"),
    (lambda config: None, {"length_penalty": 0.5}, "--length-penalty"),
    (lambda config: write_lines(config.train_src[0], ["other"]), {}, "--train-src"),
    (lambda config: save_word_model(config.teachers[0], max_length=9), {}, "the teacher"),
]


@pytest.mark.parametrize(("change", "values", "what"), CHANGES)
def test_something_else_is_not_put_beside_it(
    tmp_path: Path, change: Callable[[DistillationConfig], object], values: dict[str, Any], what: str
) -> None:
    config = make_config(tmp_path)
    with pytest.raises(Killed):
        write(config, tmp_path, Repeater(2))
    change(config)
    other = replace(config, **values)
    before = bytes_of(tmp_path)
    with pytest.raises(ConfigError, match=f"{what} is not what it was when the translations in .*distilled were begun"):
        begin_distilled_text(other, tmp_path, overwrite=False)
    assert bytes_of(tmp_path) == before
    anew = begin_distilled_text(other, tmp_path, overwrite=True)
    assert anew.num_lines == 0
    write_distilled_text(other, tmp_path, anew, Repeater(), no_progress)
    write(other, tmp_path / "whole")
    assert bytes_of(tmp_path) == bytes_of(tmp_path / "whole")


@pytest.mark.parametrize("side", [0, 1])
@pytest.mark.parametrize("is_complete", [False, True])
def test_pairs_that_are_gone_are_not_gone_on_from(tmp_path: Path, side: int, is_complete: bool) -> None:
    config = make_config(tmp_path)
    if is_complete:
        write(config, tmp_path)
    else:
        with pytest.raises(Killed):
            write(config, tmp_path, Repeater(2))
    path = distilled_files(tmp_path)[side]
    content = path.read_bytes()
    for cut in (content[:-1], b"", None):
        path.unlink() if cut is None else path.write_bytes(cut)
        with pytest.raises(
            ModelError,
            match=rf"{path.name}: is shorter than progress\.json says; remove .*distilled to translate anew",
        ):
            begin_distilled_text(config, tmp_path, overwrite=False)
    path.write_bytes(content + b"more\n")
    if is_complete:
        with pytest.raises(ModelError, match=r"is longer than progress\.json says"):
            begin_distilled_text(config, tmp_path, overwrite=False)
    else:
        write(config, tmp_path)
        write(config, tmp_path / "whole")
        assert bytes_of(tmp_path) == bytes_of(tmp_path / "whole")


def test_references_cannot_come_later(tmp_path: Path) -> None:
    config = make_config(tmp_path)
    write(config, tmp_path)
    with pytest.raises(ConfigError, match="--train-tgt is not what it was"):
        begin_distilled_text(
            replace(config, references=(tmp_path / "a.tgt", tmp_path / "b.tgt")), tmp_path, overwrite=False
        )


def test_a_fault_of_the_text_shows_before_the_first_line_is_translated(tmp_path: Path) -> None:
    config = make_config(tmp_path)
    (tmp_path / "b.src").write_bytes(b"good\n\xff\n")
    with pytest.raises(DataError, match=r"b\.src:2: is not UTF-8"):
        write(config, tmp_path / "s", Repeater(0))
    write_lines(tmp_path / "b.src", ["one"])
    with pytest.raises(DataError, match=r"b\.src has 1 lines but .*b\.tgt has"):
        write(replace(config, references=(tmp_path / "a.tgt", tmp_path / "b.tgt")), tmp_path / "s", Repeater(0))
    for name in ("a.src", "b.src"):
        write_lines(tmp_path / name, [])
    with pytest.raises(DataError, match=r"a\.src: holds no lines to translate"):
        write(config, tmp_path / "s", Repeater(0))
    assert not (tmp_path / "s").exists()


def test_a_text_that_nothing_comes_of_is_an_error(tmp_path: Path) -> None:
    config = make_config(tmp_path)
    for name in ("a.src", "b.src"):
        write_lines(tmp_path / name, ["", " "])

    class Silent(Repeater):
        def teach(self, rows: Sequence[Row], first_line_number: int) -> list[list[str]]:
            return [[] for _ in rows]

    with pytest.raises(DataError, match=r"a\.src: the teacher makes nothing of its lines to learn from: \d+ are blank"):
        write(config, tmp_path, Silent())


def test_a_damaged_note_is_one_line(tmp_path: Path) -> None:
    config = make_config(tmp_path)
    write(config, tmp_path)
    path = tmp_path / "distilled" / "progress.json"
    whole = json.loads(path.read_text())
    for content in (
        {"num_lines": 3},
        *({**whole, name: value} for name, value in (("teachers", 3), ("search", []), ("data", {}), ("num_lines", -1))),
        *({**whole, name: value} for name, value in (("target_bytes", "9"), ("is_complete", None), ("num_pairs", 1.0))),
        {**whole, "teachers": [{"path": "x", "files": [1]}]},
    ):
        path.write_text(json.dumps(content))
        with pytest.raises(ModelError, match=r"progress\.json: is damaged or of another version; remove .*distilled"):
            begin_distilled_text(config, tmp_path, overwrite=False)


def test_who_taught_is_described(tmp_path: Path) -> None:
    config = make_config(tmp_path, n_best=2)
    text = write(config, tmp_path)
    described = describe_teacher(tmp_path)
    sha256 = text.teachers[0]["files"]["model.safetensors"]
    assert described["models"] == [{"path": str(tmp_path / "teacher"), "sha256": sha256}]
    assert described["search"] == {
        "tag": None,
        "beam_size": 5,
        "n_best": 2,
        "length_penalty": 1.0,
        "length_penalty_type": "avg",
    }
    assert [file["path"] for file in described["data"]["train_src"]] == [str(path) for path in config.train_src]
