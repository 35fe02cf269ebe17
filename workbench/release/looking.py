"""What is known of releases: those of an app, what serves now, and what happens next."""

from __future__ import annotations

import logging
from datetime import datetime
from typing import TYPE_CHECKING

from workbench.errors import StoreError, WorkbenchError
from workbench.ledger.acknowledgements import acknowledgements_of
from workbench.ledger.audit import AuditEntry, entries_about, newest_of
from workbench.ledger.broken_glass import broken_glass_of
from workbench.ledger.registry import content_of
from workbench.ledger.releases import READY_ACT, Foundation, StoredRelease, foundation, locks_of, open_releases, releases_of
from workbench.ledger.routes import stored_route
from workbench.ledger.watches import StoredWatch, decisions_of, known_decision, newest_decision, stored_watch
from workbench.ownership.people import names_of
from workbench.release import approvals as rule
from workbench.release.acting import Acting
from workbench.release.break_glass import glass_of
from workbench.release.followers import followers_of
from workbench.release.freezes import freeze_now, lock_of
from workbench.release.guidance import next_steps
from workbench.release.model import SERVING, DecisionRecord, Objection, Release, ReleaseStatus, State
from workbench.release.records import approval_of, decision_of, ground_of, locks_from, plan_of, registrar_in, watch_of
from workbench.release.starting import LEFT_OPEN
from workbench.release.states import Act
from workbench.release.targets import last_good
from workbench.release.waits import waits_of
from workbench.release.whole import Whole

if TYPE_CHECKING:  # the judge's libraries are waited for by who asks the judge
    from workbench.release.replaying import Replay
    from workbench.release.tracing import Point

log = logging.getLogger(__name__)


class Looking(Acting):
    """The verbs that change nothing."""

    def get(self, release_id: str) -> Release:
        """The release of this id, or the open one of the app of this name.

        Raises:
            UnknownSubject: there is none.
        """
        return self._release(self._stored(release_id))

    def history(self, app: str) -> tuple[Release, ...]:
        """Every release of the app, in the order in which they were asked for."""
        with self._ledger.read() as connection:
            rows = releases_of(connection, app)
        return tuple(map(self._release, rows))

    def open(self) -> tuple[Release, ...]:
        """The releases of all apps that have not ended, by app."""
        with self._ledger.read() as connection:
            rows = open_releases(connection)
        return tuple(map(self._release, rows))

    def entries(self, release_id: str) -> tuple[AuditEntry, ...]:
        """What the audit holds about the release, oldest first.

        Raises:
            UnknownSubject: there is no such release.
        """
        row = self._stored(release_id)
        with self._ledger.read() as connection:
            return entries_about(connection, row.release_id, app=row.app)

    def decisions(self, release_id: str) -> tuple[DecisionRecord, ...]:
        """What the controller decided about the release, oldest first.

        Raises:
            UnknownSubject: there is no such release.
        """
        row = self._stored(release_id)
        with self._ledger.read() as connection:
            return tuple(map(decision_of, decisions_of(connection, row.release_id)))

    def decision(self, decision_id: str) -> DecisionRecord:
        """The decision `<release>/<number>`, or a release's newest.

        Raises:
            UnknownSubject: there is none.
        """
        with self._ledger.read() as connection:
            return decision_of(known_decision(connection, decision_id))

    def replay(self, release_id: str) -> Replay:
        """The controller's decisions about the release, made again from the log.

        Raises:
            UnknownSubject: there is no such release.
            StoreError: the log cannot be read.
        """
        from workbench.release.replaying import replay  # noqa: PLC0415 - see above

        row = self._stored(release_id)
        return replay(self._release(row), self.decisions(row.release_id), self._log)

    def trace(self, release_id: str) -> tuple[Point, ...]:
        """What the judge would have said along the release's way, oldest first; empty before the controller's first look.

        Raises:
            UnknownSubject: there is no such release.
            StoreError: the log cannot be read.
        """
        from workbench.release.tracing import trace  # noqa: PLC0415 - see above

        row = self._stored(release_id)
        with self._ledger.read() as connection:
            watch = stored_watch(connection, row.release_id)
        return trace(self._release(row), watch.plan, self._log) if watch and watch.plan else ()

    def status(self, app: str) -> ReleaseStatus:
        """What serves the app now, the release under way or else the newest, and what happens next."""
        now = self._clock()
        with self._ledger.read() as connection:
            route, history, locks = stored_route(connection, app), releases_of(connection, app), locks_from(locks_of(connection, app))
            plan = plan_of(app, content_of(connection, app, "plan"))
            row = history[-1] if history else None
            under = foundation(connection, row) if row else None
            seen = stored_watch(connection, row.release_id) if row else None
            newest = newest_decision(connection, row.release_id) if row else None
            told = acknowledgements_of(connection, app)
            glasses = tuple(map(glass_of, broken_glass_of(connection, app)))
        release = self._release(row) if row else None
        decisions = tuple(map(approval_of, under.approvals)) if under else ()
        objection = objection_to_going_on(row, under, now=now) if row and under else None
        waits_for_approval = row is not None and row.state in (State.READY, State.APPROVED)
        may_approve = self._may_approve(row, under) if row and under and waits_for_approval else ()
        stable = route.stable if route else None
        units = self._units_or_none(row) if row else None
        waits = waits_of(release, now=now, units=units) if release else ()
        frozen = freeze_now(locks, plan, now=now)
        good = last_good(history, stable=stable, is_whole=Whole(self._versions))
        return ReleaseStatus(
            app=app,
            at=now,
            stable=stable,
            candidate=route.candidate if route else None,
            share=route.share if route else 0.0,
            route_version=route.version if route else None,
            without_stable=route.without_stable if route else None,
            release=release,
            approvals=decisions,
            objection=objection,
            may_approve=may_approve,
            units=units,
            waits=waits,
            lock=lock_of(locks),
            freeze=frozen,
            last_good=good,
            next_steps=next_steps(release, objection=objection, may_approve=may_approve, waits=waits, freeze=frozen),
            names={**(release.names if release else {}), **self._names_of(stable, good)},
            watch=watch_of(seen, newest) if seen else None,
            followers=followers_of(told, route_version=route.version, now=now) if route else None,
            broken_glass=tuple(glass for glass in glasses if glass.is_open or (row and glass.release_id == row.release_id)),
            left_open=self._left_open(release, seen, under.ready if under else None),
        )

    def left_open(self, release_id: str) -> tuple[str, ...]:
        """What the release's plan cannot measure or reach, one sentence each; empty where it has ended.

        Until the controller's first look it is what was known when the release was found ready.

        Raises:
            UnknownSubject: there is no such release.
        """
        release = self.get(release_id)
        with self._ledger.read() as connection:
            seen = stored_watch(connection, release.release_id)
            ready = newest_of(connection, READY_ACT, app=release.app, subject=release.release_id)
        return self._left_open(release, seen, ready)

    def _left_open(self, release: Release | None, seen: StoredWatch | None, ready: AuditEntry | None) -> tuple[str, ...]:
        if release is None or release.plan is None or not release.is_open or self._before is None:
            return ()
        if seen is not None and seen.plan:
            from workbench.release.outlook import under_way  # noqa: PLC0415 - see above

            return under_way(seen.plan).lines
        if ready is not None and LEFT_OPEN in ready.detail:
            return tuple(ready.detail[LEFT_OPEN])
        try:
            return self._open_before(release)
        except WorkbenchError as error:
            return (f"What of its plan can be measured is not known: {error}.",)

    def _may_approve(self, row: StoredRelease, under: Foundation) -> tuple[str, ...]:
        people = self._ownership.people(row.app)
        registrar = registrar_in(under, people)
        return tuple(
            person
            for person in self._ownership.holders(Act.APPROVE, row.app)
            if rule.objection_to_person(person, names_of(person, people), requester=row.requested_by, registrar=registrar) is None
        )

    def _units_or_none(self, row: StoredRelease) -> int | None:
        """The units that its candidate has served; None where that is unknown or there is no canary."""
        if row.state not in SERVING:
            return None
        try:
            return self._units(row.app, row.release_id, arm="candidate" if row.step is not None else "shadow")
        except StoreError as error:
            log.warning("the units of release %s cannot be counted: %s", row.release_id, error)
            return None


def objection_to_going_on(row: StoredRelease, under: Foundation, *, now: datetime) -> Objection | None:
    """Why what the open release stands on does not let it go on; None when it does, or nothing is to be asked."""
    if row.state in (State.READY, State.APPROVED):
        return rule.objection_to_canary(tuple(map(approval_of, under.approvals)), ground_of(row, under), now=now)
    return rule.objection_to_going_on(ground_of(row, under)) if row.state in SERVING else None
