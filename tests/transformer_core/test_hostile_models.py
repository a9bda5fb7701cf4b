"""Model folders made to do harm: one line, exit code 4, little memory, little time, and nothing of them is ever run.

All of them are opened in one process that may take 256 MiB more than it has when the first of them comes.
"""

import json
import os
import pickle
import shutil
import struct
import sys
from collections.abc import Callable
from pathlib import Path
from subprocess import run
from typing import Any

import pytest

from tests.program import program_environment
from tests.transformer_core.decoding.random_model import save_word_model

MEMORY_BYTES = 1 << 28
NUM_SECONDS = 10.0  # of the CPU, for each; most take some milliseconds

OPEN_ALL = """
import gc, json, resource, sys, time
from pathlib import Path
from typer.testing import CliRunner
import transformer_core.decoding.translator, transformer_core.inspection.model_summary
from cli.main import app
names = json.loads(sys.argv[1])
CliRunner().invoke(app, ["translate", "-m", "good", "--threads", "1"], input="ba\\n")
pages = int(Path("/proc/self/statm").read_text().split()[0])
limit = pages * resource.getpagesize() + int(sys.argv[2])
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
for name in names:
    for command in (["translate", "-m", name, "--threads", "1"], ["inspect", "model", name]):
        before = time.process_time()
        result = CliRunner().invoke(app, command, input="ba\\n")
        seconds = time.process_time() - before
        print(json.dumps([name, command[0], result.exit_code, result.stderr, seconds]), flush=True)
        del result  # its traceback holds what was read
        gc.collect()
"""


class Runs:
    """Leaves a file where it is unpickled."""

    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return os.mkdir, ("executed",)


def change(name: str, **values: object) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        content = json.loads((folder / name).read_text())
        (folder / name).write_text(json.dumps({**content, **values}))

    return damage


def write(name: str, content: bytes) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        (folder / name).write_bytes(content)

    return damage


def link(name: str, target: str) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        (folder / name).unlink()
        (folder / name).symlink_to(target)

    return damage


def pipe(name: str) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        (folder / name).unlink()
        os.mkfifo(folder / name)

    return damage


def replace_by_folder(name: str) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        (folder / name).unlink()
        (folder / name).mkdir()

    return damage


def sparse(name: str, num_bytes: int) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        with (folder / name).open("wb") as file:
            file.truncate(num_bytes)

    return damage


def header(**changes: dict[str, Any]) -> Callable[[Path], None]:
    """Change what the header of model.safetensors says of its first tensor, or put in a tensor."""

    def damage(folder: Path) -> None:
        content = (folder / "model.safetensors").read_bytes()
        (length,) = struct.unpack("<Q", content[:8])
        tensors = json.loads(content[8 : 8 + length])
        first = next(name for name in sorted(tensors) if name != "__metadata__")
        tensors |= {(first if name == "first" else name): {**tensors[first], **new} for name, new in changes.items()}
        text = json.dumps(tensors).encode()
        (folder / "model.safetensors").write_bytes(struct.pack("<Q", len(text)) + text + content[8 + length :])

    return damage


STACK = {"num_layers": 512, "d_model": 65536, "num_heads": 1, "d_ff": 65536, "mixer": "attention"}
VOCABULARY = {f"{number:x}": number for number in range(60_000)}

HOSTILE: dict[str, Callable[[Path], None]] = {
    "a config that asks for terabytes": change("config.json", encoder=STACK, decoder=STACK),
    "a config of a vocabulary for every atom": change("config.json", source_vocabulary_size=1 << 24),
    "a config of a megabyte of brackets": write("config.json", b"[" * (1 << 20)),
    "a config of a million lists": write("config.json", b"[" + b"[]," * (1 << 20) + b"[]]"),
    "a config of four gigabytes": sparse("config.json", 1 << 32),
    "a config of a number without end": write("config.json", b'{"format_version": ' + b"9" * 1_000_000 + b"}"),
    "a config that is a device": link("config.json", "/dev/zero"),
    "a config that is a pipe": pipe("config.json"),
    "a config that is a folder": replace_by_folder("config.json"),
    "a config that is itself": link("config.json", "config.json"),
    "a config that moves the cursor": change("config.json", **{"\x1b[2J\r\n\u202eabc": 1}),
    "a tokenizer that is a device": link("tokenizer.json", "/dev/zero"),
    "a tokenizer that is a pipe": pipe("tokenizer.json"),
    "a tokenizer of four gigabytes": sparse("tokenizer.json", 1 << 32),
    "a tokenizer of another size": change("tokenizer.json", model={"type": "WordLevel", "vocab": VOCABULARY}),
    "a tokenizer nested without end": write("tokenizer.json", b'{"model":' * 500_000),
    "a tokenizer of twenty million lists": write("tokenizer.json", b"[" + b"[]," * 20_000_000 + b"[]]"),
    "a tokenizer that is a pickle": write("tokenizer.json", pickle.dumps(Runs())),
    "weights that are a pickle": write("model.safetensors", pickle.dumps(Runs())),
    "weights that are a device": link("model.safetensors", "/dev/zero"),
    "weights that are a pipe": pipe("model.safetensors"),
    "weights that lie elsewhere and are none": link("model.safetensors", "/etc/passwd"),
    "weights with a header without end": write("model.safetensors", struct.pack("<Q", (1 << 63) - 1) + b"{}"),
    "weights with a header of holes": sparse("model.safetensors", 1 << 26),
    "weights of a shape without end": header(first={"shape": [1 << 40, 1 << 40]}),
    "weights of a negative shape": header(first={"shape": [-1, 5]}),
    "weights that lie beyond the file": header(first={"data_offsets": [0, 1 << 50]}),
    "weights of another kind": header(first={"dtype": "F64"}),
    "weights with one more": header(**{"\x1b[2J" * 5000: {"shape": [0], "data_offsets": [0, 0]}}),
    "decoding defaults nested without end": write("generation.json", b'{"a":' * 100_000),
    "decoding defaults for a beam without end": change("generation.json", beam_size=1 << 40),
    "decoding defaults for a length without end": change("generation.json", min_length=1 << 40),
    "decoding defaults of another kind": change("generation.json", max_length_ratio=[1]),
    "decoding defaults beyond all numbers": change("generation.json", length_penalty=1e308),
    "decoding defaults that are a device": link("generation.json", "/dev/zero"),
    "a tag that is none": change("generation.json", tag={"a": 1}),
    "tags that are none": change("generation.json", tags=[["\x1b[2J"], 3]),
    "provenance that is a device": link("metadata.json", "/dev/zero"),
    "provenance of a million lists": write("metadata.json", b"[" + b"[]," * (1 << 20) + b"[]]"),
}
# What `inspect model` has no reason to refuse: it searches for nothing and loads no weight.
SHOWN = {name for name in HOSTILE if name.startswith(("decoding", "tag", "a tag"))} | {
    "weights of another kind",
    "weights with one more",
    "a config that asks for terabytes",
    "a config of a vocabulary for every atom",
}


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], tuple[int, str, float]]:
    """The exit code, what was said and the CPU-seconds, by folder and command."""
    root = tmp_path_factory.mktemp("hostile")
    good = save_word_model(root / "good")
    (good / "metadata.json").write_text(json.dumps({"software": {"transduce": "0"}}))
    for name, damage in HOSTILE.items():
        shutil.copytree(good, root / name)
        damage(root / name)
    process = run(
        [sys.executable, "-c", OPEN_ALL, json.dumps(list(HOSTILE)), str(MEMORY_BYTES)],
        cwd=root,
        env=program_environment(),
        capture_output=True,
        timeout=600,
        check=False,
    )
    assert process.returncode == 0, process.stderr.decode()
    assert not (root / "executed").exists(), "code of a model was run"
    rows = map(json.loads, process.stdout.decode().splitlines())
    return {(name, command): (code, said, seconds) for name, command, code, said, seconds in rows}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_model_is_one_line_and_exit_code_4(
    outcomes: dict[tuple[str, str], tuple[int, str, float]], name: str
) -> None:
    for command in ("translate", "inspect"):
        code, said, seconds = outcomes[name, command]
        assert code == 4 or (code == 0 and command == "inspect" and name in SHOWN), (command, code, said[:500])
        if code:
            assert said.startswith("transduce: error: ")
            assert said.count("\n") == 1
            assert all(character.isprintable() for character in said[:-1])
            assert len(said) < 2100
        assert seconds < NUM_SECONDS
