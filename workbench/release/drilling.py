"""The rollback drill: how long it takes until every gateway follows the ledger, measured on the real way, with nobody served otherwise."""

from __future__ import annotations

from dataclasses import dataclass, replace

from workbench.ledger.acknowledgements import acknowledgements_of
from workbench.ledger.authority import Author
from workbench.ledger.canonical import JSON
from workbench.ledger.evidence import add_evidence
from workbench.ledger.registry import content_of, newest_declarations
from workbench.ledger.releases import releases_of
from workbench.ledger.routes import stored_route
from workbench.observability.evidence import as_row
from workbench.readiness.rehearsal import BAR_S, Rehearsal, evidence_of
from workbench.release.acting import Acting
from workbench.release.collecting import DRILLED
from workbench.release.followers import FRESH, Followers, followers_of
from workbench.release.model import Objection
from workbench.release.targets import Restorable, restorable
from workbench.release.turn import DRILL, planned_target, refusal
from workbench.release.whole import Whole
from workbench.versions.declarations import NOTHING

LONGEST_S = 10.0
"""For so long gateways are waited for."""
_LOOK_S = 0.01
"""Between two looks at what gateways tell."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Followed:
    """Who followed a new route, and who did not."""

    seconds: dict[str, float]
    missing: tuple[str, ...]


class Drilling(Acting):
    """The verb that rehearses a rollback."""

    def drill(self, app: str, *, actor: Author | None = None) -> Rehearsal:
        """The rollback rehearsed: how long until every gateway follows, and whether what a rollback restores is there.

        The route gets another version by the transaction of a rollback, but says what it said, so nobody is served otherwise. The time runs
        from before the commit to the look that finds what a gateway told, so it is never shorter than what users would have met. A gateway
        that ends in an orderly way while it is waited for does not count. The result is kept as evidence, for readiness.

        Args:
            app: the application.
            actor: who rehearses.

        Raises:
            ReleaseRefused: `nothing_serves`, or `not_measured` where no gateway serves the app: no time can be said then, not even 0 s.
            NotPermitted: the actor has not the role.
            ConflictError: the route was changed at the same moment.
        """
        with self._permitted(DRILL, app, actor) as doer:
            target = self._restorable(app)
            with self._ledger.write() as act:
                turn = self._turn(act, doer)
                route = stored_route(act.connection, app)
                told = acknowledgements_of(act.connection, app)
                before = followers_of(told, route_version=route.version if route else 0, now=turn.now)
                written = turn.rehearse(before.live)
                if not before.live:
                    raise refusal(f"rollback drill of {app}", _nobody_serves(len(before.silent)))
                plans = newest_declarations(act.connection, app=app, kind="plan")
                started_s = self._monotonic()
            followed = self._followed(app, written.version, before, started_s=started_s)
            if not followed.seconds and not followed.missing:
                raise refusal(f"rollback drill of {app}", _nobody_serves(len(before.silent)))
            found = Rehearsal(
                app=app,
                at=turn.now,
                stable=written.stable,
                route_version=written.version,
                plan_digest=plans[0].digest if plans else NOTHING,
                restores=target.bundle_id,
                target=target.words,
                fault=target.fault,
                seconds=followed.seconds,
                missing=followed.missing,
                silent=tuple(name for name in before.silent if name not in followed.seconds),
            )
            record = evidence_of(found, waited_s=LONGEST_S)
            with self._ledger.write() as act:
                add_evidence(act, [as_row(record)])
                detail: dict[str, JSON] = {
                    "evidence": record.evidence_id,
                    "route_version": written.version,
                    "slowest_s": record.statistics["slowest_s"],
                    "missing": list(followed.missing),
                    "fault": target.fault,
                }
                act.audit(doer.author, DRILLED, app=app, subject=app, detail=detail)
        return replace(found, evidence_id=record.evidence_id)

    def _restorable(self, app: str) -> Restorable:
        """What a rollback restores; it reads the bundles' parts, so no write waits for it."""
        with self._ledger.read() as connection:
            route, history = stored_route(connection, app), releases_of(connection, app)
            planned = planned_target(content_of(connection, app, "plan"))
            stable = route.stable if route else None
            return restorable(history, stable=stable, planned=planned, is_whole=Whole(self._versions))

    def _followed(self, app: str, version: int, before: Followers, *, started_s: float) -> _Followed:
        """What became of the gateways, by what they tell, until all have followed or it was waited for long enough.

        One that had fallen silent is waited for only as long as a good one takes: it may have died, or have another idea of the time.
        """
        live, waiting, seconds = set(before.live), {*before.live, *before.silent}, dict[str, float]()
        while True:
            with self._ledger.read() as connection:
                told = {each.gateway: each.route_version for each in acknowledgements_of(connection, app)}
            elapsed_s = self._monotonic() - started_s
            seconds |= {name: elapsed_s for name in waiting if told.get(name, 0) >= version}
            waiting = {name for name in waiting if name in told and name not in seconds}
            if not waiting or elapsed_s >= (LONGEST_S if waiting & live else BAR_S):
                return _Followed(seconds=dict(sorted(seconds.items())), missing=tuple(sorted(waiting & live)))
            self._pause(_LOOK_S)


def _nobody_serves(n_silent: int) -> Objection:
    quiet = f"; {n_silent} ended or fell silent before that" if n_silent else ""
    seen = f"no gateway that serves it was heard of in the last {FRESH.total_seconds():.0f} s{quiet}"
    return Objection(reason="not_measured", seen=seen, needed="a gateway, as users meet it", next_step="start one: `workbench serve`")
