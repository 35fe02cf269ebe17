"""The verbs of release: start, approve, promote by steps, hold, abort, roll back; locks and freezes.

Each verb is one transaction: the release, the route, and the audit entry change together or not at all. What a verb was decided on is
checked inside it: who may act, the version, the approval and what it is bound to.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from typing import Protocol

from sqlalchemy import Connection

from workbench.errors import (
    IntegrityError,
    NotPermitted,
    ReleaseRefused,
    StoreError,
    UnknownSubject,
    UsageError,
    WorkbenchError,
)
from workbench.ledger.audit import AuditEntry, entries_about
from workbench.ledger.authority import Author
from workbench.ledger.canonical import JSON
from workbench.ledger.registry import content_of, newest_declarations
from workbench.ledger.releases import (
    Foundation,
    StoredRelease,
    foundation,
    locks_of,
    open_release,
    open_releases,
    releases_of,
    stored_release,
)
from workbench.ledger.routes import StoredRoute, stored_route
from workbench.ledger.store import Ledger, WriteTransaction
from workbench.ledger.types import utc_text
from workbench.ownership.people import names_of
from workbench.ownership.service import Ownership
from workbench.readiness.model import Review
from workbench.release import approvals as rule
from workbench.release.approvals import APPROVAL_HOLDS
from workbench.release.freezes import freeze_now, lock_of, objection_to_lock, objection_to_release
from workbench.release.guidance import next_steps
from workbench.release.model import SERVING, Lock, LockKind, Objection, Release, ReleaseStatus, State
from workbench.release.records import approval_of, ground_of, lock_from, plan_of, registrar_in, release_of
from workbench.release.states import Act
from workbench.release.stopping import why_stopped
from workbench.release.targets import FALLBACK, LAST_GOOD, OFF, Target, last_good, target_of
from workbench.release.turn import (
    Doer,
    Done,
    Turn,
    expect,
    expect_route,
    insist,
    insist_person,
    objection_to_state,
    planned_target,
    refusal,
)
from workbench.release.waits import waits_of
from workbench.versions.model import Bundle
from workbench.versions.service import Versions

log = logging.getLogger(__name__)
REFUSED = "release.refused"
MOST_WORDS = 1000
"""Characters of a reason."""


class Reviewer(Protocol):
    """Makes readiness reviews; `readiness.service.Readiness` is one."""

    def review(
        self, app: str, bundle: Bundle | str | None = None, *, baseline: str | None = None, actor: Author | None = None
    ) -> Review: ...


class CandidateUnits(Protocol):
    """Counts the different units that the candidate of a release has served.

    Raises:
        StoreError: the log cannot be read.
    """

    def __call__(self, app: str, release_id: str) -> int: ...


class ReleaseListener(Protocol):
    """Is told of every change of a release after it is committed; what it does cannot undo the change."""

    def on_transition(self, release: Release, entry: AuditEntry) -> None: ...


class Releases:
    """How does it go? Every verb takes the actor, asks who may, and leaves its audit entry; a refusal leaves one too.

    A release is named by its id, or by its app where it is the app's open one.

    Args:
        ledger: where releases, routes and the audit are.
        versions: the registry of bundles.
        ownership: who may, and how an app names whoever acts.
        reviewer: gives the maker of readiness reviews; only `start` asks for it, so that nothing else needs the log to be there.
        units: counts the units that a candidate has served.
        author: who acts by default.
        clock: the time, aware.
        clean: takes personal data out of a reason before it is stored.
        token: random hex digits of so many bytes, for the salt of each release.
    """

    def __init__(
        self,
        ledger: Ledger,
        versions: Versions,
        ownership: Ownership,
        *,
        reviewer: Callable[[], Reviewer],
        units: CandidateUnits,
        author: Author,
        clock: Callable[[], datetime],
        clean: Callable[[str], str] = str,
        token: Callable[[int], str] = secrets.token_hex,
    ) -> None:
        self._ledger = ledger
        self._versions = versions
        self._ownership = ownership
        self._reviewer = reviewer
        self._units = units
        self._author = author
        self._clock = clock
        self._clean = clean
        self._token = token
        self._listeners: list[ReleaseListener] = []
        self._names: dict[str, str] = {}

    def listen(self, listener: ReleaseListener) -> None:
        """Tell it of every change from now on."""
        self._listeners.append(listener)

    def start(
        self, app: str, bundle: Bundle | str | None = None, *, reason: str, baseline: str | None = None, actor: Author | None = None
    ) -> Release:
        """A release of the bundle with a fresh readiness review: READY, or ABORTED because it was stopped at its gates.

        A draft of the same person and bundle whose review was never finished, because its process was killed, is taken up and finished
        now, for the reason that is given now. Where its process lives after all, the first review that is made settles it for both.

        Args:
            app: the application.
            bundle: the candidate; by default the newest of the app.
            reason: why it is released.
            baseline: what the review compares with where nothing is in service; otherwise it is what serves.
            actor: who asks for it.

        Raises:
            ConflictError: another release of the app is open.
            ReleaseRefused: releases are frozen or locked, or the bundle serves already.
            NotPermitted: the actor may not start releases of the app.
            UnknownSubject: there is no such bundle.
            UsageError: another baseline than what is in service is named.
        """
        words = self._words(reason)
        with self._permitted("release.start", app, actor) as doer:
            candidate = self._bundle(app, bundle)
            with self._ledger.write() as act:
                turn = self._turn(act, doer)
                _check_baseline(app, baseline, stored_route(act.connection, app))
                known = turn.unfinished(candidate.bundle_id)
                if known is None:
                    self._insist_on_release(turn, f"release of {app}")
                done = turn.take_up(known, reason=words) if known else turn.draft(candidate.bundle_id, reason=words)
        self._told(done)
        draft = done.row
        with self._given_up_when_broken(draft, doer):
            review = self._reviewer().review(app, candidate, baseline=baseline or draft.previous_stable, actor=doer.author)
            return self._settled(draft, review, doer)

    def adopt(self, app: str, bundle: Bundle | str, *, reason: str, actor: Author | None = None) -> Release:
        """The bundle that serves the app already, outside the workbench, as its first stable one. Only before any other is in service.

        Raises:
            ConflictError: the workbench knows already who serves the app, or a release is open.
            IntegrityError: the bundle's stored parts are gone or altered.
            NotPermitted: the actor may neither approve releases nor administrate, or registered the bundle where that takes two persons.
            UnknownSubject: there is no such bundle.
        """
        words = self._words(reason)
        with self._permitted("release.adopt", app, actor) as doer:
            found = self._bundle(app, bundle)
            self._versions.files(found.bundle_id)
            with self._ledger.write() as act:
                done = self._turn(act, doer).adopt(found.bundle_id, reason=words)
                registrar = registrar_in(foundation(act.connection, done.row), self._ownership.people(app))
                tier = self._ownership.risk_tier(app)
                insist_person(done.row, rule.objection_to_adopting(doer.person, doer.known_as, registrar=registrar, risk_tier=tier))
        return self._told(done)

    def approve(
        self, release_id: str, *, review_id: str | None = None, expected_version: int | None = None, actor: Author | None = None
    ) -> Release:
        """The release approved by a second person, for `APPROVAL_HOLDS`.

        Args:
            release_id: its id.
            review_id: the review that the actor looked at; it must be the one that the release stands on.
            expected_version: the version of the release that the actor looked at.
            actor: who approves.

        Raises:
            NotPermitted: the actor has not the role, asked for the release, or registered its bundle.
            ReleaseRefused: it waits for no approval, or its review carries nothing any more.
            ConflictError: it is at another version.
        """
        with self._acting(Act.APPROVE, release_id, actor, expected_version) as (turn, seen):
            _insist_on_review(seen, review_id)
            under = foundation(turn.act.connection, seen)
            ground, decisions = ground_of(seen, under), tuple(map(approval_of, under.approvals))
            registrar = registrar_in(under, self._ownership.people(turn.app))
            insist_person(seen, rule.objection_to_person(turn.person, turn.doer.known_as, requester=seen.requested_by, registrar=registrar))
            insist(seen, rule.objection_to_approving(State(seen.state), decisions, ground, now=turn.now))
            expires_at = turn.now + APPROVAL_HOLDS
            done = turn.apply(Act.APPROVE, seen, detail={"binds": ground.binds.as_json(), "expires_at": utc_text(expires_at)})
            turn.decide(done, is_approved=True, binds=ground.binds, expires_at=expires_at)
        return self._told(done)

    def reject(
        self,
        release_id: str,
        *,
        reason: str = "",
        review_id: str | None = None,
        expected_version: int | None = None,
        actor: Author | None = None,
    ) -> Release:
        """The release ended, because somebody who may approve it says no.

        Raises:
            NotPermitted: the actor has not the role.
            ReleaseRefused: it waits for no approval, or stands on another review than the actor looked at.
            ConflictError: it is at another version.
        """
        words = self._words(reason) if reason else ""
        with self._acting(Act.REJECT, release_id, actor, expected_version) as (turn, seen):
            _insist_on_review(seen, review_id)
            note = f"rejected by {turn.person}{f': {words}' if words else ''}"
            done = turn.apply(Act.REJECT, seen, note=note, detail={"reason": words})
            binds = ground_of(seen, foundation(turn.act.connection, seen)).binds
            turn.decide(done, is_approved=False, binds=binds, expires_at=turn.now)
        return self._told(done)

    def promote(self, release_id: str, *, early: str = "", expected_version: int | None = None, actor: Author | None = None) -> Release:
        """The release one step further: into its canary, to a greater share, or into service.

        Args:
            release_id: its id.
            early: why the step's time and units are not waited for; empty waits for them.
            expected_version: the version of the release that the actor looked at.
            actor: who promotes.

        Raises:
            ReleaseRefused: no valid approval, declarations changed or a newer review says no, too early, frozen, locked, or in a state
                from which nothing is promoted.
            NotPermitted: the actor has not the role.
            ConflictError: it is at another version.
            IntegrityError: the candidate's stored parts are gone or altered.
        """
        words = self._words(early) if early else ""
        looked = self._stored(release_id)
        units = self._units_or_none(looked)
        if looked.bundle_id is not None:
            self._versions.files(looked.bundle_id)
        version = looked.version if expected_version is None else expected_version
        with self._acting(Act.PROMOTE, looked.release_id, actor, version) as (turn, seen):
            self._insist_on_release(turn, f"release {seen.release_id}")
            _insist_on_ground(turn, seen)
            waits = waits_of(release_of(seen, {}), now=turn.now, units=units)
            if waits and not words:
                raise refusal(seen, Objection(reason="not_yet", seen="; ".join(waits), next_step="wait, or promote it early and say why"))
            turn.require_route_as_left(seen)
            skipped: dict[str, JSON] = {"early": words, "not_waited_for": list(waits)} if words else {}
            done = turn.apply(Act.PROMOTE, seen, detail={**skipped, "units": units})
        return self._told(done)

    def hold(self, release_id: str, *, reason: str, expected_version: int | None = None, actor: Author | None = None) -> Release:
        """The canary held: the candidate keeps its share, and the release goes no further until it is resumed.

        Raises:
            ReleaseRefused: it is in no canary.
            NotPermitted: the actor is neither on call nor has a role.
            ConflictError: it is at another version.
        """
        words = self._words(reason)
        with self._acting(Act.HOLD, release_id, actor, expected_version) as (turn, seen):
            done = turn.apply(Act.HOLD, seen, note=f"held by {turn.person}: {words}", detail={"reason": words})
        return self._told(done)

    def resume(self, release_id: str, *, expected_version: int | None = None, actor: Author | None = None) -> Release:
        """The held canary going on at its share. The time that it was held counts for its step.

        Raises:
            ReleaseRefused: it is not held, or somebody else holds the lock.
            NotPermitted: the actor has not the role.
            ConflictError: it is at another version.
        """
        with self._acting(Act.RESUME, release_id, actor, expected_version) as (turn, seen):
            insist(seen, objection_to_lock(turn.person, _locks(turn.act.connection, turn.app)))
            done = turn.apply(Act.RESUME, seen, detail={})
        return self._told(done)

    def abort(self, release_id: str, *, reason: str, expected_version: int | None = None, actor: Author | None = None) -> Release:
        """The release given up. A candidate that serves is taken back; its bundle does not count as rolled back.

        Raises:
            ReleaseRefused: it has ended already.
            NotPermitted: the actor has not the role.
            ConflictError: it is at another version.
        """
        words = self._words(reason)
        with self._acting(Act.ABORT, release_id, actor, expected_version) as (turn, seen):
            done = turn.apply(Act.ABORT, seen, note=f"aborted by {turn.person}: {words}", detail={"reason": words})
        return self._told(done)

    def rollback(
        self,
        app: str,
        *,
        to: str | None = None,
        reason: str,
        dry_run: bool = False,
        expected_route_version: int | None = None,
        actor: Author | None = None,
    ) -> Release:
        """The app back on the bundle that served before, at once. It touches the ledger only; no lock, freeze or wait stops it.

        In a canary the candidate is taken back, and its release is ROLLED_BACK. After a promotion it is a release of its own, of the kind
        `rollback`, to the last good bundle, or where the plan says so to the app's fallback or to nothing. A release that is not in its
        canary yet is aborted with it.

        Args:
            app: the application.
            to: `last-good`, `fallback`, `off`, or a bundle that was promoted before; by default what the plan says.
            reason: why.
            dry_run: whether to say only what would happen.
            expected_route_version: the version of the route that the actor looked at.
            actor: who rolls back.

        Raises:
            ReleaseRefused: nothing serves, the latest change was taken back already, or there is nothing to restore.
            NotPermitted: the actor is neither on call nor has a role, or chose a target on call alone.
            ConflictError: the route is at another version.
        """
        words = self._words(reason)
        done: tuple[Done, ...] = ()
        with self._permitted(Act.ROLLBACK, app, actor) as doer:
            wanted, whole = self._target_reference(app, to), _Whole(self._versions)
            with self._ledger.read() as connection:
                looked = _target(connection, app, wanted, whole)  # reads the bundles' parts now, not while the ledger is locked
            self._require_choice(doer, looked)
            with suppress(_OnlyTried), self._ledger.write() as act:
                expect_route(stored_route(act.connection, app), app, expected_route_version)
                target = _target(act.connection, app, wanted, whole)
                if target != looked:
                    self._require_choice(doer, target)
                if isinstance(target, Objection):
                    raise refusal(f"rollback of {app}", target)
                done = self._turn(act, doer).roll_back(target, reason=words)
                if dry_run:
                    raise _OnlyTried
        if dry_run:
            return self._release(done[-1].row)
        return [self._told(each) for each in done][-1]

    def lock(self, app: str, reason: str, *, steal: bool = False, actor: Author | None = None) -> Lock:
        """The app's releases in one person's hand: until it is unlocked only the actor starts, resumes and promotes.

        Args:
            app: the application.
            reason: why; everybody who is stopped reads it.
            steal: whether to take the lock over from somebody else, which the audit shows.
            actor: who takes it.

        Raises:
            ReleaseRefused: somebody else holds it, and it is not taken over.
            NotPermitted: the actor has not the role.
        """
        words = self._words(reason)
        with self._permitted("release.lock", app, actor) as doer, self._ledger.write() as act:
            return self._turn(act, doer).put_lock(LockKind.LOCK, reason=words, steal=steal)

    def freeze(self, app: str, reason: str, *, actor: Author | None = None) -> Lock:
        """The app's releases stopped for everybody, until they are unfrozen. Holding, aborting and rolling back stay possible.

        Raises:
            NotPermitted: the actor has not the role.
        """
        words = self._words(reason)
        with self._permitted("release.freeze", app, actor) as doer, self._ledger.write() as act:
            return self._turn(act, doer).put_lock(LockKind.FREEZE, reason=words, steal=True)

    def unlock(self, app: str, reason: str = "", *, steal: bool = False, actor: Author | None = None) -> None:
        """The lock taken away.

        Args:
            app: the application.
            reason: why; needed to take away somebody else's.
            steal: whether to take away somebody else's, which the audit shows.
            actor: who takes it away.

        Raises:
            ReleaseRefused: somebody else holds it, or nobody does.
            NotPermitted: the actor has not the role.
        """
        words = self._words(reason) if reason else ""
        with self._permitted("release.unlock", app, actor) as doer, self._ledger.write() as act:
            self._turn(act, doer).take_lock_away(LockKind.LOCK, reason=words, steal=steal)

    def unfreeze(self, app: str, reason: str = "", *, actor: Author | None = None) -> None:
        """The freeze by hand taken away. Days on which the plan freezes stay frozen.

        Raises:
            ReleaseRefused: nobody froze it.
            NotPermitted: the actor has not the role.
        """
        words = self._words(reason) if reason else ""
        with self._permitted("release.unfreeze", app, actor) as doer, self._ledger.write() as act:
            self._turn(act, doer).take_lock_away(LockKind.FREEZE, reason=words, steal=True)

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

    def status(self, app: str) -> ReleaseStatus:
        """What serves the app now, the release under way or else the newest, and what happens next."""
        now = self._clock()
        with self._ledger.read() as connection:
            route, history, locks = stored_route(connection, app), releases_of(connection, app), _locks(connection, app)
            plan = plan_of(app, content_of(connection, app, "plan"))
            row = history[-1] if history else None
            under = foundation(connection, row) if row else None
        release = self._release(row) if row else None
        decisions = tuple(map(approval_of, under.approvals)) if under else ()
        objection = _objection_to_going_on(row, under, now=now) if row and under else None
        waits_for_approval = row is not None and row.state in (State.READY, State.APPROVED)
        may_approve = self._may_approve(row, under) if row and under and waits_for_approval else ()
        stable = route.stable if route else None
        units = self._units_or_none(row) if row else None
        waits = waits_of(release, now=now, units=units) if release else ()
        frozen = freeze_now(locks, plan, now=now)
        good = last_good(history, stable=stable, is_whole=_Whole(self._versions))
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
        )

    def _require_choice(self, doer: Doer, target: Target | Objection) -> None:
        """Return when the target is what the rules alone restore, or whoever acts may choose one."""
        if isinstance(target, Target) and target.is_chosen:
            self._ownership.require(doer.author, "rollback.to", doer.app)

    def _settled(self, draft: StoredRelease, review: Review, doer: Doer) -> Release:
        """The draft READY, or ABORTED where its gates did not let it through."""
        with self._ledger.write() as act:
            turn = self._turn(act, doer)
            seen = _found(act.connection, draft.release_id)
            if seen.state != State.DRAFT:  # settled by another process that took the same draft up, or aborted by somebody
                return self._release(seen)
            stops = why_stopped(review, newest_declarations(act.connection, app=doer.app), plan_digest=seen.plan_digest)
            detail: dict[str, JSON] = {"review": review.review_id, "verdict": str(review.verdict)}
            values = {"review_id": review.review_id}
            if stops:
                done = turn.apply(Act.STOP, seen, note=stops, values=values, detail={**detail, "reason": stops})
            else:
                done = turn.apply(Act.READY, seen, values=values, detail=detail)
        return self._told(done)

    @contextmanager
    def _given_up_when_broken(self, draft: StoredRelease, doer: Doer) -> Iterator[None]:
        """Ends the draft when its review could not be made, so that it does not stand in the way of the next.

        One that another process took up meanwhile is left to that one.
        """
        try:
            yield
        except BaseException as error:
            words = str(error) if isinstance(error, WorkbenchError) else type(error).__name__
            with suppress(WorkbenchError), self._ledger.write() as act:
                seen = _found(act.connection, draft.release_id)
                expect(seen, draft.version)
                note = f"its review could not be made: {words}"
                self._turn(act, doer).apply(Act.STOP, seen, note=note, detail={"reason": note})
            raise

    @contextmanager
    def _acting(
        self, act: Act, release_id: str, actor: Author | None, expected_version: int | None
    ) -> Iterator[tuple[Turn, StoredRelease]]:
        """The turn and the release, when the actor may do the act, and it is at the expected version and in a state for it."""
        looked = self._stored(release_id)
        with self._permitted(act, looked.app, actor, subject=looked.release_id) as doer, self._ledger.write() as transaction:
            seen = _found(transaction.connection, looked.release_id)
            expect(seen, expected_version)
            insist(seen, objection_to_state(act, seen))
            yield self._turn(transaction, doer), seen

    def _turn(self, act: WriteTransaction, doer: Doer) -> Turn:
        return Turn(act=act, doer=doer, now=self._clock(), token=self._token)

    def _words(self, reason: str) -> str:
        """The reason, when it says something, as it is stored.

        Raises:
            UsageError: it is empty or too long.
        """
        words = " ".join(reason.split())
        if not 0 < len(words) <= MOST_WORDS:
            seen = "it is empty" if not words else f"it has {len(words):,} characters"
            raise UsageError("reason", seen=seen, needed=f"why, in up to {MOST_WORDS:,} characters")
        return self._clean(words)

    @contextmanager
    def _permitted(self, act: str, app: str, actor: Author | None, *, subject: str | None = None) -> Iterator[Doer]:
        """Whoever acts, when they may. What the rules refuse in the block to somebody whom the app knows leaves an entry, and goes on.

        Permission is asked before the block's transaction, whose lock others wait for. What an approval stands on, people.yaml
        included, is checked once more inside it.
        """
        author, people = self._ownership.actor(actor or self._author), self._ownership.people(app)
        person = self._ownership.person_in(app, author)
        try:
            self._ownership.require(author, act, app)
            yield Doer(author=author, person=person, known_as=names_of(person, people), app=app)
        except (NotPermitted, ReleaseRefused) as error:
            if people is not None and person in people.people:
                reason = error.reason if isinstance(error, ReleaseRefused) else "not_permitted"
                detail: dict[str, JSON] = {"act": str(act), "reason": reason, "seen": error.seen}
                with suppress(StoreError), self._ledger.write() as transaction:  # a refusal stands, whether or not it can be written down
                    transaction.audit(author, REFUSED, app=app, subject=subject or app, detail=detail)
            raise

    def _insist_on_release(self, turn: Turn, subject: str) -> None:
        """Return when neither a lock nor a freeze keeps the actor from releasing now."""
        connection = turn.act.connection
        plan = plan_of(turn.app, content_of(connection, turn.app, "plan"))
        insist(subject, objection_to_release(turn.person, _locks(connection, turn.app), plan, now=turn.now))

    def _may_approve(self, row: StoredRelease, under: Foundation) -> tuple[str, ...]:
        people = self._ownership.people(row.app)
        registrar = registrar_in(under, people)
        return tuple(
            person
            for person in self._ownership.holders(Act.APPROVE, row.app)
            if rule.objection_to_person(person, names_of(person, people), requester=row.requested_by, registrar=registrar) is None
        )

    def _bundle(self, app: str, bundle: Bundle | str | None) -> Bundle:
        if bundle is None:
            return self._versions.latest(app)
        return self._versions.get(bundle.bundle_id if isinstance(bundle, Bundle) else bundle, app=app)

    def _target_reference(self, app: str, to: str | None) -> str | None:
        """A target's word, or the id of the bundle that is meant."""
        return to if to in (None, LAST_GOOD, FALLBACK, OFF) else self._versions.get(to, app=app).bundle_id

    def _stored(self, release_id: str) -> StoredRelease:
        with self._ledger.read() as connection:
            return _found(connection, release_id)

    def _units_or_none(self, row: StoredRelease) -> int | None:
        """The units that its candidate has served; None where that is unknown or there is no canary."""
        if row.state not in SERVING:
            return None
        try:
            return self._units(row.app, row.release_id)
        except StoreError as error:
            log.warning("the units of release %s cannot be counted: %s", row.release_id, error)
            return None

    def _release(self, row: StoredRelease) -> Release:
        return release_of(row, self._names_of(row.bundle_id, row.previous_stable))

    def _names_of(self, *bundle_ids: str | None) -> dict[str, str]:
        """Bundle id to name; a bundle's content is its id, so a name that was read once stays true."""
        for bundle_id in bundle_ids:
            if bundle_id is not None and bundle_id not in self._names:
                with suppress(UnknownSubject):
                    self._names[bundle_id] = self._versions.get(bundle_id).name
        return {bundle_id: self._names[bundle_id] for bundle_id in bundle_ids if bundle_id in self._names}

    def _told(self, done: Done) -> Release:
        """The release, after every listener was told of the change."""
        release = self._release(done.row)
        for listener in self._listeners:
            try:
                listener.on_transition(release, done.entry)
            except Exception:  # the change is committed: what a listener cannot do must not look as if it had failed
                log.exception("a listener failed after %s of release %s", done.entry.act, release.release_id)
        return release


class _OnlyTried(Exception):
    """Undoes a transaction that was only tried."""


class _Whole:
    """Whether a bundle's stored parts resolve; each is read once."""

    def __init__(self, versions: Versions) -> None:
        self._versions = versions
        self._seen: dict[str, bool] = {}

    def __call__(self, bundle_id: str) -> bool:
        if bundle_id not in self._seen:
            self._seen[bundle_id] = self._resolves(bundle_id)
        return self._seen[bundle_id]

    def _resolves(self, bundle_id: str) -> bool:
        try:
            self._versions.files(bundle_id)
        except (IntegrityError, UnknownSubject):
            return False
        return True


def _found(connection: Connection, release_id: str) -> StoredRelease:
    row = stored_release(connection, release_id) or open_release(connection, release_id)
    if row is None:
        raise UnknownSubject(
            f"release {release_id}",
            seen="no release has this id, and no app of this name has an open one",
            next_step="list them: `workbench release history APP`",
        )
    return row


def _locks(connection: Connection, app: str) -> tuple[Lock, ...]:
    return tuple(lock_from(row) for row in locks_of(connection, app))


def _check_baseline(app: str, baseline: str | None, route: StoredRoute | None) -> None:
    """Return when the review compares with what is in service: whoever releases does not choose what it is measured by."""
    if baseline is not None and route is not None and route.stable not in (None, baseline):
        raise UsageError(f"baseline {baseline}", seen=f"{route.stable} serves {app}", needed="no other baseline than what serves")


def _insist_on_review(seen: StoredRelease, review_id: str | None) -> None:
    """Return when the actor looked at the review that the release stands on; None is any."""
    if review_id is not None and review_id != seen.review_id:
        words = f"it stands on another review than {review_id}"
        raise refusal(seen, Objection(reason="superseded", seen=words, needed=f"a look at {seen.review_id}"))


def _insist_on_ground(turn: Turn, seen: StoredRelease) -> None:
    """Return when what was reviewed and approved lets the release into its canary, or further in it."""
    insist(seen, _objection_to_going_on(seen, foundation(turn.act.connection, seen), now=turn.now))


def _objection_to_going_on(row: StoredRelease, under: Foundation, *, now: datetime) -> Objection | None:
    """Why what the open release stands on does not let it go on; None when it does, or nothing is to be asked."""
    if row.state in (State.READY, State.APPROVED):
        return rule.objection_to_canary(tuple(map(approval_of, under.approvals)), ground_of(row, under), now=now)
    return rule.objection_to_going_on(ground_of(row, under)) if row.state in SERVING else None


def _target(connection: Connection, app: str, to: str | None, is_whole: _Whole) -> Target | Objection:
    route, plan = stored_route(connection, app), content_of(connection, app, "plan")
    history = releases_of(connection, app)
    return target_of(history, stable=route.stable if route else None, to=to, planned=planned_target(plan), is_whole=is_whole)
