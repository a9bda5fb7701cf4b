"""Translations from a server: what RefiningTranslator does, done elsewhere. Imports no torch."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

from transformer_core.decoding.config import LineGuide, TranslationConfig
from transformer_core.decoding.translation import Translation
from transformer_core.errors import LineError, ModelError, TransduceError
from transformer_core.serving.protocol import (
    MAX_ANSWER_BYTES,
    MAX_REQUEST_BYTES,
    VERSION,
    Answer,
    Connection,
    Greeting,
    ProtocolError,
    Ready,
    Window,
    pack,
)
from transformer_core.serving.unix_socket import connect

__all__ = ["RemoteModel", "RemoteTranslator"]

_Expected = TypeVar("_Expected", Greeting, Ready, Answer)


class RemoteModel:
    """The model of a server, as long as the connection stands.

    Args:
        path: of the server's socket.

    Attributes:
        path: the same.
        generation: the decoding defaults of the model, as in its generation.json.
        weights: the SHA-256 of its weights; of those of each model, if it is an ensemble.

    Raises:
        ModelError: no server listens there, or none that we understand.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._connection = Connection(connect(path), MAX_ANSWER_BYTES)
        try:
            greeting = self._receive(Greeting)
            if greeting.version != VERSION:
                raise ModelError(f"{path}: the server is of another version of transduce; start it anew")
        except BaseException:
            self.close()
            raise
        self.generation = greeting.generation
        self.weights = greeting.weights

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection."""
        self._connection.stream.close()

    def ask(self, packed: bytes, expected: type[_Expected]) -> _Expected:
        """Send a packed message, and wait for what answers it.

        Raises:
            TransduceError: what went wrong at the server, as its own translator would have raised it here; or the
                server is gone.
        """
        with suppress(BrokenPipeError, ConnectionResetError):  # it has said why before it closed, perhaps
            self._connection.send(packed)
        return self._receive(expected)

    def _receive(self, expected: type[_Expected]) -> _Expected:
        try:
            message = self._connection.receive(expected)
        except ProtocolError as error:
            raise ModelError(
                f"{self.path}: is no socket of `transduce serve`, or of another version ({error})"
            ) from None
        except OSError:
            message = None
        if message is None:
            raise TransduceError(f"{self.path}: the server ended before it answered; start it, and try again")
        return message


class RemoteTranslator:
    """Translates lines at a server.

    Args:
        model: the server's.
        config: what is to be done.
        place: says where a line stands, by its number, for messages: "file:line".

    Attributes:
        num_halvings: how often memory ran out at the server for our lines.

    Raises:
        TransduceError: as RefiningTranslator.
    """

    def __init__(self, model: RemoteModel, config: TranslationConfig, place: Callable[[int], str]) -> None:
        self._model = model
        self._place = place
        self.num_halvings = 0
        model.ask(pack(config), Ready)

    def translate(self, lines: Sequence[str], first: int, guides: Sequence[LineGuide]) -> list[Translation]:
        """Translate lines.

        Args:
            lines: without their ends, of one file.
            first: number of the first one in the whole input, from 1.
            guides: what is asked of each translation.

        Raises:
            TransduceError: as RefiningTranslator; or a line is longer than the server takes, or the server is gone.
        """
        place = self._place(first)
        packed = pack(Window(lines=tuple(lines), guides=tuple(guides), first=first, place=place))
        if len(packed) > MAX_REQUEST_BYTES:
            middle = len(lines) // 2
            if not middle:
                raise LineError(first, f"{place}: is longer than a server takes; translate it without --socket")
            before = self.translate(lines[:middle], first, guides[:middle])
            return before + self.translate(lines[middle:], first + middle, guides[middle:])
        answer = self._model.ask(packed, Answer)
        if len(answer.translations) != len(lines) or not all(each.hypotheses for each in answer.translations):
            raise ModelError(f"{self._model.path}: the server has not answered every line; it is of another version")
        self.num_halvings = answer.num_halvings
        return list(answer.translations)
