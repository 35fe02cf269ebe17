"""From what is uncertain about an answer to an item that a person decides on. Pure, but for the desk that takes it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Protocol

from workbench.controls.events import ToolCall
from workbench.controls.guards.model import Finding
from workbench.controls.guards.texts import texts_of
from workbench.controls.handoff import Handoff, Kind, Mode, NewHandoff
from workbench.controls.model import Assignment, Call
from workbench.controls.recording import derived_id
from workbench.controls.turn import Step, Turn
from workbench.controls.uncertainty import HandoffMode, Signal, TurnSigns

NOBODY_ANSWERED = Signal(name="no_answer", mode=HandoffMode.HOLD, sentence="No model answered, and the bundle asks for a person then.")


class Desk(Protocol):
    """Where people decide."""

    def can_hold(self, app: str) -> bool:
        """Whether a text can be kept for people to see."""

    def holding_text(self, app: str) -> str:
        """What a client gets while an answer waits."""

    def open(self, new: NewHandoff) -> Handoff:
        """Take an item. May raise StoreError."""


def signs_of(call: Call, turn: Turn, steps: Sequence[Step], findings: Sequence[Finding], *, n_session_failures: int) -> TurnSigns:
    """What is known of one turn.

    Args:
        call: what was asked.
        turn: what came of it, before the guards.
        steps: of the turn, the guards' included.
        findings: of all its guards.
        n_session_failures: turns of the session before this one that failed.
    """
    retrieved = [hit for step in steps if step.kind == "retrieval" for hit in step.details.get("retrieved") or ()]
    has_searched = any(step.kind == "retrieval" and "retrieved" in step.details for step in steps)
    logprobs = [step.details["least_logprob"] for step in steps if "least_logprob" in step.details]
    return TurnSigns(
        findings=tuple(findings),
        last_user_text=_last_text(call),
        n_citations=sum(_is_cited(hit, turn.content) for hit in retrieved) if has_searched else None,
        retrieval_scores=tuple(float(hit["score"]) for hit in retrieved if hit.get("score") is not None) if has_searched else None,
        least_logprob=min(logprobs, default=None),
        n_session_failures=n_session_failures,
    )


def new_handoff(
    call: Call,
    assignment: Assignment,
    signals: Sequence[Signal],
    *,
    proposed: str | None,
    mode: Mode,
    awaiting: Sequence[ToolCall],
    due_s: float | None,
    at: datetime,
) -> NewHandoff:
    """The item for people.

    Args:
        call: what was asked.
        assignment: which bundle answered.
        signals: why people are asked.
        proposed: what people may let go; None where there is nothing.
        mode: whether the answer is held back.
        awaiting: tool calls that wait for approval.
        due_s: how long people have; None where the app's own rule counts.
        at: now.
    """
    calls = [_in_openais_form(each) for each in awaiting]
    return NewHandoff(
        handoff_id=derived_id("ho_", call.request_id),
        request_id=call.request_id,
        app=call.app,
        bundle_id=assignment.bundle_id,
        unit=call.unit,
        session_id=call.session_id,
        workflow=call.workflow or "unassigned",
        kind=Kind.TOOL_CALL if calls else Kind.ANSWER,
        mode=mode,
        signals=tuple(signal.name for signal in signals),
        messages=call.messages,
        proposed=proposed,
        tool_calls=calls,
        created_at=at,
        due_s=due_s,
        callback=call.callback,
    )


def handoff_step(mode: Mode, signals: Sequence[Signal], *, at_s: float, fault: str | None) -> Step:
    """The handover as a step of the turn."""
    details = {"action": str(mode), "reason": ", ".join(signal.name for signal in signals)}
    return Step(kind="handoff", name="handoff", start_s=at_s, status="error" if fault else "ok", error_type=fault, details=details)


def _last_text(call: Call) -> str:
    """What the user said last, in one piece or in parts."""
    last = next((message for message in reversed(call.messages) if message["role"] == "user"), None)
    return "\n".join(texts_of(last)) if last else ""


def _is_cited(hit: Mapping[str, Any], content: str) -> bool:
    """Whether the answer names the document."""
    return bool(hit.get("doc_id")) and str(hit["doc_id"]) in content


def _in_openais_form(call: ToolCall) -> dict[str, Any]:
    return {"id": call.call_id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
