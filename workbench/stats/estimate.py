"""The shape of every statistic here: a number, how sure it is, and on how much it rests."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from workbench.errors import InsufficientData


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """A number with its confidence interval. A missing end is unbounded at this n."""

    value: float
    low: float | None
    high: float | None
    level: float
    """Coverage of the interval, 0 to 1, for example 0.95."""
    method: str
    n: float
    """Observations that the number rests on."""

    def contains(self, value: float) -> bool:
        """Whether the interval holds `value`, ends included."""
        return (self.low is None or self.low <= value) and (self.high is None or value <= self.high)


def check_level(level: float) -> float:
    """The level, when it is one.

    Raises:
        ValueError: outside 0 to 1.
    """
    if not 0 < level < 1:
        raise ValueError(f"level is a coverage between 0 and 1, not {level}")
    return level


def at_least(subject: str, n: float, needed: int) -> None:
    """Nothing, when there are enough observations.

    Raises:
        InsufficientData: when `n` is below `needed`.
    """
    if n < needed:
        raise InsufficientData(subject, n=int(n), n_needed=needed, next_step="widen the window, or wait for more traffic")


SMALLEST_P = 1e-15
"""Below this a p-value of `p_by_inversion` is not resolved further."""


def p_by_inversion(interval: Callable[[float], Estimate], *, value: float = 0.0) -> float:
    """The two-sided p of `value`: one less the coverage at which the interval just reaches it.

    So p < alpha exactly when the interval at coverage 1-alpha excludes the value.

    Args:
        interval: coverage to estimate; intervals grow with coverage.
        value: the hypothesis.
    """
    low, high = math.log(SMALLEST_P), 0.0
    if not interval(1 - SMALLEST_P).contains(value):
        return SMALLEST_P
    for _ in range(50):
        middle = (low + high) / 2
        if interval(1 - math.exp(middle)).contains(value):
            low = middle
        else:
            high = middle
    return 1.0 if high == 0.0 else math.exp(high)
