"""Live answers scored while a gateway serves, on a thread. Of several gateways one scores."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Protocol

from workbench.evaluation.model import ScoringStatus
from workbench.gateway.turns import Turns

if TYPE_CHECKING:
    from workbench.evaluation.service import Evaluation

LEASE = "online scoring"
TURN_S = 2.0
"""Between two turns."""


class Leads(Protocol):
    """A part in a lease; `release.leadership.Leadership` is one."""

    @property
    def token(self) -> int | None: ...

    def leads(self) -> bool: ...

    def resign(self) -> None: ...


class ScoreLoop(Turns):
    """Has live answers scored while this process leads.

    Args:
        evaluation: makes what scores, in the thread; None scores nothing.
        is_wanted: whether any app declares scorers; before that nothing is made, and no lease is taken.
        leadership: this process's part in the lease.
        turn_s: seconds between two turns.
    """

    def __init__(
        self,
        evaluation: Callable[[], Evaluation] | None,
        *,
        is_wanted: Callable[[], bool],
        leadership: Callable[[], Leads],
        turn_s: float = TURN_S,
    ) -> None:
        super().__init__("online scoring", wait_s=lambda: turn_s, is_on=evaluation is not None)
        self._make = evaluation
        self._is_wanted = is_wanted
        self._lead = leadership
        self._leadership: Leads | None = None
        self._evaluation: Evaluation | None = None

    @property
    def status(self) -> ScoringStatus:
        scored = self._evaluation.status if self._evaluation else ScoringStatus(is_on=self.is_on)
        is_leading = self._leadership is not None and self.fault is None and self._leadership.token is not None
        return replace(scored, is_leading=is_leading, fault=self.fault)

    def turn(self) -> None:
        if self._make is None or not self._is_wanted():
            self.at_end()
            return
        self._leadership = self._leadership or self._lead()
        if not self._leadership.leads():
            if self._evaluation is not None:
                self._evaluation.close()
            return
        self._evaluation = self._evaluation or self._make()
        self._evaluation.score_new()

    def at_end(self) -> None:
        if self._evaluation is not None:
            self._evaluation.close()
        if self._leadership is not None:
            self._leadership.resign()
