"""Targets of fuzz.py: both ends of the socket of `transduce serve`, each with bytes that the other end never sends."""

import json
import socket
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from unittest import mock

from transformer_core.data.lines import open_output
from transformer_core.data.records import Record
from transformer_core.decoding.config import NOTHING_ASKED, LineGuide, SearchConfig, TranslationConfig
from transformer_core.decoding.generation import model_search, model_source_limit
from transformer_core.decoding.translation import TargetText, Translation
from transformer_core.errors import ModelError, TransduceError
from transformer_core.model_directory import load_model
from transformer_core.serving import client
from transformer_core.serving.client import RemoteModel, RemoteTranslator
from transformer_core.serving.protocol import (
    MAX_REQUEST_BYTES,
    NAMES,
    VERSION,
    Answer,
    Connection,
    Fault,
    Greeting,
    Ready,
    Window,
    pack,
)
from transformer_core.serving.server import Server, _Session

__all__ = ["ask_server", "listen_to_server", "seeds_of_answers", "seeds_of_questions"]

LINES = ("a b", "", "c d e")
GUIDES = (LineGuide(prefix="a", avoid=("b", "c d")), NOTHING_ASKED, LineGuide(constraints=("a",), is_ordered=True))
CONFIG = TranslationConfig(search=SearchConfig(beam_size=2, n_best=2, per_token=True), has_alignments=True)


def seeds_of_questions(folder: Path) -> Sequence[bytes]:
    """Give what clients say."""
    window = pack(Window(lines=LINES, guides=GUIDES, first=1, place="f:1"))
    sampling = TranslationConfig(
        search=SearchConfig(beam_size=1, sample=True, n_best=3, top_k=4, top_p=0.9), utility="chrf"
    )
    return [pack(CONFIG) + window + window, pack(sampling) + window, pack(TranslationConfig()) + window]


def seeds_of_answers(folder: Path) -> Sequence[bytes]:
    """Give what servers say."""
    found = TargetText(
        text="x y",
        score=-0.5,
        log_probability=-1.5,
        num_tokens=3,
        piece_ids=((7, 8),),
        is_truncated=False,
        tokens=("x", "y", "<eos>"),
        token_log_probabilities=(-0.5, -0.5, -0.5),
        alignment=((0, 0), (1, 1)),
    )
    translations = tuple(Translation(hypotheses=(found, found)) for _ in LINES)
    greeting = Greeting(version=VERSION, generation={"beam_size": 3, "max_source_length": 20}, weights=("0" * 64,))
    begin = pack(greeting) + pack(Ready())
    return [
        begin + pack(Answer(translations=translations, num_halvings=0)),
        begin + pack(Fault(kind="DataError", message="f:1: is too long")),
    ]


def ask_server(data: bytes, folder: Path) -> None:
    """Say something to a server; whatever it was, it answers by messages, and finds no fault in itself."""
    said: list[str] = []
    server = _server(folder)
    server._say = said.append
    ours, theirs = socket.socketpair()
    session = _Session(Connection(theirs, MAX_REQUEST_BYTES))
    server._welcome(session)
    answer = b"".join(_speak(ours, data))
    assert session.thread is not None
    session.thread.join()
    for line in answer.split(b"\n")[:-1]:
        (name,) = json.loads(line)
        assert name in NAMES.values(), "what it says is a message"
    assert answer.endswith(b"\n"), "what it says is whole"
    assert not any("a fault of transduce" in sentence for sentence in said), said
    if said:
        raise ModelError(said[0])  # it was refused


def listen_to_server(data: bytes, folder: Path) -> None:
    """Let a client hear something, and write what it makes of it in every form: a line for each of its lines."""
    ours, theirs = socket.socketpair()
    speaker = threading.Thread(target=lambda: list(_speak(theirs, data)))
    speaker.start()
    try:
        with mock.patch.object(client, "connect", lambda path: ours), RemoteModel(Path("socket")) as model:
            model_search(model.generation)
            assert model_source_limit(model.generation) > 0
            translations = RemoteTranslator(model, CONFIG, "f:{}".format).translate(LINES, 1, GUIDES)
        _write(translations, folder / "translations")
    except TransduceError as error:
        raise ModelError(str(error)) from error
    finally:
        ours.close()
        speaker.join()


def _write(translations: Sequence[Translation], path: Path) -> None:
    """Write translations as `translate` does."""
    from cli.translation_form import TranslationForm

    forms = [
        TranslationForm(format="text"),
        TranslationForm(format="tsv", n_best=2, has_alignments=True),
        TranslationForm(format="jsonl", n_best=2, has_alignments=True, per_token=True),
    ]
    for form in forms:
        with open_output(path) as writer:
            for number, (translation, line) in enumerate(zip(translations, LINES, strict=True), start=1):
                for text in form.lines(translation, Record((line,), (line,)), number):
                    writer.write_line(text)
        assert path.read_bytes().count(b"\n") == len(LINES), "a line for each"


@cache
def _server(folder: Path) -> Server:
    server = Server([load_model(folder / "model")], ["0" * 64], lambda sentence: None)
    server._is_ending = True  # a client that has said all and waits is not taken for one that is gone
    return server


def _speak(stream: socket.socket, data: bytes) -> Sequence[bytes]:
    """Send all, say that it is all, and give what came back until the end."""
    sender = threading.Thread(target=_quietly, args=(lambda: _send(stream, data),))
    sender.start()
    parts: list[bytes] = []
    with stream:
        _quietly(lambda: parts.extend(iter(lambda: stream.recv(1 << 16), b"")))
        sender.join()
    return parts


def _send(stream: socket.socket, data: bytes) -> None:
    stream.sendall(data)
    stream.shutdown(socket.SHUT_WR)


def _quietly(work: Callable[[], None]) -> None:
    with suppress(OSError):  # the other end has closed: it has heard enough
        work()
