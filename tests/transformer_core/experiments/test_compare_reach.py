from dataclasses import replace

import pytest

from transformer_core.config import StackConfig
from transformer_core.experiments.compare_config import MIXER_NAMES, MixerName
from transformer_core.experiments.compare_reach import NUM_POSITIONS, Reach, measure_reach

STACK = StackConfig(num_layers=3, d_model=12, num_heads=3, d_ff=8, kernel_width=5)
MIDDLE = NUM_POSITIONS // 2
EVERYTHING, WHAT_WAS = (-MIDDLE, MIDDLE), (-MIDDLE, 0)


def reaches(mixer: MixerName, stack: StackConfig = STACK) -> tuple[list[Reach], list[Reach]]:
    """Those of an encoder and of a decoder."""
    found = measure_reach(mixer, stack, seed=1)
    return [reach for reach in found if not reach.is_causal], [reach for reach in found if reach.is_causal]


@pytest.mark.parametrize("mixer", MIXER_NAMES)
def test_every_depth_is_there_and_every_input_between_the_outermost_counts(mixer: MixerName) -> None:
    for found in filter(None, reaches(mixer)):
        assert [reach.num_layers for reach in found] == [1, 2, 3]
        for reach in found:
            assert reach.num_reaching == reach.last_offset - reach.first_offset + 1
            assert reach.share == reach.num_reaching / NUM_POSITIONS


@pytest.mark.parametrize(
    ("mixer", "encoder", "decoder"),
    [
        ("attention", EVERYTHING, WHAT_WAS),
        ("gru", WHAT_WAS, WHAT_WAS),
        ("bigru", EVERYTHING, None),
        ("lstm", WHAT_WAS, WHAT_WAS),
        ("bilstm", EVERYTHING, None),
        ("ssru", None, WHAT_WAS),
    ],
)
def test_attention_and_recurrence_reach_in_one_layer_whatever_they_ever_reach(
    mixer: MixerName, encoder: tuple[int, int] | None, decoder: tuple[int, int] | None
) -> None:
    for found, expected in zip(reaches(mixer), (encoder, decoder), strict=True):
        assert {(reach.first_offset, reach.last_offset) for reach in found} == ({expected} if expected else set())


@pytest.mark.parametrize("kernel_width", [1, 3, 5, 9])
def test_a_convolution_reaches_further_with_every_layer(kernel_width: int) -> None:
    encoder, decoder = reaches("conv", replace(STACK, kernel_width=kernel_width))
    half = (kernel_width - 1) // 2
    assert [(reach.first_offset, reach.last_offset) for reach in encoder] == [
        (-half * depth, half * depth) for depth in (1, 2, 3)
    ]
    assert [(reach.first_offset, reach.last_offset) for reach in decoder] == [
        (-(kernel_width - 1) * depth, 0) for depth in (1, 2, 3)
    ]
