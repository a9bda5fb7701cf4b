import pytest
import torch

from transformer_core.device import choose_device, device_in_turn, has_fast_bf16
from transformer_core.errors import ConfigError


def test_the_processor_is_always_there() -> None:
    assert choose_device("cpu") == torch.device("cpu")
    assert choose_device("auto").type in ("cpu", "cuda", "mps")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("cuda:99", "this machine has no device 'cuda:99' that torch can use; try --device cpu"),
        ("xpu", "this machine has no device 'xpu'"),
        ("toaster", "device 'toaster' is none; use auto, cpu, cuda, cuda:N or mps"),
    ],
)
def test_what_is_not_there_is_said_so(name: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        choose_device(name)


@pytest.mark.parametrize(
    ("capabilities", "is_fast"),
    [({}, False), ({"avx2": True}, False), ({"avx512_bf16": True}, True), ({"bf16": True}, True)],
)
def test_bf16_is_for_processors_that_have_it(
    monkeypatch: pytest.MonkeyPatch, capabilities: dict[str, bool], is_fast: bool
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities, raising=False)
    assert has_fast_bf16(torch.device("cpu")) is is_fast
    monkeypatch.delattr(torch.cpu, "get_capabilities")
    assert has_fast_bf16(torch.device("cpu")) is False


@pytest.mark.parametrize(
    ("name", "count", "device"),
    [("auto", 2, "cuda:1"), ("cuda", 4, "cuda:3"), ("auto", 1, "auto"), ("cuda:0", 2, "cuda:0"), ("cpu", 2, "cpu")],
)
def test_workers_take_the_gpus_in_turn_unless_one_is_named(
    name: str, count: int, device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
    assert device_in_turn(name, 3) == device
