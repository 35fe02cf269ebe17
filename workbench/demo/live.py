"""Customers write to the gateway: over HTTP, on the routes of the moment. Which bundle answers whom is the gateway's choice.

Waiting is virtual where the workspace's controls run on a virtual clock; everything else is what a real client goes through.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

import aiohttp

from workbench.controls.turn import Step
from workbench.demo.chance import identity
from workbench.demo.customers import Customer
from workbench.demo.rows import Rows, RowWriter, score_rows
from workbench.demo.shop import Shop, desk_of_session
from workbench.demo.talks import Message, Talk, hold
from workbench.errors import WorkbenchError
from workbench.observability.sealing import Sealer

if TYPE_CHECKING:
    from workbench.workspace import Workspace

_AT_ONCE = 32
"""Talks under way at the same time."""
_TIMEOUT_S = 30.0
_KEPT_S = 2.0
"""A connection that was idle for longer is not used again: the gateway may be closing it."""


class NoAnswer(WorkbenchError):
    """The gateway refused a customer's message."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """What the client saw of one answer."""

    request_id: str
    content: str
    is_fallback: bool
    arm: str
    bundle_id: str | None
    ended: datetime
    status: str = "ok"
    """As far as a client can tell."""
    steps: tuple[Step, ...] = ()
    """What happened inside stays inside."""


@dataclass(slots=True, kw_only=True)
class Leg:
    """The traffic between two acts."""

    talks: int = 0
    requests: int = 0
    units_by_arm: Counter[str] = field(default_factory=Counter)
    """Different customers by the arm that answered their first message."""


class Street:
    """The customers' side of the gateway.

    Args:
        ws: whose log gets the scores and the business events.
        session: an open HTTP client.
        url: the gateway's.
        app: the assistant's name there.
        shop: whose customers they are.
    """

    def __init__(self, ws: Workspace, session: aiohttp.ClientSession, *, url: str, app: str, shop: Shop) -> None:
        self._ws = ws
        self._session = session
        self._url = f"{url}/v1/chat/completions"
        self._app = app
        self._shop = shop
        self._sealer = Sealer(ws.redactor, ws.unit_key)
        self._writer = RowWriter(seed=shop.seed, sealer=self._sealer)
        self._ended: list[tuple[Talk[Answered], Mapping[str, Any]]] = []

    async def serve(self, people: Iterable[Customer]) -> Leg:
        """All these customers come, talk and go; what their answers were worth is in the log afterwards."""
        leg, gate = Leg(), asyncio.Semaphore(_AT_ONCE)

        async def come(customer: Customer) -> Talk[Answered]:
            async with gate:
                return await self._talk(customer)

        talks = await asyncio.gather(*map(come, people))
        rows: Rows = {"scores": []}
        for talk in talks:
            leg.talks += 1
            leg.requests += len(talk.exchanges)
            leg.units_by_arm[talk.exchanges[0].turn.arm] += 1
            for exchange in talk.exchanges:
                rows["scores"].extend(score_rows(exchange, self._row(talk.customer, exchange.turn)))
            self._ended.append((talk, self._row(talk.customer, talk.exchanges[-1].turn)))
        await asyncio.to_thread(self._ws.logs.record, rows)
        return leg

    async def settle(self) -> int:
        """Record the business events that followed the talks by now; how many there were."""
        now = self._ws.clock()
        events = [event for talk, request in self._ended for event in self._writer.outcomes(talk, request, now=now)]
        self._ended = []
        if events:
            await asyncio.to_thread(self._ws.logs.record, {"outcomes": events})
        return len(events)

    async def _talk(self, customer: Customer) -> Talk[Answered]:
        session_id = self._session_id(customer)
        desk = desk_of_session(session_id, seed=self._shop.seed, customer=customer.number)

        async def ask(messages: Sequence[Message]) -> Answered:
            return await self._answer(customer, session_id, messages)

        return await hold(customer, shop=self._shop, desk=desk, start=self._ws.clock(), ask=ask)

    async def _answer(self, customer: Customer, session_id: str, messages: Sequence[Message]) -> Answered:
        """The gateway's answer.

        Raises:
            NoAnswer: it gave none.
        """
        body = {
            "model": self._app,
            "messages": list(messages),
            "metadata": {"shop": str(self._shop.seed), "signed_in": "yes" if customer.is_signed_in else "no"},
        }
        headers = {
            "x-workbench-unit": customer.unit,
            "x-workbench-session": session_id,
            "x-workbench-workflow": customer.workflow,
        }
        async with self._session.post(self._url, json=body, headers=headers) as response:
            content = await response.json()
            if response.status != 200:  # noqa: PLR2004 - OK
                said = content.get("error", {}).get("message", "")
                raise NoAnswer(f"request for {self._app}", seen=f"HTTP {response.status}: {said}", needed="an answer")
            told = response.headers
        return Answered(
            request_id=content["id"],
            content=content["choices"][0]["message"]["content"],
            is_fallback=told["x-workbench-fallback"] == "true",
            arm=told["x-workbench-arm"],
            bundle_id=told.get("x-workbench-bundle"),
            ended=self._ws.clock(),
        )

    def _session_id(self, customer: Customer) -> str:
        return identity("ses_", self._shop.seed, "live", customer.unit)

    def _row(self, customer: Customer, answered: Answered) -> dict[str, Any]:
        """What the log's other rows say of the request they belong to, sealed like the request itself."""
        row: dict[str, Any] = {
            "request_id": answered.request_id,
            "app": self._app,
            "session_id": self._session_id(customer),
            "unit": customer.unit,
            "ts_end": answered.ended,
        }
        self._sealer.request(row)
        return row


@asynccontextmanager
async def opened_street(ws: Workspace, *, url: str, key: str, app: str, shop: Shop) -> AsyncIterator[Street]:
    """The customers' way to the gateway, for the length of the block.

    Args:
        ws: the workspace of the gateway.
        url: the gateway's.
        key: a key for the app.
        app: the assistant's name.
        shop: whose customers come.
    """
    headers = {"authorization": f"Bearer {key}"}
    timeout = aiohttp.ClientTimeout(total=_TIMEOUT_S)
    connector = aiohttp.TCPConnector(limit=_AT_ONCE, keepalive_timeout=_KEPT_S)
    async with aiohttp.ClientSession(headers=headers, timeout=timeout, connector=connector) as session:
        yield Street(ws, session, url=url, app=app, shop=shop)
