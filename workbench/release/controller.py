"""The controller: carries releases through their canaries by their plans. Any process may run one; one leads.

A turn looks at each canary: what is new in the log is judged, a decision is made and noted with what it rests on, then it is done, by
the same verbs and rules as a person's, and only if the release is still what it was decided on. So a controller that is killed between
noting and doing has done nothing, and the next one decides again.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from typing import Any

from workbench.errors import ConflictError, StoreError, WorkbenchError
from workbench.ledger.canonical import digest
from workbench.ledger.registry import content_of
from workbench.ledger.releases import StoredRelease, foundation, known_release, locks_of, open_releases
from workbench.ledger.routes import stored_route
from workbench.ledger.store import Ledger
from workbench.ledger.watches import StoredDecision, StoredWatch, add_decision, decisions_at, newest_decision, put_watch, stored_watch
from workbench.ownership.model import Actor, Assurance
from workbench.ownership.permissions import CONTROLLER
from workbench.release.course import Decision, Move, Situation, asked_at, fails_less, is_overdue, next_move
from workbench.release.freezes import objection_to_release
from workbench.release.judge_kinds import RULES
from workbench.release.judge_kinds import Decision as Advice
from workbench.release.judge_model import Judgement
from workbench.release.leadership import Leadership
from workbench.release.looking import objection_to_going_on
from workbench.release.model import SERVING, Objection, Release
from workbench.release.plan_clock import SHADOW, SILENCE_S, PlanClock, ticked
from workbench.release.ports import Budget, Judging
from workbench.release.records import locks_from, plan_of, release_of
from workbench.release.service import Releases
from workbench.release.shadowing import ShadowJudgement
from workbench.release.states import Act
from workbench.release.turn import expect, objection_to_route
from workbench.release.waits import unmet_by_plan_clock, waits_of

log = logging.getLogger(__name__)
LEASE = "release controller"
BY_ITSELF = Actor(person=CONTROLLER, via="controller", assurance=Assurance.VERIFIED)
"""The author of what a plan has done."""
_SAME_AGAIN_S = 60.0
"""A decision that changes nothing and only has another reason is noted at most that often."""
_ROUTINE, _ROUTINE_S = frozenset({"gathering", "units", "not_yet", "stale", "no_outcome"}), 600.0
"""Reasons that alternate while nothing happens, and how often that is noted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Turned:
    """What a turn did about one release."""

    release_id: str
    move: Move
    decision_id: str | None
    """Of the decision that was noted; None where nothing changed."""
    fault: str = ""
    """Why it could not be done; empty otherwise."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Looked:
    """What a look at a release found."""

    release: Release
    watch: StoredWatch | None
    judgement: Judgement | ShadowJudgement | None
    fault: str
    plan: Mapping[str, Any]
    clock: PlanClock
    objections: tuple[Objection, ...]
    waits: tuple[str, ...]
    last: StoredDecision | None
    """The newest decision about it."""
    holds: tuple[StoredDecision, ...]
    """Those at its present step."""


class Controller:
    """Carries the canaries of a workspace.

    Args:
        ledger: where releases are.
        releases: the verbs, fenced by `leadership`.
        leadership: whether this process leads.
        judging: judges a canary from the log.
        budget: why an app's error budget forbids to go on, or None.
        clock: the time, for records.
        monotonic: seconds, for what lasts.
    """

    def __init__(
        self,
        ledger: Ledger,
        releases: Releases,
        leadership: Leadership,
        *,
        judging: Judging,
        budget: Budget,
        clock: Callable[[], datetime],
        monotonic: Callable[[], float],
    ) -> None:
        self._ledger = ledger
        self._releases = releases
        self._leadership = leadership
        self._judging = judging
        self._budget = budget
        self._clock = clock
        self._monotonic = monotonic
        self._looked_at: dict[str, float] = {}

    @property
    def is_leading(self) -> bool:
        return self._leadership.token is not None

    def turn(self) -> tuple[Turned, ...]:
        """One look at every canary, and what follows from it; nothing while another process leads.

        Raises:
            StoreError: the ledger is out of reach.
        """
        rows = self._canaries()
        self._judging.forget({row.release_id for row in rows})
        if not rows:
            self._looked_at.clear()
            self.resign()
            return ()
        if not self._leadership.leads():
            self._looked_at.clear()
            return ()
        with self._leadership.kept():  # whoever takes over reads all of a release's rows, which takes its time
            return tuple(turned for row in rows if (turned := self._carried_or_told(row)) is not None)

    def resign(self) -> None:
        """Let another process lead."""
        self._leadership.resign()

    def _canaries(self) -> tuple[StoredRelease, ...]:
        with self._ledger.read() as connection:
            return tuple(row for row in open_releases(connection) if row.state in SERVING)

    def _carried_or_told(self, row: StoredRelease) -> Turned | None:
        """As `_carried`; what breaks under one release is told, and the others are carried on."""
        try:
            return self._carried(row)
        except StoreError:
            raise
        except Exception as error:
            log.exception("release %s could not be carried", row.release_id)
            fault = f"{type(error).__name__}: {error}"
            return Turned(
                release_id=row.release_id,
                move=Move(decision=Decision.HOLD, reason="not_carried", sentence=fault),
                decision_id=None,
                fault=fault,
            )

    def _carried(self, row: StoredRelease) -> Turned | None:
        """What was done about a release; None where somebody else did something first."""
        try:
            release = release_of(row, {})
        except StoreError as error:  # of this release alone: the others are carried on
            log.warning("release %s cannot be carried: %s", row.release_id, error)
            move = Move(decision=Decision.HOLD, reason="unreadable", sentence=str(error))
            return Turned(release_id=row.release_id, move=move, decision_id=None, fault=str(error))
        try:
            looked = self._look(row, release)
            move = next_move(
                Situation(
                    release=looked.release,
                    judgement=looked.judgement,
                    fault=looked.fault,
                    waits=looked.waits,
                    objections=looked.objections,
                    is_overdue=is_overdue(release.plan, run_s=looked.clock.run_s, canary_s=looked.clock.canary_s),
                    asked=asked_at(looked.holds, looked.clock.step, row.version),
                )
            )
            decision_id = self._note(looked, move)
            return self._done(looked, move, decision_id)
        except ConflictError as conflict:
            log.info("release %s was changed by somebody else: %s", row.release_id, conflict)
            return None

    def _look(self, row: StoredRelease, release: Release) -> _Looked:
        step = SHADOW if release.is_shadowed else row.step or 0
        with self._ledger.read() as connection:
            watch, last = stored_watch(connection, row.release_id), newest_decision(connection, row.release_id)
            holds = decisions_at(connection, row.release_id, step, Decision.HOLD)
            expect(known_release(connection, row.release_id), row.version)
            route = stored_route(connection, row.app)
        now_s = self._monotonic()
        before_s = self._looked_at.get(row.release_id)
        self._looked_at[row.release_id] = now_s
        before = PlanClock(step=watch.step, run_s=watch.run_s, canary_s=watch.canary_s) if watch else PlanClock(step=step)
        newest = watch.newest_row_at if watch else None
        clock = ticked(before, step=step, elapsed_s=None if before_s is None else now_s - before_s, is_silent=self._is_silent(newest))
        plan: dict[str, Any] = dict(watch.plan) if watch else {}
        judgement: Judgement | ShadowJudgement | None = None
        fault = ""
        try:
            if release.is_shadowed:
                clock = replace(clock, canary_s=before.canary_s)  # nobody is exposed yet
                judgement = self._judging.judge_shadow(release, at=self._clock())
            else:
                plan = plan or dict(self._judging.plan_of(release))
                judgement = self._judging.judge(release, plan, canary_s=clock.canary_s, at=self._clock())
        except WorkbenchError as error:
            fault = str(error)
        except Exception as error:  # the release is held and says so, and the others are looked at
            log.exception("release %s could not be judged", row.release_id)
            fault = f"{type(error).__name__}: {error}"
        in_the_way = [objection_to_route(row, route), *self._objections(row, judgement)]
        return _Looked(
            release=release,
            watch=watch,
            judgement=judgement,
            fault=fault,
            plan=plan,
            clock=clock,
            objections=tuple(objection for objection in in_the_way if objection is not None),
            waits=_waits(release, clock, judgement, now=self._clock()),
            last=last,
            holds=holds,
        )

    def _is_silent(self, newest: datetime | None) -> bool:
        """Whether the newest row says nothing of the present: it is old, or comes from a time that has not come yet."""
        return newest is None or abs((self._clock() - newest).total_seconds()) > SILENCE_S

    def _objections(self, row: StoredRelease, judgement: Judgement | ShadowJudgement | None) -> tuple[Objection | None, ...]:
        """Why it may not go on; asked only where it would."""
        if judgement is None or judgement.decision not in (Advice.PROMOTE, Advice.INCONCLUSIVE):
            return ()
        return (*self._of_rules(row), *(() if isinstance(judgement, Judgement) and fails_less(judgement) else (self._burnt(row.app),)))

    def _of_rules(self, row: StoredRelease) -> tuple[Objection | None, ...]:
        now = self._clock()
        with self._ledger.read() as connection:
            try:
                plan = plan_of(row.app, content_of(connection, row.app, "plan"))
            except StoreError as error:
                return (Objection(reason="unreadable", seen=str(error), next_step="promote it by hand"),)
            return (
                objection_to_release(CONTROLLER, locks_from(locks_of(connection, row.app)), plan, now=now),
                objection_to_going_on(row, foundation(connection, row), now=now),
            )

    def _burnt(self, app: str) -> Objection | None:
        """Why the error budget of the app forbids to go on; None where it does not."""
        try:
            burnt = self._budget(app)
        except WorkbenchError as error:
            burnt = f"whether its error budget lasts cannot be told: {error}"
        return Objection(reason="budget", seen=burnt, next_step="wait until the budget recovers, or promote it by hand") if burnt else None

    def _note(self, looked: _Looked, move: Move) -> str | None:
        """Stores the look, and the decision where it is another than the one before; its id, or that of the same before when it acts."""
        release, judged, now = looked.release, looked.judgement, self._clock()
        last = looked.last
        standing = {
            "decision": str(move.decision),
            "reason": move.reason,
            "sentence": move.sentence,
            "act": str(move.act) if move.act else None,
            "waits": list(looked.waits),
            "objections": [asdict(objection) for objection in looked.objections],
            "fault": looked.fault,
            "judgement": dict(judged.as_json()) if judged else None,
        }
        is_same = last is not None and _is_same(last, release, move, now)
        with self._ledger.write() as act:
            self._leadership.fence(act)
            token = self._leadership.token or 0
            put_watch(
                act,
                StoredWatch(
                    release_id=release.release_id,
                    step=looked.clock.step,
                    run_s=looked.clock.run_s,
                    canary_s=looked.clock.canary_s,
                    high_water=judged.high_water.batch_id if judged and judged.high_water else -1,
                    plan=looked.plan,
                    standing=standing,
                    newest_row_at=judged.data_at if judged else (looked.watch.newest_row_at if looked.watch else None),
                    looked_at=now,
                    token=token,
                    version=0,
                ),
                looked.watch,
            )
            if is_same and last is not None:
                return last.decision_id if move.act else None
            inputs: dict[str, Any] = {
                **standing,
                "state": str(release.state),
                "step": release.step,
                "note": release.note,
                "run_s": looked.clock.run_s,
                "canary_s": looked.clock.canary_s,
                "plan": looked.plan,
                "memory": self._judging.digest(release.release_id) if judged else None,
                "rules": RULES,
            }
            return add_decision(
                act,
                StoredDecision(
                    release_id=release.release_id,
                    number=0,
                    decided_at=now,
                    release_version=release.version,
                    step=looked.clock.step,
                    decision=str(move.decision),
                    reason=move.reason,
                    sentence=move.sentence,
                    inputs=inputs,
                    inputs_digest=digest(inputs),
                    token=token,
                ),
            ).decision_id

    def _done(self, looked: _Looked, move: Move, decision_id: str | None) -> Turned:
        release, fault = looked.release, ""
        if move.act is not None:
            try:
                self._act(release, move, decision_id or "")
            except ConflictError:
                raise
            except WorkbenchError as error:
                fault = str(error)
                log.warning("%s of release %s could not be done: %s", move.act, release.release_id, fault)
                self._tell(release, f"{move.sentence}; {move.act} could not be done: {fault}", fault)
        return Turned(release_id=release.release_id, move=move, decision_id=decision_id, fault=fault)

    def _tell(self, release: Release, sentence: str, fault: str) -> None:
        """Whoever looks at the release reads why what was decided is not done."""
        with suppress(ConflictError, StoreError), self._ledger.write() as act:
            self._leadership.fence(act)
            seen = stored_watch(act.connection, release.release_id)
            if seen is not None:
                put_watch(act, replace(seen, standing={**seen.standing, "sentence": sentence, "fault": fault}), seen)

    def _act(self, release: Release, move: Move, decision_id: str) -> None:
        words = f"{move.sentence[:800]} ({decision_id})"
        if move.act is Act.ROLLBACK:
            self._releases.rollback(release.app, reason=words, expected_route_version=self._route_version(release), actor=BY_ITSELF)
        elif move.act is Act.HOLD:
            self._releases.hold(release.release_id, reason=words, expected_version=release.version, actor=BY_ITSELF)
        elif move.act is Act.PROMOTE:
            early = move.early[:800]
            self._releases.promote(
                release.release_id, early=early, decision_id=decision_id, expected_version=release.version, actor=BY_ITSELF
            )

    def _route_version(self, release: Release) -> int:
        """Of the route that serves this release.

        Raises:
            ConflictError: the release serves nobody any more.
        """
        with self._ledger.read() as connection:
            route = stored_route(connection, release.app)
        if route is None or route.release_id != release.release_id:
            raise ConflictError(f"release {release.release_id}", seen="it serves nobody any more", next_step="nothing is to be taken back")
        return route.version


def _waits(release: Release, clock: PlanClock, judgement: Judgement | ShadowJudgement | None, *, now: datetime) -> tuple[str, ...]:
    """By the plan's clock, and then by the calendar: where that was set back a promotion would be refused."""
    step = release.present_stage
    units = judgement.units_candidate if judgement else None
    unmet = unmet_by_plan_clock(step, run_s=clock.run_s, units=units) if step is not None else ()
    return unmet or waits_of(release, now=now, units=units)


def _is_same(last: StoredDecision, release: Release, move: Move, now: datetime) -> bool:
    """Whether the decision says nothing that the last one did not."""
    known = (last.inputs.get("act"), last.release_version)
    if known != (str(move.act) if move.act else None, release.version):
        return False
    if (last.decision, last.reason) == (str(move.decision), move.reason):
        return True
    age_s = (now - last.decided_at).total_seconds()
    if move.act is None and {last.reason, move.reason} <= _ROUTINE:
        return age_s < _ROUTINE_S
    return move.act is None and last.decision == str(move.decision) and age_s < _SAME_AGAIN_S
