import math
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from transformer_core.errors import ModelError
from transformer_core.weight_file import WeightForm, int8_scales, read_weights, require_finite, write_weights

SHAPES = {"embedding": (6, 4), "convolution": (5, 4, 3), "bias": (5,)}


def weights() -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(2)
    found = {name: torch.randn(shape, generator=generator) for name, shape in SHAPES.items()}
    found["embedding"][3] = 0.0  # padding, say
    return found


@pytest.mark.parametrize(("form", "step"), [("fp32", 0.0), ("bf16", 2.0**-8), ("int8", 0.5 / 127)])
@pytest.mark.parametrize("is_mapped", [False, True])
def test_what_is_read_is_what_was_written_but_for_rounding(
    form: WeightForm, step: float, is_mapped: bool, tmp_path: Path
) -> None:
    write_weights(tmp_path / "w", weights(), form=form)
    found = read_weights(tmp_path / "w", SHAPES, is_mapped=is_mapped)
    assert found.keys() == SHAPES.keys()
    for name, weight in weights().items():
        assert found[name].dtype == torch.float32
        largest = weight.abs().flatten(1).amax(dim=1) if weight.dim() > 1 else weight.abs()
        bound = (largest * step + 1e-7).view(-1, *[1] * (weight.dim() - 1))
        assert bool(((found[name] - weight).abs() <= bound).all()), name
    assert torch.equal(found["bias"], weights()["bias"])  # vectors stay as they are


def test_rounding_again_changes_nothing(tmp_path: Path) -> None:
    write_weights(tmp_path / "once", weights(), form="int8")
    once = read_weights(tmp_path / "once", SHAPES)
    write_weights(tmp_path / "twice", once, form="int8")
    for name, weight in read_weights(tmp_path / "twice", SHAPES).items():
        torch.testing.assert_close(weight, once[name], rtol=1e-6, atol=1e-7)


def test_a_row_of_zeros_has_a_scale() -> None:
    assert int8_scales(torch.tensor([[0.0, 0.0], [-254.0, 1.0]])).tolist() == [[1.0], [2.0]]


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_no_number_is_refused(value: float) -> None:
    require_finite(weights())
    damaged = weights()
    damaged["embedding"][2, 1] = value
    with pytest.raises(ModelError, match=r"m/w: embedding holds numbers that are infinite or none \(NaN\)"):
        require_finite(damaged, "m/w")
    with pytest.raises(ModelError, match="the model: a matrix holds numbers that are infinite"):
        int8_scales(damaged["embedding"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"embedding_scale": None}, "lacks the tensor embedding_scale, without which integers have no size"),
        ({"embedding_scale": torch.ones(6)}, r"embedding_scale has shape \(6,\), config.json asks for \(6, 1\)"),
        ({"embedding_scale": torch.ones(6, 1).half()}, "embedding_scale is stored as F16, not as F32"),
        ({"embedding": torch.zeros(6, 4)}, "holds the tensor embedding_scale that config.json does not know"),
        ({"embedding": torch.zeros(6, 4, dtype=torch.int64)}, "holds the tensor embedding_scale"),
        ({"bias": torch.zeros(5, dtype=torch.int8), "bias_scale": torch.ones(5, 1)}, "bias is stored as I8"),
    ],
)
def test_a_file_that_does_not_fit_is_refused(change: dict[str, Tensor | None], message: str, tmp_path: Path) -> None:
    tensors: dict[str, Tensor | None] = {
        "embedding": torch.ones(6, 4, dtype=torch.int8),
        "embedding_scale": torch.ones(6, 1),
        "convolution": torch.zeros(5, 4, 3),
        "bias": torch.zeros(5),
        **change,
    }
    save_file({name: tensor for name, tensor in tensors.items() if tensor is not None}, tmp_path / "w")
    with pytest.raises(ModelError, match=message):
        read_weights(tmp_path / "w", SHAPES)
