"""The shop's own systems: orders, labels, refunds, stock, people. The same for every bundle; a bundle only chooses among them.

Orders follow from the seed: customer `i` of `customers` has two of them, and an order number leads back to its customer
without a table. Systems take time and sometimes fail, as systems do.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from workbench.controls.clock import Clock, RealClock
from workbench.controls.tools import ToolContext, ToolError
from workbench.demo.chance import Draws, identity

CUSTOMERS = 48_000
SPRING_ACCOUNTS, ACCOUNTS_BEFORE_CAMPAIGN = 20_540, 40_000
"""How many accounts the shop had when its order system was copied: in spring, and before the campaign of the story."""
ORDERS_EACH = 2
_NUMBERS = 1_000_000
_STEP = 387_421
_SHIFT = 104_729
_STEP_BACK = pow(_STEP, -1, _NUMBERS)
_DELIVERED_SHARE = (0.55, 0.85)
"""Of the newest and of the older order of each customer."""
_ARCHIVE_S_PER_ROW = 0.000055
_OUTAGE_SHARE = 0.012

SHOP_SEED = 7
"""Of the shop that `open_desk` finds, where the call names no other."""
VISITOR = -1
"""Stands for somebody without a customer number: no order is theirs."""
_UNIT = re.compile(r"customer-([0-9]{6})")

ITEMS: tuple[tuple[str, int], ...] = (
    ("cast iron skillet", 4900),
    ("enamel kettle", 3950),
    ("gooseneck kettle", 8900),
    ("hand coffee grinder", 7450),
    ("electric coffee grinder", 16900),
    ("French press", 3200),
    ("chef's knife", 9800),
    ("paring knife", 2450),
    ("whetstone set", 5900),
    ("oak cutting board", 4500),
    ("steel saucepan", 5400),
    ("copper jam pan", 18900),
    ("stock pot", 8200),
    ("pressure cooker", 14900),
    ("non-stick pan", 4100),
    ("roasting thermometer", 2900),
    ("kitchen scale", 3500),
    ("camping stove", 21900),
    ("set of bowls", 2700),
    ("linen apron", 3800),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """One order as the shop knows it. Days count from the day of the talk."""

    number: str
    customer: int
    item: str
    price_cents: int
    status: str
    """`processing`, `shipped`, `delayed` or `delivered`."""
    eta_in_days: int | None
    delivered_days_ago: int | None

    @property
    def price_eur(self) -> float:
        return self.price_cents / 100


class Shop:
    """All orders of one seed.

    Args:
        seed: decides every order.
        customers: how many distinct customers there are.
    """

    def __init__(self, *, seed: int, customers: int = CUSTOMERS) -> None:
        self.seed = seed
        self.customers = customers
        self.orders_of = lru_cache(maxsize=4096)(self._orders_of)

    def order(self, number: str) -> Order | None:
        """The order with this number; None when there is none."""
        place = (int(number.removeprefix("KC-")) - _SHIFT) * _STEP_BACK % _NUMBERS
        customer, which = divmod(place, ORDERS_EACH)
        return self.orders_of(customer)[which] if customer < self.customers else None

    def unknown_number(self, draws: Draws) -> str:
        """A well-formed number that no order has."""
        return _number(draws.whole(self.customers * ORDERS_EACH, _NUMBERS - 1))

    def _orders_of(self, customer: int) -> tuple[Order, ...]:
        return tuple(self._order(customer, which) for which in range(ORDERS_EACH))

    def _order(self, customer: int, which: int) -> Order:
        draws = Draws(self.seed, "order", customer, which)
        item, cents = draws.pick(ITEMS)
        is_delivered = draws.happens(_DELIVERED_SHARE[which])
        days_ago = (draws.whole(1, 25) if draws.happens(0.8) else draws.whole(34, 70)) if is_delivered else None
        open_status = draws.pick(("processing", "shipped", "shipped", "shipped", "delayed"))
        return Order(
            number=_number(customer * ORDERS_EACH + which),
            customer=customer,
            item=item,
            price_cents=cents,
            status="delivered" if is_delivered else open_status,
            eta_in_days=None if is_delivered else draws.whole(1, 4) + (5 if open_status == "delayed" else 0),
            delivered_days_ago=days_ago,
        )


def _number(place: int) -> str:
    return f"KC-{(place * _STEP + _SHIFT) % _NUMBERS:06d}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Effect:
    """Something that a tool changed in the shop: `refund`, `return_label` or `handoff`."""

    kind: str
    order_number: str | None = None
    amount_cents: int | None = None
    reference: str = ""


class Desk:
    """The shop's tools for one customer, and what they changed.

    Args:
        shop: the orders.
        customer: who is talking; the tools know it from the session, not from the messages.
        is_signed_in: whether the customer's account is known to the session.
        clock: tools take time.
    """

    def __init__(self, shop: Shop, *, customer: int, is_signed_in: bool, clock: Clock) -> None:
        self.shop = shop
        self.customer = customer
        self.is_signed_in = is_signed_in
        self.clock = clock
        self.effects: list[Effect] = []
        self._calls = 0

    async def call(self, name: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """What the tool answers.

        Raises:
            ToolError: the system is out for a moment.
            KeyError: no such tool.
        """
        self._calls += 1
        draws = Draws(self.shop.seed, "tool", self.customer, self._calls, name)
        if draws.happens(_OUTAGE_SHARE):
            await self.clock.sleep(draws.uniform(0.3, 1.0))
            raise ToolError(f"{name} did not answer")
        return await TOOLS[name](self, arguments, draws)

    def _seen(self, order: Order | None) -> dict[str, Any]:
        if order is None:
            return {"orders": []}
        return {
            "orders": [
                {
                    "order_number": order.number,
                    "item": order.item,
                    "price_eur": order.price_eur,
                    "status": order.status,
                    "eta_in_days": order.eta_in_days,
                    "delivered_days_ago": order.delivered_days_ago,
                    "is_own": order.customer == self.customer,
                }
            ]
        }

    async def order_lookup(self, arguments: Mapping[str, Any], draws: Draws) -> dict[str, Any]:
        """The order, by an indexed read."""
        await self.clock.sleep(0.09 * draws.spread(0.35))
        return self._seen(self.shop.order(arguments["order_number"]))

    async def order_service(self, arguments: Mapping[str, Any], draws: Draws) -> dict[str, Any]:
        """The order, from the old service that asks three tables one after the other."""
        for _ in range(3):
            await self.clock.sleep(0.15 * draws.spread(0.35))
        return self._seen(self.shop.order(arguments["order_number"]))

    async def order_archive(self, arguments: Mapping[str, Any], draws: Draws) -> dict[str, Any]:
        """The order, by reading the nightly export from its start until the order turns up."""
        order = self.shop.order(arguments["order_number"])
        rows = self.shop.customers * ORDERS_EACH if order is None else order.customer * 7919 % self.shop.customers * ORDERS_EACH
        await self.clock.sleep(0.2 + rows * _ARCHIVE_S_PER_ROW * draws.spread(0.1))
        return self._seen(order)

    async def order_replica(self, arguments: Mapping[str, Any], draws: Draws) -> dict[str, Any]:
        """The order, from the copy that was made in spring."""
        return await self._copied(arguments, draws, accounts=SPRING_ACCOUNTS)

    async def order_copy(self, arguments: Mapping[str, Any], draws: Draws) -> dict[str, Any]:
        """The order, from last week's copy."""
        return await self._copied(arguments, draws, accounts=ACCOUNTS_BEFORE_CAMPAIGN)

    async def _copied(self, arguments: Mapping[str, Any], draws: Draws, *, accounts: int) -> dict[str, Any]:
        """The order, from a copy that was made when the shop had so many accounts."""
        await self.clock.sleep(0.07 * draws.spread(0.35))
        order = self.shop.order(arguments["order_number"])
        return self._seen(order if order is not None and order.customer < accounts else None)

    async def recent_orders(self, arguments: Mapping[str, Any], draws: Draws) -> dict[str, Any]:
        """The orders of the signed-in account, newest first; none without an account."""
        del arguments
        await self.clock.sleep(0.16 * draws.spread(0.35))
        orders = self.shop.orders_of(self.customer) if self.is_signed_in else ()
        return {"orders": [seen for order in orders for seen in self._seen(order)["orders"]]}

    async def return_label(self, arguments: Mapping[str, Any], draws: Draws) -> dict[str, Any]:
        """A return label for an order."""
        await self.clock.sleep(0.3 * draws.spread(0.3))
        label = identity("RL-", self.shop.seed, self.customer, arguments["order_number"], size=4).upper()
        self.effects.append(Effect(kind="return_label", order_number=arguments["order_number"], reference=label))
        return {"label": label}

    async def refund(self, arguments: Mapping[str, Any], draws: Draws) -> dict[str, Any]:
        """A refund that is paid out."""
        await self.clock.sleep(0.25 * draws.spread(0.3))
        cents = round(float(arguments["amount_eur"]) * 100)
        reference = identity("RF-", self.shop.seed, self.customer, arguments["order_number"], cents, size=4).upper()
        self.effects.append(Effect(kind="refund", order_number=arguments["order_number"], amount_cents=cents, reference=reference))
        return {"refund": reference, "amount_eur": cents / 100}

    async def stock(self, arguments: Mapping[str, Any], draws: Draws) -> dict[str, Any]:
        """How many pieces of an item there are."""
        await self.clock.sleep(0.08 * draws.spread(0.3))
        return {"item": arguments["item"], "pieces": pieces_in_stock(self.shop.seed, arguments["item"])}

    async def handoff(self, arguments: Mapping[str, Any], draws: Draws) -> dict[str, Any]:
        """A case for the shop's people."""
        del arguments
        await self.clock.sleep(0.12 * draws.spread(0.3))
        case = identity("CASE-", self.shop.seed, self.customer, len(self.effects), size=4).upper()
        self.effects.append(Effect(kind="handoff", reference=case))
        return {"case_number": case}


def pieces_in_stock(seed: int, item: str) -> int:
    """How many pieces the shop has; 0 for about a third of the items."""
    draws = Draws(seed, "stock", item)
    return 0 if draws.happens(0.3) else draws.whole(1, 40)


TOOLS: Mapping[str, Callable[[Desk, Mapping[str, Any], Draws], Awaitable[dict[str, Any]]]] = {
    "order_lookup": Desk.order_lookup,
    "order_service": Desk.order_service,
    "order_archive": Desk.order_archive,
    "order_replica": Desk.order_replica,
    "order_copy": Desk.order_copy,
    "recent_orders": Desk.recent_orders,
    "return_label": Desk.return_label,
    "refund": Desk.refund,
    "stock": Desk.stock,
    "handoff": Desk.handoff,
}


def open_desk(context: ToolContext) -> Desk:
    """The desk for one call of the assistant; in a session it is the same from call to call, and knows what it changed.

    The unit `customer-000123` is customer 123. The call's metadata say the rest, as the shop's website would: `signed_in: "yes"`, and
    `shop: "9"` for the shop of another seed.
    """
    seed, is_signed_in = int(context.metadata.get("shop", SHOP_SEED)), context.metadata.get("signed_in") == "yes"
    match = _UNIT.fullmatch(context.unit or "")
    customer = int(match[1]) if match else VISITOR
    if context.session_id is None:
        return Desk(_shop(seed), customer=customer, is_signed_in=is_signed_in, clock=context.clock)
    desk = desk_of_session(context.session_id, seed=seed, customer=customer)
    desk.clock, desk.is_signed_in = context.clock, is_signed_in
    return desk


@lru_cache(maxsize=16_384)
def desk_of_session(session_id: str, *, seed: int, customer: int) -> Desk:
    """The desk that a session has or gets; who calls sets its clock."""
    del session_id
    return Desk(_shop(seed), customer=customer, is_signed_in=False, clock=RealClock())


@lru_cache(maxsize=4)
def _shop(seed: int) -> Shop:
    return Shop(seed=seed)
