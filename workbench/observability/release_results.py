"""Business results of a release: which outcome belongs to which talk, and what a talk came to once its window was over. Pure.

A talk is a session, or a request without one; it is what its first request is: of an arm, a unit, a moment. An outcome belongs to the talk
of the request that it names, else of the session, else to the newest talk of its unit that began before it. A talk's window begins with
the talk, so that no answer makes it longer, and it is over when the log has an outcome of that name, and a request, from after its end:
while no outcomes come in, nothing was missed. Until then the talk is undecided, whatever came already.

One batch of the log after another, so that it leaves no trace in which pieces it was read.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import timedelta
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from workbench.observability.release_units import Index, Ints, Keys, Requests, grown
from workbench.spec.app import Kpi

Reading = Literal["reached", "total", "mean"]
REQUEST, SESSION, UNIT = 0, 1, 2
"""What an outcome names, in this order where it names several."""
_PLACE_BITS = 32
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
    """A value of another one is no value. None: whatever it says."""

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
class Outcomes:
    """Outcomes of one KPI as columns of equal length, ascending by batch and `seq`."""

    batch_id: Ints
    key: Keys
    """Of the outcome's id."""
    names: npt.NDArray[np.int64]
    """`REQUEST`, `SESSION` or `UNIT`."""
    whom: Keys
    """What it names: the key of the request, of the talk, or the unit."""
    at_us: Ints
    value: npt.NDArray[np.float64]
    """NaN where the log has a value that cannot be counted."""
    is_valued: npt.NDArray[np.bool_]

    def part(self, chosen: slice) -> Outcomes:
        """Some of them."""
        return Outcomes(**{each.name: getattr(self, each.name)[chosen] for each in fields(self)})


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
    """NaN where it cannot be counted, or where an outcome came after its talk was decided."""


class Talks:
    """The first request of each talk, as columns that are longer than there are talks."""

    def __init__(self) -> None:
        self.n = 0
        self.arm: npt.NDArray[np.int8] = np.zeros(0, np.int8)
        self.share: npt.NDArray[np.float64] = np.zeros(0)
        self.unit: Keys = np.zeros(0, np.uint64)
        self.at_us: Ints = np.zeros(0, np.int64)
        self._before: Ints = np.zeros(0, np.int64)
        """The talk of the same unit before; -1 for its first."""
        self._by_request, self._by_talk, self._by_unit = Index(), Index(), Index()

    def learn(self, requests: Requests) -> Iterator[tuple[int, int, int]]:
        """Remember these; what outcomes may name from now on: `REQUEST`, `SESSION` or `UNIT`, its key, and the talk."""
        keys, first = np.unique(requests.key, return_index=True)
        new = np.sort(first[self._by_request.find(keys) < 0])
        keys, begins = np.unique(requests.talk[new], return_index=True)
        begun = new[np.sort(begins[self._by_talk.find(keys) < 0])]
        talks = self._begin(requests, begun)
        whose = self._by_talk.find(requests.talk[new])
        self._by_request.learn(requests.key[new], whose)
        yield from ((REQUEST, key, talk) for key, talk in zip(requests.key[new].tolist(), whose.tolist(), strict=True))
        for named, column in ((SESSION, requests.talk), (UNIT, requests.unit)):
            yield from ((named, key, talk) for key, talk in zip(column[begun].tolist(), talks.tolist(), strict=True))

    def _begin(self, requests: Requests, begun: Ints) -> Ints:
        talks = np.arange(self.n, self.n + len(begun))
        self.n += len(begun)
        unit = requests.unit[begun]
        before = self._by_unit.find(unit)
        order = np.argsort(unit, kind="stable")
        again = np.flatnonzero(unit[order][1:] == unit[order][:-1])
        before[order[again + 1]] = talks[order[again]]
        self._before = grown(self._before, self.n)
        self._before[talks] = before
        for name in ("arm", "share", "unit", "at_us"):
            column = grown(getattr(self, name), self.n)
            column[talks] = getattr(requests, name)[begun]
            setattr(self, name, column)
        self._by_talk.learn(requests.talk[begun], talks)
        self._by_unit.learn(unit, talks)
        return talks

    def named_by(self, outcomes: Outcomes) -> Ints:
        """The talk of each outcome; -1 where it is not known."""
        found: Ints = np.full(len(outcomes.key), -1, np.int64)
        if not self.n:
            return found
        for named, index in ((REQUEST, self._by_request), (SESSION, self._by_talk), (UNIT, self._by_unit)):
            is_it = outcomes.names == named
            if is_it.any():
                found[is_it] = index.find(outcomes.whom[is_it])
        while (is_later := (outcomes.names == UNIT) & (found >= 0) & (self.at_us[found] > outcomes.at_us)).any():
            found[is_later] = self._before[found[is_later]]
        return found


@dataclass(slots=True)
class _Outcome:
    """One that may still count."""

    key: int
    names: int
    at_us: int
    value: float | None


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
        self._waiting: dict[tuple[int, int], dict[int, _Outcome]] = {}
        """By what they name: the outcomes whose talk is not known yet, by key."""
        self._waits_for: dict[int, tuple[int, int]] = {}
        self._tidy_at = _FEW
        """How many may wait before those that are past are let go."""
        self._counted = Index()
        """Outcomes of decided talks."""
        self._newest_us: int | None = None
        self._over_us = -(2**62)
        """Talks that began until then are decided."""

    def take(
        self, begun: Sequence[tuple[int, int, int]], first: int, outcomes: Outcomes | None, now_us: int | None
    ) -> list[tuple[int, float]]:
        """What one batch decides: talks with their values, in order.

        Args:
            begun: what outcomes may name since this batch.
            first: place of the first talk that began in it.
            outcomes: of the KPI, in it.
            now_us: the newest request until now.
        """
        refused: list[tuple[int, float]] = []
        for place in range(first, self._talks.n):
            heapq.heappush(self._open, (int(self._talks.at_us[place]) << _PLACE_BITS) | place)
        if self._waiting:
            for named, key, talk in begun:
                self._found((named, key), talk, first, refused)
        if outcomes is not None:
            self._newest_us = max(int(outcomes.at_us.max()), self._newest_us if self._newest_us is not None else -(2**62))
            self._arrived(outcomes, first, refused)
        return [*refused, *self._close(now_us)]

    def _found(self, named: tuple[int, int], talk: int, first: int, refused: list[tuple[int, float]]) -> None:
        """The talk of these waiting outcomes has begun."""
        for outcome in list(self._waiting.get(named, {}).values()):
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

    def _arrived(self, outcomes: Outcomes, first: int, refused: list[tuple[int, float]]) -> None:
        is_known = self._counted.find(outcomes.key) >= 0
        talks = self._talks.named_by(outcomes)
        columns = (outcomes.key, outcomes.names, outcomes.whom, outcomes.at_us, outcomes.value, outcomes.is_valued, talks, is_known)
        for key, names, whom, at_us, value, is_valued, talk, was_counted in zip(*(each.tolist() for each in columns), strict=True):
            if was_counted:
                continue
            self._forget(key)
            outcome = _Outcome(key, names, at_us, value if is_valued else None)
            if talk >= 0:
                self._put(outcome, talk, first, refused)
            else:
                self._waiting.setdefault((names, whom), {})[key] = outcome
                self._waits_for[key] = (names, whom)
        if len(self._waits_for) > self._tidy_at:
            self._tidy()

    def _forget(self, key: int) -> None:
        """Of one outcome the newest version counts."""
        talk = self._at.pop(key, None)
        if talk is not None:
            del self._came[talk][key]
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
            self._counted.learn(np.array([outcome.key], np.uint64), np.array([talk]))
            return
        self._came.setdefault(talk, {})[outcome.key] = outcome.value
        self._at[outcome.key] = talk

    def _close(self, now_us: int | None) -> Iterator[tuple[int, float]]:
        """The talks whose window is over now."""
        if self._newest_us is None or now_us is None:
            return
        over_us = min(self._newest_us, now_us) - self._asked.within_us
        self._over_us = max(over_us - 1, self._over_us)
        keys: list[int] = []
        talks: list[int] = []
        while self._open and self._open[0] >> _PLACE_BITS <= self._over_us:
            talk = heapq.heappop(self._open) & ((1 << _PLACE_BITS) - 1)
            came = self._came.pop(talk, {})
            for key in came:
                del self._at[key]
            keys += came
            talks += [talk] * len(came)
            value = self._value(tuple(came.values()))
            if value is not None:
                yield talk, value
        self._counted.learn(np.array(keys, np.uint64), np.array(talks, np.int64))

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
        columns = [requests.batch_id, *(each.batch_id for each in outcomes)]
        batches = np.unique(np.concatenate(columns))
        begins = [np.searchsorted(column, batches, side="left").tolist() for column in columns]
        ends = [np.searchsorted(column, batches, side="right").tolist() for column in columns]
        for number, batch in enumerate(batches.tolist()):
            first, begun = self.talks.n, []
            if begins[0][number] < ends[0][number]:
                part = _part(requests, slice(begins[0][number], ends[0][number]))
                begun = list(self.talks.learn(part))
                newest = int(part.at_us.max())
                self._now_us = newest if self._now_us is None else max(self._now_us, newest)
            for kpi, (results, each) in enumerate(zip(self._results, outcomes, strict=True)):
                begin, end = begins[kpi + 1][number], ends[kpi + 1][number]
                came = each.part(slice(begin, end)) if begin < end else None
                found += [(batch, kpi, talk, value) for talk, value in results.take(begun, first, came, self._now_us)]
        return _decided(found)


def _part(requests: Requests, chosen: slice) -> Requests:
    """Some of the records, without the values of their metrics."""
    named = ("batch_id", "seq", "key", "arm", "share", "unit", "talk", "at_us")
    return Requests(**{name: getattr(requests, name)[chosen] for name in named}, values=[])


def _decided(found: Sequence[tuple[int, int, int, float]]) -> Decided:
    """Rows of batch, KPI, talk and value, as columns."""
    batch_id, kpi, talk, value = zip(*found, strict=True) if found else ((), (), (), ())
    return Decided(
        batch_id=np.array(batch_id, np.int64), kpi=np.array(kpi, np.int64), talk=np.array(talk, np.int64), value=np.array(value, np.float64)
    )
