"""What every sequence mixer owes to the contract in layers/mixer.py."""

from collections.abc import Iterator
from typing import get_args

import pytest
import torch

from tests.transformer_core.layers.stepping import Stepping, step_through
from tests.transformer_core.small_config import small_config, small_stack
from transformer_core.config import DecoderMixer, EncoderMixer, ModelConfig
from transformer_core.layers.mixer import SequenceMixer
from transformer_core.model import new_mixer

DECODERS = [*get_args(DecoderMixer), "rotary", "multi-query"]
ENCODERS = [*get_args(EncoderMixer), "forward gru", "forward lstm", "wide conv", "rotary"]


def build(name: str, *, is_encoder: bool) -> SequenceMixer:
    torch.manual_seed(0)
    values: dict[str, object] = {"bidirectional": not name.startswith("forward")}
    config: ModelConfig = small_config()
    match name.split()[-1]:
        case "rotary":
            config = small_config(positions="rotary")
        case "multi-query":
            values["num_key_value_heads"] = 1
        case mixer:
            values["mixer"] = mixer
    if name == "wide conv":
        values["kernel_width"] = 5
    return new_mixer(small_stack(**values), config, is_encoder=is_encoder).double().eval()


@pytest.fixture(params=DECODERS)
def decoder_mixer(request: pytest.FixtureRequest) -> Iterator[SequenceMixer]:
    with torch.no_grad():
        yield build(request.param, is_encoder=False)


@pytest.fixture(params=ENCODERS)
def encoder_mixer(request: pytest.FixtureRequest) -> Iterator[SequenceMixer]:
    with torch.no_grad():
        yield build(request.param, is_encoder=True)


def random_sequence(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, 12, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def test_a_sequence_of_the_same_shape_comes_out(encoder_mixer: SequenceMixer) -> None:
    for length in (1, 2, 9):
        assert encoder_mixer(random_sequence(3, length), None, causal=False).shape == (3, length, 12)


def test_stepping_gives_what_the_whole_sequence_gives(decoder_mixer: SequenceMixer) -> None:
    sequence = random_sequence(3, 40)  # longer than a cache is at first
    whole = decoder_mixer(sequence, None, causal=True)
    torch.testing.assert_close(step_through(decoder_mixer, sequence), whole, rtol=1e-5, atol=1e-6)


def test_a_causal_layer_never_sees_the_future(decoder_mixer: SequenceMixer) -> None:
    sequence = random_sequence(2, 12)
    before = decoder_mixer(sequence, None, causal=True)
    for place in range(12):
        changed = sequence.clone()
        changed[:, place] += 1
        moved = (decoder_mixer(changed, None, causal=True) != before).any(-1)
        assert not moved[:, :place].any()
        assert moved[:, place].all()


def test_padding_never_leaks(encoder_mixer: SequenceMixer) -> None:
    lengths = [4, 9, 1, 7]
    mask = torch.arange(9) < torch.tensor(lengths)[:, None]
    sequence = random_sequence(4, 9)
    sequence = torch.where(mask[:, :, None], sequence, 1e3)  # whatever stands there
    together = encoder_mixer(sequence, mask, causal=False)
    for row, length in enumerate(lengths):
        alone = encoder_mixer(sequence[row : row + 1, :length], None, causal=False)
        torch.testing.assert_close(together[row : row + 1, :length], alone, rtol=1e-5, atol=1e-6)


def test_padding_at_the_end_of_a_causal_sequence_needs_no_mask(decoder_mixer: SequenceMixer) -> None:
    sequence = random_sequence(2, 9)
    whole = decoder_mixer(sequence, None, causal=True)
    sequence[0, 5:] = 1e3
    torch.testing.assert_close(decoder_mixer(sequence, None, causal=True)[0, :5], whole[0, :5])


def test_rows_can_be_repeated_reordered_and_dropped_within_their_sentences(decoder_mixer: SequenceMixer) -> None:
    continuations = random_sequence(12, 10)  # other positions for each row, however many there are
    stepping = Stepping(decoder_mixer, 3, continuations)
    pasts = [continuations[row : row + 1, :0] for row in range(3)]  # of each row, (1, length, d_model)

    def write(count: int) -> None:
        for _ in range(count):
            positions = continuations[: len(pasts), pasts[0].size(1)]
            pasts[:] = [
                torch.cat((past, position[None, None]), dim=1) for past, position in zip(pasts, positions, strict=True)
            ]
            whole = decoder_mixer(torch.cat(pasts), None, causal=True)
            torch.testing.assert_close(stepping.step(positions), whole[:, -1], rtol=1e-5, atol=1e-6)

    def select(*rows: int) -> None:
        stepping.select([*rows])
        pasts[:] = [pasts[row] for row in rows]

    write(3)
    select(0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2)  # a beam of four each: more rows than the fused kernel takes
    write(2)
    select(1, 3, 3, 0, 4, 4, 4, 4, 11, 10, 9, 9)
    write(2)
    stepping.keep_sentences([2, 0])
    pasts[:] = [*pasts[8:], *pasts[:4]]
    write(1)
    select(1, 1, 7, 4)  # two of each
    write(1)
    stepping.keep_sentences([1])
    pasts[:] = pasts[2:]
    select(*[0, 1] * 6)  # one sentence, a wide beam
    write(1)


@pytest.mark.parametrize(("own", "others"), [(3, 3), (6, 2), (2, 6), (0, 5)])
def test_rows_of_another_state_join_wherever_they_stand(decoder_mixer: SequenceMixer, own: int, others: int) -> None:
    sequence, other_sequence = random_sequence(2, 50), random_sequence(3, 50).flip(1)
    stepping, other = Stepping(decoder_mixer, 2, sequence), Stepping(decoder_mixer, 3, sequence)
    for place in range(own):
        stepping.step(sequence[:, place])
    for place in range(others):
        other.step(other_sequence[:, place])
    stepping.merge(other)
    joined = torch.cat((sequence[:, own : own + 40], other_sequence[:, others : others + 40]))
    outputs = [stepping.step(joined[:, place]) for place in range(40)]
    stepping.keep_sentences([4, 0])  # and can be chosen from as before
    last = stepping.step(torch.stack((other_sequence[2, others + 40], sequence[0, own + 40])))
    whole, other_whole = (decoder_mixer(rows, None, causal=True) for rows in (sequence, other_sequence))
    expected = torch.cat((whole[:, own : own + 40], other_whole[:, others : others + 40]))
    torch.testing.assert_close(torch.stack(outputs, dim=1), expected, rtol=1e-5, atol=1e-6)
    expected_last = torch.stack((other_whole[2, others + 40], whole[0, own + 40]))
    torch.testing.assert_close(last, expected_last, rtol=1e-5, atol=1e-6)
