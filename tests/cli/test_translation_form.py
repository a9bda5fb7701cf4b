import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cli.translation_form import TranslationForm, TranslationFormat
from transformer_core.data.json_lines import split_object
from transformer_core.data.records import Record
from transformer_core.data.tsv import RowParser
from transformer_core.decoding.translation import TargetText, Translation
from transformer_core.errors import ConfigError

TEXTS = st.text(st.characters(exclude_categories=["Cs"]))
CELLS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\t"))


def translation(*texts: str) -> Translation:
    return Translation(
        hypotheses=tuple(
            TargetText(
                text=text,
                score=-0.5 - rank,
                log_probability=-1.0 - rank,
                num_tokens=3,
                piece_ids=(),
                is_truncated=False,
            )
            for rank, text in enumerate(texts)
        )
    )


def lines(format: TranslationFormat, *texts: str, record: Record, column: int = 0, number: int = 1) -> list[str]:
    form = TranslationForm(format=format, n_best=len(texts), column=column)
    found = list(form.lines(translation(*texts), record, number))
    assert not any("\n" in line for line in found if format != "text")
    return found


@settings(deadline=None)
@given(st.lists(TEXTS, min_size=1, max_size=3), st.lists(CELLS, min_size=2, max_size=5))
def test_a_row_keeps_its_columns_in_place(texts: list[str], cells: list[str]) -> None:
    (line,) = lines("tsv", *texts, record=Record((cells[1],), tuple(cells)), column=1)
    found = line.split("\t")
    clean = [text.replace("\t", " ").replace("\n", " ") for text in texts]
    assert found[1] == clean[0]
    kept = [cell.replace("\n", " ") for cell in cells]
    assert [*found[:1], *found[2 : len(cells)]] == [*kept[:1], *kept[2:]]
    assert found[len(cells) :: 3] == ["-0.500000", "-1.500000", "-2.500000"][: len(texts)]
    assert found[len(cells) + 2 :: 3] == clean[1:]
    assert RowParser(["1"]).parse(line) == tuple(found)


@settings(deadline=None)
@given(st.lists(TEXTS, min_size=1, max_size=3), st.dictionaries(TEXTS, TEXTS, max_size=5))
def test_an_object_keeps_its_keys(texts: list[str], content: dict[str, str]) -> None:
    record = Record(("",), (), split_object(json.dumps(content)))
    (line,) = lines("jsonl", *texts, record=record)
    found = json.loads(line)
    assert found["translation"] == texts[0]
    assert found.get("translations", texts) == texts
    ours = {"translation", "score", "log_probability", "truncated", "translations", "scores", "log_probabilities"}
    assert {key: value for key, value in found.items() if key not in ours} == {
        key: value for key, value in content.items() if key not in ours
    }


@settings(deadline=None)
@given(st.lists(st.text(st.sampled_from("a| \n\t\u2028")) | TEXTS, min_size=1, max_size=3), st.integers(1, 10**9))
def test_moses_lines_have_four_fields_whatever_the_text_holds(texts: list[str], number: int) -> None:
    found = lines("moses", *texts, record=Record(("",)), number=number)
    assert len(found) == len(texts)
    for line, text in zip(found, texts, strict=True):
        place, written, features, score = line.split(" ||| ")
        assert int(place) == number - 1
        assert re.sub(r"[ |]+", "", written) == re.sub(r"[ |]+", "", text.replace("\n", " "))
        assert re.fullmatch(r"log_probability= -\d\.\d{6}", features)
        assert float(score) < 0


def test_columns_of_a_row_are_a_list_in_an_object() -> None:
    (line,) = lines("jsonl", "x", record=Record(("b",), ("a", "b")), column=1)
    assert json.loads(line)["columns"] == ["a", "b"]


def test_what_an_earlier_translation_said_of_itself_is_not_passed_on() -> None:
    earlier = '{"id": 7, "columns": ["a"], "translation": "b", "unmet": ["c"], "tokens": ["d"], "scores": [1.0]}'
    (line,) = lines("jsonl", "x", record=Record(("b",), members=split_object(earlier)))
    assert json.loads(line) == {
        **{"id": 7, "columns": ["a"], "translation": "x"},
        **{"score": -0.5, "log_probability": -1.0, "truncated": False},
    }


def test_every_key_is_documented() -> None:
    form = TranslationForm(format="jsonl", n_best=2, per_token=True, has_alignments=True)
    best, other = translation("x", "y").hypotheses
    unmet = Translation(hypotheses=(replace(best, unmet=("x",)), other))
    (line,) = form.lines(unmet, Record(("b",), ("a", "b")), 1)
    documentation = (Path(__file__).parents[2] / "docs" / "formats.md").read_text(encoding="utf-8")
    assert [key for key in json.loads(line) if f"| `{key}` |" not in documentation] == []


def test_text_has_one_translation() -> None:
    assert lines("text", "x", record=Record(("a",))) == ["x"]
    with pytest.raises(ConfigError, match="--n-best 2 needs --format tsv, jsonl or moses"):
        TranslationForm(format="text", n_best=2)


def test_tokens_need_json_lines() -> None:
    with pytest.raises(ConfigError, match="--per-token needs --format jsonl"):
        TranslationForm(format="tsv", per_token=True)
