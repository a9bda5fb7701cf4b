"""The warm process: a thread for each client, one model for all, and an orderly end."""

import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace

from tokenizer import TokenizerConfigError, TokenizerDataError, TokenizerError
from transformer_core.decoding.config import BatchConfig, Precision, SearchConfig, TranslationConfig
from transformer_core.decoding.linear import for_decoding
from transformer_core.decoding.refinement import RefiningTranslator
from transformer_core.decoding.translator import Translator
from transformer_core.errors import ConfigError, DataError, LineError, OutOfMemoryError, TransduceError
from transformer_core.model_directory import LoadedModel
from transformer_core.out_of_memory import is_out_of_memory
from transformer_core.serving.protocol import (
    MAX_ANSWER_BYTES,
    MAX_REQUEST_BYTES,
    VERSION,
    Answer,
    Connection,
    Fault,
    Greeting,
    ProtocolError,
    Ready,
    TooLongError,
    Window,
    pack,
)
from transformer_core.serving.turns import Turns
from transformer_core.training.interruption import Interruption

__all__ = ["Server"]

MAX_CLIENTS = 64  # at once: each has a thread, and may send a line of MAX_REQUEST_BYTES
MAX_HYPOTHESES = 1024  # of a line: a beam beyond any use could take all memory
MAX_PLACE_DIGITS = 18
SECONDS_TO_READ = 5.0  # that a client has, when the server ends, to take the answer it has asked for


class _ClientGoneError(Exception):
    """Nobody waits for the answer any more."""


@dataclass
class _Session:
    """A client, and its thread."""

    connection: Connection
    thread: threading.Thread | None = None
    is_sending: bool = False  # as opposed to computing, or waiting for the client to ask


class Server:
    """Answers clients until it is told to end.

    Args:
        models: of the same vocabularies on the same device; several are an ensemble.
        weights: SHA-256 of those of the models, for clients to know them by.
        say: tells whoever runs the server of what a client did wrong, and of faults of our own.

    Raises:
        TransduceError: the models cannot translate.
    """

    def __init__(self, models: Sequence[LoadedModel], weights: Sequence[str], say: Callable[[str], None]) -> None:
        self._models = models
        self._ready: dict[Precision, list[LoadedModel]] = {}  # made ready to compute, once for all clients
        self._say = say
        self._greeting = pack(Greeting(version=VERSION, generation=models[0].generation, weights=tuple(weights)))
        self._turns = Turns()
        self._sessions: list[_Session] = []
        self._lock = threading.Lock()  # of the list
        self._is_ending = False
        self._warm_up()

    def run(self, listener: socket.socket, interruption: Interruption) -> None:
        """Accept clients until a signal comes; then answer what has been asked, and return."""
        listener.setblocking(False)
        while not interruption.wait(listener):
            try:
                stream, _ = listener.accept()
            except OSError:  # the client has changed its mind, or there are too many open files
                time.sleep(0.01)
                continue
            stream.setblocking(True)
            self._welcome(_Session(Connection(stream, MAX_REQUEST_BYTES)))
        listener.close()
        self._end()

    def _welcome(self, session: _Session) -> None:
        with self._lock:
            is_full = len(self._sessions) >= MAX_CLIENTS
            if not is_full:
                self._sessions.append(session)
        if is_full:
            fault = Fault(kind="TransduceError", message=f"the server has {MAX_CLIENTS} clients already; try later")
            with suppress(OSError):
                session.connection.stream.setblocking(False)
                session.connection.send(pack(fault))
            session.connection.stream.close()
            return
        session.thread = threading.Thread(target=self._attend, args=(session,), daemon=True)
        session.thread.start()

    def _end(self) -> None:
        """Wait until everybody who has asked is answered."""
        self._is_ending = True
        with self._lock:
            sessions = list(self._sessions)
        for session in sessions:  # whoever waits for a question gets the end of the input in its place
            with suppress(OSError):
                session.connection.stream.shutdown(socket.SHUT_RD)
        ended_at = time.monotonic()
        for session in sessions:
            while session.thread is not None and session.thread.is_alive():
                session.thread.join(0.05)
                if session.is_sending and time.monotonic() - ended_at > SECONDS_TO_READ:
                    with suppress(OSError):
                        session.connection.stream.shutdown(socket.SHUT_RDWR)

    def _attend(self, session: _Session) -> None:
        """Serve one client, whatever it does."""
        try:
            self._send(session, self._greeting)
            self._converse(session)
        except (OSError, _ClientGoneError):
            pass  # it went away, and nobody else need know
        except ProtocolError as error:
            self._say(f"a client was sent away: {error}")
            self._send_fault(session, error)
        except (TransduceError, TokenizerError) as error:
            self._send_fault(session, _of_ours(error))
        except Exception as error:
            if is_out_of_memory(error):
                fault: TransduceError = OutOfMemoryError("the server is out of memory; make the --batch-size smaller")
            else:
                fault = TransduceError(f"a fault of transduce at the server: {type(error).__name__}: {error}")
            self._say(str(fault))
            self._send_fault(session, fault)
        finally:
            session.connection.stream.close()
            with self._lock:
                self._sessions.remove(session)

    def _converse(self, session: _Session) -> None:
        """Take the config and answer windows until the client has no more, or the server ends."""
        config = session.connection.receive(TranslationConfig)
        if config is None:
            return
        if max(config.search.beam_size, config.search.n_best) > MAX_HYPOTHESES:
            raise ConfigError(f"a server looks for at most {MAX_HYPOTHESES} translations of a line at once")
        window: Window | None = None
        models = self._ready_for(config.batching.precision)
        translator = RefiningTranslator(models, config, lambda number: _place(window, number))
        translator.take_turns(lambda: self._turn(session))
        self._send(session, pack(Ready()))
        while (window := session.connection.receive(Window)) is not None:
            self._send(session, self._answer(translator, window))

    def _answer(self, translator: RefiningTranslator, window: Window) -> bytes:
        if len(window.guides) != len(window.lines):
            raise ProtocolError("a message over the socket does not fit: there are not as many guides as lines")
        try:
            translations = translator.translate(window.lines, window.first, window.guides)
        except LineError as error:  # the lines before it may be asked for next
            return pack(Fault.of(error))
        packed = pack(Answer(translations=tuple(translations), num_halvings=translator.num_halvings))
        if len(packed) > MAX_ANSWER_BYTES:
            raise TooLongError("the answer is longer than a client takes; make the --buffer-size smaller")
        return packed

    @contextmanager
    def _turn(self, session: _Session) -> Iterator[None]:
        """Have the model for one batch; who has gone away meanwhile loses the turn."""
        with self._turns.turn():
            with suppress(BlockingIOError):
                if not self._is_ending and not session.connection.stream.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT):
                    raise _ClientGoneError
            yield

    def _send(self, session: _Session, packed: bytes) -> None:
        session.is_sending = True
        session.connection.send(packed)
        session.is_sending = False

    def _send_fault(self, session: _Session, error: TransduceError) -> None:
        with suppress(OSError):
            self._send(session, pack(Fault.of(error)))

    def _warm_up(self) -> None:
        """Translate something short: what torch makes when it is first asked is there before the first client."""
        models = self._ready_for(BatchConfig.precision)
        tokenizers = models[0].source_tokenizer, models[0].target_tokenizer
        search = replace(SearchConfig(), max_length=2)
        Translator([each.model for each in models], *tokenizers, search, BatchConfig()).translate(["a"])

    def _ready_for(self, precision: Precision) -> list[LoadedModel]:
        """Give the models in the layout that a precision computes with.

        Raises:
            ConfigError: the device does not compute in it.
        """
        if precision == "auto" and self._models[0].model.device.type == "cpu":
            precision = "fp32"  # the same layout
        with self._turns.turn():
            if precision not in self._ready:
                self._ready[precision] = [
                    replace(each, model=for_decoding(each.model, precision)) for each in self._models
                ]
            return self._ready[precision]


def _place(window: Window | None, number: int) -> str:
    """Say where a line of a window stands, which the client knew of its first line only."""
    if window is None:
        return f"input:{number}"
    name, _, line = window.place.rpartition(":")
    is_number = line.isdecimal() and len(line) < MAX_PLACE_DIGITS
    return f"{name}:{int(line) + number - window.first}" if is_number else f"{window.place}+{number}"


def _of_ours(error: TransduceError | TokenizerError) -> TransduceError:
    """Give a fault of the tokenizer as the fault of its kind that can cross the socket."""
    match error:
        case TransduceError():
            return error
        case TokenizerConfigError():
            return ConfigError(str(error))
        case TokenizerDataError():
            return DataError(str(error))
        case _:
            return TransduceError(str(error))
