"""Where to compute, and what the device does fast."""

import torch

from transformer_core.errors import ConfigError

__all__ = ["choose_device", "device_in_turn", "has_fast_bf16"]

CPU_BF16_CAPABILITIES = ("avx512_bf16", "amx_bf16", "arm_bf16", "bf16")


def choose_device(name: str) -> torch.device:
    """Turn auto, cpu, cuda, cuda:N or mps into a device that this machine has.

    Raises:
        ConfigError: the machine has no such device.
    """
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise ConfigError(f"device {name!r} is none; use auto, cpu, cuda, cuda:N or mps") from None
    is_there = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if not is_there.get(device.type, False) or (
        device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count()
    ):
        raise ConfigError(f"this machine has no device {name!r} that torch can use; try --device cpu")
    return device


def device_in_turn(name: str, worker: int) -> str:
    """Name the device of one of several workers: where none of the machine's GPUs is named, they take them in turn."""
    count = torch.cuda.device_count() if name in ("auto", "cuda") else 0
    return f"cuda:{worker % count}" if count > 1 else name


def has_fast_bf16(device: torch.device) -> bool:
    """Tell whether the device has instructions for bf16 products."""
    match device.type:
        case "cuda":
            return bool(torch.cuda.is_bf16_supported(including_emulation=False))
        case "cpu":
            # get_capabilities came after torch 2.9; without it nothing is known, and fp32 is always right
            capabilities: dict[str, object] = getattr(torch.cpu, "get_capabilities", dict)()
            return any(bool(capabilities.get(name)) for name in CPU_BF16_CAPABILITIES)
        case _:
            return False
