"""The judge of a canary: rows in, memory on, and at any moment what it advises. Pure; it knows no store and no clock.

Harm is the weighted mean of the metrics' e-values, which is one itself under any dependence, so its bound holds over all metrics and all
looks of a release. Each metric's e-value is a mean over the step from which on the candidate may be worse: a fault that comes late
does not have to make good for what was earned before it.

A row counts at the share that decided it, and at that share's step. In a talk that ends where it began (a plan's `sessions: drain`) that
is the share of its beginning, for all of its rows and in both arms: which talks began under a share and go on later does not depend on
their units' buckets while the bundles are alike, so of their rows the candidate has just that share. By the present share the candidate
would lack rows, since it takes no talk over: its failures would seem too few, and its scores missing. Left out in both arms they would do
no harm either, but where talks outlast steps what goes wrong late in them would hardly be seen. (The share at which a *unit* first got its
arm would be wrong: units do go over, and of those that stay behind the candidate would seem to have too many.) Talks from before the
release have the share 0, in both arms, and say nothing.

Source: Vovk & Wang (2021), Annals of Statistics 49(3), "E-values: calibration, combination and applications" (means of e-values);
Ramdas, Grünwald, Vovk & Shafer (2023), Statistical Science 38(4), "Game-theoretic statistics and safe anytime-valid inference".
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np

from workbench.errors import UsageError
from workbench.release import judge_metrics
from workbench.release.judge_decision import decide
from workbench.release.judge_kinds import DECIDING, Role
from workbench.release.judge_metrics import Rows, Track
from workbench.release.judge_model import CANDIDATE, STABLE, Bools, Crossing, Ints, JudgePlan, Observation, Place, Units
from workbench.release.judge_state import FirstSeen, JudgeState, among, first_seen
from workbench.stats import tilted

__all__ = ["begin", "decide", "observe"]
_ARM_BIT = np.uint64(1)


def begin(plan: JudgePlan) -> JudgeState:
    """The memory before the first row."""
    return JudgeState(metrics={metric.name: judge_metrics.begin(metric, plan) for metric in plan.metrics})


def observe(state: JudgeState, plan: JudgePlan, batch: Observation) -> JudgeState:
    """The memory after these rows. Rows that it has seen are counted and change nothing else.

    Args:
        state: of this plan.
        plan: the same in all calls of a release.
        batch: rows behind the state's high water, or repeated ones.

    Raises:
        UsageError: columns of different lengths, or metrics that the plan does not know.
    """
    _check(plan, batch)
    fresh = _fresh(batch, state.high_water)
    state = dataclasses.replace(state, rows_repeated=state.rows_repeated + batch.n - len(fresh))
    if not len(fresh):
        return state
    rows = _rows(batch, fresh)
    served = _served(state, rows)
    tracks, metrics = {}, {}
    for metric in plan.metrics:
        column = batch.values.get(metric.name)
        metrics[metric.name], tracks[metric.name] = judge_metrics.observe(
            state.metrics[metric.name], metric, plan, rows, column=column, fresh=fresh
        )
    last = fresh[-1]
    return dataclasses.replace(
        state,
        metrics=metrics,
        served=served.seen,
        units=served.units,
        split=tilted.update(state.split, rows.events(served.first)),
        harmed=state.harmed or _first_harm(plan, tracks, rows, served),
        invalid=state.invalid or _first_fault(state, plan, rows, served, tracks),
        high_water=Place(int(batch.batch_id[last]), int(batch.seq[last])),
        rows=state.rows + len(fresh),
        rows_outside=state.rows_outside + int(np.count_nonzero(~rows.is_inside)),
    )


def _check(plan: JudgePlan, batch: Observation) -> None:
    columns = {name: getattr(batch, name) for name in ("batch_id", "seq", "arm", "share", "step", "unit")}
    columns |= {name: column.values for name, column in batch.values.items()}
    columns |= {f"{name}, is present": column.is_present for name, column in batch.values.items() if column.is_present is not None}
    wrong = [f"{name}: {len(values)} rows" for name, values in columns.items() if len(values) != batch.n]
    wrong += [f"{name}: not in the plan" for name in sorted(set(batch.values) - {metric.name for metric in plan.metrics})]
    if wrong:
        raise UsageError("rows for the judge", seen="; ".join(wrong), needed=f"columns of the plan with {batch.n} rows each")


def _fresh(batch: Observation, high_water: Place | None) -> Ints:
    """The rows behind the high water, in order, each place once."""
    rows: Ints = np.arange(batch.n)
    step, place = np.diff(batch.batch_id), np.diff(batch.seq)
    if not bool(np.all((step > 0) | ((step == 0) & (place > 0)))):
        rows = np.lexsort((batch.seq, batch.batch_id))
        step, place = np.diff(batch.batch_id[rows]), np.diff(batch.seq[rows])
        rows = rows[np.concatenate([[True], (step != 0) | (place != 0)])]
    if high_water is None or not len(rows):
        return rows
    batches, places = batch.batch_id[rows], batch.seq[rows]
    return np.asarray(rows[(batches > high_water.batch_id) | ((batches == high_water.batch_id) & (places > high_water.seq))])


def _rows(batch: Observation, fresh: Ints) -> Rows:
    arm, share = batch.arm[fresh], batch.share[fresh]
    is_served = (arm == STABLE) | (arm == CANDIDATE)
    return Rows(
        batch_id=batch.batch_id[fresh],
        seq=batch.seq[fresh],
        is_candidate=arm == CANDIDATE,
        is_served=is_served,
        is_inside=is_served & (share > 0) & (share < 1),
        share=share,
        step=batch.step[fresh],
        unit=batch.unit[fresh],
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Served:
    """Units that were served."""

    seen: Units
    units: tuple[int, int]
    candidates: Ints
    """Rows in which the candidate serves a unit for the first time."""
    first: Ints
    """Rows in which a unit comes for the first time, at a share that leaves something to chance."""
    n_before: int
    """Units of the candidate before these rows."""


def _served(state: JudgeState, rows: Rows) -> _Served:
    shown = np.flatnonzero(rows.is_served)
    keys = (rows.unit[shown] | _ARM_BIT) ^ np.where(rows.is_candidate[shown], np.uint64(0), _ARM_BIT)
    new: FirstSeen = first_seen(keys, state.served)
    fresh, is_new_unit = shown[new.rows], _is_new_unit(keys[new.rows], state.served, new.seen)
    is_candidate = rows.is_candidate[fresh]
    stable, candidate = state.units
    n = int(np.count_nonzero(is_candidate))
    return _Served(
        seen=new.seen,
        units=(stable + len(fresh) - n, candidate + n),
        candidates=fresh[is_candidate],
        first=fresh[is_new_unit & rows.is_inside[fresh]],
        n_before=candidate,
    )


def _is_new_unit(keys: Units, served: Units, known: Units) -> Bools:
    """Which of these new keys, in their rows' order, bring a unit that neither arm had before; `known` is all keys with these."""
    is_new = np.ones(len(keys), dtype=np.bool_)
    if bool(np.any((known[1:] ^ _ARM_BIT) == known[:-1])):  # some unit has come to both arms
        is_new = ~among(keys ^ _ARM_BIT, served)
        order = np.argsort(keys, kind="stable")
        ascending = keys[order]
        both = np.flatnonzero((ascending[1:] ^ _ARM_BIT) == ascending[:-1])
        is_new[np.maximum(order[both], order[both + 1])] = False
    return is_new


_NEARLY = 1 - 1e-9
"""Room for the rounding of a sum in another order."""


def _first_harm(plan: JudgePlan, tracks: dict[str, Track], rows: Rows, served: _Served) -> Crossing | None:
    """Where the weighted evidence of harm first passes its limit within these rows."""
    limit, weights = 1 / plan.alpha, plan.weights
    if sum(weight * tracks[name].peak for name, weight in weights.items()) < limit * _NEARLY:
        return None
    places = np.unique(np.concatenate([tracks[name].rows for name in weights]))
    shares = {name: weight * tracks[name].at(places) for name, weight in weights.items()}
    total = np.zeros(len(places))
    for share in shares.values():
        total = total + share
    passed = np.flatnonzero(total >= limit)
    if not len(passed):
        return None
    first = int(passed[0])
    blame = max(shares, key=lambda name: (float(shares[name][first]), _rank(plan, name)))
    return _crossing(rows, served, int(places[first]), float(total[first]), blame)


def _rank(plan: JudgePlan, name: str) -> int:
    """Who is blamed where two hold the same: the critical one, then the one the plan names first."""
    return max(-place - 1000 * (metric.role is not Role.CRITICAL) for place, metric in enumerate(plan.metrics) if metric.name == name)


def _crossing(rows: Rows, served: _Served, row: int, e: float, blame: str) -> Crossing:
    n = served.n_before + int(np.searchsorted(served.candidates, row, side="right"))
    return Crossing(place=Place(int(rows.batch_id[row]), int(rows.seq[row])), e=e, blame=blame, n_candidate=n)


_EVERY = 16
"""Units between two looks at the split: it is asked of every unit, and never in a hurry."""


def _first_fault(state: JudgeState, plan: JudgePlan, rows: Rows, served: _Served, tracks: dict[str, Track]) -> Crossing | None:
    """Where units first are seen to be split otherwise than declared, or values to come in unequally from the arms."""
    asked = [("split", state.split, served.first)]
    for metric in plan.metrics:
        arrived = tracks[metric.name].arrived
        if metric.role in DECIDING and arrived is not None:  # what decides nothing voids nothing
            asked.append((metric.name, state.metrics[metric.name].arrived, arrived))
    found = []
    for blame, before, at in asked:
        path = tilted.e_path(before, rows.events(at), tilted.SPLIT, every=_EVERY)
        passed = np.flatnonzero(path.e >= 1 / plan.split_alpha)
        if len(passed):
            found.append((int(at[path.places[passed[0]]]), blame, float(path.e[passed[0]])))
    if not found:
        return None
    row, blame, e = min(found)
    return _crossing(rows, served, row, e, blame)
