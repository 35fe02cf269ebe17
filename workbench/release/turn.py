"""One act in its transaction: the release, the route and the audit entry change together. `service.py` decides what is done."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Literal

from workbench.errors import ConflictError, IntegrityError, NotPermitted, ReleaseRefused, UsageError
from workbench.ledger.audit import AuditEntry
from workbench.ledger.authority import Author
from workbench.ledger.canonical import JSON
from workbench.ledger.registry import content_of, newest_declarations
from workbench.ledger.releases import (
    StoredApproval,
    StoredLock,
    StoredRelease,
    add_approval,
    add_release,
    change_release,
    locks_of,
    open_release,
    put_lock,
    releases_of,
    remove_lock,
)
from workbench.ledger.routes import StoredRoute, add_route, change_route, stored_route
from workbench.ledger.store import WriteTransaction
from workbench.release.freezes import objection_to_lock
from workbench.release.model import ENDED, SERVING, Binding, Kind, Lock, LockKind, Objection, State
from workbench.release.records import lock_from, plan_of
from workbench.release.states import FROM, Act, Position, Serving, after, serving
from workbench.release.targets import FALLBACK, OFF, PLANNED_LAST_GOOD, Target
from workbench.versions.declarations import NOTHING

Decided = Literal["approve", "reject", "break_glass"]
DRILL = "release.drill"
REVIEWED = "release.reviewed"
"""The act that reviews what was let go alone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """What an act left: the release as it is now, and the act's entry."""

    row: StoredRelease
    entry: AuditEntry


@dataclass(frozen=True, slots=True, kw_only=True)
class Doer:
    """Who acts on which app, looked up once for the whole act."""

    author: Author
    person: str
    """How the app's own people.yaml names them."""
    known_as: frozenset[str]
    """Every name under which the record may hold them."""
    app: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """Who acts when, and the transaction that they act in."""

    act: WriteTransaction
    doer: Doer
    now: datetime
    token: Callable[[int], str]
    """Random hex digits of so many bytes."""

    @property
    def app(self) -> str:
        return self.doer.app

    @property
    def person(self) -> str:
        return self.doer.person

    def unfinished(self, bundle_id: str) -> StoredRelease | None:
        """The draft of the same bundle by the same person, whose review was never finished; None where there is none."""
        known = open_release(self.act.connection, self.app)
        is_it = known is not None and (known.state, known.bundle_id, known.requested_by) == (State.DRAFT, bundle_id, self.person)
        return known if is_it else None

    def draft(self, bundle_id: str, *, reason: str) -> Done:
        """A new release of the bundle, waiting for its review.

        Raises:
            ConflictError: another one is open.
            ReleaseRefused: the bundle serves already.
        """
        self._require_none_open()
        route = stored_route(self.act.connection, self.app)
        if route is not None and route.stable == bundle_id:
            seen = f"{bundle_id} is in service"
            raise refusal(f"release of {self.app}", Objection(reason="serves_already", seen=seen, needed="another bundle"))
        rows = newest_declarations(self.act.connection, app=self.app, kind="plan")
        plan_digest = rows[0].digest if rows else NOTHING
        plan = self._stepped(rows[0].content) if rows else {}
        row = self._new(Kind.RELEASE, State.DRAFT, bundle_id, reason=reason, plan=plan, plan_digest=plan_digest, salt=self.token(16))
        add_release(self.act, row)
        return Done(row=row, entry=self._audit("release.start", row, before=None, route=route, detail={"reason": reason}))

    def _stepped(self, content: Mapping[str, Any] | None) -> Mapping[str, Any]:
        """The plan with its steps, which are those of the risk tier where it names none."""
        plan = plan_of(self.app, content) if content is not None else None
        if plan is None:
            return content or {}
        tier = content_of(self.act.connection, self.app, "app").get("risk_tier")
        return plan.stepped(tier).model_dump(mode="json", exclude_defaults=True)

    def take_up(self, draft: StoredRelease, *, reason: str) -> Done | StoredRelease:
        """The unfinished draft at another version: whoever made it does not give it up any more.

        The same start made again, after a kill or by a delivery that is repeated, is no act of its own; one for another reason is.
        """
        change_release(self.act, draft, {"reason": reason})
        row, route = replace(draft, reason=reason, version=draft.version + 1), stored_route(self.act.connection, self.app)
        if reason == draft.reason:
            return row
        return Done(row=row, entry=self._audit("release.start", row, before=draft, route=route, detail={"reason": reason}))

    def adopt(self, bundle_id: str, *, reason: str) -> Done:
        """The bundle as the app's first stable one.

        Raises:
            ConflictError: the workbench knows already who serves the app, or a release is open.
        """
        route = stored_route(self.act.connection, self.app)
        if route is not None:
            raise ConflictError(
                f"app {self.app}", seen=f"{route.stable or 'no bundle'} serves it since an earlier release", next_step="start a release"
            )
        self._require_none_open()
        row = self._new(Kind.ADOPT, State.PROMOTED, bundle_id, reason=reason)
        add_release(self.act, row)
        return Done(row=row, entry=self._audit("release.adopt", row, before=None, route=self._serve(row), detail={"reason": reason}))

    def apply(
        self, act: Act, seen: StoredRelease, *, note: str = "", values: Mapping[str, Any] | None = None, detail: Mapping[str, JSON]
    ) -> Done:
        """The release where the act leads, with its route.

        Raises:
            ReleaseRefused: it is in a state from which the act does not lead anywhere.
            ConflictError: somebody else changed it since it was seen.
        """
        insist(seen, objection_to_state(act, seen))
        position = after(act, position_of(seen), n_steps=len(_shares(seen)), has_shadow=_shadow_share(seen) > 0)
        is_new_stage = position.step != seen.step or (act is Act.PROMOTE and position.state is State.CANARY)
        changes = {
            **(values or {}),
            "state": str(position.state),
            "step": position.step,
            "step_since": self.now if is_new_stage else seen.step_since,
            "note": note,
            "ended_at": self.now if position.state in ENDED else None,
        }
        change_release(self.act, seen, changes)
        row = replace(seen, **changes, version=seen.version + 1)
        changes_route = _serving(row) != _serving(seen)
        route = self._serve(row) if changes_route else stored_route(self.act.connection, self.app)
        return Done(row=row, entry=self._audit(act, row, before=seen, route=route, detail=detail))

    def roll_back(self, target: Target, *, reason: str) -> tuple[Done, ...]:
        """The open release ended, and what the target names in service; the last one is what the rollback is about."""
        done = []
        note = f"rolled back by {self.person}: {reason}"
        seen = open_release(self.act.connection, self.app)
        if seen is not None:
            act = Act.ROLLBACK if seen.state in SERVING else Act.ABORT
            words = note if act is Act.ROLLBACK else f"aborted, because the app was {note}"
            done.append(self.apply(act, seen, note=words, detail={"reason": reason}))
        if target.is_swap:
            row = self._new(Kind.ROLLBACK, State.PROMOTED, target.bundle_id, reason=reason)
            add_release(self.act, row)
            route = self._serve(row, without_bundle=target.without_bundle)
            done.append(Done(row=row, entry=self._audit(Act.ROLLBACK, row, before=None, route=route, detail={"reason": reason})))
        return tuple(done)

    def rehearse(self, gateways: Sequence[str]) -> StoredRoute:
        """The next version of the route, which serves what this one does: the way of a rollback, without its effect.

        Args:
            gateways: who has to follow it.

        Raises:
            ReleaseRefused: the app has no route yet.
            ConflictError: somebody else changed it.
        """
        route = stored_route(self.act.connection, self.app)
        if route is None:
            seen = "nothing of this app was ever released"
            raise refusal(
                f"rollback drill of {self.app}", Objection(reason="nothing_serves", seen=seen, next_step="release or adopt a bundle")
            )
        change_route(self.act, route, at=self.now, values={"share": route.share})
        detail: dict[str, JSON] = {"route_version": route.version + 1, "stable": route.stable, "gateways": list(gateways)}
        self.act.audit(self.doer.author, DRILL, app=self.app, subject=self.app, detail=detail)
        return replace(route, version=route.version + 1, changed_at=self.now)

    def remark(self, act: str, seen: StoredRelease, *, detail: Mapping[str, JSON]) -> Done:
        """An entry on a release that stays what it is."""
        route = stored_route(self.act.connection, self.app)
        return Done(row=seen, entry=self._audit(act, seen, before=seen, route=route, detail=detail))

    def decide(self, done: Done, decision: Decided, *, binds: Binding, expires_at: datetime) -> None:
        """Keeps the decision beside the act that made it."""
        add_approval(
            self.act,
            StoredApproval(
                seq=done.entry.seq,
                release_id=done.row.release_id,
                person=self.person,
                decision=decision,
                binds=binds.as_json(),
                decided_at=self.now,
                expires_at=expires_at,
            ),
        )

    def put_lock(self, kind: LockKind, *, reason: str, steal: bool) -> Lock:
        """The lock in the hand of whoever acts; the one that is there when they hold it already for the same reason.

        Raises:
            ReleaseRefused: somebody else holds it, and it is not taken over.
        """
        there = self._lock(kind)
        if there is not None and (there.holder, there.reason) == (self.person, reason):
            return there
        if there is not None and not steal:
            insist(f"{kind} of {self.app}", objection_to_lock(self.person, [there]))
        row = StoredLock(app=self.app, kind=str(kind), holder=self.person, reason=reason, since=self.now)
        put_lock(self.act, row)
        detail: dict[str, JSON] = {"reason": reason, "holder": self.person, "taken_from": there.holder if there else None}
        self.act.audit(self.doer.author, f"release.{kind}", app=self.app, subject=self.app, detail=detail)
        return lock_from(row)

    def take_lock_away(self, kind: LockKind, *, reason: str, steal: bool) -> None:
        """The lock gone.

        Raises:
            ReleaseRefused: there is none, or somebody else holds it and it is not to be taken from them.
            UsageError: it is somebody else's, and no reason is given.
        """
        there, subject = self._lock(kind), f"{kind} of {self.app}"
        if there is None:
            raise refusal(subject, Objection(reason="not_locked", seen="there is none"))
        if not steal:
            insist(subject, objection_to_lock(self.person, [there]))
        if there.holder != self.person and not reason:
            raise UsageError(subject, seen=f"it is {there.holder}'s, and no reason is given", needed="why, in a few words")
        remove_lock(self.act, self.app, kind)
        detail: dict[str, JSON] = {"reason": reason, "taken_from": there.holder}
        self.act.audit(self.doer.author, f"release.un{kind}", app=self.app, subject=self.app, detail=detail)

    def _lock(self, kind: LockKind) -> Lock | None:
        return next((lock_from(row) for row in locks_of(self.act.connection, self.app) if row.kind == kind), None)

    def require_route_as_left(self, seen: StoredRelease) -> None:
        """Return when the route says what the release left there.

        Raises:
            IntegrityError: otherwise; nothing but releases changes routes.
        """
        found = objection_to_route(seen, stored_route(self.act.connection, self.app))
        if found is not None:
            raise IntegrityError(f"route of {self.app}", seen=found.seen, needed=found.needed, next_step=found.next_step)

    def _new(
        self,
        kind: Kind,
        state: State,
        bundle_id: str | None,
        *,
        reason: str,
        plan: Mapping[str, Any] | None = None,
        plan_digest: str = NOTHING,
        salt: str = "",
    ) -> StoredRelease:
        route = stored_route(self.act.connection, self.app)
        history = releases_of(self.act.connection, self.app)
        return StoredRelease(
            release_id=f"{self.app}.{history[-1].number + 1 if history else 1}",
            app=self.app,
            kind=str(kind),
            state=str(state),
            step=None,
            bundle_id=bundle_id,
            previous_stable=route.stable if route else None,
            plan=plan or {},
            plan_digest=plan_digest,
            review_id=None,
            salt=salt,
            reason=reason,
            requested_by=self.person,
            requested_at=self.now,
            step_since=None,
            note="",
            ended_at=self.now if state in ENDED else None,
            version=1,
        )

    def _require_none_open(self) -> None:
        known = open_release(self.act.connection, self.app)
        if known is not None:
            raise ConflictError(
                f"release of {self.app}",
                seen=f"{known.release_id} of {known.bundle_id} is {known.state}; {known.requested_by} asked for it",
                needed="one release of an app at a time",
                next_step=f"finish it or abort it: {known.release_id}",
            )

    def _serve(self, row: StoredRelease, *, without_bundle: str | None = None) -> StoredRoute:
        """The route, changed to what the release wants."""
        route, wanted = stored_route(self.act.connection, self.app), _serving(row)
        values: dict[str, Any] = {
            "stable": wanted.stable,
            "candidate": wanted.candidate,
            "share": wanted.share,
            "release_id": wanted.release_id,
            "shadow": wanted.shadow,
            "shadow_share": wanted.shadow_share,
            "retiring": wanted.retiring,
            "drains": _drains(row.plan or content_of(self.act.connection, self.app, "plan")),
            "salt": row.salt if wanted.release_id or route is None else route.salt,
            "without_stable": without_bundle or self._without_bundle(route, wanted),
        }
        if route is None:
            route = StoredRoute(app=self.app, version=1, changed_at=self.now, **values)
            add_route(self.act, route)
            return route
        change_route(self.act, route, at=self.now, values=values)
        return replace(route, **values, version=route.version + 1, changed_at=self.now)

    def _without_bundle(self, route: StoredRoute | None, wanted: Serving) -> str:
        """What units get that no bundle serves: the declared fallback, unless there is none or the plan switches off.

        While no bundle is in service it stays what it is: whoever switched an app off did not mean until the next canary.
        """
        if route is not None and route.stable is None and wanted.stable is None:
            return route.without_stable
        kind = (content_of(self.act.connection, self.app, "app").get("fallback") or {}).get("kind", OFF)
        return OFF if kind == OFF or planned_target(content_of(self.act.connection, self.app, "plan")) == OFF else FALLBACK

    def _audit(
        self, act: str, row: StoredRelease, *, before: StoredRelease | None, route: StoredRoute | None, detail: Mapping[str, JSON]
    ) -> AuditEntry:
        known: dict[str, JSON] = {
            "bundle": row.bundle_id,
            "from": before.state if before else None,
            "to": row.state,
            "step": row.step,
            "version": row.version,
            "stable": route.stable if route else None,
            "share": route.share if route else 0,
            "route_version": route.version if route else None,
        }
        author = self.doer.author
        named = {} if self.person == author.person else {"person": self.person}
        return self.act.audit(author, act, app=self.app, subject=row.release_id, detail={**known, **named, **detail})


def position_of(row: StoredRelease) -> Position:
    """Where the release stands."""
    return Position(state=State(row.state), step=row.step)


def planned_target(plan: Mapping[str, Any]) -> str:
    """What a rollback restores by a plan as stored: `last_good`, `fallback` or `off`."""
    return str((plan.get("rollback") or {}).get("target", PLANNED_LAST_GOOD))


def insist(subject: StoredRelease | str, objection: Objection | None) -> None:
    """Return when there is no objection.

    Raises:
        ReleaseRefused: otherwise.
    """
    if objection is not None:
        raise refusal(subject, objection)


def insist_person(subject: StoredRelease | str, objection: Objection | None) -> None:
    """Return when there is no objection to the person.

    Raises:
        NotPermitted: otherwise.
    """
    if objection is not None:
        raise NotPermitted(_subject(subject), seen=objection.seen, needed=objection.needed, next_step=objection.next_step)


def refusal(subject: StoredRelease | str, objection: Objection) -> ReleaseRefused:
    """The objection as an error."""
    return ReleaseRefused(
        _subject(subject), reason=objection.reason, seen=objection.seen, needed=objection.needed, next_step=objection.next_step
    )


def insist_on_review(seen: StoredRelease, review_id: str | None) -> None:
    """Return when the actor looked at the review that the release stands on; None is any.

    Raises:
        ReleaseRefused: otherwise.
    """
    if review_id is not None and review_id != seen.review_id:
        words = f"it stands on another review than {review_id}"
        raise refusal(seen, Objection(reason="superseded", seen=words, needed=f"a look at {seen.review_id}"))


def objection_to_state(act: Act, seen: StoredRelease) -> Objection | None:
    """Why the act does not lead anywhere from where the release stands; None when it does."""
    if seen.state in FROM[act]:
        return None
    why = f" ({seen.note})" if seen.note else ""
    states = " or ".join(state for state in State if state in FROM[act])
    return Objection(reason="wrong_state", seen=f"it is {seen.state}{why}", needed=f"{states} for {act}")


def objection_to_route(seen: StoredRelease, route: StoredRoute | None) -> Objection | None:
    """Why the route is not what the release left there; None when it is."""
    says, left = _shape(route), _serving(seen)
    if seen.state not in SERVING:  # talks still end on what served before the promotion before it
        left = replace(left, retiring=says.retiring)
    if says == left:
        return None
    return Objection(
        reason="route_changed",
        seen=f"the route says {_in_words(says)}",
        needed=f"{_in_words(left)}, as release {seen.release_id} left it",
        next_step="roll back, and find out who wrote to the ledger: `workbench audit verify`",
    )


def expect(seen: StoredRelease, version: int | None) -> None:
    """Return when the release is at the version that an act was decided on; None is any.

    Raises:
        ConflictError: otherwise.
    """
    if version is not None and seen.version != version:
        raise ConflictError(
            _subject(seen),
            seen=f"it is {seen.state} at version {seen.version}",
            needed=f"version {version}, which this act was decided on",
            next_step="somebody changed it first: look at it again, then decide again",
        )


def expect_route(route: StoredRoute | None, app: str, version: int | None) -> None:
    """Return when the route is at the version that a rollback was decided on; None is any.

    Raises:
        ConflictError: otherwise.
    """
    if version is not None and (route.version if route else None) != version:
        raise ConflictError(
            f"route of {app}",
            seen=f"it is at version {route.version}" if route else "there is none",
            needed=f"version {version}, which this act was decided on",
            next_step="somebody changed it first: look at it again, then decide again",
        )


def _subject(subject: StoredRelease | str) -> str:
    return subject if isinstance(subject, str) else f"release {subject.release_id}"


def _shares(row: StoredRelease) -> tuple[float, ...]:
    return tuple(step["share"] for step in row.plan.get("steps", ()))


def _shadow_share(row: StoredRelease) -> float:
    """Of the stage before its first step; 0 where it has none, as when there is nothing to compare with."""
    return float((row.plan.get("shadow") or {}).get("share", 0.0)) if row.previous_stable is not None else 0.0


def _drains(plan: Mapping[str, Any]) -> bool:
    """Whether talks end where they began by a plan as stored, of which what is the default may be left out; without a plan they do not."""
    return bool(plan) and plan.get("sessions", "drain") == "drain"


def _serving(row: StoredRelease) -> Serving:
    return serving(
        position_of(row),
        bundle_id=row.bundle_id,
        previous_stable=row.previous_stable,
        shares=_shares(row),
        release_id=row.release_id,
        shadow_share=_shadow_share(row),
        drains=_drains(row.plan),
    )


def _shape(route: StoredRoute | None) -> Serving:
    if route is None:
        return Serving(stable=None)
    return Serving(
        stable=route.stable,
        candidate=route.candidate,
        share=route.share,
        release_id=route.release_id,
        shadow=route.shadow,
        shadow_share=route.shadow_share,
        retiring=route.retiring,
    )


def _in_words(shape: Serving) -> str:
    candidate = f"candidate {shape.candidate} with share {shape.share:g}" if shape.candidate else "no candidate"
    shadow = f", shadow {shape.shadow} with share {shape.shadow_share:g}" if shape.shadow else ""
    retiring = f", {shape.retiring} for talks that began on it" if shape.retiring else ""
    return f"stable {shape.stable or 'nothing'}, {candidate}{shadow}{retiring}"
