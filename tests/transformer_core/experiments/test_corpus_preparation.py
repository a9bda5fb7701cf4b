import random
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.transformer_core.data.number_corpus import read_numbers
from tests.transformer_core.decoding.random_model import random_lines, word_tokenizer
from transformer_core.errors import ConfigError, DataError
from transformer_core.experiments.corpus_preparation import (
    PreparedData,
    is_prepared_data,
    prepare_data,
    remove_corpora,
    remove_prepared_data,
)
from transformer_core.experiments.progress import no_progress
from transformer_core.experiments.text_config import DataConfig


def write_lines(path: Path, lines: list[str]) -> Path:
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return path


def data_of(folder: Path, sources: list[str], targets: list[str], **options: object) -> DataConfig:
    folder.mkdir(exist_ok=True)
    return DataConfig(
        train_src=(write_lines(folder / "src", sources),),
        train_tgt=(write_lines(folder / "tgt", targets),),
        **options,  # type: ignore[arg-type]
    )


def prepare(folder: Path, data: DataConfig, key: str = "key") -> PreparedData:
    tokenizer = word_tokenizer()
    return prepare_data(folder / "data", data, (tokenizer, tokenizer), key, no_progress)


def texts(data: PreparedData) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
    """The pairs of the training and of the validation corpus."""
    decode = word_tokenizer().decode
    training, validation = (
        [(decode(source), decode(target)) for source, target in read_numbers(corpus)]
        for corpus in (data.training, data.validation)
    )
    return training, validation


word = st.sampled_from(["ba", "be", "bi", "bo", "bu", "da", "de"])
some_lines = st.lists(st.lists(word, max_size=3).map(" ".join), min_size=2, max_size=60)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30, deadline=None)
@given(lines=some_lines, valid_size=st.integers(1, 12) | st.none(), seed=st.integers(0, 9))
def test_no_source_line_is_in_both_parts_and_no_pair_is_lost(
    tmp_path: Path, lines: list[str], valid_size: int | None, seed: int
) -> None:
    targets = random.Random(seed).sample(lines, len(lines))
    pairs = [(source, target) for source, target in zip(lines, targets, strict=True) if source and target]
    data = data_of(tmp_path, lines, targets, valid_size=valid_size)
    remove_prepared_data(tmp_path / "data")
    try:
        prepared = prepare(tmp_path, data)
    except (DataError, ConfigError):
        sources = {source for source, _ in pairs}
        assert len(pairs) < 2 or len(sources) == 1 or len(pairs) <= (valid_size or 1)
        return
    training, validation = texts(prepared)
    assert not {source for source, _ in training} & {source for source, _ in validation}
    assert sorted(training + validation) == sorted(pairs)
    counts = Counter(source for source, _ in pairs)
    assert 1 <= len(validation) <= max(valid_size or len(pairs) // 20, min(counts.values()))
    if max(counts.values()) == 1:
        assert len(validation) == (valid_size or max(1, len(pairs) // 20))
    assert prepared.num_held_back == len(validation)


def test_a_line_with_more_rows_than_are_wanted_is_left_to_training(tmp_path: Path) -> None:
    for number, (once, twice) in enumerate((("ba", "be be ba"), ("be be ba", "ba"))):  # one of them hashes smaller
        lines = [once, twice, twice]
        prepared = prepare(tmp_path / str(number), data_of(tmp_path / str(number), lines, lines, valid_size=1))
        assert texts(prepared)[1] == [(once, once)]


def test_every_run_holds_back_the_same_whatever_else_is_in_the_text(tmp_path: Path) -> None:
    lines = random_lines(300)
    one = texts(prepare(tmp_path, data_of(tmp_path, lines, lines, valid_size=20)))[1]
    again = texts(prepare(tmp_path / "other", data_of(tmp_path / "other", lines, lines, valid_size=20)))[1]
    assert one == again
    shuffled = random.Random(1).sample(lines, len(lines))
    other_order = texts(prepare(tmp_path / "third", data_of(tmp_path / "third", shuffled, shuffled, valid_size=20)))[1]
    assert sorted(other_order) == sorted(one)


def test_a_line_that_half_of_the_text_consists_of_is_left_to_training(tmp_path: Path) -> None:
    lines = ["ba"] * 100 + [f"{word} {other}" for word in ("be", "bi", "bo", "bu") for other in ("da", "de", "di")] * 3
    training, validation = texts(prepare(tmp_path, data_of(tmp_path, lines, lines, valid_size=15)))
    assert ("ba", "ba") in training
    assert len(validation) == 15  # five of the twelve others, with their three pairs each


def test_the_same_key_finds_what_lies_there_and_another_one_makes_it_anew(tmp_path: Path) -> None:
    lines = random_lines(60)
    data = data_of(tmp_path, lines, lines)
    first = prepare(tmp_path, data)
    times = {path: path.stat().st_mtime_ns for path in (tmp_path / "data").rglob("*")}
    assert texts(prepare(tmp_path, data)) == texts(first)
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "data").rglob("*")} == times
    prepare(tmp_path, data, key="another")
    assert (tmp_path / "data/train/corpus.json").stat().st_mtime_ns != times[tmp_path / "data/train/corpus.json"]


@pytest.mark.parametrize("name", ["train/corpus.json", "valid/corpus.json", "held-back.src"])
def test_what_was_not_completed_is_made_anew(tmp_path: Path, name: str) -> None:
    lines = random_lines(60)
    data = data_of(tmp_path, lines, lines)
    expected = texts(prepare(tmp_path, data))
    (tmp_path / "data" / name).unlink()
    assert texts(prepare(tmp_path, data)) == expected


def test_validation_pairs_that_are_given_hold_nothing_back(tmp_path: Path) -> None:
    lines, valid = random_lines(40), random_lines(7, seed=3)
    valid_files = [write_lines(tmp_path / name, valid) for name in ("v.src", "v.tgt")]
    data = data_of(tmp_path, lines, lines, valid_src=(valid_files[0],), valid_tgt=(valid_files[1],))
    prepared = prepare(tmp_path, data)
    training, validation = texts(prepared)
    assert ([source for source, _ in training], [source for source, _ in validation]) == (lines, valid)
    assert prepared.num_held_back == 0
    assert prepared.validation_columns == ((valid_files[0],), (valid_files[1],))


def test_too_few_lines_to_hold_some_back_are_said_so(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="has 1 pairs; training and validation need at least one each"):
        prepare(tmp_path, data_of(tmp_path, ["ba", ""], ["be", "bi"]))
    with pytest.raises(ConfigError, match="--valid-size 9 would hold back all of the 3 pairs"):
        prepare(tmp_path, data_of(tmp_path, ["ba", "be", "bi"], ["ba", "be", "bi"], valid_size=9))
    with pytest.raises(DataError, match=r"too few different lines .* give validation pairs"):
        prepare(tmp_path, data_of(tmp_path, ["ba"] * 40, ["be"] * 40))


def test_files_of_different_length_are_named_with_both_counts(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"src has 3 lines but .*tgt has 2"):
        prepare(tmp_path, data_of(tmp_path, ["ba", "be", "bi"], ["ba", "be"]))


# --- Whose files these are


def test_nobody_elses_files_are_taken_for_ours(tmp_path: Path) -> None:
    lines = random_lines(40)
    prepare(tmp_path, data_of(tmp_path, lines, lines))
    assert is_prepared_data(tmp_path / "data")
    for name in ("train.en", "train/train.en", "valid/corpus.txt"):
        (tmp_path / "data" / name).touch()
        assert not is_prepared_data(tmp_path / "data")
        (tmp_path / "data" / name).unlink()
    (tmp_path / "data" / "notes").mkdir()
    assert not is_prepared_data(tmp_path / "data")


def test_removing_ours_leaves_theirs(tmp_path: Path) -> None:
    lines = random_lines(40)
    prepare(tmp_path, data_of(tmp_path, lines, lines))
    remove_corpora(tmp_path / "data")
    assert {path.name for path in (tmp_path / "data").iterdir()} == {"held-back.src", "held-back.tgt"}
    (tmp_path / "data" / "notes.txt").touch()
    remove_prepared_data(tmp_path / "data")
    assert [path.name for path in (tmp_path / "data").iterdir()] == ["notes.txt"]
    (tmp_path / "data" / "notes.txt").unlink()
    remove_prepared_data(tmp_path / "data")
    assert not (tmp_path / "data").exists()
    remove_prepared_data(tmp_path / "data")


def test_what_a_killed_run_left_half_written_goes(tmp_path: Path) -> None:
    lines = random_lines(40)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / ".held-back.src.zktjt2zm.tmp").touch()
    prepare(tmp_path, data_of(tmp_path, lines, lines))
    assert not list((tmp_path / "data").glob(".*"))
