import os
import signal
import socket
import subprocess
import sys
import threading

import pytest

from tests.program import program_environment
from transformer_core.training.interruption import interruptible


def test_a_wait_ends_by_a_signal_whenever_it_comes_or_by_what_there_is_to_take() -> None:
    mine, theirs = socket.socketpair()
    with mine, theirs, interruptible() as interruption:
        theirs.send(b"!")
        assert not interruption.wait(mine)
        assert mine.recv(1) == b"!"
        timer = threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGTERM))
        timer.start()
        assert interruption.wait(mine)
        assert interruption.wait(mine)  # it came before
        timer.join()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_is_noted_and_the_work_goes_on(number: int) -> None:
    before = signal.getsignal(number)
    with interruptible() as interruption:
        assert interruption.signal_number is None
        os.kill(os.getpid(), number)
        assert interruption.signal_number == number
    assert signal.getsignal(number) is before


def test_a_signal_ends_work_that_may_be_broken_off_before_it_and_in_it() -> None:
    with interruptible() as interruption:
        with pytest.raises(KeyboardInterrupt), interruption.immediate():
            os.kill(os.getpid(), signal.SIGTERM)
            pytest.fail("the block went on")
        with pytest.raises(KeyboardInterrupt), interruption.immediate():
            pytest.fail("the block began")
    assert interruption.signal_number == signal.SIGTERM


def test_a_second_signal_does_not_wait() -> None:
    code = (
        "import os, signal\n"
        "from transformer_core.training.interruption import interruptible\n"
        "with interruptible():\n"
        "    os.kill(os.getpid(), signal.SIGINT)\n"
        "    print('noted', flush=True)\n"
        "    os.kill(os.getpid(), signal.SIGTERM)\n"
        "    print('here still', flush=True)\n"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, env=program_environment(), check=False)
    assert run.returncode == -signal.SIGTERM
    assert run.stdout == b"noted\n"


def test_a_closed_terminal_says_so_twice_and_nohup_does_not_hear_it() -> None:
    with interruptible() as interruption:
        os.kill(os.getpid(), signal.SIGHUP)
        os.kill(os.getpid(), signal.SIGHUP)
        assert interruption.signal_number == signal.SIGHUP
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with interruptible() as interruption:
            os.kill(os.getpid(), signal.SIGHUP)
            assert interruption.signal_number is None
    finally:
        signal.signal(signal.SIGHUP, before)


def test_beside_the_main_thread_nothing_is_touched() -> None:
    before = signal.getsignal(signal.SIGINT)
    seen = []

    def work() -> None:
        with interruptible() as interruption:
            seen.append((signal.getsignal(signal.SIGINT), interruption.signal_number))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [(before, None)]
