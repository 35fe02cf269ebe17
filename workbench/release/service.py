"""The verbs of release: approve, promote by steps, hold, abort, roll back; with those of starting, looking, locking and drilling.

Each verb is one transaction: the release, the route, and the audit entry change together or not at all. What a verb was decided on is
checked inside it: who may act, the version, the approval and what it is bound to.
"""

from __future__ import annotations

from contextlib import suppress

from sqlalchemy import Connection

from workbench.ledger.authority import Author
from workbench.ledger.canonical import JSON
from workbench.ledger.registry import content_of
from workbench.ledger.releases import StoredRelease, foundation, locks_of, releases_of
from workbench.ledger.routes import stored_route
from workbench.ledger.types import utc_text
from workbench.release import approvals as rule
from workbench.release.approvals import APPROVAL_HOLDS
from workbench.release.breaking import Breaking
from workbench.release.drilling import Drilling
from workbench.release.freezes import objection_to_lock
from workbench.release.locking import Locking
from workbench.release.looking import Looking, objection_to_going_on
from workbench.release.model import Objection, Release, State
from workbench.release.records import approval_of, ground_of, locks_from, registrar_in, release_of
from workbench.release.starting import Starting
from workbench.release.states import Act
from workbench.release.targets import FALLBACK, LAST_GOOD, OFF, Target, target_of
from workbench.release.turn import Doer, Done, Turn, expect_route, insist, insist_on_review, insist_person, planned_target, refusal
from workbench.release.waits import waits_of
from workbench.release.whole import Whole


class Releases(Starting, Looking, Locking, Breaking, Drilling):
    """How does it go? Every verb takes the actor, asks who may, and leaves its audit entry; a refusal leaves one too.

    A release is named by its id, or by its app where it is the app's open one.
    """

    def approve(
        self, release_id: str, *, review_id: str | None = None, expected_version: int | None = None, actor: Author | None = None
    ) -> Release:
        """The release approved by a second person, for `APPROVAL_HOLDS`. Where none is to be had, there is `break_glass`.

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
            insist_on_review(seen, review_id)
            under = foundation(turn.act.connection, seen)
            ground, decisions = ground_of(seen, under), tuple(map(approval_of, under.approvals))
            registrar = registrar_in(under, self._ownership.people(turn.app))
            insist_person(seen, rule.objection_to_person(turn.person, turn.doer.known_as, requester=seen.requested_by, registrar=registrar))
            insist(seen, rule.objection_to_approving(State(seen.state), decisions, ground, now=turn.now))
            expires_at = turn.now + APPROVAL_HOLDS
            done = turn.apply(Act.APPROVE, seen, detail={"binds": ground.binds.as_json(), "expires_at": utc_text(expires_at)})
            turn.decide(done, "approve", binds=ground.binds, expires_at=expires_at)
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
            insist_on_review(seen, review_id)
            note = f"rejected by {turn.person}{f': {words}' if words else ''}"
            done = turn.apply(Act.REJECT, seen, note=note, detail={"reason": words})
            binds = ground_of(seen, foundation(turn.act.connection, seen)).binds
            turn.decide(done, "reject", binds=binds, expires_at=turn.now)
        return self._told(done)

    def promote(
        self,
        release_id: str,
        *,
        early: str = "",
        decision_id: str = "",
        expected_version: int | None = None,
        actor: Author | None = None,
    ) -> Release:
        """The release one step further: into its canary, to a greater share, or into service.

        Args:
            release_id: its id.
            early: why the step's time and units are not waited for; empty waits for them.
            decision_id: the controller's decision that it follows; empty where a person decides.
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
            followed: dict[str, JSON] = {"decision": decision_id} if decision_id else {}
            done = turn.apply(Act.PROMOTE, seen, detail={**skipped, **followed, "units": units})
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
            insist(seen, objection_to_lock(turn.person, locks_from(locks_of(turn.act.connection, turn.app))))
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
            wanted, whole = self._target_reference(app, to), Whole(self._versions)
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

    def _require_choice(self, doer: Doer, target: Target | Objection) -> None:
        """Return when the target is what the rules alone restore, or whoever acts may choose one."""
        if isinstance(target, Target) and target.is_chosen:
            self._ownership.require(doer.author, "rollback.to", doer.app)

    def _target_reference(self, app: str, to: str | None) -> str | None:
        """A target's word, or the id of the bundle that is meant."""
        return to if to in (None, LAST_GOOD, FALLBACK, OFF) else self._versions.get(to, app=app).bundle_id


class _OnlyTried(Exception):
    """Undoes a transaction that was only tried."""


def _insist_on_ground(turn: Turn, seen: StoredRelease) -> None:
    """Return when what was reviewed and approved lets the release into its canary, or further in it."""
    insist(seen, objection_to_going_on(seen, foundation(turn.act.connection, seen), now=turn.now))


def _target(connection: Connection, app: str, to: str | None, is_whole: Whole) -> Target | Objection:
    route, plan = stored_route(connection, app), content_of(connection, app, "plan")
    history = releases_of(connection, app)
    return target_of(history, stable=route.stable if route else None, to=to, planned=planned_target(plan), is_whole=is_whole)
