"""Customers talk to one bundle, and the log rows that this leaves.

Time is virtual, so thousands of talks take seconds, while every latency is the sum of what the assistant waited for. Rows are
a function of (seed, customers, bundle content, anchor time).
"""

from __future__ import annotations

from bisect import bisect
from collections.abc import Coroutine, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import accumulate
from typing import Any, TypeVar

from workbench.demo.chance import Draws
from workbench.demo.clock import VirtualClock
from workbench.demo.customers import MAX_TURNS, Customer
from workbench.demo.hosting import HostedBundle, Turn
from workbench.demo.provider import LocalProvider
from workbench.demo.rows import Rows, RowWriter
from workbench.demo.scoring import Judgement, judge
from workbench.demo.shop import Desk, Shop

T = TypeVar("T")
_BUSY_BY_HOUR = (1, 1, 1, 1, 1, 2, 4, 7, 10, 12, 12, 12, 11, 11, 11, 12, 12, 13, 14, 15, 14, 10, 6, 3)
_CUMULATED = tuple(accumulate(_BUSY_BY_HOUR))


@dataclass(frozen=True, slots=True, kw_only=True)
class Exchange:
    """One turn of a talk: what was said, what it was worth."""

    number: int
    """From 1."""
    messages: tuple[dict[str, str], ...]
    """The talk up to the customer's last message."""
    turn: Turn
    judgement: Judgement
    is_abandoned: bool
    """Whether the customer left without answering a question back."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Talk:
    """One customer's whole talk."""

    customer: Customer
    start: datetime
    exchanges: tuple[Exchange, ...]


def run_traffic(
    hosted: HostedBundle,
    people: Iterable[Customer],
    *,
    shop: Shop,
    now: datetime,
    writer: RowWriter,
    days: float = 7.0,
    batch: int = 500,
) -> Iterator[Rows]:
    """Log rows of all talks, in batches: `{"requests": …, "spans": …, "scores": …, "outcomes": …}`.

    Args:
        hosted: the bundle that serves.
        people: who writes.
        shop: whose customers they are.
        now: anchor; the talks are spread over the `days` before it, aware UTC.
        writer: turns talks into rows.
        days: length of the spread.
        batch: talks per batch.
    """
    talks: list[Talk] = []
    for customer in people:
        talks.append(hold_talk(hosted, customer, shop=shop, start=start_of(customer, seed=shop.seed, now=now, days=days)))
        if len(talks) == batch:
            yield writer.rows(talks, hosted.bundle, now=now)
            talks = []
    if talks:
        yield writer.rows(talks, hosted.bundle, now=now)


def hold_talk(hosted: HostedBundle, customer: Customer, *, shop: Shop, start: datetime) -> Talk:
    """One customer's talk with the bundle, from the first message to the last answer."""
    return run_to_end(_talk(hosted, customer, shop=shop, start=start))


def start_of(customer: Customer, *, seed: int, now: datetime, days: float) -> datetime:
    """When this customer writes: on one of the days before `now`, more likely in the evening than at night."""
    draws = Draws(seed, "start", customer.number)
    day = draws.uniform(0, days)
    hour = bisect(_CUMULATED, draws.uniform(0, _CUMULATED[-1]))
    latest = now - timedelta(minutes=10)
    moment = (now - timedelta(days=day)).replace(
        hour=min(hour, 23), minute=draws.whole(0, 59), second=draws.whole(0, 59), microsecond=draws.whole(0, 999) * 1000
    )
    return moment if moment <= latest else moment - timedelta(days=1)


def run_to_end(work: Coroutine[Any, Any, T]) -> T:
    """The result of a coroutine that waits on virtual time only, so that it never has to be resumed.

    Raises:
        RuntimeError: it waited for something real.
    """
    try:
        work.send(None)
    except StopIteration as end:
        result: T = end.value
        return result
    work.close()
    raise RuntimeError("the assistant waited for something outside the virtual clock")


async def _talk(hosted: HostedBundle, customer: Customer, *, shop: Shop, start: datetime) -> Talk:
    clock = VirtualClock()
    provider = LocalProvider(clock)
    desk = Desk(shop, customer=customer.number, is_signed_in=customer.is_signed_in, clock=clock)
    messages: list[dict[str, str]] = []
    exchanges: list[Exchange] = []
    says: str | None = customer.message
    while says is not None and len(exchanges) < MAX_TURNS:
        messages.append({"role": "user", "content": says})
        seen, n_effects = tuple(messages), len(desk.effects)
        turn = await hosted.answer(messages, unit=customer.unit, provider=provider, tools=desk, clock=clock)
        number = len(exchanges) + 1
        earlier, effects = desk.effects[:n_effects], desk.effects[n_effects:]
        judgement = judge(customer, turn, earlier=earlier, effects=effects, turn_number=number, shop=shop)
        says = customer.reply(turn.content, is_settled=judgement.is_settled, turn=number, seed=shop.seed)
        is_abandoned = says is None and judgement.is_right_step and not judgement.is_settled
        exchanges.append(Exchange(number=number, messages=seen, turn=turn, judgement=judgement, is_abandoned=is_abandoned))
        messages.append({"role": "assistant", "content": turn.content})
        await clock.sleep(Draws(shop.seed, "typing", customer.number, number).uniform(15, 120))
    return Talk(customer=customer, start=start, exchanges=tuple(exchanges))
