"""From sums by period to what a KPI did: pure judgement on the numbers that `impact_rows` read."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import date, datetime, timedelta
from typing import Any

from workbench.errors import InsufficientData
from workbench.observability.impact_model import Attributed, Finding, KpiImpact, Period, Reason, Standing, State, Waterfall
from workbench.observability.impact_rows import moment
from workbench.spec.app import Kpi
from workbench.spec.base import format_duration
from workbench.stats.cluster import ClusterSums, clustered_ratio, t_interval
from workbench.stats.decomposition import shapley_parts
from workbench.stats.effect import Mean
from workbench.stats.estimate import Estimate
from workbench.stats.proportion import clustered_rate, wilson
from workbench.stats.trend import FEWEST, relative_to_usual, trend

LEVEL = 0.95
Sums = Mapping[str, Any]
_TWO = 2


def kpi_impact(
    kpi: Kpi,
    *,
    by: str,
    rows: Sequence[Sums],
    overall: Sums | None,
    attributed: Attributed,
    as_of: datetime,
    start: datetime | None,
) -> KpiImpact:
    """What the KPI did.

    Args:
        kpi: as declared.
        by: day, week or month.
        rows: sums of each period that has sessions, oldest first.
        overall: the same sums over all complete periods; None without one.
        attributed: what became of its events.
        as_of: until when the log is known.
        start: where the asked stretch of time begins; None for the beginning of the log.
    """
    periods = tuple(_periods(kpi, by, rows, as_of, start))
    complete = [period for period in periods if period.state is State.COMPLETE]
    now = complete[-1] if complete else None
    whole = [period for period in complete if not period.is_partial]
    usage, usage_trend, outcome_trend = _usage(kpi, by, whole, complete)
    return KpiImpact(
        kpi=kpi,
        by=by,
        periods=periods,
        now=now,
        overall=_overall(kpi, overall, whole),
        target=now.target if now else Standing.UNKNOWN,
        baseline=now.baseline if now else Standing.UNKNOWN,
        finding=_finding(kpi, by, periods, now, as_of),
        usage=usage,
        usage_trend=usage_trend,
        outcome_trend=outcome_trend,
        waterfall=_waterfall(kpi, whole),
        attributed=attributed,
        cost_per_outcome=cost_per_outcome(overall) if overall else None,
        priced_share=overall["priced"] / overall["sessions"] if overall and overall["sessions"] else None,
    )


def complete_until(kpi: Kpi, by: str, rows: Sequence[Sums], as_of: datetime) -> datetime | None:
    """Where the newest complete period ends; None without one."""
    ends = [following(moment(row["period"]), by) for row in rows]
    return max((end for end in ends if _is_over(kpi, end, as_of)), default=None)


def following(start: datetime, by: str) -> datetime:
    """Start of the period after the one that starts here.

    >>> from datetime import UTC
    >>> following(datetime(2026, 12, 1, tzinfo=UTC), "month").date()
    datetime.date(2027, 1, 1)
    """
    if by == "month":
        return start.replace(year=start.year + start.month // 12, month=start.month % 12 + 1)
    return start + timedelta(days={"day": 1, "week": 7}[by])


def standing(value: float | None, low: float | None, high: float | None, bar: float | None, *, higher: bool) -> Standing:
    """Where a value stands to a bar; the interval decides, never the value alone."""
    if value is None or bar is None:
        return Standing.UNKNOWN
    good, bad = (low, high) if higher else (high, low)
    sign = 1 if higher else -1
    if good is not None and sign * (good - bar) >= 0:
        return Standing.BETTER
    return Standing.WORSE if bad is not None and sign * (bad - bar) < 0 else Standing.UNCLEAR


def estimate_of(kpi: Kpi, sums: Sums) -> Estimate | None:
    """The KPI over the sessions under these sums; None without data.

    Of a `sum` the interval says what the total of a like period could be: units come by themselves, each with what it brings
    (compound Poisson, variance the sum of squares: Feller, vol. II, section VI.4). Where no value is below 0, no interval is.
    """
    if kpi.aggregate == "rate":
        return _rate(sums) if sums["sessions"] else None
    if not sums["outcomes"]:
        return None
    if kpi.aggregate == "mean":
        mean = clustered_ratio(_clusters(sums, "total", "outcome", groups="units_with_outcome", n="outcomes"), level=LEVEL)
        return _as_its_values(mean, sums["lowest"])
    total, error, groups = float(sums["total"]), math.sqrt(sums["total_squares"]), int(sums["units_with_outcome"])
    low, high = t_interval(total, error, groups, level=LEVEL)
    found = Estimate(value=total, low=low, high=high, level=LEVEL, method="compound poisson, by unit", n=sums["outcomes"])
    return _as_its_values(found, sums["lowest"])


def _as_its_values(found: Estimate, lowest: float | None) -> Estimate:
    """The total or mean with its lower end at 0 or above where every value is: nothing below can be one, so the coverage stays."""
    if found.low is None or lowest is None or not lowest >= 0:
        return found
    return replace(found, low=max(0.0, found.low))


def cost_per_outcome(sums: Sums) -> Estimate | None:
    """What one outcome costs in the priced sessions, those without an outcome paid for; None without a priced session or an outcome."""
    if not sums["priced"] or not sums["paid"]:
        return None
    return clustered_ratio(_clusters(sums, "cost", "paid", groups="priced_units", n="priced"), level=LEVEL)


def _rate(sums: Sums) -> Estimate:
    if sums["units"] == sums["sessions"]:
        return wilson(sums["outcomes"], sums["sessions"], level=LEVEL)
    return clustered_rate(_clusters(sums, "outcome", "session", groups="units", n="sessions"), level=LEVEL)


_TOTALS = {"outcome": "outcomes", "session": "sessions", "total": "total", "cost": "cost", "paid": "paid"}


def _clusters(sums: Sums, y: str, x: str, *, groups: str, n: str) -> ClusterSums:
    """The sums of a ratio `y / x` over units; the residuals' squares come from sums of products, so rounding could leave less than 0."""
    total_y, total_x = float(sums[_TOTALS[y]]), float(sums[_TOTALS[x]])
    ratio = total_y / total_x
    spread = float(sums[f"{x}_squares"])
    squares = float(sums[f"{y}_squares"]) - 2 * ratio * float(sums[f"{y}_{_TOTALS[x]}"]) + ratio * ratio * spread
    return ClusterSums(n=sums[n], groups=sums[groups], y=total_y, x=total_x, squares=max(0.0, squares), spread=spread)


def _is_over(kpi: Kpi, until: datetime, as_of: datetime) -> bool:
    return until + (kpi.within or timedelta(0)) <= as_of


def _periods(kpi: Kpi, by: str, rows: Sequence[Sums], as_of: datetime, asked: datetime | None) -> Iterator[Period]:
    """From the first to the last with sessions. The first is partial unless it was asked for from its start: the log begins within it."""
    found = {moment(row["period"]): row for row in rows}
    first, last = min(found, default=None), max(found, default=None)
    start = first
    while start is not None and last is not None and start <= last:
        yield _period(kpi, by, start, found.get(start), as_of, is_partial=start == first and start != asked)
        start = following(start, by)


def _period(kpi: Kpi, by: str, start: datetime, sums: Sums | None, as_of: datetime, *, is_partial: bool) -> Period:
    until = following(start, by)
    is_over = _is_over(kpi, until, as_of)
    estimate = estimate_of(kpi, sums) if sums else None
    value, low, high = (estimate.value, estimate.low, estimate.high) if estimate else (None, None, None)
    is_comparable = is_over and (kpi.aggregate != "sum" or (kpi.per == by and not is_partial))
    higher = kpi.direction == "higher_is_better"
    bars = [standing(value, low, high, bar, higher=higher) if is_comparable else Standing.UNKNOWN for bar in (kpi.target, kpi.baseline)]
    each = cost_per_outcome(sums) if sums else None
    return Period(
        start=start,
        until=until,
        state=State.OPEN if not is_over else State.COMPLETE if value is not None else State.MISSING,
        is_partial=is_partial,
        value=value,
        low=low,
        high=high,
        n=int(estimate.n) if estimate else 0,
        requests=sums["requests"] if sums else 0,
        sessions=sums["sessions"] if sums else 0,
        units=sums["units"] if sums else 0,
        outcomes=sums["outcomes"] if sums else 0,
        total=float(sums["total"] or 0) if sums else 0.0,
        cost_usd=sums["cost"] if sums and sums["priced"] else None,
        cost_per_outcome=each.value if each else None,
        target=bars[0],
        baseline=bars[1],
    )


def _overall(kpi: Kpi, sums: Sums | None, whole: Sequence[Period]) -> Estimate | None:
    """Over the sessions of complete periods; of a sum the mean of whole periods, whose interval says how much these differ."""
    if kpi.aggregate != "sum":
        return estimate_of(kpi, sums) if sums else None
    totals = [period.total for period in whole]
    if not totals:
        return None
    mean = math.fsum(totals) / len(totals)
    error = Mean.of_values(totals).error if len(totals) >= _TWO else 0.0
    low, high = t_interval(mean, error, len(totals), level=LEVEL)
    found = Estimate(value=mean, low=low, high=high, level=LEVEL, method="t over periods", n=len(totals))
    return _as_its_values(found, sums["lowest"] if sums else None)


def _finding(kpi: Kpi, by: str, periods: Sequence[Period], now: Period | None, as_of: datetime) -> Finding:
    """Where the KPI stands, by its newest complete period."""
    if now is None:
        return Finding(reason=Reason.NO_COMPLETE_PERIOD, sentence=_nothing_complete(kpi, by, periods))
    when = f"on {now.start:%Y-%m-%d}" if by == "day" else f"in the {by} from {now.start:%Y-%m-%d}"
    about = f"{kpi.name}, {value_words(kpi, now.value)} {when},"
    if now.baseline is Standing.WORSE:
        return Finding(reason=Reason.BELOW_BASELINE, sentence=f"{about} is worse than before the application.")
    reason, says = _against_target(kpi, by, now, as_of)
    return Finding(reason=reason, sentence=f"{about} {says}.")


def value_words(kpi: Kpi, value: float | None) -> str:
    """A value of the KPI in a sentence: `74.1 %`, `61.99 EUR`."""
    if value is None:
        return "unknown"
    return f"{100 * value:.1f} %" if kpi.aggregate == "rate" else f"{value:,.2f} {kpi.unit}"


def _against_target(kpi: Kpi, by: str, now: Period, as_of: datetime) -> tuple[Reason, str]:
    due = kpi.target_date
    match now.target:
        case _ if kpi.target is None:
            return Reason.NO_TARGET, "has no target, so nobody can say whether it is enough"
        case Standing.UNKNOWN:
            why = f"; ask by {kpi.per} to compare" if kpi.per != by else f", and the log or the window begins within this {by}"
            return Reason.TARGET_UNCLEAR, f"has a target per {kpi.per}{why}"
        case Standing.BETTER:
            return Reason.TARGET_REACHED, "has reached its target"
        case Standing.UNCLEAR:
            return Reason.TARGET_UNCLEAR, "may have reached its target: the interval holds it"
        case _ if due is not None and due < as_of.date():
            return Reason.TARGET_MISSED, f"is short of its target, which was due on {due}"
    return Reason.TARGET_AHEAD, f"is short of its target{_left(due, as_of)}"


def _left(due: date | None, as_of: datetime) -> str:
    return f"; {(due - as_of.date()).days:,} days are left until {due}" if due else ", which has no date"


def _nothing_complete(kpi: Kpi, by: str, periods: Sequence[Period]) -> str:
    if not periods:
        return f"{kpi.name}: no session is in the log, so there is nothing to say."
    if all(period.state is State.MISSING for period in periods):
        return f"{kpi.name}: no event “{kpi.outcome}” belongs to any session, so there is no value."
    wait = f" and the {format_duration(kpi.within)} after it" if kpi.within else ""
    return f"{kpi.name}: no {by}{wait} is over yet, so no value is final."


def _usage(kpi: Kpi, by: str, whole: Sequence[Period], complete: Sequence[Period]) -> tuple[Finding, Estimate | None, Estimate | None]:
    """What usage did beside the outcome over whole periods, with both trends.

    Usage is requests. The outcome is its total (successes of a rate, else the sum of values), as more use should bring more of it;
    where lower is better it is the KPI's own value, as more use alone makes more complaints.
    """
    if kpi.kind == "usage":
        sentence = f"{kpi.name} counts activity: it can stand beside a business outcome, and never for one."
        return Finding(reason=Reason.USAGE_KPI, sentence=sentence), None, None
    trends = _trends(kpi, whole)
    if trends is None:
        return Finding(reason=Reason.FEW_PERIODS, sentence=_no_trend(by, whole, complete)), None, None
    usage, outcome, gap = trends
    words = f"Usage: {_percent(usage, by)}. The outcome: {_percent(outcome, by)}."
    reason, says = _judged_together(kpi, usage, outcome, gap)
    return Finding(reason=reason, sentence=says.format(words)), usage, outcome


def _no_trend(by: str, whole: Sequence[Period], complete: Sequence[Period]) -> str:
    """Why usage cannot be told from the outcome, and which period is not among the whole ones."""
    n = len(whole)
    if n >= FEWEST:
        return f"In most of the {n} whole {by}s there is nothing to grow from, so usage cannot be told from outcome."
    some = f"{n} whole {by} with data is" if n == 1 else f"{n} whole {by}s with data are"
    few = f"{some} too few to tell usage from outcome; it takes {FEWEST}."
    partial = "".join(
        f" The {by} from {each.start:%Y-%m-%d} is not among them: the log or the window begins within it." for each in complete[:1]
    )
    return few + (partial if complete and complete[0].is_partial else "")


def _judged_together(kpi: Kpi, usage: Estimate, outcome: Estimate, gap: Estimate) -> tuple[Reason, str]:
    """Reason, and its sentence around the numbers. An outcome of which nothing is sure is not flat: usage must outgrow it for sure, too."""
    if not _rises(usage):
        return Reason.USAGE_NOT_RISING, "Usage does not clearly rise. {}"
    if _rises(outcome):
        return Reason.USAGE_WITH_OUTCOME, "Usage rises, and the outcome with it. {}"
    if not _rises(gap):
        return Reason.OUTCOME_UNCLEAR, "Usage rises; whether the outcome does is not clear yet. {}"
    return Reason.USAGE_WITHOUT_OUTCOME, (
        f"Usage rises and {kpi.name} does not. {{}} "
        "Whoever measures success by usage instead of business outcomes sees growth here that is none."
    )


def _rises(found: Estimate) -> bool:
    return found.low is not None and found.low > 0


def _trends(kpi: Kpi, periods: Sequence[Period]) -> tuple[Estimate, Estimate, Estimate] | None:
    """The slopes of usage, of the outcome and of usage beyond the outcome; None where there is too little to grow from."""
    length = periods[0].until - periods[0].start if periods else timedelta(0)
    at = [round((period.start - periods[0].start) / length) for period in periods]
    try:
        usage = relative_to_usual([float(period.requests) for period in periods])
        if kpi.direction == "higher_is_better":
            outcome = relative_to_usual([period.total for period in periods])
        else:
            outcome = [-value for value in relative_to_usual([period.value or 0.0 for period in periods])]
        beyond = [more - brought for more, brought in zip(usage, outcome, strict=True)]
        return trend(usage, at=at, level=LEVEL), trend(outcome, at=at, level=LEVEL), trend(beyond, at=at, level=LEVEL)
    except InsufficientData:
        return None


def _percent(found: Estimate, by: str) -> str:
    assert found.low is not None  # noqa: S101 - a trend has both ends
    assert found.high is not None  # noqa: S101
    return f"{100 * found.value:+.1f} % per {by}, 95 % interval {100 * found.low:+.1f} to {100 * found.high:+.1f} %"


def _waterfall(kpi: Kpi, periods: Sequence[Period]) -> Waterfall | None:
    """The total outcome of the first whole period and of the newest, by factors."""
    with_outcome = [period for period in periods if period.outcomes]
    if len(with_outcome) < _TWO:
        return None
    first, last = with_outcome[0], with_outcome[-1]
    before, after = _factors(kpi, first), _factors(kpi, last)
    return Waterfall(
        start=first.start,
        until=last.start,
        before=first.total,
        after=last.total,
        parts=shapley_parts(before, after),
        factors_before=before,
        factors_after=after,
    )


def _factors(kpi: Kpi, period: Period) -> dict[str, float]:
    """Numbers whose product is the period's total outcome."""
    factors = {
        "units": float(period.units),
        "sessions per unit": period.sessions / period.units,
        "outcomes per session": period.outcomes / period.sessions,
    }
    return factors if kpi.aggregate == "rate" else {**factors, "value per outcome": period.total / period.outcomes}
