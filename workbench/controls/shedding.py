"""What is refused first when there is too much: a cheap refusal is better than a queue in which everybody waits too long. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from workbench.controls.model import Priority

FULL_ENOUGH = 0.8
"""Share of the audit's room from which on only calls that a person waits for are taken."""
_SHARE: Mapping[Priority, float] = {"interactive": 1.0, "batch": 0.8, "shadow": 0.5}
"""Of the calls that are answered at once, how many may be there before one of this priority is refused."""


def most_in_flight(priority: Priority, *, most: int, pressure: float) -> int:
    """Calls that may be under way when one of this priority is taken; 0 refuses it whatever is under way.

    Args:
        priority: of the call.
        most: calls that are answered at once.
        pressure: how full the audit's room is, 0 to 1.
    """
    if pressure >= FULL_ENOUGH and priority != "interactive":
        return 0
    return max(1, int(most * _SHARE[priority]))
