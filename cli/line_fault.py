"""A line that cannot be worked on: those before it are, and what is wrong with it is said behind their results."""

from collections.abc import Callable, Sequence
from typing import TypeVar

from transformer_core.errors import DataError, LineError

__all__ = ["up_to_fault"]

Item = TypeVar("Item")
Result = TypeVar("Result")


def up_to_fault(
    work: Callable[[Sequence[Item]], list[Result]], items: Sequence[Item], first: int
) -> tuple[list[Result], DataError | None]:
    """Work on lines, or on those before the first that cannot be worked on.

    Args:
        work: takes lines and gives the result of each; it raises a LineError where one is not as it should be.
        items: the lines, and what belongs to them.
        first: number of the first one in the whole input, from 1.

    Returns:
        The results, and what is wrong with the line behind them; None if they are all.

    Raises:
        DataError: it is no line of these that something is wrong with.
    """
    fault = None
    while True:
        try:
            return work(items), fault
        except LineError as error:
            fault = DataError(str(error))
            num_before = error.line_number - first
            if not 0 <= num_before < len(items):  # a server may say anything
                raise fault from None
            items = items[:num_before]
