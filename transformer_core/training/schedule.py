"""What follows from the number of an update alone: its learning rate, and how many micro-batches it is made of.

The rate rises in a linear warm-up, then falls. Nothing is remembered from step to step, so a resumed run has the same
rates as one that was not interrupted.
"""

import math

from transformer_core.training.config import Schedule

__all__ = ["fall_begins_at", "learning_rate_at", "num_micro_batches_at", "num_updates"]

STABLE_SHARE = 0.8  # of the updates after the warm-up


def learning_rate_at(step: int, schedule: Schedule, peak: float, warmup_steps: int, max_steps: int) -> float:
    """Give the rate of update number `step`, counted from 1.

    - inverse-sqrt: peak · √(warmup / step) (Vaswani et al. 2017, equation 3, written with its peak);
    - cosine: half a cosine from the peak to 0 at `max_steps` (Loshchilov and Hutter 2017);
    - linear: a straight line from the peak to 0 at `max_steps`;
    - wsd (warm-up, stable, decay): the peak until the last fifth, in which it falls to 0, quickly at first (Hägele et
      al. 2024, "1 - sqrt");
    - constant: the peak.
    """
    if step < warmup_steps:
        return peak * step / warmup_steps
    share_done = min(1.0, (step - warmup_steps) / max(1, max_steps - warmup_steps))
    match schedule:
        case "inverse-sqrt":
            return peak * math.sqrt(max(1, warmup_steps) / max(1, step))
        case "cosine":
            return peak * 0.5 * (1 + math.cos(math.pi * share_done))
        case "linear":
            return peak * (1 - share_done)
        case "wsd":
            return peak * (1 - math.sqrt(max(0.0, share_done - STABLE_SHARE) / (1 - STABLE_SHARE)))
        case "constant":
            return peak
        case "auto":
            raise AssertionError("the caller completes it")


def fall_begins_at(schedule: Schedule, warmup_steps: int, max_steps: int) -> int:
    """Give the update until which patience has to wait: while wsd keeps its peak, the gain of its fall is to come."""
    return warmup_steps + int(STABLE_SHARE * max(0, max_steps - warmup_steps)) if schedule == "wsd" else 0


def num_micro_batches_at(step: int, full: int, batch_warmup_steps: int) -> int:
    """Say of how many micro-batches update number `step`, counted from 1, is made.

    Args:
        step: the update.
        full: micro-batches of an update, those of all processes, once the batch is warm.
        batch_warmup_steps: updates in which it rises from one to that.
    """
    return max(1, math.ceil(min(1.0, step / max(1, batch_warmup_steps)) * full))


def num_updates(num_epochs: int, num_batches: int, full: int, batch_warmup_steps: int) -> int:
    """Count the updates of so many epochs of `num_batches` micro-batches each; the last of an epoch may have less."""
    step = 0
    for _ in range(num_epochs):
        left = num_batches
        while left > 0 and step < batch_warmup_steps:
            step += 1
            left -= num_micro_batches_at(step, full, batch_warmup_steps)
        step += math.ceil(max(0, left) / full)
    return step
