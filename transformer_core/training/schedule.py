"""The learning rate as a function of the step: a linear warm-up, then a fall.

Nothing is remembered from step to step, so a resumed run has the same rates as one that was not interrupted.
"""

import math

from transformer_core.training.config import Schedule

__all__ = ["fall_begins_at", "learning_rate_at"]

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
