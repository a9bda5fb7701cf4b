"""benchmarks/fuzz.py finds what is wrong, and a short run of the targets that need no command finds nothing."""

import random
from pathlib import Path

import pytest

from benchmarks.fuzz import Feeder, Tally
from benchmarks.fuzz_targets import TARGETS

READERS = [
    *("lines", "gz", "xz", "zst", "tsv", "jsonl", "tokenizer", "journal", "progress.json", "client"),
    *("import marian config.json", "import marian vocab.json", "import ctranslate2 model.bin"),
]
NUM_INPUTS = 60


@pytest.mark.parametrize("name", READERS)
def test_readers_refuse_or_read_whatever_comes(tmp_path: Path, name: str) -> None:
    target, tally, source = TARGETS[name], Tally(name), random.Random(name)
    feed = Feeder(target.run, tmp_path, tmp_path, tally, float("inf"))
    seeds = target.seeds(tmp_path)
    for seed in seeds:
        feed(seed)
    assert tally.findings == {}
    for _ in range(NUM_INPUTS):
        feed(target.mutate(source.choice(seeds), source))
    found = [(tmp_path / f"{name}.txt").read_text() for name in tally.findings.values()]
    assert found == []
    assert tally.num_inputs == NUM_INPUTS + len(seeds)


def test_a_fault_is_found_once_for_its_kind_and_its_input_kept(tmp_path: Path) -> None:
    def run(data: bytes, folder: Path) -> None:
        if b"x" in data:
            raise ZeroDivisionError(f"planted {len(data)}")

    tally = Tally("planted")
    feed = Feeder(run, tmp_path, tmp_path, tally, float("inf"))
    for content in (b"a", b"ax", b"xyz"):
        feed(content)
    assert list(tally.findings) == ["ZeroDivisionError at target: planted _"]
    name = next(iter(tally.findings.values()))
    assert (tmp_path / name).read_bytes() == b"ax"
    assert "planted 2" in (tmp_path / f"{name}.txt").read_text()
    assert (tally.num_inputs, tally.num_refused) == (3, 0)
