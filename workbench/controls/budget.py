"""How much may be asked again: what keeps an outage from being made worse by those who wait for its end. Time is passed in."""

from __future__ import annotations

from collections.abc import Callable

from workbench.controls.rolling import Rolling

_FEWEST = 10
"""Requests before a target is judged: with fewer, one failure would refuse every second request."""


class RetryBudget:
    """Further attempts at one target: a tenth of the first ones, and one for each second, over 10 s.

    Source: Google's SRE book, ch. 21; the shape of Linkerd's and tower's retry budgets.

    Args:
        share: of a retry that each first attempt pays for.
        least_per_s: retries a second that need no first attempts.
        window_s: what is older neither pays nor is owed.
    """

    def __init__(self, *, share: float = 0.1, least_per_s: float = 1.0, window_s: int = 10) -> None:
        self._share = share
        self._least = least_per_s * window_s
        self._counts = Rolling(2, span_s=window_s)

    def first(self, now_s: float) -> None:
        """Count a first attempt."""
        self._counts.add(now_s, 1.0, 0.0)

    def draw(self, now_s: float) -> bool:
        """Take one retry, where there is one."""
        if self.left(now_s) < 1.0:
            return False
        self._counts.add(now_s, 0.0, 1.0)
        return True

    def left(self, now_s: float) -> float:
        """Retries that may be taken now."""
        first, drawn = self._counts.sums(now_s)
        return round(self._share * first + self._least - drawn, 9)


class Throttle:
    """Refuses requests here that the target would most likely refuse itself.

    Source: Google's SRE book, ch. 21, "Client-Side Throttling", with K = 2.

    Args:
        window_s: over which requests count.
    """

    def __init__(self, *, window_s: int = 30) -> None:
        self._counts = Rolling(2, span_s=window_s)

    def refuses(self, now_s: float, chance: Callable[[str], float]) -> bool:
        """Whether a request is not to be sent. One that is counts when it is known what came of it: answers take their time.

        Args:
            now_s: time.
            chance: draws a random number in [0, 1) for a purpose, where one is needed.
        """
        probability = self.probability(now_s)
        is_refused = probability > 0.0 and chance("admission") < probability
        if is_refused:
            self._counts.add(now_s, 1.0, 0.0)
        return is_refused

    def accept(self, now_s: float) -> None:
        """The target took a request on, whatever came of it."""
        self._counts.add(now_s, 1.0, 1.0)

    def reject(self, now_s: float) -> None:
        """The target did not take a request on."""
        self._counts.add(now_s, 1.0, 0.0)

    def probability(self, now_s: float) -> float:
        """With which the next request is refused: max(0, (requests − 2 · accepts) / (requests + 1))."""
        requests, accepts = self._counts.sums(now_s)
        return 0.0 if requests < _FEWEST else max(0.0, (requests - 2 * accepts) / (requests + 1))

    def clear(self) -> None:
        """Begin anew."""
        self._counts.clear()
