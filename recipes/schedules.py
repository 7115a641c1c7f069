"""Learning rates as functions of the step, which counts from 0."""

from __future__ import annotations

import math
from collections.abc import Callable

Schedule = Callable[[int], float]


def constant(peak: float) -> Schedule:
    """The same rate at every step."""
    return lambda step: peak


def cosine(
    peak: float, total_steps: int, warmup_steps: int = 0, end: float = 0.0, start: float = 0.0
) -> Schedule:
    """Straight up from `start` during the warm-up,
    then half a cosine down to `end`, where it stays.

    As in MindFormers' and transformers' warm-up cosine.
    """

    def rate(step: int) -> float:
        if step < warmup_steps:
            return start + (peak - start) * step / warmup_steps
        if step >= total_steps:
            return end
        done = (step - warmup_steps) / max(1, total_steps - warmup_steps)
        return end + (peak - end) * 0.5 * (1 + math.cos(math.pi * done))

    return rate


def linear(
    peak: float, total_steps: int, warmup_steps: int = 0, end: float = 0.0, start: float = 0.0
) -> Schedule:
    """Straight up from `start` during the warm-up, then straight down to `end`, where it stays."""

    def rate(step: int) -> float:
        if step < warmup_steps:
            return start + (peak - start) * step / warmup_steps
        done = min(1.0, (step - warmup_steps) / max(1, total_steps - warmup_steps))
        return peak + (end - peak) * done

    return rate


def annealing(
    peak: float,
    warmup_steps: int,
    decay_steps: int,
    decay: str = "cosine",
    *,
    decay_ratio: float = 0.1,
    slow_steps: int = 100,
    slow_rate: float = 0.05,
    last_step: int = -1,
) -> Schedule:
    """SwissArmyTransformer's AnnealingLR.

    For `slow_steps` after the start (or, when resuming, after `last_step`) no more than `slow_rate`
    of the peak; then the rest of the warm-up; then `decay_steps` of `cosine` decay to `decay_ratio`
    of the peak. Its `linear` decay is not stopped at zero: the rate becomes negative, as upstream.
    Any other `decay` keeps the peak.
    """

    def rate(step: int) -> float:
        warm = peak * step / warmup_steps if warmup_steps else peak
        if step <= last_step + slow_steps:
            return min(slow_rate * peak, warm)
        if step <= warmup_steps:
            return warm
        done = (step - warmup_steps) / decay_steps
        if decay == "linear":
            return peak * (1 - done)
        if decay == "cosine":
            return peak * (
                decay_ratio + (1 - decay_ratio) * (math.cos(math.pi * min(1.0, done)) + 1) / 2
            )
        return peak

    return rate
