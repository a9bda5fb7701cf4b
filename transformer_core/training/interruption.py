"""Turn SIGINT, SIGTERM and SIGHUP into a wish that the training loop fulfils between two updates."""

import select
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

__all__ = ["Interruption", "interruptible"]


class Interruption:
    """Whether somebody wants training to stop.

    Args:
        is_patient: whether a second signal does nothing, instead of ending the process at once.

    Attributes:
        signal_number: the signal that came, or None.
    """

    def __init__(self, *, is_patient: bool = False) -> None:
        self.signal_number: int | None = None
        self._is_patient = is_patient
        self._is_immediate = False

    @contextmanager
    def immediate(self) -> Iterator[None]:
        """Let a signal end the block, for long work that leaves nothing behind when it is broken off.

        Raises:
            KeyboardInterrupt: a signal came, now or before.
        """
        self._is_immediate = True
        try:
            if self.signal_number is not None:
                raise KeyboardInterrupt
            yield
        finally:
            self._is_immediate = False

    def wait(self, source: socket.socket) -> bool:
        """Wait until there is something to take from `source`; tell whether a signal came in its place, now or before.

        A signal that comes just before the wait begins ends it, too: it leaves a byte in a pipe that is waited for.
        """
        receiver, sender = socket.socketpair()
        with receiver, sender:
            sender.setblocking(False)
            is_main = threading.current_thread() is threading.main_thread()  # no other gets signals
            previous = signal.set_wakeup_fd(sender.fileno(), warn_on_full_buffer=False) if is_main else -1
            try:
                if self.signal_number is None:
                    select.select([source, receiver], [], [])
            finally:
                if is_main:
                    signal.set_wakeup_fd(previous)
        return self.signal_number is not None

    def _note(self, signal_number: int, frame: FrameType | None) -> None:
        if self.signal_number is not None and (self._is_patient or signal_number == signal.SIGHUP):
            return  # of a terminal that is closed, the shell and the system both tell
        if self.signal_number is not None:  # asked a second time: do not wait for the save
            signal.signal(signal_number, signal.SIG_DFL)
            signal.raise_signal(signal_number)
        self.signal_number = signal_number
        if self._is_immediate:
            raise KeyboardInterrupt


@contextmanager
def interruptible(*, is_patient: bool = False) -> Iterator[Interruption]:
    """Catch signals to end while the block runs; a second one ends the process at once, unless it is patient.

    They are SIGINT and SIGTERM, and SIGHUP but where it is ignored (nohup).
    """
    interruption = Interruption(is_patient=is_patient)
    if threading.current_thread() is not threading.main_thread():  # only the main thread may set handlers
        yield interruption
        return
    numbers = [signal.SIGINT, signal.SIGTERM]
    if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:
        numbers.append(signal.SIGHUP)
    previous = {number: signal.signal(number, interruption._note) for number in numbers}
    try:
        yield interruption
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
