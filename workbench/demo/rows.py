"""Talks as log rows, redacted before they leave this file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from workbench.controls.recording import milliseconds, span_rows, turn_columns
from workbench.controls.turn import Turn
from workbench.demo.chance import Draws, identity
from workbench.demo.scoring import SCORER_ID
from workbench.demo.talks import Exchange, Reply, Talk
from workbench.observability.sealing import Sealer
from workbench.versions.model import Bundle

Rows = dict[str, list[dict[str, Any]]]

ORDER = "order"
"""The event of an order: at once after a talk, or long before it."""
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

    def rows(self, talks: Sequence[Talk[Turn]], bundle: Bundle, *, now: datetime) -> Rows:
        """The rows of these talks under this bundle; business events after `now` have not happened yet and are left out."""
        rows: Rows = {"requests": [], "spans": [], "scores": [], "outcomes": []}
        for talk in talks:
            unit = talk.customer.unit
            session_id = identity("ses_", self._seed, bundle.digest, unit)
            for exchange in talk.exchanges:
                request = self._request(talk, exchange, bundle, session_id=session_id)
                self._sealer.request(request)
                rows["requests"].append(request)
                for span in span_rows(exchange.turn.steps, request, zero=talk.start):
                    self._sealer.span(span, unit)
                    rows["spans"].append(span)
                rows["scores"].extend(score_rows(exchange, request))
            rows["outcomes"].extend(self.outcomes(talk, rows["requests"][-1], now=now))
        return rows

    def _request(self, talk: Talk[Turn], exchange: Exchange[Turn], bundle: Bundle, *, session_id: str) -> dict[str, Any]:
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
            "latency_ms": milliseconds(turn.latency_s),
            "ttft_ms": None if turn.ttft_s is None else milliseconds(turn.ttft_s),
            "bundle": bundle.bundle_id,
            "arm": "none",
            "session_id": session_id,
            "unit": unit,
            "trace_id": identity("", request_id, size=16),
            "operation": "chat",
            "provider": model["provider"],
            "model_requested": model["name"],
            **turn_columns(turn),
            "violation_rules": list(exchange.judgement.violations),
            "input": {"messages": exchange.messages},
            "output": {"content": turn.content},
            "sample_probability": 1.0,
            "source": "demo",
        }

    def outcomes(self, talk: Talk[Reply], request: Mapping[str, Any], *, now: datetime) -> Iterator[dict[str, Any]]:
        """Business events around the talk: earlier orders, no further contact, an order at once, and perhaps another one later.

        Args:
            talk: the whole talk.
            request: the sealed row of its last request.
            now: what would happen later is left out.
        """
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
        basket = Draws(self._seed, "basket", talk.customer.number)
        orders_at_once, value_eur, after_h = (
            basket.happens(0.5 if is_settled else 0.05),
            self._spends(talk, basket),
            basket.uniform(0.1, 2.8),
        )
        if orders_at_once:
            events.append((ORDER, value_eur, "EUR", after_h / 24))
        for kpi, value, currency, after_days in events:
            ts = request["ts_end"] + timedelta(days=after_days)
            if ts <= now:
                named = {name: request[name] for name in ("request_id", "session_id")}
                yield self._event(request, kpi, value, currency, ts, label=request["request_id"]) | named
        yield from self._earlier_orders(talk, request)

    def _earlier_orders(self, talk: Talk[Reply], request: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        """What the customer bought in the four weeks before the talk; such an event names nobody but the customer."""
        draws = Draws(self._seed, "earlier", talk.customer.number)
        for number in range(draws.whole(0, 2)):
            ts = talk.start - timedelta(days=draws.uniform(1, 27))
            value_eur = self._spends(talk, draws)
            yield self._event(request, ORDER, value_eur, "EUR", ts, label=f"{request['unit_hash']} {number}")

    def _spends(self, talk: Talk[Reply], draws: Draws) -> float:
        """EUR of one order: customers differ in what they usually spend, and each differs from order to order."""
        habit = Draws(self._seed, "habit", talk.customer.number).spread(0.5)
        return round(45 * habit * draws.spread(0.3), 2)

    def _event(
        self, request: Mapping[str, Any], kpi: str, value: float, currency: str | None, ts: datetime, *, label: str
    ) -> dict[str, Any]:
        return {
            "outcome_id": identity("out_", label, kpi),
            "app": request["app"],
            "kpi": kpi,
            "value": value,
            "currency": currency,
            "request_id": None,
            "session_id": None,
            "unit_hash": request["unit_hash"],
            "ts": ts,
            "source": "demo",
        }


def score_rows(exchange: Exchange[Reply], request: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
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
