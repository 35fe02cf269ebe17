"""Customers talk to one bundle, and the log rows that this leaves.

Time is virtual, so thousands of talks take seconds, while every latency is the sum of what the assistant waited for. Rows are
a function of (seed, customers, bundle content, anchor time).
"""

from __future__ import annotations

from bisect import bisect
from collections.abc import Awaitable, Coroutine, Iterable, Iterator, Sequence
from datetime import datetime, timedelta
from functools import lru_cache
from itertools import accumulate
from typing import Any, TypeVar

from workbench.controls.asking import ModelCaller
from workbench.controls.content import BundleContent
from workbench.controls.hosting import HostedBundle
from workbench.controls.providers import Providers
from workbench.controls.serving import Models
from workbench.controls.turn import Turn
from workbench.demo.chance import Draws
from workbench.demo.clock import VirtualClock
from workbench.demo.customers import Customer
from workbench.demo.rows import Rows, RowWriter
from workbench.demo.shop import Desk, Shop
from workbench.demo.talks import Message, Talk, hold

T = TypeVar("T")
_BUSY_BY_HOUR = (1, 1, 1, 1, 1, 2, 4, 7, 10, 12, 12, 12, 11, 11, 11, 12, 12, 13, 14, 15, 14, 10, 6, 3)
_CUMULATED = tuple(accumulate(_BUSY_BY_HOUR))


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
    talks: list[Talk[Turn]] = []
    for customer in people:
        talks.append(hold_talk(hosted, customer, shop=shop, start=start_of(customer, seed=shop.seed, now=now, days=days)))
        if len(talks) == batch:
            yield writer.rows(talks, hosted.bundle, now=now)
            talks = []
    if talks:
        yield writer.rows(talks, hosted.bundle, now=now)


def hold_talk(hosted: HostedBundle, customer: Customer, *, shop: Shop, start: datetime) -> Talk[Turn]:
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


@lru_cache(maxsize=8)
def _caller(content: BundleContent) -> ModelCaller:
    """What asks the shop's model for a bundle, as every gateway does."""
    return Models(providers=Providers({})).caller(content)


async def _talk(hosted: HostedBundle, customer: Customer, *, shop: Shop, start: datetime) -> Talk[Turn]:
    clock = VirtualClock()
    caller = _caller(hosted.content)
    desk = Desk(shop, customer=customer.number, is_signed_in=customer.is_signed_in, clock=clock)

    def answered(messages: Sequence[Message]) -> Awaitable[Turn]:
        return hosted.answer(messages, unit=customer.unit, caller=caller, tools=desk, clock=clock)

    def typing(number: int) -> Awaitable[None]:
        return clock.sleep(Draws(shop.seed, "typing", customer.number, number).uniform(15, 120))

    return await hold(customer, shop=shop, desk=desk, start=start, ask=answered, after_turn=typing)
