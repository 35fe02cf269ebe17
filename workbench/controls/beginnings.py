"""What the calls of a talk get: by the route alone, or what its first call got. How talks began this process remembers, for a while.

Nothing is shared between processes: one that has not seen a talk's beginning decides by the bucket. Units' buckets are nested, so that is
another bundle only for those whom a step took over since the talk began.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable

from workbench.controls.assignment import assign
from workbench.controls.model import Assignment, Reason, Route

MOST = 50_000
"""Talks that are remembered, each in some 300 bytes; the one that was silent for longest makes room."""
IDLE_S = 1800.0
"""A talk that was silent for longer begins anew."""
LONGEST_S = 4 * 3600.0
"""A talk that has gone on for longer begins anew: whoever keeps one session for good is not kept on one bundle for good."""


class _Talk:
    """How a talk began, and when it was heard of last."""

    __slots__ = ("began", "heard_s", "since_s")

    def __init__(self, began: Assignment, now_s: float) -> None:
        self.began = began
        self.since_s = self.heard_s = now_s


class Beginnings:
    """How talks began. Threads share it. It holds no name of anybody: a talk's key is a hash with a secret of the process.

    Args:
        most: talks that are remembered.
        idle_s: silence after which a talk begins anew.
        longest_s: time after which it does anyway.
        monotonic: time in seconds.
    """

    def __init__(
        self, *, most: int = MOST, idle_s: float = IDLE_S, longest_s: float = LONGEST_S, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._most = most
        self._idle_s = idle_s
        self._longest_s = longest_s
        self._monotonic = monotonic
        self._talks: OrderedDict[int, _Talk] = OrderedDict()
        self._changing = threading.Lock()

    def __len__(self) -> int:
        return len(self._talks)

    def assign(self, route: Route, unit: str | None, session_id: str | None, *, withheld: Reason | None) -> Assignment:
        """What a call gets under this route, and remembers it as its talk's.

        Args:
            route: as last read.
            unit: whom the call is for. Two of them with the same session have two talks.
            session_id: the talk.
            withheld: why the bundle beside the stable one may not serve now; None when it may. The talk goes back to it afterwards.
        """
        if not route.drains or not session_id or not unit:
            return assign(route, unit, withheld=withheld)
        key, now_s = hash((route.app, unit, session_id)), self._monotonic()
        with self._changing:
            talk = self._talks.get(key)
            if talk is None or now_s - talk.heard_s > self._idle_s or now_s - talk.since_s > self._longest_s:
                found = assign(route, unit, withheld=withheld)
                self._talks[key] = _Talk(found, now_s)
            else:
                found = assign(route, unit, withheld=withheld, began=talk.began)
                talk.heard_s = now_s
                if withheld is None or route.candidate is None:
                    talk.began = found
            self._talks.move_to_end(key)
            self._let_go(now_s)
        return found

    def _let_go(self, now_s: float) -> None:
        """Forget what is too much, and up to two talks that are over: more than come in."""
        for _ in range(2):
            oldest = next(iter(self._talks.values()))
            if len(self._talks) <= self._most and now_s - oldest.heard_s <= self._idle_s:
                return
            self._talks.popitem(last=False)
