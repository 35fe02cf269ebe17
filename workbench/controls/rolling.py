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

    def add(self, now_s: float, *amounts: float) -> None:
        """Count these amounts as of now; a time before the newest one counts as the newest."""
        self._forget(now_s)
        second = max(int(now_s), self._slots[-1][0]) if self._slots else int(now_s)
        if not self._slots or self._slots[-1][0] != second:
            self._slots.append((second, [0.0] * len(self._sums)))
        newest = self._slots[-1][1]
        for place, amount in enumerate(amounts):
            newest[place] += amount
            self._sums[place] += amount

    def sums(self, now_s: float) -> tuple[float, ...]:
        """What was added within the span."""
        self._forget(now_s)
        return tuple(self._sums)

    def clear(self) -> None:
        """Forget everything."""
        self._slots.clear()
        self._sums = [0.0] * len(self._sums)

    def _forget(self, now_s: float) -> None:
        oldest = int(now_s) - self._span_s
        while self._slots and self._slots[0][0] <= oldest:
            _, amounts = self._slots.popleft()
            for place, amount in enumerate(amounts):
                self._sums[place] -= amount
