"""How each kind of metric remembers rows, and what its evidence of harm was after each of them."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from workbench.release.judge_kinds import BY_EVENTS, BY_MISSES, Kind
from workbench.release.judge_model import Bools, Column, Floats, Ints, JudgePlan, MetricPlan, Units
from workbench.release.judge_state import NO_UNITS, FirstSeen, MetricState, first_seen
from workbench.stats import allowance, asymptotic, betting, tilted
from workbench.stats.tilted import Counts

FIRST_STEP = 0.85
"""Stake on a candidate that is worse from the first step on; the later steps share the rest."""
_STEP = 0x9E3779B97F4A7C15
"""An odd number that sends a unit's steps to unlike keys."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """New rows in order, as columns of equal length."""

    batch_id: Ints
    seq: Ints
    is_candidate: Bools
    is_served: Bools
    """Of one of the two arms."""
    is_inside: Bools
    """Of one of the two arms, at a share strictly between 0 and 1."""
    share: Floats
    step: Ints
    unit: Units

    def events(self, at: Ints) -> tilted.Events:
        """These rows as events."""
        return tilted.Events(step=self.step[at], share=self.share[at], is_candidate=self.is_candidate[at])

    def exchanged(self, at: Ints) -> tilted.Events:
        """The same as if the arms had each other's name: more of a good event in stable is more of a bad one in the candidate."""
        return tilted.Events(step=self.step[at], share=1 - self.share[at], is_candidate=~self.is_candidate[at])

    def first_of_step(self, at: Ints, seen: Units) -> tuple[Ints, FirstSeen]:
        """Those of these rows in which their unit comes for the first time in its step."""
        new = first_seen(self.unit[at] + self.step[at].astype(np.uint64) * np.uint64(_STEP), seen)
        return at[new.rows], new


@dataclass(frozen=True, slots=True, kw_only=True)
class Track:
    """A metric's evidence of harm along the rows."""

    before: float
    rows: Ints
    """Where it changed, ascending."""
    e: Floats
    """What it was from there on."""
    arrived: Ints | None = None
    """Rows with a value that counts, where it is asked whether they come from both arms alike."""

    @property
    def peak(self) -> float:
        return max(self.before, float(self.e.max())) if len(self.e) else self.before

    def at(self, places: Ints) -> Floats:
        """The evidence at each of these rows, ascending."""
        index = np.searchsorted(self.rows, places, side="right")
        return np.concatenate([[self.before], self.e])[index]


_NO_ROWS: Ints = np.zeros(0, dtype=np.int64)


def onsets(n_steps: int) -> tuple[float, ...]:
    """The stake on each step as the one from which on the candidate is worse; they sum to 1."""
    return (1.0,) if n_steps == 1 else (FIRST_STEP, *([(1 - FIRST_STEP) / (n_steps - 1)] * (n_steps - 1)))


def begin(metric: MetricPlan, plan: JudgePlan) -> MetricState:
    """The memory before the first row."""
    zeros = (0.0,) * len(betting.FRACTIONS)
    is_score = metric.kind is Kind.SCORE
    return MetricState(
        seen=(NO_UNITS,) * _n_first(metric),
        counts=(tilted.NOTHING,) * len(_tests(metric)) if metric.kind in BY_EVENTS else (),
        harm_logs=(zeros,) * plan.n_steps if is_score else (),
        safe_logs=(zeros,) * len(metric.safe) if is_score else (),
    )


def observe(
    state: MetricState, metric: MetricPlan, plan: JudgePlan, rows: Rows, *, column: Column | None, fresh: Ints
) -> tuple[MetricState, Track]:
    """The metric's memory after these rows, and its evidence along them.

    Args:
        state: its memory.
        metric: its plan.
        plan: of the whole judgement.
        rows: the new rows.
        column: the metric's values of the whole batch; None where it has none.
        fresh: which rows of the batch are the new ones.
    """
    if column is None:
        return state, _still(state, metric, plan)
    values = column.values[fresh]
    present = rows.is_served if metric.kind is Kind.BUDGET else rows.is_inside
    if column.is_present is not None:
        present = present & column.is_present[fresh]
    usable = _is_usable(metric, values)
    refused = int(np.count_nonzero(present & ~usable))
    if refused:
        state = dataclasses.replace(state, n_refused=state.n_refused + refused)
    at = np.flatnonzero(present & usable)
    if metric.kind is Kind.BUDGET:
        return _budget(state, metric, plan, rows, at=at[rows.is_candidate[at]], values=values)
    if metric.kind in (Kind.SCORE, Kind.AMOUNT):
        return _valued(state, metric, plan, rows, at=at, values=values)
    happened = [at[each] for each in _happened(metric, values[at], rows.is_candidate[at])]
    if metric.is_of_talks:
        n = int(np.count_nonzero(rows.is_candidate[at]))
        state = dataclasses.replace(state, n=(state.n[0] + len(at) - n, state.n[1] + n))
        return _talks(state, metric, plan, rows, at=at, happened=happened[0])
    first = [rows.first_of_step(each, units) for each, units in zip(happened, state.seen, strict=True)]
    state = dataclasses.replace(state, seen=tuple(new.seen for _, new in first))
    return _events(state, metric, plan, rows, [counting for counting, _ in first])


def _is_usable(metric: MetricPlan, values: Floats) -> Bools:
    if metric.kind in BY_EVENTS - {Kind.LATENCY} or metric.kind is Kind.BUDGET:
        return np.asarray((values == 0) | (values == 1))
    if metric.kind is Kind.LATENCY:
        return np.asarray((values >= 0) & (values < np.inf))
    if metric.kind is Kind.SCORE:
        return np.asarray((values >= metric.low) & (values <= metric.high))
    return np.isfinite(values)


def _happened(metric: MetricPlan, values: Floats, is_candidate: Bools) -> list[Bools]:
    """Which values are events, for each threshold."""
    if metric.kind is Kind.REACHED or metric.kind in BY_MISSES:
        return [values == (1.0 if metric.kind is Kind.REACHED else 0.0)]
    if metric.kind is Kind.EVENT:
        return [values == (1.0 if metric.is_lower_better else 0.0)]
    allowed = values / np.where(is_candidate, 1 + metric.slack, 1.0)
    return [np.asarray(allowed > threshold) for threshold in metric.thresholds_ms]


@dataclass(frozen=True, slots=True)
class _Test:
    """One test of a metric whose evidence is that of events."""

    harm: float
    """Its harm margin."""
    is_of_good: bool = False
    """Whether its events are good ones, so that the arms are exchanged."""


def _tests(metric: MetricPlan) -> tuple[_Test, ...]:
    """The tests of a metric, in the order of the memory's counts."""
    if metric.kind is Kind.MOSTLY_REACHED:
        return (*(_Test(metric.harm),) * _n_first(metric), _Test(metric.harm_reached, is_of_good=True))
    return (_Test(metric.harm, is_of_good=metric.kind is Kind.REACHED),) * _n_first(metric)


def _n_first(metric: MetricPlan) -> int:
    """How many sets of units have counted: one per threshold, and of talks those that came and those that had an event."""
    return max(1, len(metric.thresholds_ms), 2 * metric.is_of_talks)


def _events(state: MetricState, metric: MetricPlan, plan: JudgePlan, rows: Rows, places: Sequence[Ints]) -> tuple[MetricState, Track]:
    """The metric's memory after the events of each test, at these places; its evidence is the mean over its tests."""
    counts, tracks = [], []
    for before, test, at in zip(state.counts, _tests(metric), places, strict=True):
        events = rows.exchanged(at) if test.is_of_good else rows.events(at)
        path = tilted.e_path(before, events, tilted.HARM, test.harm, stakes=onsets(plan.n_steps))
        tracks.append(Track(before=_event_harm(before, test, plan), rows=at, e=path.e))
        counts.append(path.state)
    return dataclasses.replace(state, counts=tuple(counts)), _mean(tracks, len(rows.seq))


def _talks(state: MetricState, metric: MetricPlan, plan: JudgePlan, rows: Rows, *, at: Ints, happened: Ints) -> tuple[MetricState, Track]:
    """Two tests of harm: events of units' first talks in a step, and their first events in it.

    Of units that return often nearly each has an event once where many talks have one, so that both arms look alike by the second. The
    first has the ratio of the talks' rates, and does not see what begins when a step's units have come. Where most reach a KPI those of
    the first talks that did are remembered, too: their ratio alone tells how much of it the candidate keeps, whatever stable's rate is.
    """
    talks, came = rows.first_of_step(at, state.seen[0])
    bad = np.intersect1d(talks, happened, assume_unique=True)
    any_talk, had_one = rows.first_of_step(happened, state.seen[1])
    reached = [np.setdiff1d(talks, bad, assume_unique=True)] if metric.kind is Kind.MOSTLY_REACHED else []
    return _events(dataclasses.replace(state, seen=(came.seen, had_one.seen)), metric, plan, rows, [bad, any_talk, *reached])


def bad_events(state: MetricState, metric: MetricPlan) -> tuple[Counts, ...]:
    """The events, one per test, whose ratio the harm margin is."""
    return state.counts[:-1] if metric.kind is Kind.MOSTLY_REACHED else state.counts


def safe_tests(state: MetricState, metric: MetricPlan) -> tuple[Counts, ...]:
    """The events by which it is tested whether it is good enough."""
    return state.counts[-1:] if metric.kind is Kind.MOSTLY_REACHED else state.counts


def _event_harm(counts: Counts, test: _Test, plan: JudgePlan) -> float:
    return tilted.staked(counts, tilted.HARM, test.harm, onsets(plan.n_steps))


def _mean(tracks: Sequence[Track], n: int) -> Track:
    if len(tracks) == 1:
        return tracks[0]
    is_place = np.zeros(n, dtype=np.bool_)
    for track in tracks:
        is_place[track.rows] = True
    places = np.flatnonzero(is_place)
    total, before = np.zeros(len(places)), 0.0
    for track in tracks:
        total, before = total + track.at(places), before + track.before
    return Track(before=before / len(tracks), rows=places, e=total / len(tracks))


def _valued(state: MetricState, metric: MetricPlan, plan: JudgePlan, rows: Rows, *, at: Ints, values: Floats) -> tuple[MetricState, Track]:
    """A unit's first value in a step; blocks of them are rounds of the game."""
    first, new = rows.first_of_step(at, state.seen[0])
    is_candidate = rows.is_candidate[first]
    opened, blocks = _blocks(state.opened, rows.step[first], is_candidate, np.clip(values[first], metric.low, metric.high))
    loss = blocks.candidate - blocks.stable if metric.is_lower_better else blocks.stable - blocks.candidate
    n = int(np.count_nonzero(is_candidate))
    closed = first[blocks.closed_by]
    after = dataclasses.replace(
        state,
        seen=(new.seen,),
        opened=opened,
        moments=asymptotic.update(state.moments, loss),
        n=(state.n[0] + len(first) - n, state.n[1] + n),
    )
    if metric.kind is Kind.AMOUNT:
        return after, _still(state, metric, plan)
    scale = metric.high - metric.low
    loss, step = np.clip(loss / scale, -1.0, 1.0), rows.step[closed]
    factors = betting.log_factors(loss, metric.harm / scale)
    total, before, harm_logs = np.zeros(len(loss)), 0.0, []
    for onset, (logs, stake) in enumerate(zip(state.harm_logs, onsets(plan.n_steps), strict=True)):
        paths = betting.grow(logs, [np.where(step >= onset, factor, 0.0) for factor in factors])
        e = betting.e_values(paths)
        total, before = total + stake * e[1:], before + stake * float(e[0])
        harm_logs.append(tuple(float(path[-1]) for path in paths))
    safe_logs = []
    for logs, margin in zip(state.safe_logs, metric.safe, strict=True):
        paths = betting.grow(logs, betting.log_factors(loss, margin / scale, is_safe=True))
        safe_logs.append(tuple(float(path[-1]) for path in paths))
    after = dataclasses.replace(
        after, harm_logs=tuple(harm_logs), safe_logs=tuple(safe_logs), arrived=tilted.update(state.arrived, rows.events(first))
    )
    return after, Track(before=before, rows=closed, e=total, arrived=first)


Opened = tuple[tuple[int, betting.OpenBlock], ...]
"""The open block of each step, ascending."""


def _blocks(opened: Opened, step: Ints, is_candidate: Bools, values: Floats) -> tuple[Opened, betting.Blocks]:
    """Blocks within one step each, in the order in which they close.

    Two sides of a block are alike but for the bundle only if one share assigned them. Talks that end where they began, and late scores,
    bring rows of an earlier step beside those of the present one, and of those the arms have different parts.
    """
    still_open, pieces = dict(opened), [(_NO_ROWS, np.zeros(0), np.zeros(0))]
    for one in np.unique(step).tolist():
        at = np.flatnonzero(step == one)
        still_open[one], blocks = betting.close_blocks(still_open.get(one, betting.OpenBlock()), is_candidate[at], values[at])
        pieces.append((at[blocks.closed_by], blocks.stable, blocks.candidate))
    closed_by, stable, candidate = (np.concatenate(columns) for columns in zip(*pieces, strict=True))
    order = np.argsort(closed_by)
    return tuple(sorted(still_open.items())), betting.Blocks(stable=stable[order], candidate=candidate[order], closed_by=closed_by[order])


def _budget(state: MetricState, metric: MetricPlan, plan: JudgePlan, rows: Rows, *, at: Ints, values: Floats) -> tuple[MetricState, Track]:
    """A unit's first answer in a step is a trial. Where nothing is allowed every row is one: a unit that did well once is no excuse."""
    event = 1.0 if metric.is_lower_better else 0.0
    seen = state.seen[0]
    if metric.harm > 0:
        at, new = rows.first_of_step(at, seen)
        seen = new.seen
    happened = values[at] == event
    path = allowance.e_path(state.trials, happened, metric.harm, allowance.HARM)
    after = dataclasses.replace(state, seen=(seen,), trials=allowance.update(state.trials, happened))
    return after, Track(before=e_harm(state, metric, plan), rows=at, e=path)


def _still(state: MetricState, metric: MetricPlan, plan: JudgePlan) -> Track:
    return Track(before=e_harm(state, metric, plan), rows=_NO_ROWS, e=np.zeros(0))


def e_harm(state: MetricState, metric: MetricPlan, plan: JudgePlan) -> float:
    """The evidence that the candidate is worse than the harm margin; 1 where none was seen."""
    if metric.kind in BY_EVENTS:
        total = 0.0
        for counts, test in zip(state.counts, _tests(metric), strict=True):
            total = total + _event_harm(counts, test, plan)
        return total / len(state.counts)
    if metric.kind is Kind.SCORE:
        total = 0.0
        for logs, stake in zip(state.harm_logs, onsets(plan.n_steps), strict=True):
            total = total + stake * float(betting.e_values([np.array([log]) for log in logs])[0])
        return total
    if metric.kind is Kind.BUDGET:
        return allowance.e_value(state.trials, metric.harm, allowance.HARM)
    return 1.0


def late_onset(state: MetricState, metric: MetricPlan, plan: JudgePlan) -> tuple[int, Counts] | None:
    """The step from which on the candidate most likely is worse, and the events from there on; None where that is the first one.

    Nor is there one where those that reached it tell most.
    """
    if metric.kind not in BY_EVENTS:
        return None
    evidence = [
        (stake * tilted.e_value(counts, tilted.HARM, test.harm, since=step), -step, number)
        for number, (counts, test) in enumerate(zip(state.counts, _tests(metric), strict=True))
        for step, stake in enumerate(onsets(plan.n_steps))
    ]
    _, place, number = max(evidence, key=lambda one: one[:2])
    if not place or number >= len(bad_events(state, metric)):
        return None
    return -place, tuple(cell for cell in state.counts[number] if cell.step >= -place)


def e_safe(state: MetricState, metric: MetricPlan, step: int) -> float:
    """The evidence that the candidate is better than the safe margin of that step: the least over its tests."""
    margin = metric.safe_at(step)
    if metric.kind in BY_EVENTS:
        return min(tilted.e_value(counts, tilted.SAFE, margin) for counts in safe_tests(state, metric))
    if metric.kind is Kind.SCORE:
        logs = state.safe_logs[min(step, len(metric.safe) - 1)]
        return float(betting.e_values([np.array([log]) for log in logs])[0])
    if metric.kind is Kind.BUDGET and margin > 0:
        return allowance.e_value(state.trials, margin, allowance.SAFE)
    return 1.0
