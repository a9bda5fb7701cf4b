"""How far a piece of work is: shown by the caller, told by whoever works."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Protocol

__all__ = ["Progress", "no_progress"]


class Progress(Protocol):
    """Makes something that shows how far a piece of work is."""

    def __call__(
        self, description: str, *, total: int | None = None, unit: str
    ) -> AbstractContextManager[Callable[[int], None]]:
        """Show `description`, of `total` units where that is known; what is yielded is told how many were just done."""


def no_progress(
    description: str, *, total: int | None = None, unit: str
) -> AbstractContextManager[Callable[[int], None]]:
    """Show nothing."""
    return nullcontext(lambda count: None)
