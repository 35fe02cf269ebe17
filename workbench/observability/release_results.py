"""Business results of a release: what its talks (`release_talks.py`) came to, once their windows were over. Pure.

A talk's window begins with the talk, so that no answer makes it longer, and it is over when the log has an outcome of that name, and a
request, from after its end: while no outcomes come in, nothing was missed. An outcome that is dated ahead of all requests says no more
than the newest of them. Until then the talk is undecided, whatever came already.

One batch of the log after another, so that it leaves no trace in which pieces it was read.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import timedelta
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from workbench.observability.release_talks import REQUEST, UNIT, Named, Outcomes, Talks
from workbench.observability.release_units import Index, Ints, Requests
from workbench.spec.app import Kpi

Reading = Literal["reached", "total", "mean"]
_PLACE_BITS = 32
_NEVER_US = -(2**62)
_FEW = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Awaited:
    """A KPI as it is read talk by talk."""

    name: str
    """Of the KPI, and so of the metric."""
    outcome: str
    within_us: int
    """From the talk's first request on, in microseconds."""
    reading: Reading
    """Of a talk's outcomes: whether there is one (1 or 0), the sum of their values (0 without any), or their mean (nothing without any)."""
    currency: str | None = None
    """A value of another one is none of it, and is counted as refused. None: whatever it says."""

    @classmethod
    def of(cls, kpi: Kpi, within: timedelta) -> Awaited:
        """The KPI with its window."""
        readings: Mapping[str, Reading] = {"rate": "reached", "sum": "total", "mean": "mean"}
        return cls(
            name=kpi.name,
            outcome=kpi.outcome,
            within_us=within // timedelta(microseconds=1),
            reading=readings[kpi.aggregate],
            currency=kpi.currency,
        )

    def as_json(self) -> dict[str, Any]:
        return {each.name: getattr(self, each.name) for each in fields(self)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Decided:
    """Results as columns of equal length, in the order in which they were decided."""

    batch_id: Ints
    """Of the batch that decided it."""
    kpi: Ints
    """Place of the KPI."""
    talk: Ints
    """Place of the talk."""
    value: npt.NDArray[np.float64]
    """NaN where it cannot be counted, where an outcome came after its talk was decided, and once more for each that was left out."""


def _by_batch(begun: Sequence[Named], awaited: Collection[tuple[int, int]]) -> dict[int, list[tuple[tuple[int, int], int]]]:
    """What some outcome waits for, with its talk, by batch."""
    found: dict[int, list[tuple[tuple[int, int], int]]] = {}
    for names, keys, talks, batches in begun:
        asked = np.array([key for what, key in awaited if what == names], np.uint64)
        for at in np.flatnonzero(np.isin(keys, asked)).tolist():
            found.setdefault(int(batches[at]), []).append(((names, int(keys[at])), int(talks[at])))
    return found


@dataclass(slots=True)
class _Outcome:
    """One that may still count."""

    key: int
    names: int
    at_us: int
    value: float | None
    is_foreign: bool
    is_old: bool
    """It belongs to a talk that was decided in earlier batches."""


_Arrival = tuple[_Outcome, tuple[int, int], int]
"""An outcome, what it names, and its talk; -1 where that is not known in its batch."""
_Arrivals = dict[int, list[_Arrival]]
"""By batch."""


class _Results:
    """The talks of one KPI that are undecided, with what came of them."""

    def __init__(self, asked: Awaited, talks: Talks) -> None:
        self._asked = asked
        self._talks = talks
        self._open: list[int] = []
        """A heap of undecided talks: when each began, then its place, in one number."""
        self._came: dict[int, dict[int, float | None]] = {}
        """By undecided talk: the outcomes that count, by key."""
        self._at: dict[int, int] = {}
        """The talk of each of them."""
        self._foreign: set[int] = set()
        """Those of another currency."""
        self._waiting: dict[tuple[int, int], dict[int, _Outcome]] = {}
        """By what they name: the outcomes whose talk is not known yet, by key."""
        self._waits_for: dict[int, tuple[int, int]] = {}
        self._tidy_at = _FEW
        """How many may wait before those that are past are let go."""
        self._counted = Index()
        """Outcomes of decided talks."""
        self._counted_now: dict[int, int] = {}
        """Those of the batches that are being taken."""
        self._newest_us = _NEVER_US
        """Until when outcomes are known to come in."""
        self._over_us = _NEVER_US
        """Talks that began until then are decided."""

    def awaited(self, arrivals: _Arrivals) -> set[tuple[int, int]]:
        """What its outcomes wait for, or will have to: talks that begin in a later batch than their own."""
        return {*self._waiting, *(named for arrived in arrivals.values() for _, named, talk in arrived if talk < 0)}

    def arrivals(self, outcomes: Outcomes) -> _Arrivals:
        """The outcomes of these batches."""
        found: _Arrivals = {}
        talks, was_counted = self._talks.named_by(outcomes), self._counted.find(outcomes.key) >= 0
        columns = (
            *(outcomes.batch_id, outcomes.key, outcomes.names, outcomes.whom, outcomes.at_us, outcomes.value),
            *(outcomes.is_valued & ~outcomes.is_foreign, outcomes.is_foreign, talks, was_counted),
        )
        rows = zip(*(each.tolist() for each in columns), strict=True)
        for batch, key, names, whom, at_us, value, is_valued, is_foreign, talk, is_old in rows:
            outcome = _Outcome(key, names, at_us, value if is_valued else None, is_foreign, is_old)
            found.setdefault(batch, []).append((outcome, (names, whom), talk))
        return found

    def take(
        self,
        begun: Sequence[tuple[tuple[int, int], int]],
        opened: range,
        arrived: Sequence[_Arrival],
        now_us: int | None,
    ) -> list[tuple[int, float]]:
        """What one batch decides: talks with their values, in order.

        Args:
            begun: what outcomes wait for and may name since this batch, with its talk.
            opened: the talks that began in it.
            arrived: outcomes of the KPI, in it.
            now_us: the newest request until now.
        """
        refused: list[tuple[int, float]] = []
        for place in opened:
            heapq.heappush(self._open, (int(self._talks.at_us[place]) << _PLACE_BITS) | place)
        for named_by, talk in begun:
            if named_by in self._waiting:
                self._found(named_by, talk, opened.start, refused)
        for outcome, named_by, talk in arrived:
            if now_us is not None:
                self._newest_us = max(self._newest_us, min(outcome.at_us, now_us))
            self._arrived(outcome, named_by, talk, opened.start, refused)
        if len(self._waits_for) > self._tidy_at:
            self._tidy()
        return [*refused, *self._close()]

    def taken(self) -> None:
        """The batches are taken."""
        keys, talks = np.array(list(self._counted_now), np.uint64), np.array(list(self._counted_now.values()), np.int64)
        self._counted.learn(keys, talks)
        self._counted_now = {}

    def _found(self, named: tuple[int, int], talk: int, first: int, refused: list[tuple[int, float]]) -> None:
        """The talk of these waiting outcomes has begun."""
        for outcome in list(self._waiting[named].values()):
            if named[0] == UNIT and outcome.at_us < self._talks.at_us[talk]:
                continue
            self._forget(outcome.key)
            if not self._is_past(outcome):
                self._put(outcome, talk, first, refused)

    def _is_past(self, outcome: _Outcome) -> bool:
        """Whether an outcome has waited so long for its talk that nobody waits for it any more."""
        return outcome.at_us + self._asked.within_us <= self._over_us

    def _tidy(self) -> None:
        """Let go of outcomes that are past: those of talks before the release would else be kept for good."""
        for key in [outcome.key for waiting in self._waiting.values() for outcome in waiting.values() if self._is_past(outcome)]:
            self._forget(key)
        self._tidy_at = max(_FEW, 2 * len(self._waits_for))

    def _arrived(self, outcome: _Outcome, named: tuple[int, int], talk: int, first: int, refused: list[tuple[int, float]]) -> None:
        if outcome.is_old or outcome.key in self._counted_now:
            return
        self._forget(outcome.key)
        if talk >= 0:
            self._put(outcome, talk, first, refused)
        else:
            self._waiting.setdefault(named, {})[outcome.key] = outcome
            self._waits_for[outcome.key] = named

    def _forget(self, key: int) -> None:
        """Of one outcome the newest version counts."""
        talk = self._at.pop(key, None)
        if talk is not None:
            del self._came[talk][key]
            self._foreign.discard(key)
        named = self._waits_for.pop(key, None)
        if named is not None:
            del self._waiting[named][key]
            if not self._waiting[named]:
                del self._waiting[named]

    def _put(self, outcome: _Outcome, talk: int, first: int, refused: list[tuple[int, float]]) -> None:
        began_us = int(self._talks.at_us[talk])
        if outcome.at_us > began_us + self._asked.within_us or (outcome.at_us < began_us and outcome.names != REQUEST):
            return
        if talk < first and began_us <= self._over_us:
            refused.append((talk, math.nan))
            self._counted_now[outcome.key] = talk
            return
        self._came.setdefault(talk, {})[outcome.key] = outcome.value
        self._at[outcome.key] = talk
        if outcome.is_foreign:
            self._foreign.add(outcome.key)

    def _close(self) -> Iterator[tuple[int, float]]:
        """The talks whose window is over now."""
        self._over_us = max(self._newest_us - self._asked.within_us - 1, self._over_us)
        while self._open and self._open[0] >> _PLACE_BITS <= self._over_us:
            talk = heapq.heappop(self._open) & ((1 << _PLACE_BITS) - 1)
            came = self._came.pop(talk, {})
            for key in came:
                del self._at[key]
                self._counted_now[key] = talk
            value = self._value(tuple(came.values()))
            if value is not None:
                yield talk, value
            for key in self._foreign.intersection(came):
                self._foreign.remove(key)
                yield talk, math.nan

    def _value(self, came: tuple[float | None, ...]) -> float | None:
        """What a talk came to; None where it has no value."""
        if self._asked.reading == "reached":
            return 1.0 if came else 0.0
        values = [value for value in came if value is not None]
        if not all(map(math.isfinite, values)):
            return math.nan
        if self._asked.reading == "mean":
            return math.fsum(values) / len(values) if values else None
        return math.fsum(values)


class ReleaseResults:
    """The results of a release's talks, batch by batch.

    Args:
        asked: the KPIs that are read.
    """

    def __init__(self, asked: Sequence[Awaited]) -> None:
        self.talks = Talks()
        self._results = [_Results(each, self.talks) for each in asked]
        self._now_us: int | None = None

    def take(self, requests: Requests, outcomes: Sequence[Outcomes]) -> Decided:
        """What these batches decide.

        Args:
            requests: records of whole batches behind those that were taken.
            outcomes: of the same batches, by KPI.
        """
        found: list[tuple[int, int, int, float]] = []
        if not self._results:
            return _decided(found)
        first, now_us = self.talks.n, self._now_us
        begun = self.talks.learn(requests)
        arrivals = [results.arrivals(each) for results, each in zip(self._results, outcomes, strict=True)]
        awaited = set().union(*(results.awaited(each) for results, each in zip(self._results, arrivals, strict=True)))
        named = _by_batch(begun, awaited)
        batches = np.unique(np.concatenate([requests.batch_id, *(each.batch_id for each in outcomes)]))
        ends = (first + np.searchsorted(self.talks.batch_id[first : self.talks.n], batches, side="right")).tolist()
        newest = _newest_until(requests, batches)
        for batch, end, newest_us in zip(batches.tolist(), ends, newest, strict=True):
            now_us = newest_us if now_us is None else max(now_us, newest_us or now_us)
            for kpi, results in enumerate(self._results):
                decided = results.take(named.get(batch, ()), range(first, end), arrivals[kpi].get(batch, ()), now_us)
                found += [(batch, kpi, talk, value) for talk, value in decided]
            first = end
        self._now_us = now_us
        for results in self._results:
            results.taken()
        return _decided(found)


def _newest_until(requests: Requests, batches: Ints) -> list[int | None]:
    """The time of the newest of these requests until each batch; None before the first."""
    ends = np.searchsorted(requests.batch_id, batches, side="right").tolist()
    newest = np.maximum.accumulate(requests.at_us).tolist() if len(requests.at_us) else []
    return [newest[end - 1] if end else None for end in ends]


def _decided(found: Sequence[tuple[int, int, int, float]]) -> Decided:
    """Rows of batch, KPI, talk and value, as columns."""
    batch_id, kpi, talk, value = zip(*found, strict=True) if found else ((), (), (), ())
    return Decided(
        batch_id=np.array(batch_id, np.int64), kpi=np.array(kpi, np.int64), talk=np.array(talk, np.int64), value=np.array(value, np.float64)
    )
