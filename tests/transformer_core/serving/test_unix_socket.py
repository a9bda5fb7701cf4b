"""Sockets at a path: made with their bits, cleared away when dead, refused where something else is."""

import socket
import stat
from pathlib import Path

import pytest

from transformer_core.errors import ConfigError, ModelError
from transformer_core.serving.unix_socket import connect, listening, require_free


@pytest.mark.parametrize("mode", [0o600, 0o660])
def test_a_socket_has_its_bits_and_goes_in_the_end(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "s"
    with listening(path, mode):
        assert stat.S_IMODE(path.stat().st_mode) == mode
        connect(path).close()
    assert not path.exists()


def test_what_a_killed_server_left_is_cleared_away(tmp_path: Path) -> None:
    path = tmp_path / "s"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    assert path.exists()
    with pytest.raises(ModelError, match="no server listens there; start one with `transduce serve MODEL --socket"):
        connect(path)
    with listening(path, 0o600):
        connect(path).close()


def test_a_file_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "s"
    path.write_text("precious")
    with pytest.raises(ConfigError, match="is there already and is no socket"):
        require_free(path)
    assert path.read_text() == "precious"


def test_another_server_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "s"
    with listening(path, 0o600):
        with pytest.raises(ConfigError, match="another server listens there"):
            require_free(path)
        connect(path).close()


def test_a_socket_that_is_no_longer_ours_stays(tmp_path: Path) -> None:
    path = tmp_path / "s"
    with listening(path, 0o600):
        path.rename(tmp_path / "old")
        path.write_text("of somebody else")
    assert path.read_text() == "of somebody else"


@pytest.mark.parametrize(("name", "message"), [("x" * 200, "is longer than"), ("no/s", "is no folder; make it first")])
def test_a_path_that_cannot_be(tmp_path: Path, name: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        require_free(tmp_path / name)


def test_nobody_there(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no server listens there"):
        connect(tmp_path / "s")
