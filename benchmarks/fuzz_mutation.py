"""Mutations for fuzz.py: bytes that are wrong in the ways in which files are wrong, and hostile ones in their form.

Flipped bits alone seldom come further than a parser, so JSON is changed at a random place of its tree, the header of
safetensors as the JSON that it is, and packed text before it is packed.
"""

import copy
import gzip
import json
import lzma
import random
import struct
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import zstandard

__all__ = [
    "Mutation",
    "mutate_arrays",
    "mutate_bytes",
    "mutate_json",
    "mutate_json_lines",
    "mutate_packed",
    "mutate_text",
    "mutate_weights",
]

Mutation = Callable[[bytes, random.Random], bytes]

STRANGE_VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, 1, -1, 0.5, -0.0, 1e308, 2, 3, 7, 1 << 16, 1 << 24, 1 << 31, 1 << 40, 1 << 63, -(1 << 70)),
    *(float("nan"), float("inf"), -float("inf"), 10**40, 10**4000),
    *("", " ", "\n", "0", "auto", "best", "\x1b[2J", "\u202e", "\ud800", "../../etc/passwd", "/dev/zero", "x" * 5000),
    *([], {}, [[]], [1], [None], ["a"], {"a": 1}, [1, 2, 3], [[1, 2], [3]], [{}], {"path": [], "sha256": 3}),
)
STRANGE_BYTES = (
    *(b"\x00", b"\n", b"\r", b"\t", b"\xff", b"\xfe\xff", b"\xef\xbb\xbf", b"\xc0\x80", b"\xed\xa0\x80", b"\x85"),
    *(b"\xe2\x80\xa8", b"\xf4\x90\x80\x80", b'"', b"{", b"[" * 2000, b"}", b":", b",", b"\\u", b"\\", b"=", b"<eos>"),
    *(b"9" * 5000, b"-", b"1e999", b"nan", b"true", b"null", b"'", b"#", b"\x1b[31m", b"/", b"..", b"\x1f\x8b\x08"),
)
SIZES = (0, 1, 2, 8, 100, 1 << 16, 1 << 31, (1 << 32) - 1, 1 << 40, (1 << 63) - 1, (1 << 64) - 1)


def mutate_bytes(data: bytes, source: random.Random) -> bytes:
    """Flip, cut, repeat, move or put in something, once or a few times."""
    changed = bytearray(data)
    for _ in range(source.choice((1, 1, 1, 2, 4, 16))):
        start = source.randrange(len(changed) + 1)
        end = min(len(changed), start + source.choice((1, 1, 2, 4, 16, 256)))
        match source.randrange(8):
            case 0 | 1 if start < len(changed):
                changed[start] ^= 1 << source.randrange(8)
            case 2 if start < len(changed):
                changed[start] = source.randrange(256)
            case 3:
                del changed[start:end]
            case 4:
                del changed[start:]
            case 5:
                changed[start:end] *= source.choice((0, 2, 3, 50))
            case 6:
                other = source.randrange(len(changed) + 1)
                changed[start:start] = changed[other : other + source.choice((1, 8, 64))]
            case _:
                changed[start:end] = source.choice(STRANGE_BYTES)
    return bytes(changed)


def mutate_text(data: bytes, source: random.Random) -> bytes:
    """Change lines: leave out, double, swap, or put something strange behind the last "=" or space of one."""
    if source.random() < 0.4:
        return mutate_bytes(data, source)
    lines = data.split(b"\n")
    number = source.randrange(len(lines))
    other = source.randrange(len(lines))
    match source.randrange(5):
        case 0:
            del lines[number]
        case 1:
            lines.insert(other, lines[number])
        case 2:
            lines[number], lines[other] = lines[other], lines[number]
        case 3:
            lines[number] = mutate_bytes(lines[number], source)
        case _:
            head, mark, _ = lines[number].rpartition(source.choice((b"=", b" ", b"\t")))
            lines[number] = head + mark + _dumps(source.choice(STRANGE_VALUES))
    return b"\n".join(lines)


def mutate_json(data: bytes, source: random.Random) -> bytes:
    """Change a value, a key or a branch somewhere in the tree; at times the bytes."""
    if source.random() < 0.2:
        return mutate_bytes(data, source)
    try:
        document = json.loads(data)
    except (ValueError, RecursionError):
        return mutate_bytes(data, source)
    for _ in range(source.choice((1, 1, 2, 5))):
        document = _changed(document, source)
    return _dumps(document)


def mutate_weights(data: bytes, source: random.Random) -> bytes:
    """Change the header of a safetensors file and say its true length, or a false one, or change the bytes."""
    if source.random() < 0.3 or len(data) < 8:
        return mutate_bytes(data, source)
    (length,) = struct.unpack("<Q", data[:8])
    header, rest = data[8 : 8 + length], data[8 + length :]
    header = mutate_json(header, source)
    said = len(header) if source.random() < 0.8 else source.choice(SIZES)
    return struct.pack("<Q", said) + header + (rest if source.random() < 0.8 else mutate_bytes(rest, source))


def mutate_json_lines(data: bytes, source: random.Random) -> bytes:
    """Change one of the JSON documents, or the lines that they are."""
    if source.random() < 0.2:
        return mutate_text(data, source)
    lines = data.split(b"\n")
    number = source.randrange(len(lines))
    lines[number] = mutate_json(lines[number], source)
    return b"\n".join(lines)


def mutate_arrays(data: bytes, source: random.Random) -> bytes:
    """Change a number, a name or a branch of CTranslate2's model.bin, where the file says what it is; or the bytes."""
    places = _places_of_arrays(data)
    if source.random() < 0.2 or not places:
        return mutate_bytes(data, source)
    changed = bytearray(data)
    for _ in range(source.choice((1, 1, 1, 2))):
        start, size = source.choice(places)
        value = source.choice(
            (*SIZES, source.randrange(8), int.from_bytes(changed[start : start + size], "little") + 1)
        )
        changed[start : start + size] = (value % (1 << 8 * size)).to_bytes(size, "little")
    return bytes(changed)


def _places_of_arrays(data: bytes) -> list[tuple[int, int]]:
    """Where the numbers of a good model.bin stand, and how long each is; none for a bad one."""
    places: list[tuple[int, int]] = []
    place = 0

    def number(size: int) -> int:
        nonlocal place
        if place + size > len(data):
            raise EOFError
        places.append((place, size))
        place += size
        return int.from_bytes(data[place - size : place], "little")

    def string() -> None:
        nonlocal place
        place += number(2)

    try:
        number(4)
        string()
        number(4)
        for _ in range(number(4)):
            string()
            for size in (4,) * number(1) + (1,):
                number(size)
            place += number(4)
        for _ in range(2 * number(4)):
            string()
    except EOFError:
        return []
    return places


def mutate_packed(suffix: str) -> Mutation:
    """Change the text before it is packed, or the packed bytes; put several members one after the other."""
    pack: dict[str, Callable[[bytes], bytes]] = {
        ".gz": gzip.compress,
        ".xz": partial(lzma.compress, preset=0),  # by default it takes a hundred megabytes, and memory is limited here
        ".zst": lambda text: zstandard.ZstdCompressor().compress(text),
    }
    unpack: dict[str, Callable[[bytes], bytes]] = {
        ".gz": gzip.decompress,
        ".xz": lzma.decompress,
        ".zst": lambda packed: zstandard.ZstdDecompressor().decompress(packed, max_output_size=1 << 20),
    }

    def mutate(data: bytes, source: random.Random) -> bytes:
        if source.random() < 0.6:
            return mutate_bytes(data, source)
        try:
            text = unpack[suffix](data)
        except Exception:  # of three libraries; it is damaged already
            return mutate_bytes(data, source)
        packed = pack[suffix](mutate_bytes(text[: 1 << 16], source))
        return packed + data if source.random() < 0.3 else packed

    return mutate


def _changed(document: Any, source: random.Random) -> Any:  # noqa: ANN401 - JSON
    """Change one place of a tree; every step down is as likely as to stay."""
    keys: Sequence[Any] = list(document) if isinstance(document, dict) else ()
    if isinstance(document, list):
        keys = range(len(document))
    if not keys or source.random() < 0.1:
        if source.random() < 0.2:
            return _nested(document, source)
        return copy.deepcopy(source.choice(STRANGE_VALUES))  # which the next change may reach into
    key = source.choice(keys)
    if source.random() < 0.7:
        document[key] = _changed(document[key], source)
    elif isinstance(document, dict):
        value = document.pop(key)
        if source.random() < 0.6:
            document[source.choice(("", "x", f"{key}\n", f"{key}\x1b[0m", str(key).upper(), "\ud800"))] = value
    elif source.random() < 0.5:
        del document[key]
    else:
        document.insert(key, document[key])
    return document


def _nested(document: Any, source: random.Random) -> Any:  # noqa: ANN401 - JSON
    for _ in range(source.choice((1, 3, 400))):
        document = [document] if source.random() < 0.5 else {"a": document}
    return document


def _dumps(document: Any) -> bytes:  # noqa: ANN401 - JSON
    try:
        return json.dumps(document, ensure_ascii=True).encode()
    except (ValueError, RecursionError):  # an integer of 4000 digits is fine, one of more is not
        return b"[" * 5000
