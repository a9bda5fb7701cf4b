from collections.abc import Callable

import pytest
import torch
from torch import nn
from torch.nn import functional

from tests.transformer_core.decoding.random_model import random_model
from transformer_core.config import ModelConfig, StackConfig
from transformer_core.decoding import linear as linear_module
from transformer_core.decoding.config import Precision
from transformer_core.decoding.linear import Int8Linear, LowPrecisionLinear, PackedLinear, compute_dtype, for_decoding
from transformer_core.decoding.step import decoding_mode
from transformer_core.errors import ModelError
from transformer_core.model import Transformer

SOURCE, TARGET = torch.tensor([[7, 8, 2], [9, 6, 2]]), torch.tensor([[1, 9, 5], [1, 5, 11]])


def drawn(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape)))


@pytest.mark.parametrize("is_packed", [False, True])
@pytest.mark.parametrize("shape", [(1, 1), (3, 1), (5, 7), (1000,)])
def test_a_packed_projection_computes_what_the_plain_one_does(shape: tuple[int, ...], is_packed: bool) -> None:
    weight, bias, inputs = drawn(40, 24), drawn(40), drawn(*shape, 24)
    for bias_or_none in (bias, None):
        expected = functional.linear(inputs, weight, bias_or_none)
        found = PackedLinear(weight, bias_or_none, is_packed)(inputs)
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("out_features", "in_features", "rows", "is_worth_it"),
    [(512, 512, 1, True), (2048, 128, 1, False), (2048, 128, 2, True), (128, 128, 30, False), (128, 128, 40, True)],
)
def test_packed_weights_are_for_many_rows_and_for_weights_that_come_from_memory(
    out_features: int, in_features: int, rows: int, is_worth_it: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []

    def count(weight: torch.Tensor, bias: torch.Tensor | None) -> Callable[[torch.Tensor], torch.Tensor]:
        def product(inputs: torch.Tensor) -> torch.Tensor:
            calls.append(inputs.shape)
            return functional.linear(inputs, weight, bias)

        return product

    monkeypatch.setattr(linear_module, "_packed_product", count)
    PackedLinear(drawn(out_features, in_features), None, is_packed=True)(drawn(rows, in_features))
    assert bool(calls) == is_worth_it


def test_this_torch_has_the_products_that_decoding_asks_for() -> None:
    """Where this fails, a torch release has moved what is private there; decoding is right without it, but slower."""
    if torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        assert linear_module._packed_product(drawn(8, 4), None) is not None


def test_without_packed_products_the_plain_one_takes_their_place(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(linear_module, "_packed_product", lambda weight, bias: None)
    weight, inputs = drawn(40, 24), drawn(9, 24)
    torch.testing.assert_close(PackedLinear(weight, None, True)(inputs), functional.linear(inputs, weight))


@pytest.mark.parametrize("rows", [1, 64])
def test_low_precision_is_near(rows: int) -> None:
    weight, bias, inputs = drawn(40, 256) / 16, drawn(40), drawn(rows, 256)
    expected = functional.linear(inputs, weight, bias)
    for dtype, tolerance in ((torch.bfloat16, 0.05), (torch.float16, 0.01)):
        found = LowPrecisionLinear(weight, bias, dtype)(inputs)
        assert found.dtype == torch.float32
        assert 0 < float((found - expected).abs().max()) < tolerance
    found = Int8Linear(weight, bias)(inputs)
    assert found.dtype == torch.float32
    assert 0 < float((found - expected).abs().max()) < 0.1


def test_int8_is_the_product_of_the_rounded_numbers() -> None:
    """A slow twin: weights in 8 bits with a scale per row, inputs in 7 bits with one scale and zero for all of them."""
    weight, inputs = drawn(5, 16), drawn(3, 16)
    weight[2] = 0.0
    scales = weight.abs().amax(dim=1, keepdim=True).clamp(min=1e-9) / 127
    rounded = (weight / scales).round() * scales
    low, high = min(float(inputs.min()), 0.0), max(float(inputs.max()), 0.0)
    step = (high - low) / 127
    zero = round(-low / step)
    seen = (((inputs / step).round() + zero).clamp(0, 127) - zero) * step
    found = Int8Linear(weight, None)(inputs)
    torch.testing.assert_close(found, functional.linear(seen, rounded), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("name", ["encoder.final_norm.weight", "output_projection.weight"])
def test_no_integers_of_weights_that_are_none(name: str) -> None:
    model = random_model(12)
    with torch.no_grad():
        model.get_parameter(name).view(-1)[0] = torch.nan
    for_decoding(model, "fp32")
    with pytest.raises(ModelError, match="numbers that are infinite or none"):
        for_decoding(model, "int8")


def test_auto_precision_is_exact_on_a_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(linear_module, "has_fast_bf16", lambda device: True)
    assert compute_dtype("auto", torch.device("cpu")) == torch.float32
    assert compute_dtype("bf16", torch.device("cpu")) == torch.bfloat16
    assert compute_dtype("auto", torch.device("cuda")) == torch.bfloat16
    assert compute_dtype("fp32", torch.device("cuda")) == torch.float32


@pytest.mark.parametrize(("precision", "tolerance"), [("auto", 1e-4), ("fp32", 1e-4), ("bf16", 0.5), ("int8", 0.5)])
@pytest.mark.parametrize("mixer", ["attention", "lstm", "ssru", "conv"])
def test_a_model_for_decoding_computes_what_it_did(mixer: str, precision: Precision, tolerance: float) -> None:
    encoder = StackConfig(num_layers=2, d_model=32, num_heads=4, d_ff=48)
    decoder = StackConfig(num_layers=2, d_model=32, num_heads=4, d_ff=48, mixer=mixer)  # type: ignore[arg-type]
    config = ModelConfig(
        source_vocabulary_size=40,
        target_vocabulary_size=40,
        encoder=encoder,
        decoder=decoder,
        pad_id=0,
        bos_id=1,
        eos_id=2,
    )
    torch.manual_seed(3)
    model = Transformer(config).eval()
    with torch.no_grad():
        expected = model.project(model(SOURCE, None, TARGET))
    ready = for_decoding(model, precision)
    with decoding_mode(ready.device, precision):
        found = ready.project(ready(SOURCE, None, TARGET))
        state = ready.start(ready.encode(SOURCE, None), None)
        steps = torch.stack([ready.project(ready.step(TARGET[:, place], state)) for place in range(3)], dim=1)
    assert not any(isinstance(module, nn.Linear) for module in ready.modules())
    assert float((found - expected).abs().max()) < tolerance
    assert float((steps - expected).abs().max()) < tolerance
    assert torch.equal(found, expected) is False or precision in ("auto", "fp32")


def test_the_model_stays_as_it_was_and_can_go_on_training() -> None:
    model = random_model(40).train()
    ready = for_decoding(model, "fp32")
    with decoding_mode(ready.device, "fp32"):
        assert not ready.training
        assert not ready.encode(SOURCE, None).requires_grad
    assert model.training
    assert isinstance(model.output_projection, nn.Linear)
    assert ready.source_embedding.token_embedding.weight is model.source_embedding.token_embedding.weight
    # positions that decoding has tabulated serve training, too
    model(SOURCE, None, TARGET).sum().backward()
