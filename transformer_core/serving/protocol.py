r"""What goes over the socket: JSON, an object per line, with one key that says what the line is.

    server                                     client
    {"greeting": {"version", "generation", "weights"}}
                                               {"config": {"search", "batching", "tag", ...}}
    {"ready": {}}
                                               {"window": {"lines", "guides", ...}}
    {"answer": {"translations", ...}}
                                               and so on, until the client closes the connection
    {"fault": {"kind", "message"}}             in the place of an answer

The client parses options, reads lines and writes results; the server translates. Both ends are of one version.
"""

import json
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields, is_dataclass
from typing import TypeVar

from transformer_core.decoding.config import LineGuide, TranslationConfig
from transformer_core.decoding.translation import Translation
from transformer_core.errors import ConfigError, DataError, LineError, ModelError, OutOfMemoryError, TransduceError
from transformer_core.json_record import build_record

__all__ = [
    "MAX_REQUEST_BYTES",
    "VERSION",
    "Answer",
    "Connection",
    "Fault",
    "Greeting",
    "Message",
    "ProtocolError",
    "Ready",
    "TooLongError",
    "Window",
    "pack",
]

VERSION = 3  # of what is described above
MAX_REQUEST_BYTES = 1 << 24  # of a line to the server; the client cuts its windows to fit
MAX_ANSWER_BYTES = 1 << 30  # of a line to the client: its n-best lists may be long
MAX_REASON = 300  # characters of what is wrong with a message: it may be of any length
_CHUNK_BYTES = 1 << 16

KINDS: dict[str, type[TransduceError]] = {
    kind.__name__: kind for kind in (ConfigError, DataError, ModelError, OutOfMemoryError, TransduceError)
}


class ProtocolError(TransduceError):
    """The other end does not speak as it should."""


class TooLongError(ProtocolError):
    """A line is longer than the other end takes."""


@dataclass(frozen=True, kw_only=True)
class Greeting:
    """What a server says of itself before it is asked."""

    version: int  # VERSION
    generation: dict[str, object]  # what generation.json of its model says
    weights: tuple[str, ...]  # SHA-256 of those of its models


@dataclass(frozen=True, kw_only=True)
class Ready:
    """The config is accepted."""


@dataclass(frozen=True, kw_only=True)
class Window:
    """Lines to translate."""

    lines: tuple[str, ...]
    guides: tuple[LineGuide, ...]  # what is asked of each
    first: int  # number of the first line in the whole input, from 1
    place: str  # where that line stands, for messages: "file:line"


@dataclass(frozen=True, kw_only=True)
class Answer:
    """The translations of a window."""

    translations: tuple[Translation, ...]
    num_halvings: int  # how often memory ran out since the connection was made


@dataclass(frozen=True, kw_only=True)
class Fault:
    """Why there is no answer."""

    kind: str  # one of KINDS
    message: str
    line_number: int | None = None  # of the line that it is about, if there is one; the next window may follow

    @classmethod
    def of(cls, error: TransduceError) -> "Fault":
        """Say of an exception what crosses the socket."""
        kind = next(name for name, kind in KINDS.items() if isinstance(error, kind))
        line_number = error.line_number if isinstance(error, LineError) else None
        return cls(kind=kind, message=str(error), line_number=line_number)

    def to_error(self) -> TransduceError:
        """Make the exception that it was."""
        if self.line_number is not None:
            return LineError(self.line_number, self.message)
        return KINDS.get(self.kind, TransduceError)(self.message)


Message = Greeting | TranslationConfig | Ready | Window | Answer | Fault

NAMES: dict[type[Message], str] = {
    Greeting: "greeting",
    TranslationConfig: "config",
    Ready: "ready",
    Window: "window",
    Answer: "answer",
    Fault: "fault",
}

_Expected = TypeVar("_Expected", Greeting, TranslationConfig, Ready, Window, Answer)


def pack(message: Message) -> bytes:
    r"""Write a message as a line, "\n" included; half characters, which JSON can hold, survive."""
    values = {item.name: _plain(getattr(message, item.name)) for item in fields(message)}
    return json.dumps({NAMES[type(message)]: values}).encode("ascii") + b"\n"


def _plain(value: object) -> object:
    """Give a field in the types that JSON has."""
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return asdict(value) if is_dataclass(value) and not isinstance(value, type) else value


class Connection:
    """One end of a connection.

    Args:
        stream: the socket.
        max_bytes: of a line that is taken from it.
    """

    def __init__(self, stream: socket.socket, max_bytes: int) -> None:
        self.stream = stream
        self._max_bytes = max_bytes
        self._rest = bytearray()  # what has come of the next line

    def send(self, packed: bytes) -> None:
        """Send a packed message.

        Raises:
            OSError: the other end is gone.
        """
        self.stream.sendall(packed)

    def receive(self, expected: type[_Expected]) -> _Expected | None:
        """Wait for a message; None where the other end has closed the connection.

        Raises:
            OSError: the connection broke.
            ProtocolError: what came is no message, or another one than is expected.
            TransduceError: a fault came in its place.
        """
        line = self._line()
        if line is None:
            return None
        with _blaming_the_other_end():
            content = json.loads(line)
            if not isinstance(content, dict) or len(content) != 1:
                raise ProtocolError("what came over the socket is no message of transduce")
            name, values = next(iter(content.items()))
            if name == NAMES[Fault]:
                fault = build_record(Fault, values, name).to_error()
            elif name == NAMES[expected]:
                return build_record(expected, values, name)
            else:
                raise ProtocolError(f"{NAMES[expected]} was expected over the socket, and another message came")
        raise fault

    def _line(self) -> bytes | None:
        start = 0
        while (end := self._rest.find(b"\n", start)) < 0:
            start = len(self._rest)
            if start > self._max_bytes:
                raise TooLongError(f"a line of more than {self._max_bytes:,} bytes came over the socket")
            chunk = self.stream.recv(_CHUNK_BYTES)
            if not chunk:
                if self._rest:
                    raise ProtocolError("the connection ended in the middle of a line")
                return None
            self._rest += chunk
        line = bytes(self._rest[:end])
        del self._rest[: end + 1]
        return line


@contextmanager
def _blaming_the_other_end() -> Iterator[None]:
    """Turn what is wrong with a line into a ProtocolError; what it says is not repeated at length."""
    try:
        yield
    except ProtocolError:
        raise
    except (ValueError, RecursionError):
        raise ProtocolError("what came over the socket is not JSON") from None
    except ConfigError as error:
        raise ProtocolError(f"a message over the socket does not fit: {str(error)[:MAX_REASON]}") from None
