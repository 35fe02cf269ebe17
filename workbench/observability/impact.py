"""Business impact, asked of the log: what the app's KPIs did, and what one bundle changed against another."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Literal, TypeVar

from workbench.errors import UnknownSubject, UsageError
from workbench.observability.dimensions import parse_where, parse_window, unknown
from workbench.observability.impact_effect import Compared, effect_of, nothing_to_compare
from workbench.observability.impact_model import Attributed, Crossed, Design, Effect, Finding, Impact, KpiImpact, Reason, TalksBefore
from workbench.observability.impact_periods import complete_until, kpi_impact
from workbench.observability.impact_rows import Scope, Sessions
from workbench.observability.lake import Lake
from workbench.observability.model import Window
from workbench.spec.app import AppSpec, Kpi
from workbench.spec.base import parse_duration

By = Literal["day", "week", "month"]
PERIODS: tuple[By, ...] = ("day", "week", "month")
PRE_PERIOD = timedelta(days=28)
T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Pair:
    """Which sessions are compared, as conditions on the table of sessions."""

    design: Design
    release_id: str | None
    candidate: str
    baseline: str
    scope: str
    side: str
    values: Mapping[str, str]
    is_reversed: bool = False
    """Whether the asked candidate was the release's stable bundle."""


class BusinessImpact:
    """KPIs over the log lake.

    Args:
        lake: where the log is.
        app_spec: the declaration of an app, or None for an app that nobody declared.
        clock: what has not happened by then does not count.
    """

    def __init__(self, lake: Lake, *, app_spec: Callable[[str], AppSpec | None], clock: Callable[[], datetime]) -> None:
        self._lake = lake
        self._app_spec = app_spec
        self._clock = clock

    def report(
        self,
        app: str,
        *,
        kpi: str | None = None,
        by: str = "week",
        window: str | Window | None = None,
        where: Mapping[str, str | Sequence[str]] | None = None,
    ) -> Impact:
        """What the app's KPIs did, period by period.

        Args:
            app: the application.
            kpi: one KPI; None for all of them.
            by: day, week (from Monday) or month, in UTC.
            window: `90d` (ends now), a `Window`, or None for the whole log; sessions count by their first request.
            where: dimension to the value, or values, that a session's first request must have.

        Raises:
            UnknownSubject: the app declares no such KPI.
            UsageError: it declares none at all, or the window or a filter makes no sense.
        """
        if by not in PERIODS:
            raise unknown("period", by, PERIODS)
        kpis, now = self._kpis(app, kpi), self._clock()
        filters, span = parse_where(where), parse_window(window, now=now)

        def read(sessions: Sessions) -> Impact:
            sessions.read_requests(app, now)
            as_of = sessions.as_of(app, now)
            scopes = [Scope(app=app, kpi=each, filters=filters, start=span.start, until=span.until, now=now) for each in kpis]
            found = _only_usage(tuple(_of_kpi(sessions, scope, by, as_of) for scope in scopes))
            return Impact(app=app, by=by, kpis=found, as_of=as_of, snapshot=self._lake.snapshot(), where=dict(filters))

        def unseen() -> Impact:
            found = _only_usage(tuple(_unseen(each, by, now) for each in kpis))
            return Impact(app=app, by=by, kpis=found, as_of=None, snapshot=None, where=dict(filters))

        return self._look(read, unseen)

    def effects(
        self,
        app: str,
        *,
        kpi: str | None = None,
        candidate: str | None = None,
        baseline: str | None = None,
        is_unrouted: bool = False,
        crossed: Crossed | str = Crossed.FIRST_EXPOSURE,
        pre: str | timedelta = PRE_PERIOD,
        window: str | Window | None = None,
        where: Mapping[str, str | Sequence[str]] | None = None,
        drill_lost: float = 0.0,
    ) -> tuple[Effect, ...]:
        """What the candidate changed against the baseline, KPI by KPI.

        Without bundles it is the newest release whose routes divided users between two of them. With bundles it is the newest
        release that divided users between these two; where there is none, or with `is_unrouted`, the traffic that no route assigned.

        Args:
            app: the application.
            kpi: one KPI; None for all of them.
            candidate: id of a bundle.
            baseline: id of another.
            is_unrouted: only traffic that no route assigned by chance.
            crossed: what is done with units that both sides answered: `first_exposure` or `exclude`.
            pre: length of the pre-period before each unit's first exposure.
            window: as in `report`.
            where: as in `report`. A condition on what the bundle itself causes breaks the split, and is refused by it.
            drill_lost: to rehearse the refusal of a broken split: as if this share of the candidate's units had been lost, 0 to 1.

        Raises:
            UnknownSubject: the app declares no such KPI.
            UsageError: it declares none at all, only one bundle is named, or both are the same.
        """
        if (candidate is None) != (baseline is None) or (candidate is not None and candidate == baseline):
            raise UsageError(
                f"app {app}", seen="not two bundles to compare", needed="two different bundles, or none for the newest release"
            )
        if not 0 <= drill_lost < 1:
            raise UsageError(f"drill_lost {drill_lost:g}", seen="no share of units that could be lost", needed="0 or more, below 1")
        kpis, now = self._kpis(app, kpi), self._clock()
        filters, span, rule, length = parse_where(where), parse_window(window, now=now), _rule(crossed), _length(pre)
        names = (candidate or "candidate", baseline or "stable")

        def read(sessions: Sessions) -> tuple[Effect, ...]:
            sessions.read_requests(app, now)
            as_of, snapshot = sessions.as_of(app, now), self._lake.snapshot()
            found = []
            for each in kpis:
                sessions.read_sessions(Scope(app=app, kpi=each, filters=filters, start=span.start, until=span.until, now=now), as_of or now)
                pair = _pair(sessions, candidate, baseline, is_unrouted=is_unrouted)
                found.append(
                    _compared(sessions, app, each, pair, names, rule=rule, pre=length, as_of=as_of, snapshot=snapshot, lost=drill_lost)
                )
            return tuple(found)

        def unseen() -> tuple[Effect, ...]:
            return tuple(_nothing(app, each, names, rule=rule, pre=length) for each in kpis)

        return self._look(read, unseen)

    def before(self, app: str, kpis: Sequence[Kpi], bundle: str) -> Mapping[str, TalksBefore]:
        """What the talks of a bundle came to until now, by KPI.

        Args:
            app: the application.
            kpis: of the app.
            bundle: id.
        """

        def read(sessions: Sessions) -> Mapping[str, TalksBefore]:
            sessions.read_requests(app, now)
            as_of = sessions.as_of(app, now)
            if as_of is None:
                return unseen()
            found = {}
            for kpi in kpis:
                sessions.read_sessions(Scope(app=app, kpi=kpi, filters=(), start=None, until=None, now=now), as_of)
                found[kpi.name] = sessions.before_release(kpi, bundle)
            return found

        def unseen() -> Mapping[str, TalksBefore]:
            return {kpi.name: TalksBefore(kpi=kpi, n=0, mean=None) for kpi in kpis}

        now = self._clock()
        return self._look(read, unseen) if kpis else {}

    def _kpis(self, app: str, name: str | None) -> tuple[Kpi, ...]:
        spec = self._app_spec(app)
        if spec is None:
            raise UnknownSubject(f"app {app}", seen="nobody declared it", next_step="register it with `workbench app register DIR`")
        if not spec.kpis:
            step = "declare `kpis` in app.yaml: a business event, its baseline, target, date and owner"
            raise UsageError(f"app {app}", seen="it declares no KPI, so there is no business result to look at", next_step=step)
        chosen = tuple(kpi for kpi in spec.kpis if name in (None, kpi.name))
        if not chosen:
            raise unknown("KPI", str(name), [kpi.name for kpi in spec.kpis])
        return chosen

    def _look(self, work: Callable[[Sessions], T], otherwise: Callable[[], T]) -> T:
        """What `work` returns from one read transaction; `otherwise` while there is no log."""
        snapshot = self._lake.snapshot()
        if snapshot is None:
            return otherwise()
        return self._lake.read(lambda connection: work(Sessions(connection, snapshot)))


def _rule(crossed: Crossed | str) -> Crossed:
    try:
        return Crossed(crossed)
    except ValueError:
        raise unknown("rule for crossed units", str(crossed), [rule.value for rule in Crossed]) from None


def _length(pre: str | timedelta) -> timedelta:
    try:
        return parse_duration(pre) if isinstance(pre, str) else pre
    except ValueError as error:
        raise UsageError("pre-period", seen=str(error)) from error


def _of_kpi(sessions: Sessions, scope: Scope, by: str, as_of: datetime | None) -> KpiImpact:
    if as_of is None:
        return _unseen(scope.kpi, by, scope.now)
    sessions.read_sessions(scope, as_of)
    rows = sessions.periods(by)
    until = complete_until(scope.kpi, by, rows, as_of)
    overall = next(iter(sessions.before(until)), None) if until else None
    attributed = sessions.attributed()
    return kpi_impact(scope.kpi, by=by, rows=rows, overall=overall, attributed=attributed, as_of=as_of, start=scope.start)


def _only_usage(found: tuple[KpiImpact, ...]) -> tuple[KpiImpact, ...]:
    """The same; where every KPI counts activity, each says that nothing measures a business outcome."""
    if any(each.kpi.kind != "usage" for each in found):
        return found
    sentence = (
        "Every KPI counts activity. That is measuring success by usage instead of business outcomes: declare one on a business event."
    )
    return tuple(replace(each, usage=Finding(reason=Reason.USAGE_ONLY, sentence=sentence)) for each in found)


def _unseen(kpi: Kpi, by: str, now: datetime) -> KpiImpact:
    return kpi_impact(kpi, by=by, rows=(), overall=None, attributed=Attributed(), as_of=now, start=None)


def _pair(sessions: Sessions, candidate: str | None, baseline: str | None, *, is_unrouted: bool) -> _Pair | None:
    """The newest release that fits, else the traffic without a route; None where neither can be meant."""
    for release in () if is_unrouted else sessions.releases():
        ours, theirs = release["candidates"], release["stables"]
        if candidate is None or baseline is None:
            return _routed(release["release_id"], ours[-1], theirs[-1])
        if candidate in ours and baseline in theirs:
            return _routed(release["release_id"], candidate, baseline)
        if candidate in theirs and baseline in ours:
            return _routed(release["release_id"], candidate, baseline, is_reversed=True)
    if candidate is None or baseline is None:
        return None
    return _Pair(
        design=Design.UNROUTED,
        release_id=None,
        candidate=candidate,
        baseline=baseline,
        scope="bundle IN ($candidate, $baseline) AND (traffic_share IS NULL OR arm IS NULL OR arm = 'none')",
        side="bundle = $candidate",
        values={"candidate": candidate, "baseline": baseline},
    )


def _routed(release_id: str | None, candidate: str, baseline: str, *, is_reversed: bool = False) -> _Pair:
    release = "release_id IS NULL" if release_id is None else "release_id = $release"
    values = {"candidate": candidate, "baseline": baseline}
    return _Pair(
        design=Design.ROUTED,
        release_id=release_id,
        candidate=candidate,
        baseline=baseline,
        scope=f"{release} AND arm IN ('candidate', 'stable') AND bundle IN ($candidate, $baseline) AND traffic_share IS NOT NULL",
        side="bundle = $candidate",
        values=values if release_id is None else {**values, "release": release_id},
        is_reversed=is_reversed,
    )


def _compared(
    sessions: Sessions,
    app: str,
    kpi: Kpi,
    pair: _Pair | None,
    names: tuple[str, str],
    *,
    rule: Crossed,
    pre: timedelta,
    as_of: datetime | None,
    snapshot: int | None,
    lost: float,
) -> Effect:
    if pair is None:
        return _nothing(app, kpi, names, rule=rule, pre=pre, as_of=as_of, snapshot=snapshot)
    scope = pair.scope if pair.design is Design.UNROUTED else f"{pair.scope} AND unit_hash IS NOT NULL"
    only_scope = {name: value for name, value in pair.values.items() if f"${name}" in pair.scope}
    nameless = sessions.count(f"{pair.scope} AND unit_hash IS NULL", only_scope) if pair.design is Design.ROUTED else 0
    columns = sessions.exposed(scope, pair.side, pair.values, pre=pre)
    if pair.is_reversed:
        columns["share"] = 1 - columns["share"].astype(float)
    asked = Compared(
        app=app,
        kpi=kpi,
        design=pair.design,
        release_id=pair.release_id,
        candidate=pair.candidate,
        baseline=pair.baseline,
        crossed=rule,
        pre=pre,
        nameless=nameless,
        as_of=as_of,
        snapshot=snapshot,
        drill_lost=lost,
    )
    return effect_of(asked, columns)


def _nothing(
    app: str,
    kpi: Kpi,
    names: tuple[str, str],
    *,
    rule: Crossed,
    pre: timedelta,
    as_of: datetime | None = None,
    snapshot: int | None = None,
) -> Effect:
    asked = Compared(
        app=app,
        kpi=kpi,
        design=Design.UNROUTED,
        release_id=None,
        candidate=names[0],
        baseline=names[1],
        crossed=rule,
        pre=pre,
        nameless=0,
        as_of=as_of,
        snapshot=snapshot,
    )
    return nothing_to_compare(asked, f"{kpi.name}: the log holds no traffic that was divided between two bundles.")
