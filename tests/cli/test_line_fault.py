from collections.abc import Sequence

import pytest

from cli.line_fault import up_to_fault
from transformer_core.errors import DataError, LineError


def double(lines: Sequence[int]) -> list[int]:
    """Refuse negative lines first, as a search does that looks at all lines before it begins, and then large ones."""
    for bad in (range(-9, 0), range(100, 109)):
        for number, line in enumerate(lines, 11):
            if line in bad:
                raise LineError(number, f"f:{number}: is {line}")
    return [2 * line for line in lines]


@pytest.mark.parametrize(
    ("lines", "results", "message"),
    [
        ([], [], "None"),
        ([1, 2], [2, 4], "None"),
        ([-1, 2], [], "f:11: is -1"),
        ([1, 2, -1, 3, -1], [2, 4], "f:13: is -1"),
        ([1, 100, 3, -1], [2], "f:12: is 100"),
    ],
)
def test_lines_before_the_first_fault_have_results(lines: list[int], results: list[int], message: str) -> None:
    found, fault = up_to_fault(double, lines, 11)
    assert (found, str(fault)) == (results, message)


@pytest.mark.parametrize("number", [-5, 10, 13])
def test_a_fault_of_other_lines_is_raised(number: int) -> None:
    def refuse(lines: Sequence[int]) -> list[int]:
        raise LineError(number, "somewhere")

    with pytest.raises(DataError, match="somewhere"):
        up_to_fault(refuse, [1, 2], 11)
