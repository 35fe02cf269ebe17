"""How a bundle comes in: as a release with a fresh review, or as what serves already."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress

from workbench.errors import UsageError, WorkbenchError
from workbench.ledger.authority import Author
from workbench.ledger.canonical import JSON
from workbench.ledger.registry import newest_declarations
from workbench.ledger.releases import StoredRelease, foundation, known_release
from workbench.ledger.routes import StoredRoute, stored_route
from workbench.readiness.model import Review
from workbench.release import approvals as rule
from workbench.release.acting import Acting
from workbench.release.model import Release, State
from workbench.release.records import registrar_in
from workbench.release.states import Act
from workbench.release.stopping import why_stopped
from workbench.release.turn import Doer, Done, expect, insist_person
from workbench.versions.model import Bundle

log = logging.getLogger(__name__)

LEFT_OPEN = "left_open"
"""What the plan leaves open, in the audit entry that finds a release ready: who looks at it later reads no log."""


class Starting(Acting):
    """The verbs by which a bundle comes in."""

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
        if isinstance(done, Done):
            self._told(done)
        draft = done.row if isinstance(done, Done) else done
        with self._given_up_when_broken(draft, doer):
            left_open = self._known_open(draft)  # before the review, so that nothing which can break stands between that and READY
            review = self._reviewer().review(app, candidate, baseline=baseline or draft.previous_stable, actor=doer.author)
            return self._settled(draft, review, doer, left_open)

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

    def _settled(self, draft: StoredRelease, review: Review, doer: Doer, left_open: Mapping[str, JSON]) -> Release:
        """The draft READY, or ABORTED where its gates did not let it through."""
        with self._ledger.write() as act:
            turn = self._turn(act, doer)
            seen = known_release(act.connection, draft.release_id)
            if seen.state != State.DRAFT:  # settled by another process that took the same draft up, or aborted by somebody
                return self._release(seen)
            stops = why_stopped(review, newest_declarations(act.connection, app=doer.app), plan_digest=seen.plan_digest)
            detail: dict[str, JSON] = {"review": review.review_id, "verdict": str(review.verdict)}
            values = {"review_id": review.review_id}
            if stops:
                done = turn.apply(Act.STOP, seen, note=stops, values=values, detail={**detail, "reason": stops})
            else:
                done = turn.apply(Act.READY, seen, values=values, detail={**detail, **left_open})
        return self._told(done)

    def _known_open(self, draft: StoredRelease) -> dict[str, JSON]:
        """What its plan leaves open; empty where that is not known now, so that who looks later asks again."""
        if self._before is None:
            return {}
        try:
            return {LEFT_OPEN: list(self._open_before(self._release(draft)))}
        except WorkbenchError as error:
            log.warning("what the plan of release %s leaves open is not known: %s", draft.release_id, error)
            return {}

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
                seen = known_release(act.connection, draft.release_id)
                expect(seen, draft.version)
                note = f"its review could not be made: {words}"
                self._turn(act, doer).apply(Act.STOP, seen, note=note, detail={"reason": note})
            raise

    def _bundle(self, app: str, bundle: Bundle | str | None) -> Bundle:
        if bundle is None:
            return self._versions.latest(app)
        return self._versions.get(bundle.bundle_id if isinstance(bundle, Bundle) else bundle, app=app)


def _check_baseline(app: str, baseline: str | None, route: StoredRoute | None) -> None:
    """Return when the review compares with what is in service: whoever releases does not choose what it is measured by."""
    if baseline is not None and route is not None and route.stable not in (None, baseline):
        raise UsageError(f"baseline {baseline}", seen=f"{route.stable} serves {app}", needed="no other baseline than what serves")
