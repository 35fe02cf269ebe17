"""Whether a target is asked at all after it failed. Time and randomness are passed in."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from workbench.controls.failures import Counts
from workbench.controls.rolling import Rolling

_WEIGHT = {Counts.NONE: 0.0, Counts.RATE: 0.0, Counts.HALF: 0.5, Counts.FULL: 1.0, Counts.OPEN_NOW: 1.0}


class State(StrEnum):
    """What a breaker does with the next request."""

    CLOSED = "closed"
    """It passes."""
    HALF_OPEN = "half_open"
    """It passes as a probe, when few are on their way."""
    OPEN = "open"
    """It does not pass."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BreakerPolicy:
    """When a breaker opens, and for how long."""

    window_s: int = 30
    fewest: int = 10
    """Calls in the window before their share of failures counts."""
    share: float = 0.5
    in_a_row: float = 5
    open_s: float = 5.0
    longest_s: float = 60.0
    jitter: float = 0.2
    """Up to so much longer, so that processes do not come back all at once."""
    probes: tuple[int, ...] = (1, 3)
    """Stages of probing: so many at once, and so many that must succeed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Permit:
    """The leave to ask once; it is given back to `settle` or `withdraw`, whatever comes of it."""

    period: int
    """Grows when the breaker changes its state: an answer from before says nothing about now."""
    is_probe: bool


class Breaker:
    """The breaker of one target. It begins closed.

    Args:
        policy: when it opens.
    """

    def __init__(self, policy: BreakerPolicy = BreakerPolicy()) -> None:
        self._policy = policy
        self._window = Rolling(2, span_s=policy.window_s)
        self._in_a_row = 0.0
        self._state = State.CLOSED
        self._period = 0
        self._leave = Permit(period=0, is_probe=False)
        """The leave while it is closed: the same for all of one period."""
        self._until_s = 0.0
        self._times_open = 0
        self._stage = 0
        self._on_their_way = 0
        self._succeeded = 0

    def state(self, now_s: float) -> State:
        """What it does with a request now."""
        return State.HALF_OPEN if self._state is State.OPEN and now_s >= self._until_s else self._state

    def closed_for_s(self, now_s: float) -> float:
        """Seconds until a request may pass; 0 when one may."""
        return max(0.0, self._until_s - now_s) if self._state is State.OPEN else 0.0

    def admit(self, now_s: float, *, is_lone: bool = False) -> Permit | None:
        """The leave to ask, or None.

        Args:
            now_s: time.
            is_lone: whether there is no other target: it is then probed rather than left alone.
        """
        if self._state is State.CLOSED:
            return self._leave
        if self._state is State.OPEN:
            if now_s < self._until_s and not is_lone:
                return None
            self._turn(State.HALF_OPEN)
        if self._on_their_way + self._succeeded >= self._policy.probes[self._stage]:
            return None
        self._on_their_way += 1
        return Permit(period=self._period, is_probe=True)

    def settle(self, permit: Permit, now_s: float, counts: Counts | None, *, fraction: float = 0.0) -> None:
        """What came of the request.

        Args:
            permit: its leave.
            now_s: time.
            counts: how its failure counts; None where it succeeded.
            fraction: a random number in [0, 1), which lengthens the time that it stays open.
        """
        if permit.period != self._period:
            return
        weight = 0.0 if counts is None else _WEIGHT[counts]
        if permit.is_probe:
            self._on_their_way -= 1
            if weight:
                self._open(now_s, fraction)
            else:
                self._passed()
            return
        self._window.add(now_s, 1.0, weight)
        self._in_a_row = self._in_a_row + weight if weight else 0.0
        if counts is Counts.OPEN_NOW or self._is_failing(now_s):
            self._open(now_s, fraction)

    def withdraw(self, permit: Permit) -> None:
        """The request ended for a reason that says nothing about the target: its caller left."""
        if permit.is_probe and permit.period == self._period:
            self._on_their_way -= 1

    def _is_failing(self, now_s: float) -> bool:
        calls, failures = self._window.sums(now_s)
        return self._in_a_row >= self._policy.in_a_row or (calls >= self._policy.fewest and failures >= self._policy.share * calls)

    def _passed(self) -> None:
        """One probe more succeeded."""
        self._succeeded += 1
        if self._succeeded < self._policy.probes[self._stage]:
            return
        self._succeeded, self._stage = 0, self._stage + 1
        if self._stage == len(self._policy.probes):
            self._times_open = 0
            self._turn(State.CLOSED)

    def _open(self, now_s: float, fraction: float) -> None:
        span_s = min(self._policy.longest_s, self._policy.open_s * 2.0**self._times_open)
        self._times_open = min(self._times_open + 1, 30)
        self._until_s = now_s + span_s * (1 + self._policy.jitter * fraction)
        self._turn(State.OPEN)

    def _turn(self, state: State) -> None:
        self._state = state
        self._period += 1
        self._leave = Permit(period=self._period, is_probe=False)
        self._stage = self._on_their_way = self._succeeded = 0
        self._in_a_row = 0.0
        self._window.clear()
