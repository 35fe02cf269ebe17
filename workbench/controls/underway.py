"""What a serving needs of the call that it answers."""

from __future__ import annotations

from dataclasses import dataclass

from workbench.controls.clock import Clock
from workbench.controls.guarding import TurnGuard
from workbench.controls.model import Call
from workbench.controls.turn import Say, Step


@dataclass(frozen=True, slots=True, kw_only=True)
class Underway:
    """A call that is being answered."""

    call: Call
    clock: Clock
    """Of this call: its waits, latency and deadline are on it."""
    deadline_s: float
    """When the answer has to be there, on that clock."""
    steps: list[Step]
    """What happened so far; added to as it happens."""
    guard: TurnGuard
    """Sees each tool call before it runs."""
    say: Say | None
    """Takes the answer piece by piece; None where it is wanted whole."""

    @property
    def left_s(self) -> float:
        """Seconds that are left."""
        return max(0.0, self.deadline_s - self.clock.now())
