import json
from dataclasses import replace
from pathlib import Path

import pytest

from transformer_core.data.lines import read_lines
from transformer_core.errors import ConfigError
from transformer_core.evaluation.metrics import evaluate_corpus
from transformer_core.experiments.demo import Demo, DemoConfig, DemoResult, evaluate_demo, prepare_demo
from transformer_core.experiments.demo_data import DemoSizes
from transformer_core.experiments.train_from_text import train_from_text

SIZES = DemoSizes(num_valid=20, num_test=60, num_train_dates=1500)


def config(folder: Path, **values: object) -> DemoConfig:
    return replace(DemoConfig(folder=folder, task="dates", max_steps=6, threads=1, sizes=SIZES), **values)  # type: ignore[arg-type]


def prepare(folder: Path, **values: object) -> tuple[Demo, list[str]]:
    """Prepare, and give what was said."""
    said: list[str] = []
    return prepare_demo(config(folder, **values), say=said.append), said


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def times(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Demo, DemoResult]:
    demo, _ = prepare(tmp_path_factory.mktemp("demo") / "dates")
    train_from_text(demo.run)
    return demo, evaluate_demo(demo)


# --- the result -------------------------------------------------------------------------------------------------------


def test_the_result_is_what_the_model_makes_of_the_test(trained: tuple[Demo, DemoResult]) -> None:
    demo, result = trained
    assert result.sources == list(read_lines([demo.data.source_path("test")]))
    assert len(result.hypotheses) == 60
    assert result.hypotheses == [translation.text for translation in result.translator.translate(result.sources)]
    assert result.hypotheses == list(read_lines([demo.hypotheses_path]))
    assert result.references == [list(read_lines([demo.data.target_path("test")]))]
    assert result.scores == evaluate_corpus(result.hypotheses, result.references, ["exact", "cer"])
    assert result.first_scores == result.scores  # a date has one right answer
    assert result.search.beam_size == 5


def test_once_trained_it_is_not_trained_again(trained: tuple[Demo, DemoResult]) -> None:
    demo, result = trained
    again, said = prepare(demo.run.folder.parent)
    assert again == demo
    assert len(said) == 1  # where the data are; no tokenizer was learned
    assert train_from_text(again.run) is None
    assert evaluate_demo(again).hypotheses == result.hypotheses


def test_of_several_right_answers_the_closest_counts(tmp_path: Path) -> None:
    demo, _ = prepare(tmp_path / "spoken", task="pronounce", sizes=DemoSizes(num_valid=20, num_test=200), max_steps=1)
    references = [list(read_lines([path])) for path in demo.data.reference_paths()]
    assert len(references) > 1
    second = references[1]
    of_any = evaluate_corpus(second, references, demo.metrics)
    of_first = evaluate_corpus(second, references[:1], demo.metrics)
    assert [score.name for score in of_any] == ["exact", "wer"]
    assert [score.value for score in of_any] == [100.0, 0.0]
    assert of_first[0].value < 100.0


def test_capitals_are_given_up_on_the_source_side(tmp_path: Path) -> None:
    from tokenizer import Tokenizer

    demo, _ = prepare(tmp_path / "dates")
    source, target = (Tokenizer.load(item.path) for item in demo.tokenizers)
    assert source.encode("6. MÄRZ 2024") == source.encode("6. märz 2024")
    assert source.unk_id not in source.encode("6. MÄRZ 2024")
    assert target.decode(target.encode("2024-03-06")) == "2024-03-06"


# --- going on ---------------------------------------------------------------------------------------------------------


def test_what_is_complete_is_kept(tmp_path: Path) -> None:
    folder = tmp_path / "dates"
    demo, said = prepare(folder)
    assert [line.partition(":")[0] for line in said] == [
        str(folder / name) for name in ("data", "text.json", "iso.json")
    ]
    before, written_at = contents(folder), times(folder)
    assert prepare(folder)[0] == demo
    assert times(folder) == written_at
    assert prepare(folder, overwrite=True)[0] == replace(demo, run=replace(demo.run, overwrite=True))
    assert contents(folder) == before
    assert times(folder)["train.text"] > written_at["train.text"]


@pytest.mark.parametrize("name", ["data/train.text", "data/test.iso", "text.json", "iso.json", "demo.json"])
@pytest.mark.parametrize("damage", [None, b"", b"{}", b"\xff", b"[1]", b'{"data": 1, "files": 2, "sizes": 3}'])
def test_what_is_missing_or_damaged_is_made_again(name: str, damage: bytes | None, tmp_path: Path) -> None:
    folder = tmp_path / "dates"
    demo, _ = prepare(folder)
    before = contents(folder)
    if damage is None:
        (folder / name).unlink()
    else:
        (folder / name).write_bytes(damage)
    if (name, damage) == ("demo.json", None):  # then nothing says that the folder is ours
        for path in folder.glob("*.json"):
            path.unlink()
    assert prepare(folder)[0] == demo
    assert contents(folder) == before


def test_other_sizes_are_other_data(tmp_path: Path) -> None:
    prepare(tmp_path / "dates")
    demo, _ = prepare(tmp_path / "dates", sizes=replace(SIZES, num_test=30))
    assert demo.data.num_lines["test"] == 30 == len(list(read_lines([demo.data.source_path("test")])))


# --- the folder -------------------------------------------------------------------------------------------------------


def test_nothing_of_somebody_else_is_written_over(tmp_path: Path) -> None:
    (tmp_path / "theses").mkdir()
    (tmp_path / "theses" / "mine.txt").write_text("mine", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"theses: holds mine\.txt and no demo; name another folder with -o"):
        prepare(tmp_path / "theses")
    with pytest.raises(ConfigError, match=r"mine\.txt: is a file; name a folder with -o"):
        prepare(tmp_path / "theses" / "mine.txt")
    assert contents(tmp_path / "theses") == {"mine.txt": b"mine"}
    prepare(tmp_path / "dates")
    before = contents(tmp_path / "dates")
    for overwrite in (False, True):
        with pytest.raises(ConfigError, match="dates: holds the demo dates; name another folder with -o"):
            prepare(tmp_path / "dates", task="pronounce", overwrite=overwrite)
    assert contents(tmp_path / "dates") == before


def test_an_empty_folder_and_one_beside_notes_will_do(tmp_path: Path) -> None:
    (tmp_path / "dates").mkdir()
    (tmp_path / "dates" / ".hidden").touch()
    demo, _ = prepare(tmp_path / "dates")
    (tmp_path / "dates" / "notes.txt").touch()
    assert prepare(tmp_path / "dates")[0] == demo


def test_the_record_says_what_the_data_are(tmp_path: Path) -> None:
    prepare(tmp_path / "dates")
    record = json.loads((tmp_path / "dates" / "demo.json").read_text(encoding="utf-8"))
    assert record["data"]["task"] == "dates"
    assert sorted(record["files"]) == sorted(path.name for path in (tmp_path / "dates" / "data").iterdir())
    assert str(tmp_path) not in json.dumps(record)
