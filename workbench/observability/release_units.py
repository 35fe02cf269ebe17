"""Whose each request of a release is, and the scores that wait to hear it: columns of numbers in a process's memory. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
Keys = npt.NDArray[np.uint64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Requests:
    """Records of requests as columns of equal length, ascending by batch and `seq`."""

    batch_id: Ints
    seq: Ints
    key: Keys
    """Of the request's id."""
    arm: npt.NDArray[np.int8]
    share: npt.NDArray[np.float64]
    unit: Keys
    values: list[tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_]]]
    """By place of the metric: values, and which records have one."""
    talk: Keys = field(default_factory=lambda: np.zeros(0, np.uint64))
    """Of the session, or of the request where it has none; empty where no business result is read."""
    at_us: Ints = field(default_factory=lambda: np.zeros(0, np.int64))
    """When the request began, in microseconds since 1970; empty likewise."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scores:
    """Scores as columns of equal length."""

    batch_id: Ints
    seq: Ints
    key: Keys
    """Of the request's id."""
    tie: Keys
    """Of the score's own id."""
    metric: Ints
    """Place of the metric."""
    value: npt.NDArray[np.float64]

    def part(self, chosen: npt.NDArray[np.bool_]) -> Scores:
        """Those that are chosen."""
        return Scores(**{field.name: getattr(self, field.name)[chosen] for field in fields(self)})

    def with_more(self, others: Scores) -> Scores:
        """These and the others."""
        return Scores(**{field.name: np.concatenate([getattr(self, field.name), getattr(others, field.name)]) for field in fields(self)})


NO_SCORES = Scores(
    batch_id=np.zeros(0, np.int64),
    seq=np.zeros(0, np.int64),
    key=np.zeros(0, np.uint64),
    tie=np.zeros(0, np.uint64),
    metric=np.zeros(0, np.int64),
    value=np.zeros(0),
)


class Index:
    """Places by key. Of a key that was learned again the newer place counts.

    Keys lie in sorted stretches, the newest of them short: a stretch is merged with the one before when that is less than twice as long,
    so that learning n keys one by one takes n log n, and finding one looks into log n stretches.
    """

    def __init__(self) -> None:
        self._stretches: list[tuple[Keys, Ints]] = []

    def learn(self, keys: Keys, places: Ints) -> None:
        """Remember where these keys are; of one that stands there twice the later place."""
        if not len(keys):
            return
        while self._stretches and len(self._stretches[-1][0]) < 2 * len(keys):
            before_keys, before_places = self._stretches.pop()
            keys, places = np.concatenate([before_keys, keys]), np.concatenate([before_places, places])
        order = np.argsort(keys, kind="stable")
        keys, places = keys[order], places[order]
        is_last = np.append(keys[1:] != keys[:-1], True)
        self._stretches.append((keys[is_last], places[is_last]))

    def find(self, keys: Keys) -> Ints:
        """The place of each key; -1 where it is not known."""
        found: Ints = np.full(len(keys), -1, np.int64)
        for known, places in self._stretches:
            at = known.searchsorted(keys)
            is_here = known.take(at, mode="clip") == keys
            if is_here.any():
                found[is_here] = places[at[is_here]]
        return found


def grown(column: npt.NDArray[Any], n: int) -> npt.NDArray[Any]:
    """The column with room for n entries; it grows by doubling."""
    room = len(column)
    return column if n <= room else np.concatenate([column, np.zeros(max(n, 2 * room) - room, column.dtype)])


class Whose:
    """The unit, arm, share and batch of each request's first record, by the request's key."""

    def __init__(self) -> None:
        self._index = Index()
        self._n = 0
        self.arm: npt.NDArray[np.int8] = np.zeros(0, np.int8)
        self.share: npt.NDArray[np.float64] = np.zeros(0)
        self.unit: Keys = np.zeros(0, np.uint64)
        self.batch_id: Ints = np.zeros(0, np.int64)

    def learn(self, requests: Requests) -> None:
        """Remember the first record of each request that is not known yet."""
        keys, first = np.unique(requests.key, return_index=True)
        is_new = self.find(keys) < 0
        keys, first = keys[is_new], first[is_new]
        places = np.arange(self._n, self._n + len(keys))
        self._n += len(keys)
        for name in ("arm", "share", "unit", "batch_id"):
            column = grown(getattr(self, name), self._n)
            column[places] = getattr(requests, name)[first]
            setattr(self, name, column)
        self._index.learn(keys, places)

    def find(self, keys: Keys) -> Ints:
        """The place of each request in the columns; -1 where it is not known."""
        return self._index.find(keys)
