"""The talks of a release, and which of them an outcome belongs to. Pure.

A talk is a session, or a request without one; it is what its first request is: of an arm, a unit, a moment. An outcome belongs to the talk
of the request that it names, else of the session, else to the newest talk of its unit that began before it.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from workbench.observability.release_units import Index, Ints, Keys, Requests, grown

REQUEST, SESSION, UNIT = 0, 1, 2
"""What an outcome names, in this order where it names several."""
Named = tuple[int, Keys, Ints, Ints]
"""`REQUEST`, `SESSION` or `UNIT`, and columns of its keys, their talks and their batches."""
_FEW_STEPS = 8
"""From one talk of a unit to the one before, until it is looked up which were known: a tenant's or a service's are many."""


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
    is_foreign: npt.NDArray[np.bool_]
    """Its value is of another currency than the KPI's."""


class Talks:
    """The first request of each talk, as columns that are longer than there are talks."""

    def __init__(self) -> None:
        self.n = 0
        self.arm: npt.NDArray[np.int8] = np.zeros(0, np.int8)
        self.share: npt.NDArray[np.float64] = np.zeros(0)
        self.unit: Keys = np.zeros(0, np.uint64)
        self.at_us: Ints = np.zeros(0, np.int64)
        self.batch_id: Ints = np.zeros(0, np.int64)
        self._before: Ints = np.zeros(0, np.int64)
        """The talk of the same unit before; -1 for its first."""
        self._n_requests = 0
        self._talk_of: Ints = np.zeros(0, np.int64)
        """The talk of each request."""
        self._known_in: Ints = np.zeros(0, np.int64)
        """The batch of its first record."""
        self._by_request, self._by_talk, self._by_unit = Index(), Index(), Index()

    def learn(self, requests: Requests) -> Sequence[Named]:
        """Remember these; what outcomes may name since then."""
        keys, first = np.unique(requests.key, return_index=True)
        new = np.sort(first[self._by_request.find(keys) < 0])
        keys, begins = np.unique(requests.talk[new], return_index=True)
        begun = new[np.sort(begins[self._by_talk.find(keys) < 0])]
        self._begin(requests, begun)
        places = np.arange(self._n_requests, self._n_requests + len(new))
        self._n_requests += len(new)
        self._talk_of, self._known_in = grown(self._talk_of, self._n_requests), grown(self._known_in, self._n_requests)
        self._talk_of[places], self._known_in[places] = self._by_talk.find(requests.talk[new]), requests.batch_id[new]
        self._by_request.learn(requests.key[new], places)
        talks = np.arange(self.n - len(begun), self.n)
        return (
            (REQUEST, requests.key[new], self._talk_of[places], requests.batch_id[new]),
            (SESSION, requests.talk[begun], talks, requests.batch_id[begun]),
            (UNIT, requests.unit[begun][::-1], talks[::-1], requests.batch_id[begun][::-1]),  # the newest first
        )

    def _begin(self, requests: Requests, begun: Ints) -> None:
        talks = np.arange(self.n, self.n + len(begun))
        self.n += len(begun)
        unit = requests.unit[begun]
        before = self._by_unit.find(unit)
        order = np.argsort(unit, kind="stable")
        again = np.flatnonzero(unit[order][1:] == unit[order][:-1])
        before[order[again + 1]] = talks[order[again]]
        self._before = grown(self._before, self.n)
        self._before[talks] = before
        for name in ("arm", "share", "unit", "at_us", "batch_id"):
            column = grown(getattr(self, name), self.n)
            column[talks] = getattr(requests, name)[begun]
            setattr(self, name, column)
        self._by_talk.learn(requests.talk[begun], talks)
        self._by_unit.learn(unit, talks)

    def named_by(self, outcomes: Outcomes) -> Ints:
        """The talk of each outcome, of those that were known in its batch; -1 where none was."""
        found: Ints = np.full(len(outcomes.key), -1, np.int64)
        if not self.n:
            return found
        is_it = outcomes.names == REQUEST
        requests = self._by_request.find(outcomes.whom[is_it])
        is_known = (requests >= 0) & (self._known_in[requests] <= outcomes.batch_id[is_it])
        found[is_it] = np.where(is_known, self._talk_of[requests], -1)
        is_it = outcomes.names == SESSION
        talks = self._by_talk.find(outcomes.whom[is_it])
        found[is_it] = np.where(self.batch_id[talks] <= outcomes.batch_id[is_it], talks, -1)
        is_it = outcomes.names == UNIT
        found[is_it] = self._of_units(outcomes.whom[is_it], outcomes.at_us[is_it], outcomes.batch_id[is_it])
        return found

    def _of_units(self, units: Keys, at_us: Ints, batch_id: Ints) -> Ints:
        """The newest talk of each unit that had begun then and was known in that batch; -1 without any."""
        talks = self._by_unit.find(units)
        for n_steps in itertools.count():
            later = np.flatnonzero((talks >= 0) & ((self.at_us[talks] > at_us) | (self.batch_id[talks] > batch_id)))
            if not len(later):
                break
            talks[later] = self._before[talks[later]]
            if n_steps == _FEW_STEPS:
                talks[later] = np.minimum(talks[later], self._known_until(units[later], batch_id[later]))
        return talks

    def _known_until(self, units: Keys, batch_id: Ints) -> Ints:
        """The newest talk of each unit in that batch or before; -1 without any."""
        named, which = np.unique(units, return_inverse=True)
        talks = np.flatnonzero(np.isin(self.unit[: self.n], named))
        whose = np.searchsorted(named, self.unit[talks])
        talks, whose = (each[np.argsort(whose, kind="stable")] for each in (talks, whose))
        n_batches = int(max(self.batch_id[: self.n].max(), batch_id.max())) + 1
        at = np.searchsorted(whose * n_batches + self.batch_id[talks], which * n_batches + batch_id, side="right") - 1
        return np.where((at >= 0) & (whose[at] == which), talks[at], -1)
