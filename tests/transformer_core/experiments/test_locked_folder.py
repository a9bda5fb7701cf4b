import fcntl
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.program import program_environment
from transformer_core.errors import ConfigError, DataError
from transformer_core.experiments import locked_folder as module
from transformer_core.experiments.locked_folder import locked_folder
from transformer_core.provenance import describe_file


def test_two_do_not_write_into_one_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SECONDS_TO_WAIT", 0.2)
    folder = tmp_path / "some" / "model"
    code = f"""
from pathlib import Path
from transformer_core.experiments.locked_folder import locked_folder
with locked_folder(Path({str(folder)!r}), "the model"):
    print("locked", flush=True)
    input()
"""
    other = subprocess.Popen(
        [sys.executable, "-c", code],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=program_environment(),
        text=True,
    )
    assert other.stdout is not None and other.stdout.readline() == "locked\n"
    with pytest.raises(ConfigError, match="model: another process is writing there"), locked_folder(folder, "a model"):
        pass
    assert folder.exists()
    other.kill()
    other.communicate()
    with locked_folder(folder, "a model"):
        assert folder.exists()


def test_a_folder_that_was_made_in_vain_goes(tmp_path: Path) -> None:
    for name, content in (("empty", None), ("full", "something"), ("there", None)):
        folder = tmp_path / name
        if name == "there":
            folder.mkdir()
        with pytest.raises(ZeroDivisionError), locked_folder(folder, "a model"):
            if content:
                (folder / "file").write_text(content)
            raise ZeroDivisionError
    assert {path.name for path in tmp_path.iterdir()} == {"full", "there"}


@pytest.mark.parametrize("is_anothers", [False, True])
def test_a_signal_before_a_folder_is_locked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, is_anothers: bool
) -> None:
    folder, others = tmp_path / "model", list[int]()
    lock = fcntl.flock

    def interrupted(descriptor: int, operation: int) -> None:
        monkeypatch.undo()
        if is_anothers:
            others.append(os.open(folder, os.O_RDONLY))
            lock(others[0], operation)
        raise KeyboardInterrupt

    monkeypatch.setattr(fcntl, "flock", interrupted)
    with pytest.raises(KeyboardInterrupt), locked_folder(folder, "a model"):
        pytest.fail("it was not locked")
    assert folder.exists() == is_anothers
    for descriptor in others:
        os.close(descriptor)


def test_names_that_no_folder_can_have(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for name in ("file", "file/below/it"):
        with pytest.raises(ConfigError, match="file: is a file; name a folder for a model"):
            locked_folder(tmp_path / name, "a model").__enter__()
    with pytest.raises(ConfigError, match="its name is not UTF-8; name another folder for a model"):
        locked_folder(tmp_path / os.fsdecode(b"\xff"), "a model").__enter__()
    wrong = tmp_path / os.fsdecode(b"train\xff")
    wrong.touch()
    with pytest.raises(DataError, match="its name is not UTF-8; rename it"):
        describe_file(wrong)
