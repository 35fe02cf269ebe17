"""What a gate reads from an evidence record: one number, its interval, and the bar on the same scale."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from workbench.observability.model import Direction, Evidence
from workbench.readiness.wording import CHANGE_OF, apart, counted, metric_words, number
from workbench.readiness.wording import interval as interval_words
from workbench.spec.gates import AgainstBaseline, GateSpec

Side = Literal["at_least", "at_most", "more_than", "less_than"]
"""On which side of the bar the number must be; the margin itself is not enough, so its sides are strict."""


class BrokenEvidence(ValueError):  # it is a verdict in the making, not an error that a person meets
    """The record cannot be read as evidence for this gate; `reason` is the code of the ERROR that it becomes."""

    def __init__(self, reason: str, sentence: str) -> None:
        super().__init__(sentence)
        self.reason = reason
        self.sentence = sentence


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """A measured number beside its bar, both in `unit`."""

    estimate: float
    low: float | None
    """Ends of the 95 % interval; None is unbounded at this n."""
    high: float | None
    bar: float
    side: Side
    unit: str
    n: int
    method: str
    what: str
    """The number in words, for example `p95 latency`."""
    seen: str
    """The measurement in words, with interval and n."""
    required: str
    """The bar in words."""

    @property
    def pessimistic(self) -> float | None:
        """The end of the interval that lies towards the bar."""
        return self.low if self.side in ("at_least", "more_than") else self.high

    def clears(self, value: float) -> bool:
        """Whether `value` is on the right side of the bar."""
        match self.side:
            case "at_least":
                return value >= self.bar
            case "at_most":
                return value <= self.bar
            case "more_than":
                return value > self.bar
            case "less_than":
                return value < self.bar


def observations(gate: GateSpec, evidence: Evidence) -> int:
    """How many observations the gate may decide on: those of the smaller side, and only whole pairs where pairs are compared.

    Raises:
        BrokenEvidence: the record does not say.
    """
    statistics = evidence.statistics
    if gate.against_baseline is None:
        return _count(statistics, "n")
    counts = [_count(_section(statistics, side), "n") for side in ("candidate", "baseline")]
    difference = _section(statistics, "difference")
    if gate.against_baseline.margin is not None and difference.get("n_pairs") is not None:
        counts.append(_count(difference, "n_pairs"))
    return min(counts)


def read(gate: GateSpec, evidence: Evidence) -> Reading:
    """The number of `gate` in `evidence`.

    Raises:
        BrokenEvidence: a number is missing, not finite, or the interval is upside down; or the metric has no better side.
    """
    n = observations(gate, evidence)
    if gate.against_baseline is not None:
        return _relative(gate, gate.against_baseline, evidence.statistics, n)
    estimate, low, high = _numbers(evidence.statistics)
    unit = str(evidence.statistics.get("unit") or "")
    side: Side = "at_least" if gate.at_least is not None else "at_most"
    bar = gate.at_least if gate.at_least is not None else gate.at_most
    if bar is None:
        raise BrokenEvidence("no_bar", f"gate {gate.id} has no bar")
    if str(evidence.statistics.get("method") or "").startswith("total") and side == "at_least":
        low = estimate  # a total is exact, and fewer rows only lower it; against a ceiling it proves nothing
    what = metric_words(gate.metric, gate.where)
    value, limit = apart(estimate, bar, unit)
    return Reading(
        estimate=estimate,
        low=low,
        high=high,
        bar=bar,
        side=side,
        unit=unit,
        n=n,
        method=str(evidence.statistics.get("method") or ""),
        what=what,
        seen=f"{what} is {value} ({_interval(low, high, unit)}, n = {n:,})",
        required=f"{side.replace('_', ' ')} {limit}",
    )


def _relative(gate: GateSpec, tolerance: AgainstBaseline, statistics: Mapping[str, Any], n: int) -> Reading:
    candidate, baseline = _section(statistics, "candidate"), _section(statistics, "baseline")
    direction = statistics.get("direction") or candidate.get("direction")
    if direction not in (Direction.HIGHER, Direction.LOWER):
        raise BrokenEvidence(
            "no_direction", f"{gate.metric} has no better side, so it cannot be compared with a baseline; give at_least or at_most"
        )
    is_higher = direction == Direction.HIGHER
    base_unit = str(statistics.get("unit") or candidate.get("unit") or "")
    what = metric_words(gate.metric, gate.where)
    values = [number(_real(side, "estimate"), base_unit) for side in (candidate, baseline)]
    both = f"{what} is {values[0]} against the baseline's {values[1]}"
    if tolerance.margin is not None:
        section, unit = _section(statistics, "difference"), CHANGE_OF + base_unit
        bar = -tolerance.margin if is_higher else tolerance.margin
        side: Side = "more_than" if is_higher else "less_than"
        required = f"worse by less than {number(tolerance.margin, unit).lstrip('+')}"
    else:
        ratio = tolerance.ratio or 1.0
        section, unit = _section(statistics, "ratio"), "ratio"
        if section.get("estimate") is None:
            raise BrokenEvidence("no_ratio", f"{both}; a ratio to 0 says nothing, so this gate needs a margin instead")
        bar = 1 / ratio if is_higher else ratio
        side = "at_least" if is_higher else "at_most"
        required = f"{side.replace('_', ' ')} {number(bar, 'ratio')} the baseline"
    estimate, low, high = _numbers(section)
    value = apart(estimate, bar, unit)[0]
    pairs = statistics.get("difference", {}).get("n_pairs") if tolerance.margin is not None else None
    size = counted(pairs, "pair") if pairs is not None else f"n = {n:,}"
    return Reading(
        estimate=estimate,
        low=low,
        high=high,
        bar=bar,
        side=side,
        unit=unit,
        n=n,
        method=str(section.get("method") or ""),
        what=what,
        seen=f"{both}: {value} ({_interval(low, high, unit)}, {size})",
        required=required,
    )


def _interval(low: float | None, high: float | None, unit: str) -> str:
    return "no interval at this n" if low is None and high is None else f"95 % interval {interval_words(low, high, unit)}"


def _section(statistics: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    section = statistics.get(name)
    if not isinstance(section, Mapping):
        raise BrokenEvidence("broken_evidence", f"the record has no {name}")
    return section


def _numbers(section: Mapping[str, Any]) -> tuple[float, float | None, float | None]:
    estimate, low, high = _real(section, "estimate"), _end(section, "low"), _end(section, "high")
    if low is not None and high is not None and low > high:
        raise BrokenEvidence("broken_evidence", f"the record's interval is upside down: {low} to {high}")
    return estimate, low, high


def _real(section: Mapping[str, Any], name: str) -> float:
    value = _end(section, name)
    if value is None:
        raise BrokenEvidence("undefined", "the observations do not define this number, for example because there is nothing to divide by")
    return value


def _end(section: Mapping[str, Any], name: str) -> float | None:
    if name not in section:
        raise BrokenEvidence("broken_evidence", f"the record has no {name}")
    value = section[name]
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise BrokenEvidence("broken_evidence", f"the record's {name} is {value!r}, not a number")
    return float(value)


def _count(section: Mapping[str, Any], name: str) -> int:
    value = section.get(name)
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise BrokenEvidence("broken_evidence", f"the record's {name} is {value!r}, not a count")
    return value
