"""Linear projections laid out for decoding: a few hundred rows at a time, the same weights thousands of times.

What torch has for that on a CPU is partly private; all of it stands in this file, and where a release lacks it, the
plain projection takes its place. A test says when that happens.
"""

import copy
import warnings
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

from transformer_core.decoding.config import Precision
from transformer_core.device import has_fast_bf16
from transformer_core.errors import ConfigError
from transformer_core.layers.attention import SelfAttention
from transformer_core.layers.dropout import Dropout
from transformer_core.layers.feed_forward import FeedForward
from transformer_core.model import Residual, Transformer
from transformer_core.model_directory import plain_model
from transformer_core.weight_file import int8_scales, require_finite

__all__ = [
    "Int8Linear",
    "LowPrecisionLinear",
    "PackedLinear",
    "VocabularyProjection",
    "cache_dtype",
    "compute_dtype",
    "for_decoding",
    "projection_to",
]

# Multiplications from which packed weights are the faster ones: the call alone takes 10 µs, as long as these.
MIN_PACKED_PRODUCTS = 600_000
# So many weights do not wait in the cache of a core. Packed ones come in faster, by a quarter for one row, if their
# rows are of some length: from so many inputs.
MANY_WEIGHTS = 250_000
MIN_PACKED_INPUTS = 256
# With AVX-512 oneDNN's packed products are the faster ones everywhere; without, only where there are so many outputs.
MIN_PACKED_OUTPUTS = 4096


def for_decoding(model: Transformer, precision: Precision) -> Transformer:
    """Give a model that computes the same in another precision or layout, in evaluation mode.

    What this function gave comes back as it is.

    On a CPU the projections are laid out anew; all other weights are shared with the model that is given. An
    accelerator computes with the weights as they are, under autocast.

    Raises:
        ConfigError: the device does not compute in this precision.
        ModelError: a weight is infinite or NaN, which no integer can say.
    """
    model = plain_model(model)
    device = model.device
    if not isinstance(model.output_projection, nn.Linear):
        return model
    if device.type != "cpu" and precision == "int8":
        raise ConfigError(f"int8 is computed on a CPU, not on {device.type}; use --precision bf16 there")
    if precision == "int8":
        require_finite(dict(model.named_parameters()))
    # a copy of the modules; the memo makes it share the parameters
    ready = copy.deepcopy(model, {id(parameter): parameter for parameter in model.parameters()}).eval()
    if device.type != "cpu":
        return ready
    for parent in list(ready.modules()):
        if isinstance(parent, SelfAttention):
            _join_projections(parent, precision)
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.Linear):
                kind = VocabularyProjection if child is ready.output_projection else _laid_out
                setattr(parent, name, kind(child.weight.detach(), _detached(child.bias), precision))
    _call_directly(ready)
    return ready


def _join_projections(attention: SelfAttention, precision: Precision) -> None:
    """Lay queries, keys and values out as one product: it takes less than two, of few rows above all."""
    parts = attention.query_projection, attention.key_value_projection
    weight = torch.cat([part.weight.detach() for part in parts])
    attention.joint_projection = _laid_out(weight, torch.cat([part.bias.detach() for part in parts]), precision)
    del attention.query_projection, attention.key_value_projection


def _call_directly(model: Transformer) -> None:
    """Let parts be found at once, and those that are nothing but functions be called as such.

    torch looks for a part in three tables, and calls it by a detour for hooks, of which there are none here. For one
    row both take as long as a small product, and there are eighty calls in a step of four layers.
    """
    functions = (PackedLinear, LowPrecisionLinear, Int8Linear, nn.LayerNorm, nn.RMSNorm, Dropout, FeedForward, Residual)
    for parent in list(model.modules()):
        parts = dict(parent.named_parameters(recurse=False)) | dict(parent.named_children())
        for name, part in parts.items():  # what stands in an object's own table is found before all else
            parent.__dict__[name] = part.forward if isinstance(part, functions) else part


def projection_to(projection: nn.Module, token_ids: Tensor) -> nn.Module:
    """Give an output projection to some entries of the vocabulary alone, in the precision of the whole.

    Args:
        projection: of a model, made ready for decoding or not.
        token_ids: (n,) int64, the entries, in the order in which their logits are wanted.
    """
    if isinstance(projection, VocabularyProjection):
        return projection.to_entries(token_ids)
    assert isinstance(projection, nn.Linear)
    weight, bias = projection.weight.detach(), _detached(projection.bias)
    return PackedLinear(weight[token_ids], None if bias is None else bias[token_ids], is_packed=False)


def compute_dtype(precision: Precision, device: torch.device) -> torch.dtype:
    """The numbers in which matrix products are computed; "auto" is fp32 on a CPU, where it is exact and fast enough."""
    match precision:
        case "auto":
            return torch.bfloat16 if device.type == "cuda" and has_fast_bf16(device) else torch.float32
        case "bf16":
            return torch.bfloat16
        case "fp16":
            return torch.float16
        case _:
            return torch.float32


def cache_dtype(precision: Precision, device: torch.device) -> torch.dtype:
    """The numbers in which keys and values wait: on a CPU, where attention is computed in float32, those."""
    return torch.float32 if device.type == "cpu" else compute_dtype(precision, device)


def _detached(bias: Tensor | None) -> Tensor | None:
    return None if bias is None else bias.detach()


def _laid_out(weight: Tensor, bias: Tensor | None, precision: Precision) -> nn.Module:
    match precision:
        case "int8":
            return Int8Linear(weight, bias)
        case "bf16" | "fp16":
            return LowPrecisionLinear(weight, bias, compute_dtype(precision, weight.device))
        case _:
            return PackedLinear(weight, bias)


class VocabularyProjection(nn.Module):
    """The output projection, to the whole vocabulary or to entries of it that are chosen as one goes.

    Args:
        weight: (vocabulary, d_model), which is kept as it is beside what it is laid out to; the model has it anyway.
        bias: (vocabulary,), or None.
        precision: of the product.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None, precision: Precision) -> None:
        super().__init__()
        self.weight = weight
        self.bias = bias
        self._precision: Precision = precision
        self._whole = _laid_out(weight, bias, precision)

    def forward(self, inputs: Tensor) -> Tensor:
        """(…, d_model) -> (…, vocabulary)."""
        return self._whole(inputs)  # type: ignore[no-any-return]

    def to_entries(self, token_ids: Tensor) -> nn.Module:
        """Give the projection to some entries alone, (n,) int64."""
        bias = None if self.bias is None else self.bias[token_ids]
        return _laid_out(self.weight[token_ids], bias, self._precision)


class PackedLinear(nn.Module):
    """x Wᵀ + b in float32: for many rows with the weights as oneDNN packs them, for few with their columns in a row.

    Args:
        weight: (out_features, in_features).
        bias: (out_features,), or None.
        is_packed: use oneDNN's packed weights; where they are faster, if not given.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None, is_packed: bool | None = None) -> None:
        super().__init__()
        # the same values, column after column: for a few rows up to twice as fast as row after row
        self.weight = weight.t().contiguous().t()
        self.bias = bias
        if is_packed is None:
            is_packed = torch.backends.cpu.get_cpu_capability() != "AVX2" or weight.size(0) >= MIN_PACKED_OUTPUTS
        self._packed_product = _packed_product(weight, bias) if is_packed else None
        # inputs, in all rows together, from which that is the faster one
        self._min_packed = MIN_PACKED_INPUTS if weight.numel() >= MANY_WEIGHTS else MIN_PACKED_PRODUCTS / weight.size(0)

    def forward(self, inputs: Tensor) -> Tensor:
        """(…, in_features) -> (…, out_features)."""
        if self._packed_product is None or inputs.numel() < self._min_packed:
            return functional.linear(inputs, self.weight, self.bias)
        return self._packed_product(inputs)


class LowPrecisionLinear(nn.Module):
    """x Wᵀ + b with the product in bf16 or fp16; float32 goes in and comes out.

    Args:
        weight: (out_features, in_features).
        bias: (out_features,), or None.
        dtype: of the product.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None, dtype: torch.dtype) -> None:
        super().__init__()
        self.weight = weight.to(dtype)
        self.bias = None if bias is None else bias.to(dtype)

    def forward(self, inputs: Tensor) -> Tensor:
        """(…, in_features) float32 -> (…, out_features) float32."""
        return functional.linear(inputs.to(self.weight.dtype), self.weight, self.bias).float()


class Int8Linear(nn.Module):
    """x Wᵀ + b with 8-bit integers: every row of W has its own scale, all of x one, found as it comes.

    Args:
        weight: (out_features, in_features) float32.
        bias: (out_features,), or None.

    Raises:
        ConfigError: this torch has no such product for this processor.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        super().__init__()
        scales = int8_scales(weight).flatten().double()
        zeros = torch.zeros_like(scales, dtype=torch.int64)
        try:
            with warnings.catch_warnings():  # of its end, some day; oneDNN's own product is no match for it in few rows
                warnings.simplefilter("ignore", UserWarning)
                quantized = torch.quantize_per_channel(weight, scales, zeros, axis=0, dtype=torch.qint8)
                self._packed = torch.ops.quantized.linear_prepack(quantized, bias)
        except (AttributeError, RuntimeError):
            raise ConfigError(
                f"torch {torch.__version__} computes no int8 on this processor; use --precision fp32"
            ) from None

    def forward(self, inputs: Tensor) -> Tensor:
        """(…, in_features) float32 -> (…, out_features) float32."""
        # 7 bits for the inputs: without VNNI a processor adds two products in 16 bits, which 8 would overflow
        product: Tensor = torch.ops.quantized.linear_dynamic(inputs, self._packed, reduce_range=True)
        return product


def _packed_product(weight: Tensor, bias: Tensor | None) -> Callable[[Tensor], Tensor] | None:
    """Pack weights as oneDNN wants them; give the product with them, or None where torch or the machine has none."""
    try:
        packed = torch.ops.mkldnn._reorder_linear_weight(weight)
        # named down to its overload: choosing one among several formats every tensor as text
        product = torch.ops.mkldnn._linear_pointwise.default
    except (AttributeError, RuntimeError):
        return None
    return lambda inputs: product(inputs, packed, bias, "none", [], "")
