import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from itertools import count
from pathlib import Path

import pytest

from transformer_core.errors import ConfigError, Interrupted, OutOfMemoryError, TransduceError
from transformer_core.forked_processes import forked_processes
from transformer_core.worker_processes import ITEMS_PER_WORKER, in_order, num_cores, worker_processes


def square_slowly() -> Callable[[int], int]:
    """Of small numbers, so that the first results are the last to come."""

    def work(number: int) -> int:
        time.sleep(0.02 if number < 4 else 0)
        return number * number

    return work


def fail(kind: type[Exception], arguments: Sequence[object], failing: int) -> Callable[[int], int]:
    def work(number: int) -> int:
        if number == failing:
            raise kind(*arguments)
        return number

    return work


def end_by(signal_number: int) -> Callable[[int], int]:
    return lambda number: os.kill(os.getpid(), signal_number) or number  # type: ignore[func-returns-value]


def fail_to_start() -> Callable[[int], int]:
    raise ConfigError("nothing to work with")


def process_id() -> Callable[[int], tuple[int, str]]:
    return lambda number: (os.getpid(), os.environ.get("FLAVOUR", ""))


def say_much() -> Callable[[int], bytes]:
    """Print something, and give more than a pipe holds."""

    def work(number: int) -> bytes:
        os.write(1, b"said on the way")
        return b"x" * number

    return work


@dataclass(frozen=True)
class Prepared:
    """Gets ready by getting nothing ready."""

    start: Callable[[], Callable[[int], object]]

    def __call__(self) -> Callable[[], Callable[[int], object]]:
        return self.start


BOTH_KINDS = pytest.mark.parametrize("kind", ["programs", "forks"])  # programs of their own, or forks of one


def processes(kind: str, start: Callable[[], Callable[[int], object]], number: int = 2, **environment: str):  # type: ignore[no-untyped-def]  # noqa: ANN201
    if kind == "forks":
        return forked_processes(Prepared(start), number, work="squared", option="--workers", environment=environment)
    return worker_processes([start] * number, work="squared", option="--workers", environment=environment)


def results(
    kind: str, start: Callable[[], Callable[[int], object]], numbers: int = 8, workers: int = 2
) -> Iterator[object]:
    with processes(kind, start, workers) as started:
        yield from in_order(range(numbers), started)


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[subprocess.Popen[bytes]]:
    """The processes that were started."""
    found: list[subprocess.Popen[bytes]] = []

    class Recorded(subprocess.Popen[bytes]):
        def __init__(self, *arguments: object, **options: object) -> None:
            super().__init__(*arguments, **options)  # type: ignore[call-overload]
            found.append(self)

    monkeypatch.setattr(subprocess, "Popen", Recorded)
    return found


@BOTH_KINDS
@pytest.mark.parametrize("numbers", [0, 1, 2, 40])
@pytest.mark.parametrize("workers", [1, 3])
def test_results_come_in_the_order_of_the_items(
    started: list[subprocess.Popen[bytes]], kind: str, numbers: int, workers: int
) -> None:
    assert list(results(kind, square_slowly, numbers, workers)) == [number * number for number in range(numbers)]
    assert len(started) == (workers if kind == "programs" else 1)
    assert all(process.returncode is not None for process in started)


@BOTH_KINDS
def test_all_of_them_work_and_have_their_variables(kind: str) -> None:
    with processes(kind, process_id, 2, FLAVOUR="sweet") as started:
        answers = [worker(1) for worker in started]
    assert len({process for process, _ in answers} | {os.getpid()}) == 3
    assert {flavour for _, flavour in answers} == {"sweet"}


@BOTH_KINDS
def test_results_may_be_large_and_what_is_printed_is_none(kind: str, capfd: pytest.CaptureFixture[str]) -> None:
    with processes(kind, say_much) as started:
        assert [len(found) for found in in_order([1 << 20, 0, 1 << 21], started)] == [1 << 20, 0, 1 << 21]
    assert "said on the way" in capfd.readouterr().err


def test_items_are_read_as_they_are_needed() -> None:
    read = count()
    with closing(in_order((next(read) for _ in count()), [lambda number: number] * 2)) as found:
        assert [next(found) for _ in range(5)] == list(range(5))
        time.sleep(0.05)
        assert next(read) <= 5 + 2 * ITEMS_PER_WORKER + 1


def test_a_result_comes_though_the_next_item_does_not() -> None:
    next_item = threading.Event()

    def items() -> Iterator[int]:
        yield 1
        assert next_item.wait(10), "the result of the first is asked for before the second is there"
        yield 2

    found = in_order(items(), [lambda number: number] * 2)
    assert next(found) == 1
    next_item.set()
    assert list(found) == [2]


@BOTH_KINDS
def test_what_goes_wrong_comes_behind_what_came_before(kind: str) -> None:
    def items() -> Iterator[int]:
        yield from range(3)
        raise OSError("the disk is gone")

    read = []
    with pytest.raises(OSError, match="the disk is gone"):
        for number in in_order(items(), [lambda number: number] * 2):
            read.append(number)
    assert read == [0, 1, 2]

    done = []
    with pytest.raises(ConfigError, match="five is too much") as raised:
        for number in results(kind, partial(fail, ConfigError, ["five is too much"], 5)):
            done.append(number)
    assert done == [0, 1, 2, 3, 4]
    assert "in work" in raised.value.__notes__[0], "the traceback of the other process, for --debug"


@BOTH_KINDS
@pytest.mark.parametrize(
    ("error", "arguments", "raised", "message"),
    [
        (Interrupted, (15, "it ends"), RuntimeError, "Interrupted: it ends"),  # asks for two arguments
        (MemoryError, ("the tokens",), MemoryError, "the tokens"),
        (KeyError, ("no such tag",), KeyError, "no such tag"),
    ],
)
def test_exceptions_of_every_kind_arrive(
    kind: str, error: type[Exception], arguments: Sequence[object], raised: type[Exception], message: str
) -> None:
    with pytest.raises(raised, match=message):
        list(results(kind, partial(fail, error, arguments, 2)))


@BOTH_KINDS
@pytest.mark.parametrize(
    ("number", "error", "message"),
    [
        (signal.SIGKILL, OutOfMemoryError, r"a process that squared was killed, perhaps .*; use fewer \(--workers\)"),
        (signal.SIGTERM, TransduceError, "a process that squared was ended by SIGTERM; run the same command again"),
    ],
)
def test_a_process_that_dies_is_named(
    started: list[subprocess.Popen[bytes]], kind: str, number: int, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        list(results(kind, partial(end_by, number)))
    assert all(process.returncode is not None for process in started)


@BOTH_KINDS
def test_one_that_cannot_start_says_so_before_there_is_work(kind: str) -> None:
    with pytest.raises(ConfigError, match="nothing to work with"), processes(kind, fail_to_start):
        raise AssertionError("it has started")


def fail_to_prepare() -> Callable[[], Callable[[int], object]]:
    raise ConfigError("nothing to fork")


def test_what_cannot_be_prepared_is_said_once() -> None:
    with (
        pytest.raises(ConfigError, match="nothing to fork"),
        forked_processes(fail_to_prepare, 3, work="squared", option="--workers"),
    ):
        raise AssertionError("it has forked")


MEGABYTES = 64


def prepare_much() -> Callable[[], Callable[[int], tuple[int, float]]]:
    """Fill memory; give how much of it a fork alone holds, in megabytes."""
    much = bytearray(os.urandom(1 << 20) * MEGABYTES)

    def work(number: int) -> tuple[int, float]:
        rows = Path("/proc/self/smaps_rollup").read_text(encoding="utf-8").splitlines()
        own = sum(int(row.split()[1]) for row in rows if row.startswith("Private_Dirty"))
        return much[number], own / 1024

    return lambda: work


def test_forks_share_what_was_there_before_them() -> None:
    with forked_processes(prepare_much, 3, work="squared", option="--workers") as started:
        answers = [worker(12345) for worker in started]
    assert len({byte for byte, _ in answers}) == 1
    assert max(own for _, own in answers) < MEGABYTES / 2


def test_there_is_a_core() -> None:
    assert 1 <= num_cores() <= (os.cpu_count() or 1)
