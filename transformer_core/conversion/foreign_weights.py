"""Read the weights of a foreign model folder: safetensors, or a pickle of which torch unpacks nothing but tensors."""

import os
import reprlib
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

from transformer_core.errors import ModelError
from transformer_core.model_files import read_json

__all__ = ["read_foreign_weights", "to_float32"]

SAFETENSORS = "model.safetensors"
PICKLE = "pytorch_model.bin"


def read_foreign_weights(folder: Path) -> tuple[dict[str, Tensor], Path]:
    """Read all weights of a folder of Hugging Face, as 32-bit floats; and say which file they are from.

    Raises:
        ModelError: there are none, or they are damaged, or a pickle holds something else than tensors.
    """
    for name in (SAFETENSORS, PICKLE):
        index = folder / f"{name}.index.json"
        if (folder / name).is_file():
            return _read(folder / name), folder / name
        if index.is_file():
            parts = read_json(index).get("weight_map")
            if not isinstance(parts, dict) or not all(isinstance(part, str) for part in parts.values()):
                raise ModelError(f"{index}: has no weight_map; the folder is damaged")
            weights: dict[str, Tensor] = {}
            for part in sorted(set(parts.values())):
                weights |= _read(folder / Path(part).name)
            return weights, index
    raise ModelError(f"{folder}: has neither {SAFETENSORS} nor {PICKLE}; name a folder with the weights of a model")


def to_float32(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Turn numbers of fewer bits into 32-bit floats."""
    return {name: weight.float() if weight.is_floating_point() else weight for name, weight in weights.items()}


def _read(path: Path) -> dict[str, Tensor]:
    """Read a file of weights.

    Raises:
        ModelError: it is missing or damaged.
    """
    if not os.path.isfile(path):  # a pipe would be waited for; Path.is_file() lets names out that are too long
        raise ModelError(f"{path.parent}: {reprlib.repr(path.name)} is missing, or no ordinary file")
    try:
        if path.suffix == ".safetensors":
            return to_float32(load_file(path))
        weights = torch.load(path, map_location="cpu", weights_only=True)
        if not isinstance(weights, dict) or not all(isinstance(weight, Tensor) for weight in weights.values()):
            raise ModelError(f"{path}: holds something else than named tensors")
        return to_float32({str(name): weight for name, weight in weights.items()})
    except ModelError:
        raise
    except Exception as error:  # what torch's unpickler raises of a damaged file is no narrower class
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ModelError(f"{path}: is damaged, or holds something else than tensors ({reason[:120]})") from None
