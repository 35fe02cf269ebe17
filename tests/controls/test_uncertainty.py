"""Each sign of uncertainty counts as the policy says, and alone."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workbench.controls.guards.model import Action, Finding, Stage
from workbench.controls.uncertainty import HandoffMode, TurnSigns, Uncertainty, mode_of
from workbench.spec.guards import GuardsSpec, Handoff
from workbench.spec.loading import parse_spec

EVERYTHING = parse_spec(
    GuardsSpec,
    "guards.yaml",
    b"""
handoff:
  missing_citations: release_and_flag
  retrieval_score: {below: 0.4}
  token_logprob: {below: -4, mode: hold}
  asked_for_person: {phrases: [talk to a person], mode: hold}
  session_failures: {at_least: 3, mode: release_and_flag}
""",
).handoff
HOLD, FLAG = HandoffMode.HOLD, HandoffMode.RELEASE_AND_FLAG


def finding(action: Action, reason: str, tool: str | None = None) -> Finding:
    return Finding(rule_id="guard", stage=Stage.OUTPUT, action=action, reason=reason, tool=tool)


def told(signs: TurnSigns, handoff: Handoff = EVERYTHING) -> list[tuple[str, HandoffMode]]:
    return [(signal.name, signal.mode) for signal in Uncertainty(handoff).signals(signs)]


@pytest.mark.parametrize(
    ("signs", "expected"),
    [
        (TurnSigns(), []),
        (TurnSigns(findings=(finding(Action.HANDOFF, "needs_approval", "refund"),)), [("needs_approval", HOLD)]),
        (TurnSigns(findings=(finding(Action.HANDOFF, "unsure"),) * 2), [("unsure", HOLD)]),
        (TurnSigns(findings=(finding(Action.HANDOFF, "timeout"),)), [("unsure", HOLD)]),
        (TurnSigns(findings=(finding(Action.BLOCK, "matched"), finding(Action.FLAG, "matched"))), []),
        (TurnSigns(n_citations=0), [("missing_citations", FLAG)]),
        (TurnSigns(n_citations=1), []),
        (TurnSigns(retrieval_scores=()), [("retrieval_score", FLAG)]),
        (TurnSigns(retrieval_scores=(0.1, 0.39)), [("retrieval_score", FLAG)]),
        (TurnSigns(retrieval_scores=(0.1, 0.4)), []),
        (TurnSigns(retrieval_scores=(float("nan"),)), [("retrieval_score", FLAG)]),
        (TurnSigns(least_logprob=-4.01), [("token_logprob", HOLD)]),
        (TurnSigns(least_logprob=-4.0), []),
        (TurnSigns(least_logprob=float("nan")), [("token_logprob", HOLD)]),
        (TurnSigns(last_user_text="Let me TALK  to-a person!"), [("asked_for_person", HOLD)]),
        (TurnSigns(last_user_text="talk to a personal trainer"), []),
        (TurnSigns(n_session_failures=2), []),
        (TurnSigns(n_session_failures=3), [("session_failures", FLAG)]),
    ],
    ids=range(18),
)
def test_each_sign_counts_alone(signs: TurnSigns, expected: list) -> None:
    assert told(signs) == expected


def test_what_the_policy_does_not_name_is_no_sign() -> None:
    signs = TurnSigns(n_citations=0, retrieval_scores=(), least_logprob=-99, last_user_text="talk to a person", n_session_failures=9)
    assert told(signs, Handoff()) == []


@given(st.lists(st.sampled_from(["citations", "score", "logprob", "asked", "failures"]), unique=True))
def test_to_hold_beats_to_flag_and_no_sign_is_none(signs: list[str]) -> None:
    given_signs = TurnSigns(
        n_citations=0 if "citations" in signs else 2,
        retrieval_scores=() if "score" in signs else (1.0,),
        least_logprob=-9 if "logprob" in signs else -0.1,
        last_user_text="talk to a person" if "asked" in signs else "hello",
        n_session_failures=5 if "failures" in signs else 0,
    )
    signals = Uncertainty(EVERYTHING).signals(given_signs)
    holds = {"logprob", "asked"} & set(signs)
    assert len(signals) == len(signs)
    assert mode_of(signals) == (HOLD if holds else FLAG if signs else None)


HANDOFFS = st.sampled_from([
    EVERYTHING,
    Handoff(),
    Handoff(missing_citations="hold"),
    *(EVERYTHING.model_copy(update={"missing_citations": None, name: None, **gone}) for name, gone in (
        ("retrieval_score", {"token_logprob": None, "asked_for_person": None}),
        ("token_logprob", {"retrieval_score": None, "session_failures": None}),
        ("asked_for_person", {"retrieval_score": None, "token_logprob": None}),
    )),
])  # fmt: skip
SIGNS = st.builds(
    TurnSigns,
    findings=st.lists(
        st.builds(finding, st.sampled_from(Action), st.sampled_from(["matched", "needs_approval", "unsure"])), max_size=3
    ).map(tuple),
    last_user_text=st.sampled_from(["", "Hello", "talk to a person"]),
    n_citations=st.none() | st.integers(0, 1),
    retrieval_scores=st.none() | st.just(()) | st.just((0.1,)),
    least_logprob=st.none() | st.floats(-9, 0),
    n_session_failures=st.integers(0, 4),
)


@given(HANDOFFS, SIGNS)
def test_where_nothing_may_speak_nothing_speaks(handoff: Handoff, signs: TurnSigns):
    uncertainty = Uncertainty(handoff)
    if not uncertainty.may_speak(signs.findings, n_session_failures=signs.n_session_failures):
        assert uncertainty.signals(signs) == ()
