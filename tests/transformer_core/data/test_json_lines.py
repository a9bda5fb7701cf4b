import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from transformer_core.data.json_lines import join_object, split_object, text_of

VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
OBJECTS = st.dictionaries(st.text(), VALUES, max_size=5)


@settings(deadline=None)
@given(OBJECTS, st.booleans(), st.sampled_from([None, " ", 3]))
def test_what_is_passed_on_is_untouched(content: dict[str, Any], is_ascii: bool, indent: str | int | None) -> None:
    line = json.dumps(content, ensure_ascii=is_ascii, indent=indent).replace("\n", " ")
    members = split_object(line)
    assert list(members) == list(content)
    assert {key: json.loads(member.value) for key, member in members.items()} == content
    assert all(member.text in line and member.text.endswith(member.value) for member in members.values())
    assert json.loads(join_object(members, {})) == content


@settings(deadline=None)
@given(OBJECTS, OBJECTS)
def test_our_members_stand_behind_the_others_and_in_the_place_of_their_like(
    content: dict[str, Any], own: dict[str, Any]
) -> None:
    line = join_object(split_object(json.dumps(content)), own)
    assert "\n" not in line
    found = json.loads(line)
    assert found == {**content, **own}
    assert list(found)[len(found) - len(own) :] == list(own)


@settings(deadline=None)
@given(OBJECTS, st.data())
def test_damage_anywhere_is_one_sentence_or_another_object(content: dict[str, Any], data: st.DataObject) -> None:
    line = json.dumps(content)
    place = data.draw(st.integers(0, len(line)))
    stuff = data.draw(st.text(st.sampled_from('{}[]",:\\0x \u2028é'), max_size=2))
    damaged = line[:place] + stuff + line[place + data.draw(st.integers(0, 2)) :]
    try:
        members = split_object(damaged)
    except ValueError as error:
        assert str(error)
        assert "\n" not in str(error)
        with pytest.raises((ValueError, AssertionError)):
            assert _is_clean_object(damaged)
        return
    assert not damaged.strip(" ") or _is_clean_object(damaged)
    assert members.keys() == (json.loads(damaged) if damaged.strip(" ") else {}).keys()


def _is_clean_object(line: str) -> bool:
    """What the standard library says of a line: it is an object, and no key of it is there twice."""
    pairs = json.loads(line, object_pairs_hook=lambda found: found)
    has_object = line.strip(" \t\n\r").startswith("{")
    return has_object and len({key for key, _ in pairs}) == len(pairs)


@settings(deadline=None)
@given(st.text())
def test_a_text_is_what_was_written_but_for_half_characters(text: str) -> None:
    found, is_mended = text_of(split_object(json.dumps({"text": text})), "text")
    whole = "".join("\ufffd" if "\ud800" <= character <= "\udfff" else character for character in text)
    # two halves that belong together are one character once they have been through JSON
    assert found == json.loads(json.dumps(text)) if not is_mended else "\ufffd" in whole
    found.encode()


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("text", "is no JSON object; write one as in"),
        ("[1]", "is no JSON object"),
        ('"a"', "is no JSON object"),
        ("null", "is no JSON object"),
        ("{", "is broken JSON (expected a key in quotes at column 2)"),
        ("{'a': 1}", "is broken JSON (expected a key in quotes at column 2)"),
        ('{"a" 1}', "is broken JSON (expected a colon at column 6)"),
        ('{"a": }', "is broken JSON (expecting value at column 7)"),
        ('{"a": 1', "is broken JSON (expected a comma or a brace at column 8)"),
        ('{"a": 1,}', "is broken JSON (expected a key in quotes at column 9)"),
        ('{"a": 1} {"b": 2}', "is broken JSON (expected the end of the line at column 10)"),
        ('{"a": "b', "is broken JSON (unterminated string starting at column 7)"),
        ('{"a": "\t"}', "is broken JSON (invalid control character at column 8)"),
        ('{"a": "\\x"}', "is broken JSON (invalid \\escape"),
        ('{"a": 1, "a": 2}', 'has the key "a" twice'),
        ('{"a": 1, "\\u0061": 2}', 'has the key "a" twice'),
        ('{"a": NaN}', "has NaN, which is no JSON; write null"),
        ('{"a": [-Infinity]}', "has -Infinity, which is no JSON"),
        ('{"a": ' + "[" * 100_000 + "]" * 100_000 + "}", "is nested too deeply"),
    ],
    ids=lambda value: value[:30],
)
def test_a_broken_line_says_what_is_wrong_and_where(line: str, message: str) -> None:
    with pytest.raises(ValueError, match=r"JSON|twice|nested") as caught:
        split_object(line)
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{}", 'has no key "text"; --columns names the key'),
        ('{"text": 1}', '"text" is a number, not text; put it in quotes'),
        ('{"text": -1e5}', '"text" is a number'),
        ('{"text": null}', '"text" is null'),
        ('{"text": true}', '"text" is true'),
        ('{"text": ["a"]}', '"text" is a list'),
        ('{"text": {}}', '"text" is an object'),
    ],
)
def test_what_is_no_text_says_so(line: str, message: str) -> None:
    with pytest.raises(ValueError, match="text") as caught:
        text_of(split_object(line), "text")
    assert str(caught.value).startswith(message)


def test_numbers_of_any_size_and_half_characters_are_passed_on() -> None:
    line = '{"big": ' + "9" * 10_000 + ', "long": 1.00000000000000000000000000000001e+9999, "half": "\\ud800"}'
    assert join_object(split_object(line), {"score": 1}) == line[:-1] + ', "score": 1}'
