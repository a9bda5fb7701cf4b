"""Unix domain sockets: one that is listened to at a path, with permission bits, and the way to it."""

import os
import socket
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from transformer_core.errors import ConfigError, ModelError

__all__ = ["connect", "listening", "require_free"]

MAX_PATH_BYTES = 100  # the system takes 103 or 107
BACKLOG = 64  # connections that the system keeps until they are accepted


def require_free(path: Path) -> None:
    """See that a server can listen at a path, and clear away what a dead one has left there.

    Raises:
        ConfigError: something else is there, or there can be nothing.
    """
    if not hasattr(socket, "AF_UNIX"):
        raise ConfigError("this system has no Unix domain sockets")
    if len(os.fsencode(path)) > MAX_PATH_BYTES:
        raise ConfigError(f"{path}: is longer than the {MAX_PATH_BYTES} bytes that a socket's path may have")
    if not path.parent.is_dir():
        raise ConfigError(f"{path}: {path.parent} is no folder; make it first")
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    except OSError as error:
        raise ConfigError(f"{path}: cannot be a socket ({error.strerror})") from None
    if not stat.S_ISSOCK(mode):
        raise ConfigError(f"{path}: is there already and is no socket; name another path")
    try:
        _connected(path).close()
    except ConnectionRefusedError:  # nobody listens: its server was killed
        path.unlink(missing_ok=True)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be a socket ({error.strerror})") from None
    else:
        raise ConfigError(f"{path}: another server listens there; end it, or name another path")


@contextmanager
def listening(path: Path, mode: int) -> Iterator[socket.socket]:
    """Listen at a path while the block runs; the socket is removed in the end.

    Args:
        path: of the socket.
        mode: its permission bits; whoever may write to it may connect.

    Raises:
        ConfigError: there can be no socket at the path.
    """
    require_free(path)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        previous = os.umask(0o177)  # so that nobody else gets in before the bits are set
        try:
            listener.bind(os.fspath(path))
            os.chmod(path, mode)
        except OSError as error:
            raise ConfigError(f"{path}: cannot be a socket ({error.strerror})") from None
        finally:
            os.umask(previous)
        ours = path.lstat().st_ino
        try:
            listener.listen(BACKLOG)
            yield listener
        finally:
            with suppress(OSError):  # somebody has removed it
                if path.lstat().st_ino == ours:
                    path.unlink()


def connect(path: Path) -> socket.socket:
    """Connect to a server.

    Raises:
        ModelError: nobody listens there, or not for us.
    """
    advice = f"start one with `transduce serve MODEL --socket {path}`"
    try:
        return _connected(path)
    except (FileNotFoundError, ConnectionRefusedError):
        raise ModelError(f"{path}: no server listens there; {advice}") from None
    except PermissionError:
        raise ModelError(f"{path}: you may not connect; the server's --permissions says who may") from None
    except (OSError, AttributeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ModelError(f"{path}: cannot be connected to ({reason}); {advice}") from None


def _connected(path: Path) -> socket.socket:
    stream = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        stream.connect(os.fspath(path))
    except BaseException:
        stream.close()
        raise
    return stream
