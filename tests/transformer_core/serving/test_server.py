"""A server and its clients: what RefiningTranslator says, for several at once, whatever one of them does."""

import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tests.transformer_core.decoding.random_model import random_lines, save_word_model
from transformer_core.decoding.config import NOTHING_ASKED, BatchConfig, LineGuide, SearchConfig, TranslationConfig
from transformer_core.decoding.refinement import RefiningTranslator
from transformer_core.decoding.translation import Translation
from transformer_core.errors import ConfigError, DataError, ModelError, TransduceError
from transformer_core.model_directory import LoadedModel, load_model
from transformer_core.serving import protocol
from transformer_core.serving.client import RemoteModel, RemoteTranslator
from transformer_core.serving.server import Server
from transformer_core.serving.unix_socket import connect, listening
from transformer_core.training.interruption import Interruption

SEARCH = SearchConfig(beam_size=3, max_length=12)
CONFIG = TranslationConfig(search=SEARCH)
LINES = random_lines(40)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    return load_model(save_word_model(tmp_path_factory.mktemp("serving") / "model", max_length_ratio=1.5))


class Served:
    """A server in a thread of this process."""

    def __init__(self, model: LoadedModel, path: Path) -> None:
        self.path = path
        self.said: list[str] = []
        self.interruption = Interruption()
        self.server = Server([model], ["0123"], self.said.append)

    @contextmanager
    def running(self) -> Iterator["Served"]:
        with listening(self.path, 0o600) as listener:
            thread = threading.Thread(target=self.server.run, args=(listener, self.interruption))
            thread.start()
            try:
                yield self
            finally:
                self.end()
                thread.join()

    def end(self) -> None:
        """What a signal does, but that it does not wake the thread up: a client has to."""
        self.interruption.signal_number = 15
        with suppress(ModelError):
            connect(self.path).close()


@pytest.fixture
def served(model: LoadedModel, tmp_path: Path) -> Iterator[Served]:
    with Served(model, tmp_path / "s").running() as running:
        yield running


def remote(path: Path, config: TranslationConfig = CONFIG, lines: list[str] = LINES) -> list[Translation]:
    with RemoteModel(path) as there:
        translator = RemoteTranslator(there, config, "f:{}".format)
        return translator.translate(lines, 1, [NOTHING_ASKED] * len(lines))


def local(model: LoadedModel, config: TranslationConfig = CONFIG, lines: list[str] = LINES) -> list[Translation]:
    return RefiningTranslator([model], config).translate(lines, 1, [NOTHING_ASKED] * len(lines))


@pytest.mark.parametrize(
    "config",
    [
        CONFIG,
        TranslationConfig(search=SearchConfig(beam_size=4, n_best=3, per_token=True), has_alignments=True),
        TranslationConfig(search=SearchConfig(beam_size=1, sample=True, n_best=4, seed=7), utility="chrf"),
        TranslationConfig(search=SEARCH, batching=BatchConfig(max_source_length=4, long_input="truncate")),
    ],
)
def test_a_server_says_what_the_model_says(model: LoadedModel, served: Served, config: TranslationConfig) -> None:
    lines = [*LINES, "", "  ", "\u2028"]
    assert remote(served.path, config, lines) == local(model, config, lines)


def test_it_knows_its_model(served: Served) -> None:
    with RemoteModel(served.path) as there:
        assert there.generation == {"max_length_ratio": 1.5}
        assert there.weights == ("0123",)


def test_what_is_asked_of_lines_goes_along(model: LoadedModel, served: Served) -> None:
    guides = [LineGuide(prefix="ba", avoid=("be",)), LineGuide(constraints=("du", "da"), is_ordered=True)]
    here = RefiningTranslator([model], CONFIG).translate(LINES[:2], 1, guides)
    with RemoteModel(served.path) as there:
        assert RemoteTranslator(there, CONFIG, "f:{}".format).translate(LINES[:2], 1, guides) == here


def test_a_window_too_long_for_a_message_is_cut(
    model: LoadedModel, served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("transformer_core.serving.client.MAX_REQUEST_BYTES", 1000)
    sampling = TranslationConfig(search=SearchConfig(beam_size=1, sample=True))  # depends on the line's number
    assert [each.text for each in remote(served.path, sampling)] == [each.text for each in local(model, sampling)]
    with pytest.raises(DataError, match="f:1: is longer than a server takes"):
        remote(served.path, lines=["ba " * 1000])


def test_faults_come_back_as_they_were(served: Served) -> None:
    long_line = ["ba " * 30]
    strict = TranslationConfig(batching=BatchConfig(max_source_length=4, long_input="error"))
    with RemoteModel(served.path) as there:
        translator = RemoteTranslator(there, strict, lambda number: f"a:b.txt:{number - 90}")
        with pytest.raises(DataError, match=r"^a:b.txt:12: has 30 tokens"):
            translator.translate(["ba", *long_line], 101, [NOTHING_ASKED] * 2)
        assert len(translator.translate(["ba"], 101, [NOTHING_ASKED])) == 1  # the connection stands
    with pytest.raises(DataError, match="half of a surrogate pair"):
        remote(served.path, lines=["half a character: \ud800"])
    with pytest.raises(ConfigError, match="tag"):
        remote(served.path, TranslationConfig(tag="xx"))
    with pytest.raises(ConfigError, match="at most 1024"):
        remote(served.path, TranslationConfig(search=SearchConfig(beam_size=5000)))
    assert served.said == []


def test_several_clients_at_once(model: LoadedModel, served: Served) -> None:
    expected = local(model)
    found: dict[int, list[Translation]] = {}
    threads = [threading.Thread(target=lambda n=n: found.update({n: remote(served.path)})) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == dict.fromkeys(range(8), expected)


@pytest.mark.parametrize(
    "sent",
    [
        b"\x00\xff\xfe\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"[" * 100_000 + b"\n",
        b'{"config": {"search": {"beam_size": "many"}}}\n',
        b'{"config": {"search": {"beam_size": -1}}}\n',
        b'{"config": {"__class__": "os.system"}}\n',
        b'{"window": {}}\n',
        b'{"config": {}}\n{"window": {"lines": ["a"], "guides": [], "first": 1, "place": "x"}}\n',
        b'{"config": {}}\n{"window": {"lines": [1], "guides": [], "first": 1, "place": "x"}}\n',
        b'{"config": {}, "window": {}}\n',
        b"no end of line",
        b"1" * 10_000 + b"\n",
    ],
)
def test_hostile_bytes_end_in_one_line(model: LoadedModel, served: Served, sent: bytes) -> None:
    with connect(served.path) as stream:
        stream.sendall(sent)
        stream.shutdown(socket.SHUT_WR)
        answer = b"".join(iter(lambda: stream.recv(1 << 16), b"")).splitlines()
    fault = json.loads(answer[-1])["fault"]
    assert fault["kind"] == "TransduceError"
    assert len(served.said) == 1
    assert "\n" not in served.said[0]
    assert len(served.said[0]) < 300
    assert remote(served.path, lines=LINES[:3]) == local(model, lines=LINES[:3])


def test_a_line_without_an_end_is_not_kept(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    with connect(served.path) as stream:
        sent = 0
        with pytest.raises((BrokenPipeError, ConnectionResetError)):
            while True:
                sent += stream.send(b"x" * (1 << 16))
    assert sent < 2 * protocol.MAX_REQUEST_BYTES
    assert "a line of more than" in served.said[0]


def test_who_goes_away_hurts_nobody(model: LoadedModel, served: Served) -> None:
    window = protocol.Window(lines=tuple(LINES * 20), guides=(NOTHING_ASKED,) * 800, first=1, place="x:1")
    with connect(served.path) as stream:
        stream.sendall(protocol.pack(CONFIG) + protocol.pack(window))
    assert remote(served.path, lines=LINES[:3]) == local(model, lines=LINES[:3])
    deadline = time.monotonic() + 60
    while served.server._sessions and time.monotonic() < deadline:  # its thread ends too
        time.sleep(0.01)
    assert served.server._sessions == []
    assert served.said == []


def test_too_many_clients_are_told(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("transformer_core.serving.server.MAX_CLIENTS", 1)
    with RemoteModel(served.path), pytest.raises(TransduceError, match="1 clients already; try later"):
        RemoteModel(served.path)


def test_the_end_answers_what_was_asked_and_takes_no_more(model: LoadedModel, tmp_path: Path) -> None:
    with (
        Served(model, tmp_path / "s").running() as served,
        RemoteModel(served.path) as there,
        RemoteModel(served.path) as idle,
    ):
        translator = RemoteTranslator(there, CONFIG, "f:{}".format)
        idle_translator = RemoteTranslator(idle, CONFIG, "f:{}".format)
        found: list[Translation] = []
        lines = LINES * 10
        asks = threading.Thread(
            target=lambda: found.extend(translator.translate(lines, 1, [NOTHING_ASKED] * len(lines)))
        )
        with served.server._turns.turn():  # nobody computes until the server has been told to end
            asks.start()
            while len(served.server._turns._waiting) < 2:
                time.sleep(0.001)
            served.end()
            while not served.server._is_ending:
                time.sleep(0.001)
        asks.join()
        assert found == local(model, lines=lines)
        with pytest.raises(TransduceError, match="the server ended before it answered"):
            idle_translator.translate(["ba"], 1, [NOTHING_ASKED])


def test_a_socket_of_something_else(tmp_path: Path) -> None:
    with listening(tmp_path / "s", 0o600) as listener:

        def answer() -> None:
            stream, _ = listener.accept()
            with stream:
                stream.sendall(b"220 mail ready\r\n")

        thread = threading.Thread(target=answer)
        thread.start()
        with pytest.raises(ModelError, match="is no socket of `transduce serve`"):
            RemoteModel(tmp_path / "s")
        thread.join()


@pytest.mark.parametrize("translations", [(), (Translation(hypotheses=()),) * 2])
def test_an_answer_that_leaves_lines_out_is_refused(tmp_path: Path, translations: tuple[Translation, ...]) -> None:
    said = [
        protocol.pack(protocol.Greeting(version=protocol.VERSION, generation={}, weights=())),
        protocol.pack(protocol.Ready()),
        protocol.pack(protocol.Answer(translations=translations, num_halvings=0)),
    ]
    with listening(tmp_path / "s", 0o600) as listener:

        def answer() -> None:
            stream, _ = listener.accept()
            with stream:
                stream.sendall(b"".join(said))
                while stream.recv(1 << 16):
                    pass

        thread = threading.Thread(target=answer)
        thread.start()
        with pytest.raises(ModelError, match="has not answered every line"):
            remote(tmp_path / "s", lines=["ba", "be"])
        thread.join()


@pytest.mark.parametrize("place", ["f:" + "9" * 5000, "f:\u0663", "f", ""])
def test_whatever_a_client_calls_its_lines_it_gets_an_answer(model: LoadedModel, served: Served, place: str) -> None:
    config = TranslationConfig(search=SEARCH, batching=BatchConfig(max_source_length=2, long_input="error"))
    with RemoteModel(served.path) as there:
        translator = RemoteTranslator(there, config, lambda number: place)
        with pytest.raises(DataError, match="more than the 2 that are translated at once"):
            translator.translate(["ba be bi"], 1, [NOTHING_ASKED])


def test_what_is_wrong_with_a_message_is_not_said_at_length(served: Served) -> None:
    with connect(served.path) as stream:
        connection = protocol.Connection(stream, 1 << 20)
        connection.receive(protocol.Greeting)
        config = json.loads(protocol.pack(CONFIG))
        config["config"]["utility"] = "x" * 5000
        connection.send(json.dumps(config).encode() + b"\n")
        with pytest.raises(TransduceError, match="does not fit: utility") as caught:
            connection.receive(protocol.Ready)
    assert len(str(caught.value)) < 500
    assert len(served.said[0]) < 500


def test_nothing_stays_open(model: LoadedModel, tmp_path: Path) -> None:
    with Served(model, tmp_path / "s").running() as served:
        remote(served.path, lines=["ba"])
        before = len(os.listdir("/proc/self/fd")) if Path("/proc/self/fd").exists() else 0
        for _ in range(20):
            remote(served.path, lines=["ba"])
        while served.server._sessions:
            time.sleep(0.01)
        after = len(os.listdir("/proc/self/fd")) if before else 0
    assert after <= before + 1
