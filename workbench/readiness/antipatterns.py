"""The guide's four anti-patterns, detected and named; and releases that went past the two-person rule."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime

from workbench.readiness.declared import Declarations, is_activity, is_usage, outcome_kpis
from workbench.readiness.model import Finding, GateResult, Verdict
from workbench.readiness.ports import Unreviewed
from workbench.readiness.rehearsal import FAULTS
from workbench.readiness.wording import counted
from workbench.spec.gates import DRILL_METRIC, Family

HUMAN_SOURCES = frozenset({"human"})
"""Score sources that are somebody looking at an answer."""


def findings(declared: Declarations, results: Sequence[GateResult], *, score_sources: Mapping[str, int]) -> tuple[Finding, ...]:
    """The anti-patterns that this app shows, in the guide's order.

    Args:
        declared: what is written down.
        results: all gates of the review.
        score_sources: scores of this bundle by source (`rule`, `judge`, `human`, `user`).
    """
    return (
        *_no_rollback_plan(results),
        *_no_after_hours_owner(results),
        *_spot_checks_only(results, score_sources),
        *_usage_for_success(declared),
    )


def alone(unreviewed: Sequence[Unreviewed], *, now: datetime) -> tuple[Finding, ...]:
    """Releases that went alone and that no second person has looked at since: shown until somebody has, and stopping nothing."""
    if not unreviewed:
        return ()
    sentences = (
        f"{each.person} let {each.release_id} go alone at {each.broken_at:%Y-%m-%d %H:%M} UTC ({each.reason}); its review"
        f" {'was' if each.review_due_at <= now else 'is'} due at {each.review_due_at:%Y-%m-%d %H:%M} UTC."
        for each in unreviewed
    )
    return (
        Finding(
            lint_id="released-alone",
            title="Released by one person alone, and not reviewed since",
            sentence=" ".join(sentences),
            next_step=f"a second person reviews it: `workbench release reviewed {unreviewed[0].release_id} --verdict … --reason …`",
        ),
    )


def _no_rollback_plan(results: Sequence[GateResult]) -> Iterator[Finding]:
    faults = [
        result
        for result in results
        if result.verdict is Verdict.FAIL and (result.gate_id.startswith("rollback.") or result.reason in FAULTS)
    ]
    if faults:
        yield Finding(
            lint_id="no-rollback-plan",
            title="Releasing without a rollback plan",
            sentence=" ".join(result.sentence for result in faults),
            next_step=faults[0].next_step,
        )


def _no_after_hours_owner(results: Sequence[GateResult]) -> Iterator[Finding]:
    for result in results:
        if result.gate_id == "risk.cover" and result.verdict is Verdict.FAIL:
            yield Finding(
                lint_id="no-after-hours-owner",
                title="No ownership for after-hours incidents",
                sentence=result.sentence,
                next_step=result.next_step,
            )


def _spot_checks_only(results: Sequence[GateResult], score_sources: Mapping[str, int]) -> Iterator[Finding]:
    scores = sum(score_sources.values())
    by_people = sum(n for source, n in score_sources.items() if source in HUMAN_SOURCES)
    small = [result for result in results if result.family is Family.QUALITY and result.reason == "too_few"]
    reasons = []
    if scores and by_people == scores:
        reasons.append(f"Every one of the {counted(scores, 'score')} of this bundle was given by a person.")
    if small:
        reasons.append(f"{', '.join(result.title for result in small)}: fewer observations than the gate asks for.")
    if reasons:
        yield Finding(
            lint_id="spot-checks-only",
            title="Relying only on manual spot checks",
            sentence=" ".join(reasons),
            next_step="score every request by a rule or a judge, and collect as many observations as the gates ask for",
        )


def _usage_for_success(declared: Declarations) -> Iterator[Finding]:
    kpis = declared.spec.kpis if declared.spec else ()
    mislabelled = [kpi.name for kpi in kpis if kpi.kind == "outcome" and is_usage(kpi)]
    blocking = [gate.metric for gate in declared.gates.gates if gate.is_blocking] if declared.gates else []
    bars = [metric for metric in blocking if metric != DRILL_METRIC]
    reasons = []
    if mislabelled:
        reasons.append(f"{', '.join(mislabelled)} counts activity under the name of an outcome.")
    elif kpis and not outcome_kpis(declared.spec):
        reasons.append(f"The only KPIs count activity: {', '.join(kpi.name for kpi in kpis)}.")
    if bars and all(map(is_activity, bars)):
        reasons.append(f"The only bars in gates.yaml are on {', '.join(sorted(set(bars)))}, which say nothing about results.")
    if reasons:
        yield Finding(
            lint_id="usage-for-success",
            title="Measuring success by usage instead of business outcomes",
            sentence=" ".join(reasons),
            next_step="declare a KPI on a business event, with baseline and target, and a gate on quality",
        )
