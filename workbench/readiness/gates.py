"""What one measured gate says about one evidence record. The burden of proof lies on PASS."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from workbench.errors import WorkbenchError
from workbench.observability.model import Evidence
from workbench.readiness.model import GateResult, Verdict
from workbench.readiness.readings import BrokenEvidence, Reading, measured_shares, observations, read, recency, sides_of
from workbench.readiness.wording import counted, metric_words, number
from workbench.spec.base import format_duration, parse_duration
from workbench.spec.gates import AgainstBaseline, Family, GateSpec, GatesSpec
from workbench.stats.proportion import n_to_prove
from workbench.stats.quantile import n_to_bound
from workbench.stats.ratio import level_of_each

CLOCK_TOLERANCE = timedelta(days=1)
"""A row this far after `now` has a wrong clock or a wrong time zone; its age is unknown."""

FEWEST_UNITS = 2
"""From one unit alone nothing follows for others, however often it was seen."""
MEASURED_FLOOR = 0.5
"""Of the requests that a metric could speak of, more than this share must hold a value; else what is missing may hide the worst."""

DEFAULT_GATES = GatesSpec(
    gates=(
        GateSpec(
            id="success",
            title="Success not worse than the baseline",
            metric="success_rate",
            against_baseline=AgainstBaseline(margin=0.05),
            min_n=30,
            max_age=parse_duration("520w"),
        ),
        GateSpec(
            id="latency",
            title="p95 latency close to the baseline",
            metric="latency_p95",
            against_baseline=AgainstBaseline(ratio=1.25),
            min_n=30,
            max_age=parse_duration("520w"),
        ),
        GateSpec(
            id="violations",
            title="Policy violations are rare",
            metric="violation_rate",
            at_most=0.01,
            min_n=30,
            max_age=parse_duration("520w"),
        ),
    )
)
"""Bars for an app without gates.yaml, so that a recorded log can be judged at all. Such an app is never GO, as its own bars
are not declared; that is why old logs are good enough here."""

_DEFAULT_NOTE = "a default bar; gates.yaml sets your own"
LEVEL = 0.95
"""Coverage of the intervals that gates decide on."""
_QUANTILE_METRIC = re.compile(r".*_p(\d+)")


def assess(
    gate: GateSpec, evidence: Evidence | None, *, now: datetime, has_baseline: bool = True, is_first: bool = False, owner: str | None = None
) -> GateResult:
    """The verdict of `gate` on `evidence`.

    Args:
        gate: the bar.
        evidence: the record of its metric; None when nothing could be measured.
        now: the present, UTC; against it the newest rows age.
        has_baseline: whether a baseline bundle is known; only a gate against a baseline asks.
        is_first: whether the app never had traffic on another bundle.
        owner: the person who answers for the gate.
    """
    blank = _blank(gate, owner)
    if gate.against_baseline is not None and not has_baseline:
        return _without_baseline(blank, is_first=is_first)
    if evidence is None:
        return replace(
            blank, verdict=Verdict.MISSING, reason="not_measured", sentence=f"{_what(gate)}: nothing was measured; {_ASK_FOR_TRAFFIC}"
        )
    blank = replace(blank, evidence_ids=(evidence.evidence_id,))
    try:
        if observations(gate, evidence) == 0:
            return _no_data(gate, blank)
        _check_clock(evidence, now)
        reading = read(gate, evidence)
        return _judge(gate, reading, evidence, _filled(blank, reading), now)
    except BrokenEvidence as fault:
        verdict = _OF_FAULT.get(fault.reason, Verdict.ERROR)
        return replace(blank, verdict=verdict, reason=fault.reason, sentence=f"{_what(gate)}: {fault.sentence}.")


def assess_default(
    gate: GateSpec, evidence: Evidence | None, *, now: datetime, has_baseline: bool, is_first: bool, owner: str | None = None
) -> GateResult:
    """As `assess`, for one of `DEFAULT_GATES`; the sentence says that the bar is a default."""
    result = assess(gate, evidence, now=now, has_baseline=has_baseline, is_first=is_first, owner=owner)
    return replace(result, sentence=f"{result.sentence.removesuffix('.')} ({_DEFAULT_NOTE}).")


def unmeasurable(gate: GateSpec, error: WorkbenchError, *, owner: str | None = None) -> GateResult:
    """ERROR, because the gate's metric cannot be asked: it does not exist, or its filter is wrong."""
    return replace(
        _blank(gate, owner), verdict=Verdict.ERROR, reason="not_measurable", sentence=f"{_what(gate)}: {error}", next_step=error.next_step
    )


def coverage(results: Sequence[GateResult], *, quality: Collection[str], owner: str | None = None) -> GateResult:
    """Whether any measured quality gate applies to this bundle at all; without one a review rests on declarations only.

    Args:
        results: of all measured gates.
        quality: ids of the gates that can prove quality, see `declared.quality_gates`.
        owner: the person who answers for it.
    """
    applying = [r for r in results if r.gate_id in quality and r.verdict is not Verdict.NOT_APPLICABLE]
    blank = GateResult(
        gate_id="quality.evidence",
        title="Quality is measured",
        family=Family.QUALITY,
        is_blocking=True,
        verdict=Verdict.PASS,
        reason="measured",
        sentence=f"{counted(len(applying), 'measured quality gate')} {'applies' if len(applying) == 1 else 'apply'} to this bundle.",
        owner=owner,
    )
    if applying:
        return blank
    return replace(
        blank,
        verdict=Verdict.MISSING,
        reason="nothing_absolute",
        sentence="No measured quality gate applies: without a baseline a bundle is judged against absolute limits, and there is none.",
        next_step="add a blocking quality gate with at_least or at_most to gates.yaml",
    )


def _judge(gate: GateSpec, reading: Reading, evidence: Evidence, blank: GateResult, now: datetime) -> GateResult:
    if reading.lets_all_through:
        return replace(
            blank,
            verdict=Verdict.MISSING,
            reason="lets_all_through",
            sentence=f"{reading.seen}; the limit is {reading.required}, which no share can miss: nothing is proven by it.",
            next_step="set a limit in gates.yaml that a bad bundle would miss",
        )
    recent = recency(gate, evidence)
    if now - recent.reaches_to > gate.max_age:
        return replace(
            blank,
            verdict=Verdict.STALE,
            reason="too_old",
            sentence=f"{reading.seen}, but {recent.words(now - gate.max_age)} from the last {format_duration(gate.max_age)}; "
            f"{gate.min_n:,} are needed.",
            next_step="measure again on recent traffic",
        )
    if reading.n_effective < gate.min_n:
        return _too_few(gate, reading, blank)
    if reading.fails(reading.estimate):
        is_floor = reading.side in ("at_least", "more_than")
        return replace(
            blank,
            verdict=Verdict.FAIL,
            reason="below_limit" if is_floor else "above_limit",
            sentence=f"{reading.seen}; the limit is {reading.required}.",
            next_step="improve the bundle, or argue for another limit in gates.yaml",
        )
    if reading.pessimistic is None or not reading.clears(reading.pessimistic):
        return _uncertain(gate, reading, blank)
    return _unless_one_sided(gate, reading, evidence, blank)


def _unless_one_sided(gate: GateSpec, reading: Reading, evidence: Evidence, blank: GateResult) -> GateResult:
    """PASS, unless the number comes from one unit alone, or from too small a part of the requests that should have it."""
    if reading.n_clusters is not None and reading.n_clusters < FEWEST_UNITS:
        return replace(
            blank,
            verdict=Verdict.INSUFFICIENT,
            reason="one_unit",
            sentence=f"{reading.seen}; the limit is {reading.required}, but {counted(reading.n_clusters, 'unit')} alone cannot show how "
            "much units differ.",
            next_step=_MORE_UNITS,
        )
    share = min(measured_shares(gate, evidence), default=1.0)
    if share <= MEASURED_FLOOR:
        return replace(
            blank,
            verdict=Verdict.INSUFFICIENT,
            reason="mostly_unmeasured",
            sentence=f"{reading.seen}; the limit is {reading.required}, but only {_measured_words(gate, evidence, share)} could be "
            f"measured, and more than {number(MEASURED_FLOOR, 'share')} must be.",
            next_step="find out why the others were not measured: rows without the value, requests that nobody judged, or a sampled judge "
            "whose scores do not say their sample_probability",
        )
    return replace(blank, verdict=Verdict.PASS, reason="clears_limit", sentence=f"{reading.seen}; the limit is {reading.required}.")


def _measured_words(gate: GateSpec, evidence: Evidence, share: float) -> str:
    """`50.0 % of 400 requests`, of the side of which less was measured."""
    side = next(side for side in sides_of(gate, evidence) if side.get("measured_share") == share)
    eligible = side.get("n_eligible")
    requests = counted(eligible, "request") if isinstance(eligible, int) else "the requests"
    return f"{number(share, 'share')} of {requests}"


def _too_few(gate: GateSpec, reading: Reading, blank: GateResult) -> GateResult:
    so_far = f"{gate.min_n:,} are needed before this gate decides (seen so far: {number(reading.estimate, reading.unit)})"
    worth, needed = "", max(gate.min_n, _n_needed(gate, reading) or 0)
    clusters = reading.n_clusters
    repeated = f" of {counted(clusters, 'unit')}" if clusters is not None and clusters < reading.n else ""
    if reading.n_effective < reading.n:
        worth = f"{repeated} are worth {counted(reading.n_effective, 'independent one')},"
        needed = max(needed, _as_observations(gate.min_n, reading))
    return replace(
        blank,
        verdict=Verdict.INSUFFICIENT,
        reason="too_few",
        n_needed=needed if clusters is None or clusters >= FEWEST_UNITS else None,
        sentence=f"{reading.what}: {counted(reading.n, 'observation')}{worth or ','} {so_far}.",
        next_step=_MORE_UNITS if repeated and reading.n >= gate.min_n else "collect more traffic on this bundle",
    )


def _uncertain(gate: GateSpec, reading: Reading, blank: GateResult) -> GateResult:
    needed = _n_needed(gate, reading)
    if reading.pessimistic is None:
        doubt, reason = "but this many observations do not bound it on the side of the bar", "unbounded"
    else:
        doubt, reason = f"but the interval reaches {number(reading.pessimistic, reading.unit)}", "uncertain"
    advice = (
        f"about {needed:,} observations would be enough at this value" if needed is not None else "how many would be enough cannot be said"
    )
    if reading.pessimistic is None and needed is not None:
        advice = f"it takes at least {needed:,} observations"
    return replace(
        blank,
        verdict=Verdict.INSUFFICIENT,
        reason=reason,
        n_needed=needed,
        sentence=f"{reading.seen}; the limit is {reading.required}, {doubt}; {advice}.",
        next_step="collect more traffic on this bundle" if needed is not None else "collect more traffic, or set a bar with room for doubt",
    )


def _n_needed(gate: GateSpec, reading: Reading) -> int | None:
    """Observations that would clear the bar at this estimate, or at least bound the interval; None where it cannot be said.

    Half-widths shrink with the square root of n; a Wilson interval, which is lopsided near 0 and 1, is solved itself. Where
    repeats make n observations worth fewer, the rest is expected to repeat as much. Always more than there are.
    """
    if reading.pessimistic is None:
        bounding = _n_that_bounds(gate)
        needed = None if bounding is None else _as_observations(bounding, reading)
        return needed if needed is not None and needed > reading.n else None
    slack, reach = abs(reading.estimate - reading.bar), abs(reading.estimate - reading.pessimistic)
    if slack == 0 or not reading.clears(reading.estimate):
        return None
    if reading.method.startswith("wilson") and reading.unit == "share":
        solved = n_to_prove(reading.estimate, reading.bar, at_least_bar=reading.side == "at_least")
        if solved is not None and (solved := _as_observations(solved, reading)) > reading.n:
            return solved
    return max(reading.n + 1, math.ceil(reading.n * (reach / slack) ** 2))


def _as_observations(worth: int, reading: Reading) -> int:
    """How many observations are worth that many independent ones, if they repeat as those seen so far do."""
    return math.ceil(worth * reading.n / max(reading.n_effective, 1))


def _n_that_bounds(gate: GateSpec) -> int | None:
    """Smallest n at which a quantile has an interval with two ends, for both bundles where two are compared."""
    match = _QUANTILE_METRIC.fullmatch(gate.metric)
    if match is None:
        return None
    level = LEVEL if gate.against_baseline is None else level_of_each(LEVEL)
    return n_to_bound(int(match[1]) / 100, level=level)


def _without_baseline(blank: GateResult, *, is_first: bool) -> GateResult:
    if is_first:
        return replace(
            blank,
            verdict=Verdict.NOT_APPLICABLE,
            reason="no_baseline",
            sentence="This is the app's first bundle with traffic: there is no baseline, so it is judged against absolute limits.",
        )
    return replace(
        blank,
        verdict=Verdict.MISSING,
        reason="no_baseline",
        sentence="No baseline was named, and the log does not hold exactly one other registered bundle to compare with.",
        next_step="name one with --baseline",
    )


def _no_data(gate: GateSpec, blank: GateResult) -> GateResult:
    sides = "this bundle and the baseline both have" if gate.against_baseline is not None else "this bundle has"
    return replace(
        blank,
        verdict=Verdict.MISSING,
        reason="no_data",
        n=0,
        sentence=f"{_what(gate)}: 0 observations, {gate.min_n:,} are needed; check that {sides} traffic that this metric counts.",
        next_step="send or import traffic, and decide undecided requests by a success rule",
    )


_OF_FAULT = {"no_ratio": Verdict.INSUFFICIENT, "undefined": Verdict.MISSING}
"""Records that are whole, but say nothing on the bar."""
_ASK_FOR_TRAFFIC = "import a log or send traffic first."
_MORE_UNITS = "collect traffic of more units: other people, other sessions"


def _check_clock(evidence: Evidence, now: datetime) -> None:
    last = evidence.row_set.last
    if last is None:
        raise BrokenEvidence("broken_evidence", "the record does not say when its newest row happened")
    if last > now + CLOCK_TOLERANCE:
        raise BrokenEvidence(
            "from_the_future", f"the newest row is dated {last:%Y-%m-%d %H:%M} UTC, after the present; check its clock or time zone"
        )


def _blank(gate: GateSpec, owner: str | None) -> GateResult:
    return GateResult(
        gate_id=gate.id,
        title=gate.title or _title(gate),
        family=gate.family,
        is_blocking=gate.is_blocking,
        verdict=Verdict.ERROR,
        reason="not_assessed",
        sentence="",
        owner=owner,
    )


def _filled(blank: GateResult, reading: Reading) -> GateResult:
    return replace(blank, observed=reading.estimate, low=reading.low, high=reading.high, limit=reading.bar, unit=reading.unit, n=reading.n)


def _title(gate: GateSpec) -> str:
    if gate.against_baseline is not None:
        return f"{_what(gate)} against the baseline"
    return f"{_what(gate)} {'at least' if gate.at_least is not None else 'at most'} its limit"


def _what(gate: GateSpec) -> str:
    words = metric_words(gate.metric, gate.where)
    return words[:1].upper() + words[1:]
