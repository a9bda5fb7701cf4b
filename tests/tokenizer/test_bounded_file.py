import os
from pathlib import Path

import pytest

from tokenizer.bounded_file import read_bounded


def test_an_ordinary_file_is_read_up_to_its_limit(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"abc")
    (tmp_path / "link").symlink_to("file")
    assert read_bounded(tmp_path / "file", 3) == read_bounded(tmp_path / "link", 100) == b"abc"
    with pytest.raises(ValueError, match="is larger than 2 bytes"):
        read_bounded(tmp_path / "file", 2)


def test_what_is_no_ordinary_file_is_not_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")  # opening it would wait for somebody who writes
    (tmp_path / "endless").symlink_to("/dev/zero")
    for name in ("pipe", "endless"):
        with pytest.raises(ValueError, match="is no ordinary file"):
            read_bounded(tmp_path / name, 100)
    with pytest.raises(ValueError, match="is a folder, not a file"):
        read_bounded(tmp_path, 100)
    (tmp_path / "circle").symlink_to("circle")
    for name in ("missing", "circle"):
        with pytest.raises(OSError, match=name):
            read_bounded(tmp_path / name, 100)
