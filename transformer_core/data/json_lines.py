r"""JSON lines: an object per line, read without touching what is not asked for.

Of an object only the members that are wanted are decoded. All others stay the text that they were, so that a number of
forty digits, an escape or the order of keys come out as they went in.
"""

import re
from collections.abc import Mapping
from json import JSONDecodeError, JSONDecoder, dumps, loads
from typing import NamedTuple, NoReturn

__all__ = ["Member", "join_object", "split_object", "text_of", "texts_of"]

_WHITE_SPACE = re.compile(r"[ \t\n\r]*")
_HALF_PAIR = re.compile("[\ud800-\udfff]")
_KINDS = {"{": "an object", "[": "a list", "t": "true", "f": "false", "n": "null"}


class Member(NamedTuple):
    """A key and its value, as they stand in the line."""

    text: str  # of both, with the colon between them
    value: str  # of the value alone


def split_object(line: str) -> dict[str, Member]:
    """Give the members of the object that a line holds, by their keys.

    A line of white space alone is an object without members, as it is a blank line of text.

    Raises:
        ValueError: the line holds no object, or one that has a key twice; the message goes on after "file:line: ".
    """
    place = _skip(line, 0)
    if place == len(line):
        return {}
    if line[place] != "{":
        raise ValueError('is no JSON object; write one as in {"text": "..."}, or check --input-format')
    members: dict[str, Member] = {}
    place = _skip(line, place + 1)
    if line[place : place + 1] != "}":
        while True:
            start = place
            if line[start : start + 1] != '"':
                raise _broken("a key in quotes", start)
            key, place = _decode(line, start)
            place = _expect(line, place, ":")
            value_start = place
            _, place = _decode(line, place)
            if key in members:
                raise ValueError(f"has the key {dumps(key)} twice; take one of them out")
            members[str(key)] = Member(line[start:place], line[value_start:place])
            place = _skip(line, place)
            if line[place : place + 1] == "}":
                break
            place = _expect(line, place, ",", "a comma or a brace")
    place = _skip(line, place + 1)
    if place < len(line):
        raise _broken("the end of the line", place)
    return members


def text_of(members: Mapping[str, Member], key: str) -> tuple[str, bool]:
    r"""Give the text of a key, and whether something in it was replaced by U+FFFD.

    An escape such as "\ud800" is half of a character and has no place in UTF-8.

    Raises:
        ValueError: there is no such key, or its value is no text; the message goes on after "file:line: ".
    """
    if key not in members:
        raise ValueError(f"has no key {dumps(key)}; --columns names the key that holds the text")
    value = members[key].value
    if not value.startswith('"'):
        raise ValueError(f"{dumps(key)} is {_KINDS.get(value[0], 'a number')}, not text; put it in quotes")
    text = loads(value)
    whole = _HALF_PAIR.sub("\ufffd", text)
    return whole, whole != text


def texts_of(members: Mapping[str, Member], key: str) -> tuple[str, ...]:
    """Give the texts in the list of a key; none where there is no such key.

    Raises:
        ValueError: its value is no list of texts; the message goes on after "file:line: ".
    """
    if key not in members:
        return ()
    value = _VALUE_DECODER.decode(members[key].value)
    if not isinstance(value, list) or not all(isinstance(text, str) and text.strip() for text in value):
        raise ValueError(f'{dumps(key)} is no list of phrases; write it as in ["one phrase", "another"]')
    return tuple(_HALF_PAIR.sub("\ufffd", text) for text in value)


def join_object(passed: Mapping[str, Member], own: Mapping[str, object]) -> str:
    """Write an object as one line, without its end: what is passed on as it was, and behind it our own members.

    Where both have a key, ours stands alone.
    """
    members = [member.text for key, member in passed.items() if key not in own]
    members += [f"{dumps(key)}: {dumps(value, ensure_ascii=False)}" for key, value in own.items()]
    return "{" + ", ".join(members) + "}"


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"has {constant}, which is no JSON; write null")


# Numbers stay text: they may be longer than int() reads, and are passed on as they are.
_DECODER = JSONDecoder(parse_int=str, parse_float=str, parse_constant=_refuse)
_VALUE_DECODER = JSONDecoder(parse_int=float)  # what _DECODER has accepted, with numbers that are none of text


def _decode(line: str, place: int) -> tuple[object, int]:
    """Decode the value that begins at `place`; also give where it ends."""
    try:
        return _DECODER.raw_decode(line, place)
    except JSONDecodeError as error:
        raise _broken("something else", error.pos, error.msg) from None
    except RecursionError:
        raise ValueError("is nested too deeply; take out what no program could read") from None


def _expect(line: str, place: int, character: str, name: str = "a colon") -> int:
    place = _skip(line, place)
    if line[place : place + 1] != character:
        raise _broken(name, place)
    return _skip(line, place + 1)


def _skip(line: str, place: int) -> int:
    match = _WHITE_SPACE.match(line, place)
    assert match is not None, "no white space matches too"
    return match.end()


def _broken(expected: str, place: int, reason: str = "") -> ValueError:
    """The error of a line that is no JSON from `place` on."""
    said = reason[:1].lower() + reason[1:].removesuffix(" at") if reason else f"expected {expected}"
    return ValueError(f"is broken JSON ({said} at column {place + 1}); mend the line, or check --input-format")
