"""What a call leaves in the log: START before the model is asked, END before the answer leaves, a span for each step between.

Everything here is sealed: personal data and secrets are replaced, the unit by its hash, and bodies are proven by HMAC. A START that
stays alone says that the process died in between; it counts as a request whose status is unknown.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from hashlib import blake2b
from typing import Any

from workbench.controls.model import Assignment, Call
from workbench.controls.turn import Step, Turn, model_served, most_attempts
from workbench.errors import RequestRefused
from workbench.observability.sealing import Sealer

Row = dict[str, Any]
Rows = dict[str, list[Row]]

UNASSIGNED = "unassigned"
"""The workflow of a call that names none."""
_TOKENS = ("input_tokens", "output_tokens", "cache_read_tokens", "reasoning_tokens")
_MADE_UP = ("handoff_id", "rule_id", "action")
"""Columns with names that a bundle's code or a tool makes up."""
_REFUSED_AS = {"deadline_passed": "timeout", "bad_request": "blocked"}
"""Code of a refusal to the status that its record has; every other one is an error."""


def derived_id(prefix: str, *labels: object, size: int = 12) -> str:
    """A stable id: the prefix and 2 × `size` hex digits that follow from the labels."""
    text = "\x1f".join(map(str, labels)).encode("utf-8", "surrogatepass")
    return prefix + blake2b(text, digest_size=size).hexdigest()


def status_of(refusal: RequestRefused) -> str:
    """The status of a refused request."""
    return _REFUSED_AS.get(refusal.code, "error")


def milliseconds(seconds: float) -> float:
    """Seconds as ms, to the microsecond."""
    return round(seconds * 1000, 3)


def turn_columns(turn: Turn) -> Row:
    """What a turn says about its request: status, model, counts, tokens, cost."""
    models = [step for step in turn.steps if step.kind == "model"]
    tools = [step for step in turn.steps if step.kind == "tool"]
    return {
        "model_served": model_served(models),
        "status": turn.status,
        "is_fallback": turn.is_fallback,
        "error_type": turn.error_type,
        "finish_reason": turn.finish_reason,
        "attempts": most_attempts(models),
        "n_tool_calls": len(tools),
        "n_tool_errors": sum(step.status != "ok" for step in tools),
        "n_retrievals": sum(step.kind == "retrieval" for step in turn.steps),
        **{name: _total(models, name) for name in _TOKENS},
        "cost_usd": _total(models, "cost_usd"),
        "blocked_rules": list(turn.blocked_rules),
        "violation_rules": None if turn.violation_rules is None else list(turn.violation_rules),
        "handoff_id": turn.handoff_id,
    }


def span_rows(steps: Sequence[Step], request: Row, *, zero: datetime, attributes: Mapping[str, Any] | None = None) -> Iterator[Row]:
    """The spans of a request, its own first.

    Args:
        steps: what happened, in order.
        request: the request's row, with its end.
        zero: when the turn's clock stood at 0.
        attributes: of the request itself.
    """
    root = derived_id("", request["request_id"], "root", size=8)
    shared = {key: request[key] for key in ("trace_id", "request_id", "app", "bundle")}
    yield {
        **shared,
        "span_id": root,
        "kind": "agent",
        "name": "answer",
        "ts_start": request["ts_start"],
        "duration_ms": request["latency_ms"],
        "status": request["status"],
        "error_type": request["error_type"],
        "attributes": attributes,
    }
    for number, step in enumerate(steps, start=1):
        yield {
            **shared,
            "span_id": derived_id("", request["request_id"], number, size=8),
            "parent_span_id": root,
            "kind": step.kind,
            "name": step.name,
            "ts_start": zero + timedelta(seconds=step.start_s),
            "duration_ms": milliseconds(step.duration_s),
            "status": step.status,
            "error_type": step.error_type,
            "attempt": step.attempt,
            **_details(step, request),
        }


def _details(step: Step, request: Row) -> Row:
    """The columns that belong to this kind of step."""
    details = step.details
    if step.kind == "model":
        return {
            "provider": details.get("provider") or request["provider"],
            "model": details.get("model", step.name),
            **{name: details.get(name) for name in (*_TOKENS, "cost_usd")},
        }
    if step.kind == "tool":
        return {
            "tool_name": step.name,
            "tool_call_id": details.get("tool_call_id"),
            "tool_arguments": details.get("arguments"),
            "tool_result": details.get("result"),
            "side_effect": details.get("side_effect"),
        }
    if step.kind == "retrieval":
        return {"retrieval_query": details.get("query"), "retrieved": details.get("retrieved")}
    return {"rule_id": details.get("rule_id"), "action": details.get("action"), "tool_name": details.get("tool")}


def _total(models: Sequence[Step], name: str) -> Any:
    """The sum of what the model calls say; None when none of them says it."""
    known = [step.details[name] for step in models if name in step.details]
    return round(sum(known), 9) if known else None


class Recorder:
    """Makes the sealed rows of calls.

    Args:
        sealer: takes personal data out, proves bodies and hashes units.
    """

    def __init__(self, sealer: Sealer) -> None:
        self._sealer = sealer

    def start(self, call: Call, assignment: Assignment, *, provider: str | None, model: str | None) -> Row:
        """The request as it begins.

        Raises:
            RecordRefused: the messages are nothing that can be stored.
        """
        row = {
            **_identity(call),
            "revision": 0,
            "is_final": False,
            "bundle": assignment.bundle_id,
            "arm": assignment.arm,
            "traffic_share": assignment.share,
            "route_version": assignment.route_version,
            "assigned_by": str(assignment.reason),
            "release_id": assignment.release_id,
            "provider": provider,
            "model_requested": model,
            "status": "unknown",
            "unit": call.unit,
            "input": _asked(call),
        }
        self._sealer.request(row)
        return row

    def end(
        self,
        start: Row,
        call: Call,
        turn: Turn,
        columns: Row,
        *,
        output: Mapping[str, Any] | None,
        latency_s: float,
        zero: datetime,
    ) -> Rows:
        """The request as it ended, and its spans.

        Args:
            start: what `start` made.
            call: the call.
            turn: what came of it.
            columns: the turn's `turn_columns`.
            output: the answer, as `output_of` keeps it; None where there is none.
            latency_s: from the call's arrival on.
            zero: when the turn's clock stood at 0.

        Raises:
            RecordRefused: the answer or a step is nothing that can be stored.
        """
        received_s = (call.received_at - zero).total_seconds()
        end = {
            "revision": 1,
            "is_final": True,
            "ts_end": call.received_at + timedelta(seconds=latency_s),
            "latency_ms": milliseconds(latency_s),
            "ttft_ms": None if turn.ttft_s is None else milliseconds(turn.start_s + turn.ttft_s - received_s),
            **columns,
            "unit": call.unit,
            "output": output,
        }
        self._sealer.request(end)
        request = {**start, **self._names_sealed(end)}
        spans = [self._names_sealed(span) for span in span_rows(turn.steps, request, zero=zero, attributes=_attributes(call, turn))]
        for span in spans:
            self._sealer.span(span, call.unit)
        return {"requests": [request], "spans": spans}

    def _names_sealed(self, row: Row) -> Row:
        """The row, with the names sealed that somebody else's code made up."""
        plain = self._sealer.redactor.identifier
        for name in _MADE_UP:
            if row.get(name) is not None:
                row[name] = plain(row[name])
        for name in ("blocked_rules", "violation_rules"):
            if row.get(name):
                row[name] = [plain(rule) for rule in row[name]]
        if row.get("retrieved"):
            row["retrieved"] = [{**hit, "doc_id": plain(hit["doc_id"])} if hit.get("doc_id") else hit for hit in row["retrieved"]]
        return row

    def refused(self, call: Call, refusal: RequestRefused, *, at: datetime) -> Rows:
        """The only record of a call that was refused before it began; what was asked is not part of it."""
        row = {
            **_identity(call),
            "revision": 0,
            "is_final": True,
            "ts_end": at,
            "arm": "none",
            "status": status_of(refusal),
            "error_type": refusal.code,
            "unit": call.unit,
        }
        self._sealer.request(row)
        return {"requests": [row]}


def _identity(call: Call) -> Row:
    """What a request is from its first moment on."""
    return {
        "request_id": call.request_id,
        "app": call.app,
        "workflow": call.workflow or UNASSIGNED,
        "ts_start": call.received_at,
        "session_id": call.session_id,
        "trace_id": derived_id("", call.shadow_of or call.request_id, size=16),
        "operation": call.operation,
        "source": call.source,
        "sample_probability": 1.0,
    }


def _asked(call: Call) -> Mapping[str, Any]:
    """The whole of what was asked: the talk, and the form of the answer where the caller has a say in it."""
    asked = call.asked
    form = {"tools": list(asked.tools), "n": asked.n if asked.n != 1 else None, "options": dict(asked.options)}
    return {"messages": call.messages, **{name: value for name, value in form.items() if value}}


def _attributes(call: Call, turn: Turn) -> Mapping[str, Any] | None:
    """What is said of the request itself: the caller's words about it, and which guards looked."""
    told = {"metadata": dict(call.metadata), "guards": list(turn.looked)}
    return {name: value for name, value in told.items() if value} or None
