"""Sums over the last seconds. Time is passed in."""

from __future__ import annotations

from collections import deque


class Rolling:
    """Sums of several amounts over a span that moves with time, to the second.

    Args:
        n: amounts that are summed side by side.
        span_s: what is older counts no more; up to a second younger may be forgotten with it.
    """

    def __init__(self, n: int, *, span_s: int) -> None:
        self._span_s = span_s
        self._slots: deque[tuple[int, list[float]]] = deque()
        self._sums = [0.0] * n
        self._looked_s = -1
        """The second up to which it has forgotten what is older."""

    def add(self, now_s: float, *amounts: float) -> None:
        """Count these amounts as of now; a time before the newest one counts as the newest."""
        second = int(now_s)
        if second > self._looked_s:
            self._forget(second)
        slots, sums = self._slots, self._sums
        if not slots or slots[-1][0] < second:
            slots.append((second, [0.0] * len(sums)))
        newest = slots[-1][1]
        for place, amount in enumerate(amounts):
            newest[place] += amount
            sums[place] += amount

    def sums(self, now_s: float) -> tuple[float, ...]:
        """What was added within the span."""
        second = int(now_s)
        if second > self._looked_s:
            self._forget(second)
        return tuple(self._sums)

    def clear(self) -> None:
        """Forget everything."""
        self._slots.clear()
        self._sums = [0.0] * len(self._sums)

    def _forget(self, second: int) -> None:
        self._looked_s = second
        oldest = second - self._span_s
        while self._slots and self._slots[0][0] <= oldest:
            _, amounts = self._slots.popleft()
            for place, amount in enumerate(amounts):
                self._sums[place] -= amount
