"""What the judge remembers of the rows that it has seen: the same, bit by bit, however they were cut into batches."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import orjson

from workbench.errors import StoreError
from workbench.release.judge_kinds import FIRST_RULES, RULES
from workbench.release.judge_model import Bools, Crossing, Ints, Place, Units
from workbench.stats.allowance import Trials
from workbench.stats.asymptotic import Moments
from workbench.stats.betting import OpenBlock
from workbench.stats.tilted import NOTHING, Cell, Counts

VERSION = 3
"""Of the state's form; a state of another form, or made by other rules, is made anew from the log."""
NO_UNITS: Units = np.zeros(0, dtype=np.uint64)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class MetricState:
    """One metric's memory; which parts are used its kind says."""

    seen: tuple[Units, ...] = ()
    """Units that have counted, mixed with their step, ascending: one array per test."""
    counts: tuple[Counts, ...] = ()
    """`EVENT`, `LATENCY`, `MISSED`: events by step, share and arm, one per test: of a latency one per threshold, of a KPI one of units'
    first talks and one of their first events. `REACHED`: the same with the arms exchanged. `MOSTLY_REACHED`: both of `MISSED`, then the
    first of `REACHED`."""
    arrived: Counts = NOTHING
    """`SCORE`: values that came in, by step, share and arm."""
    opened: tuple[tuple[int, OpenBlock], ...] = ()
    """`SCORE`, `AMOUNT`: what stands open by step, ascending."""
    harm_logs: tuple[tuple[float, ...], ...] = ()
    """`SCORE`: log capitals by first step, then by fraction."""
    safe_logs: tuple[tuple[float, ...], ...] = ()
    """The same by safe margin."""
    moments: Moments = field(default_factory=Moments)
    """`SCORE`, `AMOUNT`: of the blocks' losses in the metric's own unit."""
    n: tuple[int, int] = (0, 0)
    """`SCORE`, `AMOUNT`: values that counted, stable and candidate. KPIs of the other kinds: talks that were decided."""
    trials: Trials = field(default_factory=Trials)
    n_refused: int = 0


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class JudgeState:
    """All that the judge remembers. Two of them are the same when their digests are."""

    metrics: Mapping[str, MetricState]
    served: Units = field(default_factory=lambda: NO_UNITS)
    """Units that were served: the hash with its last bit replaced by the arm, ascending."""
    units: tuple[int, int] = (0, 0)
    """Different units of stable and of the candidate."""
    split: Counts = NOTHING
    """First exposures by step, share and arm."""
    harmed: Crossing | None = None
    """Where the weighted evidence of harm passed its limit for the first time. It stays: whoever looks later finds the same."""
    invalid: Crossing | None = None
    """The same of the split and of missing results."""
    high_water: Place | None = None
    """The last row; rows up to it are known and change nothing."""
    rows: int = 0
    rows_outside: int = 0
    rows_repeated: int = 0

    def as_json(self) -> bytes:
        """The whole state; `from_json` gives back the same bits."""
        return orjson.dumps({"version": VERSION, "rules": RULES, **_pack(self)}, option=orjson.OPT_SORT_KEYS)

    @property
    def digest(self) -> str:
        """SHA-256 of the whole state as hex; of which rows were repeated it does not depend."""
        content = {**_pack(self), "rows_repeated": 0}
        return hashlib.sha256(orjson.dumps(content, option=orjson.OPT_SORT_KEYS)).hexdigest()


def _pack(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return base64.b64encode(value.astype("<u8").tobytes()).decode()
    if isinstance(value, Mapping):
        return {name: _pack(one) for name, one in value.items()}
    if isinstance(value, tuple):
        return [_pack(one) for one in value]
    if isinstance(value, float):
        return value.hex()
    if hasattr(value, "__dataclass_fields__"):
        return {name: _pack(getattr(value, name)) for name in value.__dataclass_fields__}
    return value


def from_json(content: bytes) -> JudgeState:
    """The state that was written.

    Raises:
        StoreError: it is damaged, or of another version; the log has what it takes to make it anew.
    """
    try:
        raw = orjson.loads(content)
        version, rules = raw.pop("version"), raw.pop("rules", FIRST_RULES)
        if (version, rules) == (VERSION, RULES):
            return _state(raw)
        seen = f"version {version}, rules {rules}"
    except (orjson.JSONDecodeError, AttributeError, KeyError, TypeError, ValueError) as fault:
        seen = f"it cannot be read: {fault}"
    raise StoreError("judge's state", seen=seen, needed=f"version {VERSION}, rules {RULES}", next_step="make it anew from the log")


def _state(raw: Mapping[str, Any]) -> JudgeState:
    return JudgeState(
        metrics={name: _metric(one) for name, one in raw["metrics"].items()},
        served=_units(raw["served"]),
        units=_pair(raw["units"]),
        split=_counts(raw["split"]),
        harmed=_crossing(raw["harmed"]),
        invalid=_crossing(raw["invalid"]),
        high_water=None if raw["high_water"] is None else Place(**raw["high_water"]),
        rows=raw["rows"],
        rows_outside=raw["rows_outside"],
        rows_repeated=raw["rows_repeated"],
    )


def _metric(raw: Mapping[str, Any]) -> MetricState:
    moments = raw["moments"]
    return MetricState(
        seen=tuple(_units(one) for one in raw["seen"]),
        counts=tuple(_counts(one) for one in raw["counts"]),
        arrived=_counts(raw["arrived"]),
        opened=tuple((step, _opened(block)) for step, block in raw["opened"]),
        harm_logs=_logs(raw["harm_logs"]),
        safe_logs=_logs(raw["safe_logs"]),
        moments=Moments(n=moments["n"], total=float.fromhex(moments["total"]), squares=float.fromhex(moments["squares"])),
        n=_pair(raw["n"]),
        trials=Trials(**raw["trials"]),
        n_refused=raw["n_refused"],
    )


def _opened(raw: Mapping[str, Any]) -> OpenBlock:
    return OpenBlock(is_candidate=raw["is_candidate"], total=float.fromhex(raw["total"]), n=raw["n"])


def _units(raw: str) -> Units:
    return np.frombuffer(base64.b64decode(raw), dtype="<u8").astype(np.uint64)


def _pair(raw: Any) -> tuple[int, int]:
    stable, candidate = raw
    return int(stable), int(candidate)


def _counts(raw: Any) -> Counts:
    return tuple(Cell(one["step"], float.fromhex(one["share"]), one["stable"], one["candidate"]) for one in raw)


def _logs(raw: Any) -> tuple[tuple[float, ...], ...]:
    return tuple(tuple(float.fromhex(one) for one in logs) for logs in raw)


def _crossing(raw: Any) -> Crossing | None:
    if raw is None:
        return None
    return Crossing(place=Place(**raw["place"]), e=float.fromhex(raw["e"]), blame=raw["blame"], n_candidate=raw["n_candidate"])


@dataclass(frozen=True, slots=True, kw_only=True)
class FirstSeen:
    """Which rows bring a key for the first time."""

    rows: Ints
    """Ascending."""
    seen: Units
    """All keys that are known now, ascending."""


def first_seen(keys: Units, seen: Units) -> FirstSeen:
    """The rows whose key is in no row before them and not among those seen."""
    n = len(keys)
    ascending = np.sort(keys)
    merged = np.sort(np.concatenate([seen, ascending]), kind="stable")  # of two ascending runs: one merge
    is_repeated = merged[1:] == merged[:-1]
    if not is_repeated.any():
        return FirstSeen(rows=np.arange(n), seen=merged)
    is_first = np.ones(n, dtype=np.bool_)
    again = np.unique(ascending[1:][ascending[1:] == ascending[:-1]])
    if len(again):  # of the keys that come more than once, the first row stays
        rows = np.flatnonzero(among(keys, again))
        is_first[rows] = False
        is_first[rows[np.unique(keys[rows], return_index=True)[1]]] = True
    is_first &= ~among(keys, seen)
    return FirstSeen(rows=np.flatnonzero(is_first), seen=merged[np.concatenate([[True], ~is_repeated])])


def among(keys: Units, ascending: Units) -> Bools:
    """Which of the keys stand in the ascending array."""
    if not len(ascending):
        return np.zeros(len(keys), dtype=np.bool_)
    place = np.minimum(np.searchsorted(ascending, keys), len(ascending) - 1)
    return np.asarray(ascending[place] == keys)
