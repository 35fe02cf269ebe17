"""What the judge advises, from its memory alone."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import datetime

from workbench.release import judge_metrics
from workbench.release.judge_kinds import BY_EVENTS, DECIDING, Decision, Kind, Role
from workbench.release.judge_model import Judgement, JudgePlan, MetricJudgement, MetricPlan
from workbench.release.judge_state import JudgeState, MetricState
from workbench.stats import allowance, asymptotic, tilted
from workbench.stats.tilted import Cell, Counts, Interval


def decide(
    state: JudgeState, plan: JudgePlan, at: datetime, *, step: int, data_at: datetime | None, deadline: datetime | None = None
) -> Judgement:
    """What the judge advises now. It needs the memory alone, so it takes the same time after any number of rows.

    Args:
        state: after the rows that are known.
        plan: of this release.
        at: now.
        step: of the release, from 0.
        data_at: until when rows are known to be there; None where nothing was ever read.
        deadline: when the release has to be decided; None: never.
    """
    metrics = tuple(_metric(state.metrics[metric.name], metric, plan, step) for metric in plan.metrics)
    shares = {name: weight * judge_metrics.e_harm(state.metrics[name], _named(plan, name), plan) for name, weight in plan.weights.items()}
    decision, reason, sentence = _advice(state, plan, metrics, at=at, step=step, data_at=data_at, deadline=deadline)
    return Judgement(
        decision=decision,
        reason=reason,
        sentence=sentence,
        at=at,
        data_at=data_at,
        step=step,
        e_harm=sum(shares.values()),
        e_harm_limit=1 / plan.alpha,
        e_safe_limit=1 / plan.beta,
        blame=state.harmed.blame if state.harmed else max(shares, key=lambda name: shares[name]) if state.rows else None,
        metrics=metrics,
        e_split=tilted.e_value(state.split, tilted.SPLIT),
        e_missing=max(
            (tilted.e_value(state.metrics[one.name].arrived, tilted.SPLIT) for one in plan.metrics if one.role in DECIDING), default=1.0
        ),
        e_split_limit=1 / plan.split_alpha,
        units_stable=state.units[0],
        units_candidate=state.units[1],
        units_to_go=_units_to_go(state, plan, metrics, step),
        high_water=state.high_water,
        rows=state.rows,
        rows_outside=state.rows_outside,
        rows_repeated=state.rows_repeated,
    )


def _named(plan: JudgePlan, name: str) -> MetricPlan:
    return next(metric for metric in plan.metrics if metric.name == name)


def _advice(  # noqa: PLR0911 - one return for each decision reads best
    state: JudgeState,
    plan: JudgePlan,
    metrics: Sequence[MetricJudgement],
    *,
    at: datetime,
    step: int,
    data_at: datetime | None,
    deadline: datetime | None,
) -> tuple[Decision, str, str]:
    """The decision, its reason code and its sentence, the gravest first.

    What was passed first counts: harm that was proven before the split broke is proven, what comes after it is void.
    """
    harmed, invalid = state.harmed, state.invalid
    if harmed and (invalid is None or harmed.place <= invalid.place):
        found = next(metric for metric in metrics if metric.name == harmed.blame)
        known, asked = state.metrics[harmed.blame], _named(plan, harmed.blame)
        words = f"{_words(found)}{_kept(known, asked, plan)}{_since(known, asked, plan)}"
        return Decision.ROLLBACK, "harm", f"{words}; evidence {harmed.e:.3g} passed its limit {1 / plan.alpha:.3g}"
    if invalid:
        what = (
            "units are not split as the route says"
            if invalid.blame == "split"
            else f"values of {invalid.blame} come in unequally from the arms"
        )
        code = "split" if invalid.blame == "split" else "missing"
        return (
            Decision.INVALID,
            code,
            f"{what}: evidence {invalid.e:.3g} passed its limit {1 / plan.split_alpha:.3g}; no number can be trusted",
        )
    stable, candidate = state.units
    if not state.rows:
        return Decision.NO_DATA, "no_rows", "no request of this release is known yet"
    if data_at is None or abs((at - data_at).total_seconds()) > plan.max_data_age_s:
        return Decision.HOLD, "stale", f"the data is {_age(data_at, at)}; at most {plan.max_data_age_s:g} s are allowed"
    needs_stable = any(metric.kind is not Kind.BUDGET for metric in plan.metrics if metric.role in DECIDING)
    if not candidate or (needs_stable and not stable):
        empty = "the candidate" if not candidate else "the stable bundle"
        return Decision.NO_DATA, "one_arm", f"no request was served by {empty}"
    waits = _waits(state, plan, metrics, step)
    if not waits:
        return Decision.PROMOTE, "proven", f"every metric is proven within its margin at {candidate:,} candidate units"
    harmful = next((sentence for code, sentence in waits if code == "kpi"), None)
    if harmful is not None:
        return Decision.HOLD, "kpi", harmful
    if deadline is not None and at >= deadline:
        return Decision.INCONCLUSIVE, "deadline", f"the deadline passed; {waits[0][1]}"
    return Decision.HOLD, waits[0][0], "; ".join(sentence for _, sentence in waits)


def _age(data_at: datetime | None, at: datetime) -> str:
    """How old the data is. What a clock that runs ahead dated in the future is as unknown as what is old."""
    if data_at is None:
        return "of unknown age"
    age_s = (at - data_at).total_seconds()
    return f"{age_s:.0f} s old" if age_s >= 0 else f"dated {-age_s:.0f} s in the future: two clocks differ"


def _waits(state: JudgeState, plan: JudgePlan, metrics: Sequence[MetricJudgement], step: int) -> list[tuple[str, str]]:
    """What keeps the step from being left: reason codes with sentences."""
    waits = [
        ("gathering", f"{metric.name} is not proven better than {_safe(metric)} yet (evidence {metric.e_safe:.3g} of {1 / plan.beta:.3g})")
        for metric in metrics
        if metric.role in DECIDING and not metric.is_safe
    ]
    waits += [("no_outcome", sentence) for metric in metrics if (sentence := _no_outcome(_named(plan, metric.name), metric))]
    waits += [
        ("kpi", f"{_words(metric)}{_kept(state.metrics[metric.name], _named(plan, metric.name), plan)}")
        for metric in metrics
        if metric.role is Role.KPI and metric.is_harmful
    ]
    needed, seen = plan.min_units_at(step), state.units[1]
    return [*waits, ("units", f"{seen:,} candidate units of at least {needed:,}")] if seen < needed else waits


def _safe(metric: MetricJudgement) -> str:
    """The safe margin for people, with what it is of where the harm margin is of something else."""
    return f"{metric.safe:g}{_OF[Kind.REACHED] if metric.kind is Kind.MOSTLY_REACHED else ''}"


def _no_outcome(plan: MetricPlan, metric: MetricJudgement) -> str:
    """Why a KPI that was to be looked at says nothing at all; empty where it does, or nobody waits for it."""
    if plan.within_us is None or metric.role is Role.SIGNAL or min(metric.n_stable, metric.n_candidate):
        return ""
    arms = [arm for arm, n in (("stable", metric.n_stable), ("the candidate", metric.n_candidate)) if not n]
    return f"{metric.name}: no talk of {' and '.join(arms)} has an outcome, or a window that is over"


_MISSED = " candidate/stable of those that missed it"
_OF = {Kind.REACHED: " stable/candidate of those that reached it", Kind.MOSTLY_REACHED: _MISSED, Kind.MISSED: _MISSED}


def _words(metric: MetricJudgement) -> str:
    """The numbers of a metric as a sentence."""
    what = {Kind.BUDGET: "rate", Kind.SCORE: "loss", Kind.AMOUNT: "loss"}.get(metric.kind, "ratio")
    units = f"{metric.n_candidate:,} candidate and {metric.n_stable:,} stable"
    what += _OF.get(metric.kind, f" in {metric.unit}" if metric.unit else "")
    return f"{metric.name}: {what} {_range(metric)}, harmful above {metric.harm:.4g}, {units}"


def _range(found: Interval | MetricJudgement) -> str:
    """An estimate with the ends of its interval."""
    estimate, low, high = ("?" if value is None else f"{value:.3g}" for value in (found.estimate, found.low, found.high))
    return f"{estimate} ({low} to {high})"


def _kept(state: MetricState, metric: MetricPlan, plan: JudgePlan) -> str:
    """The ratio of those that reached what most reach, which is harmful by itself; empty of other kinds."""
    if metric.kind is not Kind.MOSTLY_REACHED:
        return ""
    (counts,) = judge_metrics.safe_tests(state, metric)
    found = tilted.ratio_interval(counts, alpha=plan.alpha)
    return f"; ratio{_OF[Kind.REACHED]} {_range(found)}, harmful above {metric.harm_reached:.4g}"


def _since(state: MetricState, metric: MetricPlan, plan: JudgePlan) -> str:
    """What a metric is since the step from which on it most likely is worse; empty where that is the first one."""
    onset = judge_metrics.late_onset(state, metric, plan)
    if onset is None:
        return ""
    step, counts = onset
    found = tilted.ratio_interval(counts, alpha=plan.alpha)
    stable, candidate = _arms(metric, counts)
    return f"; since step {step + 1}: {_range(found)}, {candidate:,} candidate and {stable:,} stable"


def _metric(state: MetricState, metric: MetricPlan, plan: JudgePlan, step: int) -> MetricJudgement:
    interval, (stable, candidate) = _interval(state, metric, plan.alpha), _numbers(state, metric)
    harm, safe = judge_metrics.e_harm(state, metric, plan), judge_metrics.e_safe(state, metric, step)
    is_safe, is_harmful = safe >= 1 / plan.beta, harm >= 1 / plan.alpha
    if metric.kind is Kind.AMOUNT:
        is_harmful = interval.low is not None and interval.low > metric.harm and state.moments.n >= FEWEST_BLOCKS
        is_safe = interval.high is not None and interval.high < metric.safe_at(step) and state.moments.n >= FEWEST_BLOCKS
    elif metric.kind is Kind.BUDGET and metric.safe_at(step) == 0:
        is_safe = state.trials.n > 0 and state.trials.events == 0
    return MetricJudgement(
        name=metric.name,
        kind=metric.kind,
        role=metric.role,
        e_harm=harm,
        e_safe=safe,
        harm=metric.harm,
        safe=metric.safe_at(step),
        estimate=interval.estimate,
        low=interval.low,
        high=interval.high,
        n_stable=stable,
        n_candidate=candidate,
        n_refused=state.n_refused,
        is_safe=is_safe,
        is_harmful=is_harmful,
        unit=metric.unit,
    )


FEWEST_BLOCKS = 1000
"""Blocks before the asymptotic sequence of a heavy-tailed value is believed."""


def _interval(state: MetricState, metric: MetricPlan, alpha: float) -> Interval:
    """Of a latency the interval is that of the threshold at which the candidate looks worst."""
    if metric.kind is Kind.BUDGET:
        return allowance.rate_interval(state.trials, alpha=alpha)
    if metric.kind in (Kind.SCORE, Kind.AMOUNT):
        return asymptotic.mean_interval(state.moments, alpha=alpha)
    tests = judge_metrics.bad_events(state, metric)
    return max((tilted.ratio_interval(counts, alpha=alpha) for counts in tests), key=lambda one: one.estimate or 0.0)


def _numbers(state: MetricState, metric: MetricPlan) -> tuple[int, int]:
    if metric.kind is Kind.BUDGET:
        return 0, state.trials.n
    if metric.kind in (Kind.SCORE, Kind.AMOUNT) or metric.within_us is not None:
        return state.n
    return _arms(metric, max(state.counts, key=_total))


def _arms(metric: MetricPlan, counts: Counts) -> tuple[int, int]:
    """Events of stable and of the candidate."""
    stable, candidate = (sum(getattr(cell, arm) for cell in counts) for arm in ("stable", "candidate"))
    return (candidate, stable) if metric.kind is Kind.REACHED else (stable, candidate)


def _total(counts: Counts) -> int:
    return sum(cell.stable + cell.candidate for cell in counts)


def _units_to_go(state: JudgeState, plan: JudgePlan, metrics: Sequence[MetricJudgement], step: int) -> int | None:
    """How many more units of the candidate the slowest event metric is expected to need if the candidate is as good as stable.

    The expected growth of the logarithm of evidence per event, at the newest share and with the best alternative, and how many events
    a unit of the candidate brought so far. Scores are not forecast; where one is missing nothing is said.
    """
    longest = 0.0
    for found in metrics:
        if found.is_safe or found.role not in DECIDING:
            continue
        metric, known = _named(plan, found.name), state.metrics[found.name]
        if metric.kind not in BY_EVENTS:
            return None
        for counts in judge_metrics.safe_tests(known, metric):
            if not counts or not state.units[1]:
                return None
            margin = metric.safe_at(step)
            growth = max(_growth(counts[-1].share, ratio, margin) for ratio in tilted.SAFE)
            if growth <= 0:
                return None
            missing = math.log(len(tilted.SAFE) / plan.beta) - math.log(
                max(tilted.e_value(counts, tilted.SAFE, margin), 1e-9) * len(tilted.SAFE)
            )
            events_per_unit = _total(counts) / state.units[1]
            longest = max(longest, missing / growth / events_per_unit)
    return math.ceil(longest)


def _growth(share: float, ratio: float, margin: float) -> float:
    """Expected gain in log evidence per event where both arms are alike."""
    gain = [tilted.log_likelihood_ratio((Cell(0, share, 1 - is_candidate, is_candidate),), (ratio,), margin)[0] for is_candidate in (0, 1)]
    return (1 - share) * gain[0] + share * gain[1]
