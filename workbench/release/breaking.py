"""A release that one person lets go alone, because no second one is to be had: who is told of it at once, and how it is reviewed later."""

from __future__ import annotations

from workbench.errors import UsageError
from workbench.ledger.authority import Author
from workbench.ledger.broken_glass import StoredBrokenGlass, add_broken_glass, broken_glass_of, change_broken_glass
from workbench.ledger.releases import foundation, known_release
from workbench.ledger.types import utc_text
from workbench.release import approvals as rule
from workbench.release.acting import Acting
from workbench.release.break_glass import HOLDS, REVIEW_WITHIN, glass_of, objection_to_breaking, objection_to_reviewer
from workbench.release.model import BrokenGlass, Justification, Release, State
from workbench.release.records import approval_of, ground_of, registrar_in
from workbench.release.states import Act
from workbench.release.turn import REVIEWED, insist, insist_on_review, insist_person


class Breaking(Acting):
    """The verbs of the exception."""

    def broken_glass(self, app: str) -> tuple[BrokenGlass, ...]:
        """Every time that somebody let a release of the app go alone, oldest first."""
        with self._ledger.read() as connection:
            return tuple(map(glass_of, broken_glass_of(connection, app)))

    def break_glass(
        self,
        release_id: str,
        *,
        reason: str,
        review_id: str | None = None,
        expected_version: int | None = None,
        actor: Author | None = None,
    ) -> Release:
        """The release approved by one person alone, for `HOLDS`. It owes a review by another one within `REVIEW_WITHIN`.

        Whoever is on call and whoever may approve is named in the audit entry, so that who listens tells them at once.

        Args:
            release_id: its id.
            reason: why it cannot wait.
            review_id: the review that the actor looked at; it must be the one that the release stands on.
            expected_version: the version of the release that the actor looked at.
            actor: who does it.

        Raises:
            NotPermitted: the actor is neither an operator nor on call.
            ReleaseRefused: an earlier one is overdue for its review, the actor may approve it as a second person, it waits for no approval,
                or its review carries nothing any more.
            ConflictError: it is at another version.
        """
        words = self._words(reason)
        with self._acting(Act.BREAK_GLASS, release_id, actor, expected_version) as (turn, seen):
            insist_on_review(seen, review_id)
            under = foundation(turn.act.connection, seen)
            ground, decisions = ground_of(seen, under), tuple(map(approval_of, under.approvals))
            insist(seen, rule.objection_to_approving(State(seen.state), decisions, ground, now=turn.now))
            approvers = self._ownership.holders(Act.APPROVE, turn.app)
            insist(
                seen,
                objection_to_breaking(
                    turn.person,
                    is_approver=turn.person in approvers,
                    known_as=turn.doer.known_as,
                    requester=seen.requested_by,
                    registrar=registrar_in(under, self._ownership.people(turn.app)),
                    owed=tuple(map(glass_of, broken_glass_of(turn.act.connection, turn.app))),
                    now=turn.now,
                ),
            )
            on_call = [shift.person for shift in self._ownership.on_call(turn.app, turn.now)]
            called = [name for name in dict.fromkeys((*on_call, *approvers)) if name != turn.person]
            expires_at, due_at = turn.now + HOLDS, turn.now + REVIEW_WITHIN
            done = turn.apply(
                Act.BREAK_GLASS,
                seen,
                detail={
                    "reason": words,
                    "binds": ground.binds.as_json(),
                    "expires_at": utc_text(expires_at),
                    "on_call": on_call,
                    "called": called,
                    "review_due_at": utc_text(due_at),
                },
            )
            turn.decide(done, "break_glass", binds=ground.binds, expires_at=expires_at)
            add_broken_glass(
                turn.act,
                StoredBrokenGlass(
                    seq=done.entry.seq,
                    release_id=seen.release_id,
                    app=turn.app,
                    person=turn.person,
                    known_as=sorted(turn.doer.known_as),
                    reason=words,
                    called=called,
                    broken_at=turn.now,
                    review_due_at=due_at,
                    verdict=None,
                    reviewed_by=None,
                    reviewed_at=None,
                    review_reason=None,
                    version=1,
                ),
            )
        return self._told(done)

    def reviewed(self, release_id: str, *, verdict: str, reason: str, actor: Author | None = None) -> Release:
        """What was let go alone, looked at by a second person; the release stays what it is.

        Args:
            release_id: its id.
            verdict: `justified` or `not_justified`.
            reason: why.
            actor: who looked at it.

        Raises:
            NotPermitted: the actor has not the role, let it go alone, asked for the release, or registered its bundle.
            ReleaseRefused: there is nothing to review.
            UsageError: there is no such verdict.
        """
        words = self._words(reason)
        if verdict not in tuple(Justification):
            raise UsageError(f"verdict {verdict}", seen="there is none of this name", needed=" or ".join(Justification))
        looked = self._stored(release_id)
        with self._permitted(REVIEWED, looked.app, actor, subject=looked.release_id) as doer, self._ledger.write() as act:
            turn = self._turn(act, doer)
            seen = known_release(act.connection, looked.release_id)
            under = foundation(act.connection, seen)
            rows = [row for row in broken_glass_of(act.connection, doer.app) if row.release_id == seen.release_id and row.verdict is None]
            objection = objection_to_reviewer(
                doer.person,
                doer.known_as,
                glasses=tuple(map(glass_of, rows)),
                requester=seen.requested_by,
                registrar=registrar_in(under, self._ownership.people(doer.app)),
            )
            if objection is not None and objection.reason == "nothing_to_review":
                insist(seen, objection)
            insist_person(seen, objection)
            for row in rows:
                values = {"verdict": verdict, "reviewed_by": doer.person, "reviewed_at": turn.now, "review_reason": words}
                change_broken_glass(act, row, values)
            done = turn.remark(REVIEWED, seen, detail={"verdict": verdict, "reason": words, "broke": sorted({row.person for row in rows})})
        return self._told(done)
