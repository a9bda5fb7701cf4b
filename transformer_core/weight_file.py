"""Weights as a safetensors file: in float32, or the large ones of them in fewer bits.

In `bf16` a matrix is stored as such. In `int8` it is integers of 8 bits, and every row of it has a scale, its largest
value by 127, in a tensor beside it: NAME and NAME_scale. What is read is float32 in any case; products in 8 bits, of
which `decoding/linear.py` knows, round matrices to the same integers again.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Literal

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as serialize
from torch import Tensor

from tokenizer.atomic_file import write_bytes
from transformer_core.errors import ModelError

__all__ = ["WeightForm", "int8_scales", "read_weights", "require_finite", "write_weights"]

WeightForm = Literal["fp32", "bf16", "int8"]

DTYPES = ("F32", "BF16", "I8")  # as safetensors calls them
SCALE_SUFFIX = "_scale"


def write_weights(
    path: Path, weights: Mapping[str, Tensor], header: dict[str, str] | None = None, form: WeightForm = "fp32"
) -> None:
    """Write tensors as safetensors; the same tensors give the same bytes.

    Args:
        path: of the file.
        weights: float32, by their names.
        header: words for whoever reads the header.
        form: of all tensors that are no vectors.
    """
    tensors = {}
    for name, weight in weights.items():
        weight = weight.detach().cpu()
        if weight.dim() < 2 or form == "fp32":
            tensors[name] = weight.contiguous()
        elif form == "bf16":
            tensors[name] = weight.to(torch.bfloat16).contiguous()
        else:
            rows = weight.flatten(1)
            scales = int8_scales(rows)
            tensors[name] = (rows / scales).round().to(torch.int8).view(weight.shape)
            tensors[name + SCALE_SUFFIX] = scales
    write_bytes(path, serialize(tensors, header))


def require_finite(weights: Mapping[str, Tensor], name: str = "the model") -> None:
    """See that weights are numbers: a model of others looks sound, and writes nonsense.

    Args:
        weights: by their names.
        name: what the message calls whoever has them: their file, where that is known.

    Raises:
        ModelError: one is infinite or NaN.
    """
    for weight_name, weight in weights.items():
        if not bool(weight.isfinite().all()):
            raise ModelError(
                f"{name}: {weight_name} holds numbers that are infinite or none (NaN): its training diverged, "
                "or the file is damaged"
            )


def int8_scales(rows: Tensor) -> Tensor:
    """The scale of every row of (n, m), (n, 1): its largest value becomes 127. A row of zeros has scale 1.

    Raises:
        ModelError: a value is infinite or NaN; among integers it would look like any other.
    """
    largest = rows.abs().amax(dim=1, keepdim=True)
    require_finite({"a matrix": largest})
    return torch.where(largest > 0, largest / 127, 1.0)


def read_weights(
    path: Path, expected_shapes: Mapping[str, tuple[int, ...]], *, is_mapped: bool = False
) -> dict[str, Tensor]:
    """Read a safetensors file after its header is found to hold exactly the expected tensors.

    Args:
        path: of the file.
        expected_shapes: by the names of the tensors.
        is_mapped: let the float32 tensors be the file itself, memory-mapped: processes that read the same have it in
            memory once. The file may be replaced meanwhile, but not written to.

    Returns:
        float32 tensors.

    Raises:
        ModelError: the file is missing, damaged, or holds other names, shapes or dtypes.
    """
    if not path.is_file():
        raise ModelError(f"{path}: is missing; the model folder is incomplete or training saved no checkpoint yet")
    try:
        with safe_open(path, framework="pt") as file:
            names = set(file.keys())
            if missing := sorted(set(expected_shapes) - names):
                raise ModelError(f"{path}: lacks the tensor {missing[0]} that config.json asks for")
            dtypes = {name: file.get_slice(name).get_dtype() for name in names}
            scales = {name + SCALE_SUFFIX for name in expected_shapes if dtypes[name] == "I8"}
            if missing := sorted(scales - names):
                raise ModelError(f"{path}: lacks the tensor {missing[0]}, without which integers have no size")
            if unknown := sorted(names - set(expected_shapes) - scales):
                raise ModelError(f"{path}: holds the tensor {unknown[0]} that config.json does not know")
            asked = dict(expected_shapes)
            asked |= {name: (expected_shapes[name.removesuffix(SCALE_SUFFIX)][0], 1) for name in scales}
            for name, shape in asked.items():
                if (found := tuple(file.get_slice(name).get_shape())) != shape:
                    raise ModelError(f"{path}: {name} has shape {found}, config.json asks for {shape}")
                allowed = DTYPES if name in expected_shapes and len(shape) > 1 else DTYPES[:1]
                if dtypes[name] not in allowed:
                    raise ModelError(f"{path}: {name} is stored as {dtypes[name]}, not as {' or '.join(allowed)}")
            return {name: _float32(file.get_tensor, name, is_mapped=is_mapped) for name in expected_shapes}
    except (SafetensorError, OSError, ValueError) as error:
        raise ModelError(f"{path}: is damaged or no safetensors file ({error})") from None


def _float32(get_tensor: Callable[[str], Tensor], name: str, *, is_mapped: bool) -> Tensor:
    tensor = get_tensor(name)
    if tensor.dtype == torch.int8:
        return (tensor.flatten(1) * get_tensor(name + SCALE_SUFFIX)).view(tensor.shape)
    if tensor.dtype == torch.float32:
        return tensor if is_mapped else tensor.clone()
    return tensor.float()
