"""Talks as log rows, redacted before they leave this file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from workbench.demo.chance import Draws, identity
from workbench.demo.hosting import Step, Turn
from workbench.demo.scoring import SCORER_ID
from workbench.observability.sealing import Sealer
from workbench.versions.model import Bundle

if TYPE_CHECKING:
    from workbench.demo.traffic import Exchange, Talk

Rows = dict[str, list[dict[str, Any]]]

PRICES_USD_PER_MILLION: Mapping[str, tuple[float, float]] = {"shop-assistant-small": (0.15, 0.60)}
"""Model to price of a million input and output tokens; a model that is not listed stays unpriced."""

CONTACT_DAYS = 3
"""A matter counts as settled without contact when nobody heard from the customer for so long."""


class RowWriter:
    """Turns talks into rows of the log tables.

    Args:
        seed: of the demo; part of every id.
        sealer: takes personal data out, proves bodies and hashes units.
    """

    def __init__(self, *, seed: int, sealer: Sealer) -> None:
        self._seed = seed
        self._sealer = sealer

    def rows(self, talks: Sequence[Talk], bundle: Bundle, *, now: datetime) -> Rows:
        """The rows of these talks under this bundle; business events after `now` have not happened yet and are left out."""
        rows: Rows = {"requests": [], "spans": [], "scores": [], "outcomes": []}
        for talk in talks:
            unit = talk.customer.unit
            session_id = identity("ses_", self._seed, bundle.digest, unit)
            for exchange in talk.exchanges:
                request = self._request(talk, exchange, bundle, session_id=session_id)
                self._sealer.request(request)
                rows["requests"].append(request)
                for span in self._spans(talk, exchange, request):
                    self._sealer.span(span, unit)
                    rows["spans"].append(span)
                rows["scores"].extend(_scores(exchange, request))
            rows["outcomes"].extend(self._outcomes(talk, rows["requests"][-1], now=now))
        return rows

    def _request(self, talk: Talk, exchange: Exchange, bundle: Bundle, *, session_id: str) -> dict[str, Any]:
        turn, unit = exchange.turn, talk.customer.unit
        model = bundle.parts["model"].content
        start = talk.start + timedelta(seconds=turn.start_s)
        request_id = identity("req_", self._seed, bundle.digest, unit, exchange.number)
        return {
            "request_id": request_id,
            "revision": 0,
            "is_final": True,
            "app": bundle.app,
            "workflow": talk.customer.workflow,
            "ts_start": start,
            "ts_end": start + timedelta(seconds=turn.latency_s),
            "latency_ms": _milliseconds(turn.latency_s),
            "ttft_ms": None if turn.ttft_s is None else _milliseconds(turn.ttft_s),
            "bundle": bundle.bundle_id,
            "arm": "none",
            "session_id": session_id,
            "unit": unit,
            "trace_id": identity("", request_id, size=16),
            "operation": "chat",
            "provider": model["provider"],
            "model_requested": model["name"],
            "model_served": next((step.details["model"] for step in turn.steps if "model" in step.details), None),
            "status": turn.status,
            "is_fallback": turn.is_fallback,
            "error_type": turn.error_type,
            "finish_reason": turn.finish_reason,
            **_counts(turn),
            "violation_rules": list(exchange.judgement.violations),
            "blocked_rules": list(turn.blocked_rules),
            "handoff_id": turn.case_number,
            "input": {"messages": exchange.messages},
            "output": {"content": turn.content},
            "sample_probability": 1.0,
            "source": "demo",
        }

    def _spans(self, talk: Talk, exchange: Exchange, request: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        root = identity("", request["request_id"], "root", size=8)
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
        }
        for number, step in enumerate(exchange.turn.steps, start=1):
            yield {
                **shared,
                "span_id": identity("", request["request_id"], number, size=8),
                "parent_span_id": root,
                "kind": step.kind,
                "name": step.name,
                "ts_start": talk.start + timedelta(seconds=step.start_s),
                "duration_ms": _milliseconds(step.duration_s),
                "status": step.status,
                "error_type": step.error_type,
                "attempt": step.attempt,
                **_details(step, request),
            }

    def _outcomes(self, talk: Talk, request: Mapping[str, Any], *, now: datetime) -> Iterator[dict[str, Any]]:
        """Business events that follow the talk: no further contact, and perhaps another order."""
        last = talk.exchanges[-1]
        is_settled = last.judgement.is_settled and last.turn.status == "ok"
        draws = Draws(self._seed, "after", talk.customer.number)
        calls_anyway, buys_at, spends_eur = draws.happens(0.05), draws.uniform(0.5, 6), round(45 * draws.spread(0.5), 2)
        events: list[tuple[str, float, str | None, float]] = []
        if is_settled and not calls_anyway:
            events.append(("resolved_without_contact", 1.0, None, 0.02 * CONTACT_DAYS + draws.uniform(0, 0.05)))
        if is_settled and talk.customer.returns_to_buy:
            value = spends_eur * (1 + 0.3 * (last.judgement.quality == 1))
            events.append(("repeat_order", round(value, 2), "EUR", buys_at))
        for kpi, value, currency, after_days in events:
            ts = request["ts_end"] + timedelta(days=after_days)
            if ts <= now:
                yield {
                    "outcome_id": identity("out_", request["request_id"], kpi),
                    "app": request["app"],
                    "kpi": kpi,
                    "value": value,
                    "currency": currency,
                    "request_id": request["request_id"],
                    "session_id": request["session_id"],
                    "unit_hash": request["unit_hash"],
                    "ts": ts,
                    "source": "demo",
                }


def _details(step: Step, request: Mapping[str, Any]) -> dict[str, Any]:
    """The columns that belong to this kind of step."""
    details = step.details
    if step.kind == "model":
        return {
            "provider": request["provider"],
            "model": details.get("model", step.name),
            "input_tokens": details.get("input_tokens"),
            "output_tokens": details.get("output_tokens"),
            "cost_usd": _cost_usd(step),
        }
    if step.kind == "tool":
        return {
            "tool_name": step.name,
            "tool_call_id": details["tool_call_id"],
            "tool_arguments": details["arguments"],
            "tool_result": details.get("result"),
            "side_effect": details["side_effect"],
        }
    if step.kind == "retrieval":
        return {"retrieval_query": details.get("query"), "retrieved": details.get("retrieved")}
    return {"rule_id": details.get("rule_id"), "action": details.get("action"), "tool_name": details.get("tool")}


def _scores(exchange: Exchange, request: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """What the rule scorer says; a customer who left without answering leaves the success undecided."""
    judgement = exchange.judgement
    values: dict[str, float] = {"quality": judgement.quality}
    if not exchange.is_abandoned:
        values["resolved"] = float(judgement.is_right_step)
    if judgement.retrieval_hit is not None:
        values["retrieval_hit"] = float(judgement.retrieval_hit)
    for name, value in values.items():
        yield {
            "score_id": identity("scr_", request["request_id"], name),
            "request_id": request["request_id"],
            "app": request["app"],
            "name": name,
            "value": value,
            "scorer_id": SCORER_ID,
            "source": "rule",
            "explanation": judgement.explanation if name == "quality" else None,
            "sample_probability": 1.0,
            "ts": request["ts_end"] + timedelta(seconds=1),
        }


def _counts(turn: Turn) -> dict[str, Any]:
    models = [step for step in turn.steps if step.kind == "model"]
    tools = [step for step in turn.steps if step.kind == "tool"]
    costs = [cost for step in models if (cost := _cost_usd(step)) is not None]
    answered = [step for step in models if "input_tokens" in step.details]
    return {
        "attempts": max((step.attempt for step in models), default=0),
        "n_tool_calls": len(tools),
        "n_tool_errors": sum(step.status != "ok" for step in tools),
        "n_retrievals": sum(step.kind == "retrieval" for step in turn.steps),
        "input_tokens": sum(step.details["input_tokens"] for step in answered),
        "output_tokens": sum(step.details["output_tokens"] for step in answered),
        "cost_usd": round(sum(costs), 9) if costs else None,
    }


def _cost_usd(step: Step) -> float | None:
    """What one model call cost; None without usage or price."""
    price = PRICES_USD_PER_MILLION.get(str(step.details.get("model")))
    if price is None:
        return None
    used: tuple[int, int] = (step.details["input_tokens"], step.details["output_tokens"])
    return round((used[0] * price[0] + used[1] * price[1]) / 1e6, 9)


def _milliseconds(seconds: float) -> float:
    return round(seconds * 1000, 3)
