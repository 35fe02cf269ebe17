"""A controller of the small company, whose judge says what it is told."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from tests.release.house import House, NoLog, person
from workbench.errors import StoreError
from workbench.release.controller import LEASE, Controller
from workbench.release.judge_kinds import Decision
from workbench.release.judge_model import Judgement
from workbench.release.leadership import Leadership
from workbench.release.service import Releases

REASONS = {
    Decision.PROMOTE: "proven",
    Decision.HOLD: "gathering",
    Decision.ROLLBACK: "harm",
    Decision.INVALID: "split",
    Decision.NO_DATA: "no_rows",
    Decision.INCONCLUSIVE: "deadline",
}


@dataclass
class ToldJudge:
    """Judges as it is told."""

    decision: Decision = Decision.PROMOTE
    units: int = 10_000
    is_readable: bool = True
    age_s: float = 1.0
    asked: list[float] = field(default_factory=list)

    def plan_of(self, _release) -> dict[str, Any]:
        return {"told": True}

    def judge(self, release, _plan, *, canary_s: float, at: datetime) -> Judgement:
        if not self.is_readable:
            raise StoreError("lake", seen="it cannot be read")
        self.asked.append(canary_s)
        return judgement(self.decision, at=at, step=release.step, units=self.units)

    def digest(self, _release_id) -> str:
        return "told"

    def forget(self, _kept) -> None:
        pass


def judgement(decision: Decision, *, at: datetime, step: int = 0, units: int = 10_000) -> Judgement:
    """A judgement that says this."""
    return Judgement(
        decision=decision,
        reason=REASONS[decision],
        sentence=f"the judge says {decision}",
        at=at,
        data_at=at,
        step=step,
        e_harm=1.0,
        e_harm_limit=20.0,
        e_safe_limit=20.0,
        blame="failure_rate" if decision is Decision.ROLLBACK else None,
        metrics=(),
        e_split=1.0,
        e_missing=1.0,
        e_split_limit=1000.0,
        units_stable=units,
        units_candidate=units,
        units_to_go=None,
        high_water=None,
        rows=units,
        rows_outside=0,
        rows_repeated=0,
    )


@dataclass
class Seconds:
    """A monotonic clock, moved by hand."""

    now: float = 1000.0

    def __call__(self) -> float:
        return self.now


class Carrier:
    """A controller with its clocks; several may work on one house."""

    def __init__(self, house: House, holder: str = "one", *, judge: ToldJudge | None = None, seconds: Seconds | None = None) -> None:
        self.house = house
        self.judge = judge or ToldJudge()
        self.seconds = seconds or Seconds()
        self.burnt: str | None = None
        self.leadership = Leadership(house.ledger, LEASE, holder, monotonic=self.seconds)
        self.releases = Releases(
            house.ledger,
            house.versions,
            house.ownership,
            reviewer=lambda: house.reviewer,
            units=house.units,
            log=NoLog(),
            author=person("requester"),
            clock=house.clock,
            fence=self.leadership.fence,
        )
        self.controller = Controller(
            house.ledger,
            self.releases,
            self.leadership,
            judging=self.judge,
            budget=lambda _app: self.burnt,
            clock=house.clock,
            monotonic=self.seconds,
        )

    def turn(self):
        return self.controller.turn()

    def pass_time(self, **span: float) -> None:
        """Both clocks go on, with a look each minute."""
        before = self.house.clock.now
        self.house.clock.forward(**span)
        end, self.house.clock.now = self.house.clock.now, before
        while self.house.clock.now < end:
            step = min(50.0, (end - self.house.clock.now).total_seconds())
            self.house.clock.forward(seconds=step)
            self.seconds.now += step
            self.turn()
