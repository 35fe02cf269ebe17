"""From units to what a bundle changed: pure judgement on the columns that `impact_rows.Sessions.exposed` read.

The order is fixed before any number is seen: the split first, then who counts, then what hangs on a few units, then the effect, adjusted
where there is a pre-period. Of several ways to look at the same units the first one decides.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

import numpy as np

from workbench.errors import InsufficientData
from workbench.observability.impact_model import (
    Crossed,
    Design,
    Effect,
    Finding,
    Measured,
    Reason,
    Side,
    Standing,
    Variance,
)
from workbench.observability.impact_periods import LEVEL, standing
from workbench.observability.impact_rows import Column
from workbench.spec.app import Kpi
from workbench.spec.base import format_duration
from workbench.stats.cuped import MISSING_RULE, Adjustment, adjustment, linearised
from workbench.stats.effect import Mean, absolute_effect, relative_effect, stratified
from workbench.stats.outliers import Tail, tail, winsorised
from workbench.stats.split import MISMATCH, SplitTest, Stretch, split_test

FEWEST_UNITS = 30
"""On each side; below it an average of units is no average yet, and no effect is shown."""
TAIL_SHARE = 0.001
TAIL_MATTERS = 0.1
"""Where the top units hold at least this share of the value, the values are cut to the greatest of the others."""
AS_OBSERVED, CUT, ADJUSTED = "as observed", "outliers cut", "adjusted by the pre-period"


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """What is compared with what, and how."""

    app: str
    kpi: Kpi
    design: Design
    release_id: str | None
    candidate: str
    baseline: str
    crossed: Crossed
    pre: timedelta
    nameless: int
    as_of: datetime | None
    snapshot: int | None
    drill_lost: float = 0.0


def nothing_to_compare(asked: Compared, sentence: str) -> Effect:
    """The effect where a side has no traffic."""
    empty = Side(name="", units=0, judged=0, value=None, cost_per_outcome=None)
    return _blank(asked, replace(empty, name=asked.candidate), replace(empty, name=asked.baseline), _no(Reason.NO_TRAFFIC, sentence))


def effect_of(asked: Compared, columns: Mapping[str, Column]) -> Effect:
    """The effect on these units, or the reason why none is shown."""
    units = _Units(asked.kpi, _drilled(columns, asked.drill_lost))
    split, stretches = _split(asked, units)
    keep = units.judged & ~(units.crossed if asked.crossed is Crossed.EXCLUDE else np.zeros(units.n, dtype=bool))
    strata = list(_strata(asked, units, keep))
    counted = np.any([stratum.members for stratum in strata], axis=0) if strata else np.zeros(units.n, dtype=bool)
    candidate, baseline = (
        _side(name, units, units.candidate == is_it, counted) for name, is_it in ((asked.candidate, True), (asked.baseline, False))
    )
    found = replace(
        _blank(asked, candidate, baseline, _no(Reason.NO_TRAFFIC, "")),
        split=split,
        stretches=stretches,
        crossed=int(units.crossed.sum()),
        open_units=int((~units.judged).sum()),
        one_sided=int((keep & ~counted).sum()),
    )
    refusal = _refusal(found, keep)
    judged = replace(found, finding=refusal) if refusal else _measured(found, asked, units, strata)
    return replace(judged, finding=replace(judged.finding, sentence=_as_drill(judged))) if asked.drill_lost else judged


def _as_drill(effect: Effect) -> str:
    return f"A drill, as if {100 * effect.drill_lost:g} % of the candidate's units had been lost. {effect.finding.sentence}"


def _drilled(columns: Mapping[str, Column], lost: float) -> Mapping[str, Column]:
    """The columns without this share of the candidate's units, evenly over all of them."""
    is_candidate = columns["is_candidate"].astype(bool)
    place = np.cumsum(is_candidate)
    is_lost = is_candidate & (np.floor(place * lost) > np.floor((place - 1) * lost))
    return {name: column[~is_lost] for name, column in columns.items()} if lost else columns


class _Units:
    """The units of both sides as arrays of equal length."""

    def __init__(self, kpi: Kpi, columns: Mapping[str, Column]) -> None:
        self.candidate = columns["is_candidate"].astype(bool)
        self.crossed = columns["crossed"].astype(bool)
        self.judged = columns["is_judged"].astype(bool)
        self.share = columns["share"].astype(float)
        self.n = self.candidate.size
        self.cost, self.paid, self.priced = columns["cost"], columns["paid"], columns["priced"]
        total, outcomes, sessions = columns["total"], columns["outcomes"], columns["sessions"]
        ones = np.ones(self.n)
        self.y, self.x = {"rate": (outcomes, sessions), "mean": (total, outcomes), "sum": (total, ones)}[kpi.aggregate]
        self.pre = _pre(kpi, columns["pre_total"].astype(float), columns["pre_outcomes"].astype(float))


def _pre(kpi: Kpi, total: Column, outcomes: Column) -> Column:
    """What a unit did before, in the KPI's own terms; NaN where the log does not know it, or where a mean has nothing to be of."""
    if kpi.aggregate == "rate":
        return outcomes
    if kpi.aggregate == "sum":
        return total
    means: Column = np.divide(total, outcomes, out=np.full(total.size, np.nan), where=outcomes > 0)
    return means


@dataclass(frozen=True, slots=True, kw_only=True)
class _Stratum:
    """Units that are compared with each other: those first seen under one share."""

    members: Column
    """Mask over all units."""
    candidate: Column
    baseline: Column
    """Places of each side's units."""

    @property
    def weight(self) -> float:
        return float(self.members.sum())

    @property
    def sides(self) -> tuple[Column, Column]:
        return self.candidate, self.baseline


def _strata(asked: Compared, units: _Units, keep: Column) -> Iterator[_Stratum]:
    """Each stretch in which both sides have enough to vary; what is left over has nothing to be compared with."""
    shares = [None] if asked.design is Design.UNROUTED else sorted(set(units.share[~np.isnan(units.share)].tolist()) - {0.0, 1.0})
    for share in shares:
        members = keep if share is None else keep & (units.share == share)
        candidate, baseline = np.flatnonzero(members & units.candidate), np.flatnonzero(members & ~units.candidate)
        if min(candidate.size, baseline.size) > 1 and units.x[candidate].sum() > 0 and units.x[baseline].sum() > 0:
            yield _Stratum(members=members, candidate=candidate, baseline=baseline)


def _split(asked: Compared, units: _Units) -> tuple[SplitTest | None, tuple[Stretch, ...]]:
    """The declared shares against the units that came first under each; None where no shares were declared."""
    if asked.design is Design.UNROUTED:
        return None, ()
    shares = sorted(set(units.share[~np.isnan(units.share)].tolist()))
    found = [(share, units.candidate[units.share == share]) for share in shares]
    stretches = tuple(Stretch(share=share, candidate=int(who.sum()), baseline=int((~who).sum())) for share, who in found)
    try:
        return split_test(stretches), stretches
    except InsufficientData:
        return None, stretches


def _side(name: str, units: _Units, own: Column, counted: Column) -> Side:
    its = own & counted
    paid = float(units.paid[its].sum())
    return Side(
        name=name,
        units=int(own.sum()),
        judged=int(its.sum()),
        value=None,
        cost_per_outcome=float(units.cost[its].sum()) / paid if paid and units.priced[its].sum() else None,
    )


def _refusal(found: Effect, keep: Column) -> Finding | None:
    """Why no number is shown; None when there may be one."""
    if not found.candidate.units or not found.baseline.units:
        return _no(Reason.NO_TRAFFIC, f"{found.kpi.name}: one side has no traffic here, so there is nothing to compare.")
    if found.split is not None and found.split.is_broken:
        s = found.split
        return _no(
            Reason.SPLIT_MISMATCH,
            f"{found.kpi.name}: {s.observed:,} of {s.n:,} units came to the candidate where its declared shares let expect "
            f"{s.expected:,.0f} ({p_words(s.p)}, broken below {MISMATCH:g}). Some units are missing on one side, and those that are left "
            "differ in more than the bundle, so no effect is shown.",
        )
    if not keep.any():
        wait = format_duration(found.within) if found.within else "no time"
        return _no(Reason.WINDOW_OPEN, f"{found.kpi.name}: an event may follow for {wait}, and for no unit is that over.")
    fewest = min(found.candidate.judged, found.baseline.judged)
    if fewest < FEWEST_UNITS:
        return _no(
            Reason.FEW_UNITS,
            f"{found.kpi.name}: one side has {fewest:,} units that can be judged; an effect takes {FEWEST_UNITS} on each.",
        )
    return None


def _measured(found: Effect, asked: Compared, units: _Units, strata: Sequence[_Stratum]) -> Effect:
    """The effect in every way that there is, the deciding one first."""
    hangs = _tail(asked.kpi, units, strata)
    is_cut = hangs is not None and hangs.share_of_total >= TAIL_MATTERS and hangs.largest > hangs.limit
    y = winsorised(units.y, hangs.limit) if hangs and is_cut else units.y
    change, variance = _adjustment(asked, units, y, strata)
    ways: list[tuple[str, tuple[Mean, Mean]]] = []
    if change is not None:
        ways.append((f"{ADJUSTED}, {CUT}" if is_cut else ADJUSTED, _means(units, y, strata, change)))
    if is_cut:
        ways.append((CUT, _means(units, y, strata, None)))
    plain = _means(units, units.y, strata, None)
    ways.append((AS_OBSERVED, plain))
    try:
        measured = tuple(_both_scales(way, *means) for way, means in ways)
    except InsufficientData:
        sentence = f"{asked.kpi.name}: no unit differs from another, so nothing is known of chance."
        return replace(found, tail=hangs, variance=variance, finding=_no(Reason.NO_VARIATION, sentence))
    return replace(
        found,
        candidate=replace(found.candidate, value=plain[0].value),
        baseline=replace(found.baseline, value=plain[1].value),
        tail=hangs,
        variance=variance,
        measured=measured,
        finding=_judged(asked, measured[0]),
    )


def _tail(kpi: Kpi, units: _Units, strata: Sequence[_Stratum]) -> Tail | None:
    if kpi.aggregate == "rate":
        return None
    members = np.concatenate([side for stratum in strata for side in stratum.sides])
    return tail(units.y[members], share=TAIL_SHARE)


def _adjustment(asked: Compared, units: _Units, y: Column, strata: Sequence[_Stratum]) -> tuple[Adjustment | None, Variance]:
    groups = [(linearised(y[side], units.x[side]), units.pre[side]) for stratum in strata for side in stratum.sides]
    days = asked.pre / timedelta(days=1)
    n_with_pre = sum(int((~np.isnan(pre)).sum()) for _, pre in groups)
    try:
        change = adjustment(groups)
    except InsufficientData:
        rule = "not adjusted: too few units are known from before, or they did not differ then"
        return None, Variance(days=days, theta=None, reduction=None, n_with_pre=n_with_pre, rule=rule)
    reduction = change.variance_reduction
    return change, Variance(days=days, theta=change.theta, reduction=reduction, n_with_pre=n_with_pre, rule=MISSING_RULE)


def _means(units: _Units, y: Column, strata: Sequence[_Stratum], change: Adjustment | None) -> tuple[Mean, Mean]:
    """Candidate's and baseline's mean over the strata, each stratum with the same weight on both sides."""
    sides: tuple[list[tuple[float, Mean]], list[tuple[float, Mean]]] = ([], [])
    for stratum in strata:
        for own, places in zip(sides, stratum.sides, strict=True):
            values, weights = y[places], units.x[places]
            mean = (
                Mean.of_ratio(values, weights)
                if change is None
                else Mean.of_values(change.apply(linearised(values, weights), units.pre[places]))
            )
            own.append((stratum.weight, mean))
    return stratified(sides[0]), stratified(sides[1])


def _both_scales(way: str, candidate: Mean, baseline: Mean) -> Measured:
    absolute = absolute_effect(candidate, baseline)
    p = absolute.p
    try:
        relative = relative_effect(candidate, baseline, level=LEVEL)
    except InsufficientData:
        return Measured(way=way, absolute=absolute.at(LEVEL), absolute_p=p, relative=None, relative_p=None)
    return Measured(way=way, absolute=absolute.at(LEVEL), absolute_p=p, relative=relative.at(LEVEL), relative_p=relative.p)


def _judged(asked: Compared, measured: Measured) -> Finding:
    found = measured.absolute
    way = standing(found.value, found.low, found.high, 0.0, higher=asked.kpi.direction == "higher_is_better")
    caution = (
        "" if asked.design is Design.ROUTED else (" Nobody assigned these units by chance, so they may differ in more than the bundle.")
    )
    shows = f"{asked.kpi.name}: {measured.way}, the absolute effect"
    if way is Standing.UNCLEAR or found.low == 0 or found.high == 0:
        return Finding(reason=Reason.NO_DIFFERENCE_SHOWN, sentence=f"{shows} may be nothing ({p_words(measured.absolute_p)}).{caution}")
    reason, word = (Reason.BETTER, "an improvement") if way is Standing.BETTER else (Reason.WORSE, "a loss")
    return Finding(reason=reason, sentence=f"{shows} is {word} ({p_words(measured.absolute_p)}).{caution}")


def p_words(p: float) -> str:
    """`p 0.020`; never p 0."""
    return "p < 0.0001" if p < 0.0001 else f"p {p:.4f}" if p < 0.01 else f"p {p:.3f}"  # noqa: PLR2004


def _no(reason: Reason, sentence: str) -> Finding:
    return Finding(reason=reason, sentence=sentence)


def _blank(asked: Compared, candidate: Side, baseline: Side, finding: Finding) -> Effect:
    unit = "share of sessions" if asked.kpi.aggregate == "rate" else asked.kpi.unit
    per = {"rate": unit, "mean": f"{unit} per event", "sum": f"{unit} per user"}[asked.kpi.aggregate]
    return Effect(
        app=asked.app,
        kpi=asked.kpi,
        design=asked.design,
        release_id=asked.release_id,
        candidate=candidate,
        baseline=baseline,
        finding=finding,
        estimand=per,
        split=None,
        stretches=(),
        crossed=0,
        crossed_rule=asked.crossed,
        open_units=0,
        one_sided=0,
        nameless=asked.nameless,
        tail=None,
        measured=(),
        variance=None,
        as_of=asked.as_of,
        within=asked.kpi.within,
        snapshot=asked.snapshot,
        drill_lost=asked.drill_lost,
    )
