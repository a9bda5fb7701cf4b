import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.cli.test_translate import MAX_LENGTH, invoke, model, texts
from tests.program import program_environment
from tests.transformer_core.decoding.random_model import random_lines, word_tokenizer
from transformer_core.data.resumable_output import ResumableWriter
from transformer_core.decoding.config import SearchConfig

__all__ = ["model"]  # the fixture

LINES = [*random_lines(50, seed=8), "", *random_lines(12, seed=9)]
FLAGS = ["--greedy", "--buffer-size", "8", *MAX_LENGTH]
GREEDY = SearchConfig(beam_size=1, max_length=12)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "source"
    path.write_text("".join(f"{line}\n" for line in LINES), encoding="utf-8")
    return path


def whole(lines: list[str] = LINES) -> str:
    return "".join(f"{text}\n" for text in texts(GREEDY, lines))


# --- Going on


def interrupted_after(num_windows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the next runs die in the middle of writing a window."""
    commit = ResumableWriter.commit
    calls: list[int] = []

    def dying_commit(self: ResumableWriter, num_records: int) -> None:
        calls.append(num_records)
        if len(calls) > num_windows:
            self.flush()  # what is written of the window stands in the file, but does not count
            raise KeyboardInterrupt
        commit(self, num_records)

    monkeypatch.setattr(ResumableWriter, "commit", dying_commit)


@pytest.mark.parametrize("stops", [[0], [3], [7], [2, 1, 0, 3]], ids=str)
def test_a_run_goes_on_where_it_was_stopped(
    model: Path, source: Path, tmp_path: Path, stops: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments: list[str | Path] = ["-m", model, "-i", source, "-o", tmp_path / "out", "--resume", *FLAGS]
    for num_windows in stops:
        with monkeypatch.context() as patch:
            interrupted_after(num_windows, patch)
            assert invoke(*arguments)[0] == 130
        assert not (tmp_path / "out").exists()
    assert invoke(*arguments)[:2] == (0, "")
    assert (tmp_path / "out").read_text(encoding="utf-8") == whole()
    assert sorted(os.listdir(tmp_path)) == ["out", "source"]


def test_it_says_on_which_options_an_output_depends(
    model: Path, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments: list[str | Path] = ["-m", model, "-i", source, "-o", tmp_path / "out", "--resume", *FLAGS]
    with monkeypatch.context() as patch:
        interrupted_after(2, patch)
        invoke(*arguments)
    code, _, stderr = invoke(*arguments, "--min-length", "3")
    assert code == 2
    assert "was begun with another min-length; give the same to go on, or remove out.part" in stderr


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("source", b"be\nba\n"),  # as long as it was
        ("model/tokenizer.json", word_tokenizer().to_json().encode() + b"\n"),
        ("model/generation.json", b'{"beam_size": 5}'),
        ("model/shortlist.safetensors", b""),
    ],
)
def test_nothing_goes_on_from_other_files(
    model: Path, source: Path, tmp_path: Path, name: str, content: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(model, tmp_path / "model")
    source.write_text("ba\nbe\n", encoding="utf-8")
    arguments: list[str | Path] = ["-m", "model", "-i", "source", "-o", "out", "--resume", *FLAGS]
    monkeypatch.chdir(tmp_path)
    with monkeypatch.context() as patch:
        interrupted_after(0, patch)
        invoke(*arguments)
    (tmp_path / name).write_bytes(content)
    code, _, stderr = invoke(*arguments)
    assert code == 2
    assert f"out: was begun with another content of {name}; give the same to go on, or remove out.part and" in stderr


def test_what_an_older_version_began_is_refused_in_one_line(
    model: Path, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments: list[str | Path] = ["-m", model, "-i", source, "-o", tmp_path / "out", "--resume", *FLAGS]
    with monkeypatch.context() as patch:
        interrupted_after(2, patch)
        invoke(*arguments)
    journal = tmp_path / "out.part.journal"
    head, rest = journal.read_text().split("\n", 1)
    job = {name: value for name, value in json.loads(head).items() if not name.startswith("content of")}
    journal.write_text(json.dumps({**job, "input size": [source.stat().st_size]}, sort_keys=True) + f"\n{rest}")
    code, _, stderr = invoke(*arguments)
    assert code == 2
    assert f"was begun with another content of {source} and " in stderr
    assert " and input size; give the same to go on, or remove out.part and " in stderr
    assert stderr.count("\n") == 1


def test_a_killed_program_loses_and_doubles_nothing(model: Path, source: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    arguments = ["translate", "-m", model, "-i", source, "-o", output, "--resume", *FLAGS, "--threads", "1"]
    command = [sys.executable, "-m", "cli", *map(str, arguments)]
    part = tmp_path / "out.part"
    for target in (1, 400, 900):  # bytes at which the program is killed
        process = subprocess.Popen(command, env=program_environment(), stderr=subprocess.DEVNULL)
        while process.poll() is None and not (part.exists() and part.stat().st_size >= target):
            time.sleep(0.001)
        process.send_signal(signal.SIGKILL)
        process.wait()
        if output.exists():
            break
    subprocess.run(command, env=program_environment(), check=True)
    assert output.read_text(encoding="utf-8") == whole()
    assert sorted(os.listdir(tmp_path)) == ["out", "source"]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["-o", "out"], "--resume needs files (-i)"),
        (["-i", "source", "-o", "/dev/stdout"], "--resume needs an ordinary file to write to: -o FILE"),
        (["-i", "source"], "--resume needs an ordinary file to write to: -o FILE"),
        (["-i", "source", "-o", "out.gz"], "--resume cannot go on with a packed file: give -o out"),
    ],
)
def test_what_cannot_be_gone_on_with(
    model: Path, source: Path, flags: list[str], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(source.parent)
    code, stdout, stderr = invoke("-m", model, "--resume", *flags)
    assert (code, stdout) == (2, "")
    assert message in stderr


# --- Parts


@pytest.mark.parametrize("count", [1, 2, 5, 100])
def test_the_outputs_of_all_shards_are_that_of_the_whole(model: Path, source: Path, tmp_path: Path, count: int) -> None:
    numbers = range(1, count + 1) if count < 100 else (1, 37, 50, 99)
    parts = []
    for number in numbers:
        code, stdout, stderr = invoke("-m", model, "-i", source, "--shard", f"{number}/{count}", *FLAGS)
        assert code == 0, stderr
        parts.append(stdout)
        assert abs(stdout.count("\n") - len(LINES) / count) < 1
    if count < 100:
        assert "".join(parts) == whole()


def test_shards_of_several_files_and_samples_are_those_of_the_whole(model: Path, source: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.write_text("".join(f"{line}\n" for line in random_lines(21, seed=4)), encoding="utf-8")
    flags: list[str | Path] = ["-m", model, "-i", source, "-i", other, "--sample", "--buffer-size", "8", *MAX_LENGTH]
    _, expected, _ = invoke(*flags)
    parts = [invoke(*flags, "--shard", f"{number}/3")[1] for number in (1, 2, 3)]
    assert "".join(parts) == expected


def test_a_shard_counts_its_lines_with_replaced_bytes_and_no_others(model: Path, source: Path) -> None:
    source.write_bytes(b"ba\xff\nba\nbe\xff\nbi\nbo\xff\nbu\xff\n")
    stderr = [invoke("-m", model, "-i", source, "--shard", f"{number}/3", *FLAGS)[2] for number in (1, 2, 3)]
    for said, count in zip(stderr, ("1 line", "1 line", "2 lines"), strict=True):
        assert f"warning: {count} with bytes that are not UTF-8" in said


@pytest.mark.parametrize("shard", ["0/3", "4/3", "2", "a/b", "1/", "-1/3", "1/0"])
def test_a_shard_is_k_of_n(model: Path, source: Path, shard: str) -> None:
    code, stdout, stderr = invoke("-m", model, "-i", source, f"--shard={shard}")
    assert (code, stdout) == (2, "")
    assert f"--shard {shard}: write K/N, with K from 1 to N, such as 2/8" in stderr


def test_what_is_piped_cannot_be_cut(model: Path) -> None:
    code, _, stderr = invoke("-m", model, "--shard", "1/2", stdin=b"ba\n")
    assert code == 2
    assert "--shard needs plain files (-i)" in stderr
