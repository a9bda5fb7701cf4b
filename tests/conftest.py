import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

# One thread in this process and in those it starts: tests compare sums whose order depends on the number of threads,
# and several tests may run side by side. Set before anything imports torch.
os.environ["OMP_NUM_THREADS"] = "1"

# A shell that starts tests in the background makes them ignore SIGINT, nohup SIGHUP; what they start would, too.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
    signal.signal(signal.SIGHUP, signal.SIG_DFL)

SHARED_DATA = Path(__file__).resolve().parent.parent.parent / "shared" / "data"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what needs an accelerator where there is none; torch is asked only if such a test was collected."""
    needy = [item for item in items if item.get_closest_marker("gpu")]
    if needy:
        import torch

        if not torch.accelerator.is_available():
            for item in needy:
                item.add_marker(pytest.mark.skip(reason="gpu: there is no accelerator"))


@pytest.fixture(autouse=True)
def _fresh_console() -> Iterator[None]:
    """No test inherits the loudness of another."""
    from cli import console

    console.reset()
    yield
    console.reset()


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """No test inherits the number of threads that a run set for the whole process."""
    _set_one_thread()
    yield
    _set_one_thread()


def _set_one_thread() -> None:
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of corpora beside the checkout."""
    if not SHARED_DATA.is_dir():
        pytest.skip("shared/data is missing")
    return SHARED_DATA
