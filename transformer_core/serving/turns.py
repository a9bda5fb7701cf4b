"""Whose turn it is: threads that share one model compute one after the other, each in the order in which it came."""

import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["Turns"]


class Turns:
    """A lock that is fair: who lets go of it and wants it again stands behind those who wait."""

    def __init__(self) -> None:
        self._waiting: deque[threading.Event] = deque()  # the first one has its turn
        self._lock = threading.Lock()

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Wait for the others, and have one's turn while the block runs."""
        mine = threading.Event()
        with self._lock:
            self._waiting.append(mine)
            if self._waiting[0] is mine:
                mine.set()
        mine.wait()
        try:
            yield
        finally:
            with self._lock:
                self._waiting.popleft()
                if self._waiting:
                    self._waiting[0].set()
