"""How long a step has lasted by its plan's clock: only time in which somebody watched and the log had something to say. Pure.

The clock counts seconds between looks of one process by its monotonic clock, so a machine's time that jumps moves nothing; what lay
between two processes is not counted at all.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

LONGEST_GAP_S = 60.0
"""Between two looks. What is longer was no watching: the process slept, or stood still."""
SHADOW = -1
"""Stands for the shadow stage where steps are counted from 0."""
SILENCE_S = 300.0
"""Age of the newest row after which the clock stands still until there are rows again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanClock:
    """The time that counts."""

    step: int
    run_s: float = 0.0
    """Of this step."""
    canary_s: float = 0.0
    """Of all steps, held or not: what the deadline is about."""


def ticked(clock: PlanClock, *, step: int, elapsed_s: float | None, is_silent: bool, longest_gap_s: float = LONGEST_GAP_S) -> PlanClock:
    """The clock after a look, to the millisecond, so that what is stored is what was decided by.

    Args:
        clock: after the look before.
        step: the present step; another one begins at 0.
        elapsed_s: seconds since that look by the same process; None where there was none.
        is_silent: whether the log has had nothing to say.
        longest_gap_s: what is longer does not count.
    """
    counted = elapsed_s if elapsed_s is not None and 0 <= elapsed_s <= longest_gap_s else 0.0
    canary_s = round(clock.canary_s + counted, 3)
    if step != clock.step:
        return PlanClock(step=step, canary_s=canary_s)
    return replace(clock, run_s=round(clock.run_s + (0.0 if is_silent else counted), 3), canary_s=canary_s)
