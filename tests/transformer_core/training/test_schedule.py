import math

import pytest

from transformer_core.training.config import Schedule
from transformer_core.training.schedule import fall_begins_at, learning_rate_at, num_micro_batches_at, num_updates


def rates(schedule: Schedule, steps: list[int], warmup_steps: int = 100, max_steps: int = 1100) -> list[float]:
    return [learning_rate_at(step, schedule, 2.0, warmup_steps, max_steps) for step in steps]


@pytest.mark.parametrize("schedule", ["inverse-sqrt", "cosine", "linear", "wsd", "constant"])
def test_the_rate_rises_in_a_line_to_its_peak(schedule: Schedule) -> None:
    assert rates(schedule, [1, 25, 50, 99, 100]) == pytest.approx([0.02, 0.5, 1.0, 1.98, 2.0])


def test_inverse_square_root() -> None:
    # peak · √(100 / step): at four times the warm-up half the peak, at nine times a third
    assert rates("inverse-sqrt", [400, 900, 10_000]) == pytest.approx([1.0, 2 / 3, 0.2])


def test_it_is_the_papers_equation_3() -> None:
    # d_model^-0.5 · min(step^-0.5, step · warmup^-1.5), whose peak is d_model^-0.5 · warmup^-0.5
    peak = 512**-0.5 * 4000**-0.5
    for step in (1, 1000, 4000, 4001, 100_000):
        paper = 512**-0.5 * min(step**-0.5, step * 4000**-1.5)
        assert learning_rate_at(step, "inverse-sqrt", peak, 4000, 100_000) == pytest.approx(paper)


def test_cosine() -> None:
    # 1000 steps of half a cosine after the warm-up: cos(π/3) = ½ at a third, 0 at a half, -1 at the end
    assert rates("cosine", [100 + 250, 600, 1100]) == pytest.approx([1 + math.cos(math.pi / 4), 1.0, 0.0], abs=1e-12)


def test_linear() -> None:
    assert rates("linear", [350, 600, 850, 1100]) == pytest.approx([1.5, 1.0, 0.5, 0.0])


def test_warm_up_stable_decay() -> None:
    # 800 of 1000 steps at the peak; then 1 - √ of the share of the other 200 that is done: ½ at a quarter
    assert rates("wsd", [100, 500, 900, 950, 1100]) == pytest.approx([2.0, 2.0, 2.0, 1.0, 0.0])


def test_only_warm_up_stable_decay_has_its_gain_at_the_end() -> None:
    assert fall_begins_at("wsd", 100, 1100) == 900
    assert rates("wsd", [900, 901])[0] == 2.0 > rates("wsd", [901])[0]
    assert fall_begins_at("wsd", 100, 50) == 100  # an end in the middle of the warm-up
    assert fall_begins_at("cosine", 100, 1100) == 0


def test_constant() -> None:
    assert rates("constant", [101, 600, 1100, 9999]) == [2.0] * 4


def test_after_the_end_nothing_rises_again() -> None:
    assert rates("cosine", [1101, 5000]) == pytest.approx([0, 0])
    assert rates("linear", [1101, 5000]) == [0, 0]


@pytest.mark.parametrize("schedule", ["inverse-sqrt", "cosine", "linear", "constant"])
def test_without_warm_up_it_begins_near_its_peak(schedule: Schedule) -> None:
    assert rates(schedule, [1], warmup_steps=0)[0] == pytest.approx(2.0, rel=0.01)
    assert rates(schedule, [1], warmup_steps=0, max_steps=1)[0] >= 0


def test_a_warm_batch_has_all_its_micro_batches() -> None:
    assert [num_micro_batches_at(step, 4, 8) for step in (1, 2, 3, 5, 7, 8, 9, 100)] == [1, 1, 2, 3, 4, 4, 4, 4]
    assert num_micro_batches_at(1, 4, 0) == 4


@pytest.mark.parametrize(("full", "batch_warmup_steps"), [(1, 0), (3, 0), (8, 20), (8, 3), (4, 1000)])
def test_updates_of_epochs(full: int, batch_warmup_steps: int) -> None:
    step = 0
    for _ in range(6):
        left = 29
        while left > 0:
            step += 1
            left -= num_micro_batches_at(step, full, batch_warmup_steps)
    assert num_updates(6, 29, full, batch_warmup_steps) == step
