"""The model.bin of CTranslate2: named arrays one after the other, and aliases for those that are equal.

    uint32 version of the format · string name of the specification · uint32 its revision
    uint32 number of arrays; for each: string name · uint8 rank · uint32 dimensions · uint8 type · uint32 bytes · data
    uint32 number of aliases; for each: string alias · string name

A string is a uint16 length, its bytes, and a zero that the length counts. All is little-endian.
"""

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import torch
from torch import Tensor

from tokenizer.atomic_file import open_atomic
from transformer_core.errors import ModelError

__all__ = ["read_arrays", "write_arrays"]

FORMAT_VERSIONS = (5, 6)  # 6 is written
SPECIFICATION = "TransformerSpec"
REVISION = 7
TYPES = (torch.float32, torch.int8, torch.int16, torch.int32, torch.float16, torch.bfloat16)  # by their numbers
MAX_ARRAYS = 1 << 20
MAX_RANK = 4


def write_arrays(path: Path, arrays: Mapping[str, Tensor]) -> None:
    """Write a model.bin; an array that is equal to an earlier one is an alias of it, and its scale of that one's."""
    kept: dict[str, Tensor] = {}
    aliases: dict[str, str] = {}
    for name, array in sorted(arrays.items()):
        if (owner := name.removesuffix("_scale")) != name:
            twin = f"{aliases[owner]}_scale" if owner in aliases else None
        else:
            twin = next((other for other, known in kept.items() if array.dim() and _is_same(known, array)), None)
        if twin is None:
            kept[name] = array
        else:
            aliases[name] = twin
    with open_atomic(path) as file:
        file.write(struct.pack("<I", FORMAT_VERSIONS[-1]))
        _write_string(file, SPECIFICATION)
        file.write(struct.pack("<II", REVISION, len(kept)))
        for name, array in kept.items():
            data = array.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
            _write_string(file, name)
            file.write(
                struct.pack(f"<B{array.dim()}IBI", array.dim(), *array.shape, TYPES.index(array.dtype), len(data))
            )
            file.write(data)
        file.write(struct.pack("<I", len(aliases)))
        for alias, name in aliases.items():
            _write_string(file, alias)
            _write_string(file, name)


def read_arrays(path: Path) -> dict[str, Tensor]:
    """Read a model.bin; aliases are the same tensor under two names.

    Raises:
        ModelError: it is missing, damaged, or of another specification.
    """
    if not path.is_file():  # a pipe would be waited for, and a device has no end
        raise ModelError(f"{path}: is missing, or no ordinary file")
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ModelError(f"{path}: cannot be read ({error.strerror})") from None
    reader = _Reader(content, path)
    version = reader.number("I")
    if version not in FORMAT_VERSIONS:
        raise ModelError(f"{path}: is no model.bin of CTranslate2, or one of format {version}, which is not known here")
    name = reader.string()
    if name != SPECIFICATION:
        raise ModelError(f"{path}: holds a {name[:40]}; only encoder-decoder models ({SPECIFICATION}) can be imported")
    reader.number("I")  # the revision: what it changed shows in the names
    arrays: dict[str, Tensor] = {}
    for _ in range(reader.count()):
        array_name = reader.string()
        arrays[array_name] = reader.array(array_name)
    for _ in range(reader.count()):
        alias, of = reader.string(), reader.string()
        if of not in arrays:
            raise ModelError(f"{path}: {alias[:80]} is an alias of nothing; the file is damaged")
        arrays[alias] = arrays[of]
    return arrays


def _is_same(array: Tensor, other: Tensor) -> bool:
    return array.dtype == other.dtype and array.shape == other.shape and torch.equal(array, other)


def _write_string(file: BinaryIO, text: str) -> None:
    data = text.encode("utf-8")
    file.write(struct.pack("<H", len(data) + 1) + data + b"\0")


@dataclass
class _Reader:
    """Takes values from bytes, which may be damaged."""

    content: bytes
    path: Path
    place: int = 0

    def take(self, num_bytes: int) -> bytes:
        part = self.content[self.place : self.place + num_bytes]
        if len(part) < num_bytes:
            raise ModelError(f"{self.path}: ends before its end; the file is damaged")
        self.place += num_bytes
        return part

    def number(self, form: str) -> int:
        (value,) = struct.unpack(f"<{form}", self.take(struct.calcsize(form)))
        return int(value)

    def count(self) -> int:
        count = self.number("I")
        if count > MAX_ARRAYS:
            raise ModelError(f"{self.path}: says that it holds {count} arrays; the file is damaged")
        return count

    def string(self) -> str:
        return self.take(self.number("H"))[:-1].decode("utf-8", "replace")

    def array(self, name: str) -> Tensor:
        rank = self.number("B")
        if rank > MAX_RANK:
            raise ModelError(f"{self.path}: {name[:80]} has {rank} dimensions; the file is damaged")
        shape = [self.number("I") for _ in range(rank)]
        kind, num_bytes = self.number("B"), self.number("I")
        data = self.take(num_bytes)
        num_items = 1
        for size in shape:
            num_items *= size
        if kind >= len(TYPES) or num_items * TYPES[kind].itemsize != num_bytes:
            raise ModelError(f"{self.path}: {name[:80]} has not the size that its shape says; the file is damaged")
        if not num_items:  # the other dimensions may be larger than any tensor's
            return torch.empty(0, dtype=TYPES[kind])
        return torch.frombuffer(bytearray(data), dtype=TYPES[kind]).view(shape)
