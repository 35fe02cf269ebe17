"""The two sentences at the top of a review: what decided, and how the bundle compares with its baseline."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Literal

from workbench.observability.model import Evidence
from workbench.readiness.model import GateResult, ReviewVerdict, Verdict
from workbench.readiness.verdicts import Decision, is_measured
from workbench.readiness.wording import CHANGE_OF, counted, interval, number

VERDICT_WORDS = {
    ReviewVerdict.GO: "GO",
    ReviewVerdict.NO_GO: "NO GO",
    ReviewVerdict.NOT_ENOUGH_EVIDENCE: "NOT ENOUGH EVIDENCE",
}
SIGNIFICANCE = 0.05
SMALLEST_P = 0.0001
"""Below it the size of p says nothing more."""

Trend = Literal["better", "worse", "same", "unknown"]


def review_sentence(decision: Decision, results: Sequence[GateResult]) -> str:
    """One sentence that names the verdict and the gate that decided."""
    word = VERDICT_WORDS[decision.verdict]
    if decision.verdict is ReviewVerdict.GO:
        passed = [result for result in results if result.is_blocking and result.verdict is Verdict.PASS]
        measured = sum(map(is_measured, passed))
        return f"{word}: all {counted(len(passed), 'blocking gate')} that apply pass, {measured} of them on measurements."
    by_id = {result.gate_id: result for result in results}
    if not decision.deciding:
        return f"{word}: no blocking gate applies to this bundle."
    first, *others = [by_id[gate_id] for gate_id in decision.deciding]
    return f"{word}: decided by “{first.title}” ({first.verdict}): {first.sentence.rstrip('.')}{_others(others)}."


def comparison_sentence(
    success: Evidence | None, latency: Evidence | None, results: Sequence[GateResult], *, latency_gates: Collection[str]
) -> str:
    """How the bundle compares with its baseline in success and p95 latency; empty without a comparison.

    Args:
        success: comparison of `success_rate`.
        latency: comparison of `latency_p95`.
        results: all gates of the review.
        latency_gates: ids of the gates on a latency; one that fails is what stops a better bundle.
    """
    if success is None and latency is None:
        return ""
    stopped = any(r.gate_id in latency_gates and r.is_blocking and r.verdict is Verdict.FAIL for r in results)
    quality = _success_trend(success.statistics) if success else "unknown"
    speed = _latency_trend(latency.statistics, is_stopped=stopped) if latency else "unknown"
    parts = [_success_words(success.statistics) if success else "", _latency_words(latency.statistics) if latency else ""]
    facts = "; ".join(part for part in parts if part)
    return f"{_headline(quality, speed, is_stopped=stopped)}: {facts}."


def _headline(quality: Trend, speed: Trend, *, is_stopped: bool) -> str:
    if quality == "better" and is_stopped:
        return "Better, but stopped by latency"
    return _HEADLINES[quality, "same" if speed == "unknown" else speed]


_HEADLINES: Mapping[tuple[Trend, Trend], str] = {
    ("better", "worse"): "Better, but slower",
    ("better", "same"): "Better, no difference in latency shown",
    ("better", "better"): "Better and faster",
    ("same", "worse"): "Slower without being better",
    ("same", "same"): "No difference shown",
    ("same", "better"): "Faster, no difference in success shown",
    ("worse", "worse"): "Worse and slower",
    ("worse", "same"): "Worse, no difference in latency shown",
    ("worse", "better"): "Worse, though faster",
    ("unknown", "worse"): "Slower; success cannot be compared",
    ("unknown", "same"): "Success cannot be compared",
    ("unknown", "better"): "Faster; success cannot be compared",
}
"""By success, then latency."""


def _success_trend(statistics: Mapping[str, Any]) -> Trend:
    """A difference counts when its p is below 5 %, or where there is no p when the interval excludes 0."""
    difference = statistics.get("difference") or {}
    estimate, low, high, p = (difference.get(name) for name in ("estimate", "low", "high", "p"))
    if estimate is None:
        return "unknown"
    is_shown = p < SIGNIFICANCE if p is not None else (low is not None and low > 0) or (high is not None and high < 0)
    if not is_shown or estimate == 0:
        return "same"
    return "better" if estimate > 0 else "worse"


def _latency_trend(statistics: Mapping[str, Any], *, is_stopped: bool) -> Trend:
    """A ratio counts when its interval excludes 1, or when a latency gate already failed on it."""
    ratio = statistics.get("ratio") or {}
    estimate, low, high = (ratio.get(name) for name in ("estimate", "low", "high"))
    if estimate is None:
        return "unknown"
    if (low is not None and low > 1) or (is_stopped and estimate > 1):
        return "worse"
    return "better" if high is not None and high < 1 else "same"


def _success_words(statistics: Mapping[str, Any]) -> str:
    sides, difference = _sides(statistics, "share"), statistics.get("difference") or {}
    if difference.get("estimate") is None:
        return f"success {sides}"
    details = [f"{number(difference['estimate'], CHANGE_OF + 'share')}, {_ends(difference, CHANGE_OF + 'share')}"]
    if difference.get("n_pairs") is not None:
        details.append(f"{counted(difference['n_pairs'], 'pair')}, {difference.get('wins')} won and {difference.get('losses')} lost")
    if difference.get("p") is not None:
        test = "McNemar p" if "McNemar" in (difference.get("p_method") or "") else "p"
        details.append(f"{test} {_p_words(difference['p'])}")
    return f"success {sides} ({'; '.join(details)})"


def _latency_words(statistics: Mapping[str, Any]) -> str:
    sides, ratio = _sides(statistics, "ms"), statistics.get("ratio") or {}
    if ratio.get("estimate") is None:
        return f"p95 latency {sides}"
    return f"p95 latency {sides} ({number(ratio['estimate'], 'ratio')}, {_ends(ratio, 'ratio')})"


def _sides(statistics: Mapping[str, Any], unit: str) -> str:
    values = [(statistics.get(side) or {}).get("estimate") for side in ("candidate", "baseline")]
    return f"{number(values[0], unit)} against {number(values[1], unit)}"


def _ends(section: Mapping[str, Any], unit: str) -> str:
    low, high = section.get("low"), section.get("high")
    return "no interval at this n" if low is None and high is None else f"95 % interval {interval(low, high, unit)}"


def _p_words(p: float) -> str:
    if p < SMALLEST_P:
        return f"< {SMALLEST_P}"
    return f"= {p:.2f}" if p >= SIGNIFICANCE else f"= {p:.2g}"


def _others(others: Sequence[GateResult]) -> str:
    measured = sum(map(is_measured, others))
    declared = sum(1 for result in others if not is_measured(result) and result.verdict is Verdict.FAIL)
    unproven = len(others) - measured - declared
    parts = [
        counted(measured, "more measured gate") if measured else "",
        counted(declared, "declaration") + " missing or wrong" if declared else "",
        counted(unproven, "gate") + " without a measurement" if unproven else "",
    ]
    told = [part for part in parts if part]
    return f"; also {' and '.join(told)}" if told else ""
