"""The ladder and the rule that makes a review of it."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from workbench.readiness.model import GateResult, ReviewVerdict, Verdict
from workbench.readiness.verdicts import LADDER, UNPROVEN, decide, rank, worst_of
from workbench.spec.gates import Family

VERDICTS = st.sampled_from(list(Verdict))


def result(verdict: Verdict, *, gate_id: str = "g", is_blocking: bool = True, observed: float | None = None) -> GateResult:
    return GateResult(
        gate_id=gate_id,
        title=gate_id,
        family=Family.QUALITY,
        is_blocking=is_blocking,
        verdict=verdict,
        reason="r",
        sentence="s",
        observed=observed,
    )


RESULTS = st.lists(st.builds(result, VERDICTS, is_blocking=st.booleans()), max_size=8)


def test_the_ladder_holds_every_verdict_once_worst_first():
    assert tuple(Verdict) == LADDER


def test_worst_of_nothing_is_not_applicable():
    assert worst_of([]) is Verdict.NOT_APPLICABLE


@given(st.lists(VERDICTS, min_size=1), VERDICTS)
def test_one_more_verdict_never_makes_the_worst_better(verdicts, another):
    assert rank(worst_of([*verdicts, another])) <= rank(worst_of(verdicts))


def test_one_blocking_fail_is_no_go_whatever_else_passes():
    decision = decide([result(Verdict.PASS), result(Verdict.MISSING, gate_id="m"), result(Verdict.FAIL, gate_id="f")])
    assert (decision.verdict, decision.deciding) == (ReviewVerdict.NO_GO, ("f",))


def test_each_verdict_without_a_yes_is_not_enough_evidence():
    for verdict in UNPROVEN:
        assert decide([result(Verdict.PASS), result(verdict)]).verdict is ReviewVerdict.NOT_ENOUGH_EVIDENCE


def test_no_gate_at_all_is_not_enough_evidence():
    assert decide([]).verdict is ReviewVerdict.NOT_ENOUGH_EVIDENCE


def test_only_gates_that_do_not_apply_are_not_enough_evidence():
    assert decide([result(Verdict.NOT_APPLICABLE)]).verdict is ReviewVerdict.NOT_ENOUGH_EVIDENCE


def test_only_gates_that_do_not_block_are_not_enough_evidence():
    assert decide([result(Verdict.PASS, is_blocking=False)]).verdict is ReviewVerdict.NOT_ENOUGH_EVIDENCE


def test_a_gate_that_does_not_block_stops_nothing():
    assert decide([result(Verdict.PASS), result(Verdict.FAIL, is_blocking=False)]).verdict is ReviewVerdict.GO


def test_a_waived_gate_lets_a_review_go():
    assert decide([result(Verdict.WAIVED)]).verdict is ReviewVerdict.GO


def test_a_measured_fail_stands_before_a_declared_one():
    decision = decide([result(Verdict.FAIL, gate_id="declared"), result(Verdict.FAIL, gate_id="measured", observed=0.5)])
    assert decision.deciding == ("measured", "declared")


def test_what_is_unproven_is_named_worst_first():
    order = [Verdict.INSUFFICIENT, Verdict.MISSING, Verdict.STALE, Verdict.ERROR]
    decision = decide([result(verdict, gate_id=verdict) for verdict in order])
    assert decision.deciding == ("ERROR", "STALE", "MISSING", "INSUFFICIENT")


@given(RESULTS, st.data())
def test_a_worse_gate_never_makes_a_review_go(results, data):
    if not results or decide(results).verdict is ReviewVerdict.GO:
        return
    place = data.draw(st.integers(0, len(results) - 1))
    worse = data.draw(st.sampled_from([v for v in Verdict if rank(v) <= rank(results[place].verdict) and v is not Verdict.WAIVED]))
    if worse in (Verdict.PASS, Verdict.NOT_APPLICABLE) and results[place].verdict is Verdict.NOT_APPLICABLE:
        return
    changed = [*results]
    changed[place] = replace(results[place], verdict=worse)
    assert decide(changed).verdict is not ReviewVerdict.GO


@given(RESULTS)
def test_go_means_that_every_blocking_gate_passes_or_does_not_apply(results):
    if decide(results).verdict is ReviewVerdict.GO:
        blocking = [r.verdict for r in results if r.is_blocking]
        assert set(blocking) <= {Verdict.PASS, Verdict.WAIVED, Verdict.NOT_APPLICABLE}
        assert set(blocking) & {Verdict.PASS, Verdict.WAIVED}
