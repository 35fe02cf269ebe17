"""The shop's customers: who writes, what they want, how they write it, and what a right answer would be.

A customer is a function of (seed, number). What is right is known from the shop's own data, so answers can be scored for
real. Difficulty is theirs: typing errors, missing or wrong order numbers, two matters at once, anger, and a few who try to
talk the assistant out of its rules.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache

from workbench.demo.chance import Draws
from workbench.demo.resources import demo_folder
from workbench.demo.sayings import (
    COMPLAINTS,
    CONTACTS,
    GIVE,
    GREETINGS,
    NAMES,
    NO_NUMBER,
    NUMBER_FORMS,
    OPENINGS,
    WISHES,
    Matter,
)
from workbench.demo.shop import ITEMS, Order, Shop

MAX_TURNS = 3
RETURN_WINDOW_DAYS = 30
REFUND_LIMIT_CENTS = 10_000


_TOPICS = {"general": 27, "status": 9, "return": 34, "refund": 30}
_MATTERS: Mapping[str, Mapping[Matter, float]] = {
    "general": {Matter.QUESTION: 80, Matter.STOCK: 14, Matter.PERSON: 6},
    "status": {Matter.STATUS: 91, Matter.STATUS_UNKNOWN: 6, Matter.STATUS_FOREIGN: 3},
    "return": {Matter.RETURN: 100},
    "refund": {Matter.REFUND: 90, Matter.REFUND_TWICE: 5, Matter.REFUND_DEMAND: 5},
}
"""Who comes with what, in parts of 100."""
WORKFLOWS = {
    Matter.STATUS: "order_status",
    Matter.STATUS_UNKNOWN: "order_status",
    Matter.STATUS_FOREIGN: "order_status",
    Matter.RETURN: "returns",
    Matter.REFUND: "refund",
    Matter.REFUND_TWICE: "refund",
    Matter.REFUND_DEMAND: "refund",
    Matter.QUESTION: "product_question",
    Matter.STOCK: "product_question",
    Matter.PERSON: "product_question",
}
ARTICLES = {
    Matter.STATUS: "track-order",
    Matter.STATUS_UNKNOWN: "track-order",
    Matter.STATUS_FOREIGN: "track-order",
    Matter.RETURN: "return-start",
    Matter.REFUND: "refund-damaged",
    Matter.REFUND_TWICE: "refund-damaged",
    Matter.PERSON: "contact-person",
}
"""The article that belongs to a matter; a demand against the rules and a stock count have none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """One article's fact, and questions that it answers in words of customers."""

    article: str
    fact: str
    questions: tuple[str, ...]


@lru_cache(maxsize=1)
def known_facts() -> tuple[Known, ...]:
    """What the shop knows, from `shop/questions.jsonl`; no bundle holds this file."""
    lines = (demo_folder() / "shop" / "questions.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    return tuple(Known(article=row["article"], fact=row["fact"], questions=tuple(row["questions"])) for row in rows)


@dataclass(frozen=True, slots=True, kw_only=True)
class Customer:
    """One person with one matter."""

    number: int
    matter: Matter
    message: str
    """The first message."""
    orders: tuple[Order, ...]
    """The orders that the matter is about."""
    written_number: str | None
    """The order number in the first message."""
    fact: Known | None
    """What the answer to the (second) question must state."""
    item: str | None
    """The item of a stock question."""
    is_signed_in: bool
    knows_number: bool
    """Whether the number can be given when it is asked for."""
    is_patient: bool
    """Whether they write again when the answer did not help."""
    returns_to_buy: bool
    """Whether a good answer brings them back to the shop."""

    @property
    def unit(self) -> str:
        return f"customer-{self.number:06d}"

    @property
    def workflow(self) -> str:
        return WORKFLOWS[self.matter]

    def articles(self) -> frozenset[str]:
        """The articles that a search for the first message should find; any of them is a hit."""
        own = {ARTICLES[self.matter]} if self.matter in ARTICLES else set()
        return frozenset(own | ({self.fact.article} if self.fact else set()))

    def reply(self, answer: str, *, is_settled: bool, turn: int, seed: int) -> str | None:
        """The next message after an answer, or None when the customer leaves.

        Args:
            answer: the assistant's words.
            is_settled: whether the matter is settled, as the customer sees it.
            turn: the turn that was answered, from 1.
            seed: of the demo.
        """
        draws = Draws(seed, "reply", self.number, turn)
        if is_settled or turn >= MAX_TURNS:
            return None
        if "order number?" in answer:
            if not draws.happens(0.85):
                return None
            return draws.pick(GIVE).format(number=self.orders[0].number) if self.knows_number and self.orders else draws.pick(NO_NUMBER)
        return draws.pick(COMPLAINTS).format(wish=WISHES[self.workflow]) if self.is_patient else None


def customers(shop: Shop, *, first: int, n: int) -> Iterator[Customer]:
    """Customers `first` to `first + n - 1` of the shop, each a different person."""
    for number in range(first, first + n):
        yield customer(shop, number)


def customer(shop: Shop, number: int) -> Customer:
    """The customer with this number."""
    draws = Draws(shop.seed, "customer", number)
    newest, older = shop.orders_of(number)
    matter = _matter(draws, newest, older)
    orders = _orders_of_matter(matter, newest, older, shop, draws)
    writes_number = draws.happens(0.76) or matter in {
        Matter.STATUS_UNKNOWN,
        Matter.STATUS_FOREIGN,
        Matter.REFUND_TWICE,
        Matter.REFUND_DEMAND,
    }
    known = draws.pick(known_facts()) if matter is Matter.QUESTION or (orders and draws.happens(0.09)) else None
    item = draws.pick(ITEMS)[0] if matter is Matter.STOCK else None
    given = shop.unknown_number(draws) if matter is Matter.STATUS_UNKNOWN else orders[0].number if orders and writes_number else None
    return Customer(
        number=number,
        matter=matter,
        message=_written(matter, orders=orders, given=given, known=known, item=item, draws=draws),
        orders=orders,
        written_number=given,
        fact=known,
        item=item,
        is_signed_in=draws.happens(0.6),
        knows_number=draws.happens(0.7),
        is_patient=draws.happens(0.45),
        returns_to_buy=draws.happens(0.3),
    )


def _matter(draws: Draws, newest: Order, older: Order) -> Matter:
    """A matter that fits the customer's orders."""
    topic = draws.weighted(_TOPICS)
    if topic != "general" and newest.status != "delivered":
        topic = "status"
    matter = draws.weighted(_MATTERS[topic])
    is_small = max(newest.price_cents, older.price_cents) <= REFUND_LIMIT_CENTS
    if matter is Matter.REFUND_TWICE and not (is_small and older.status == "delivered"):
        return Matter.REFUND
    return matter


def _orders_of_matter(matter: Matter, newest: Order, older: Order, shop: Shop, draws: Draws) -> tuple[Order, ...]:
    if matter in {Matter.QUESTION, Matter.STOCK, Matter.PERSON, Matter.STATUS_UNKNOWN}:
        return ()
    if matter is Matter.STATUS_FOREIGN:
        other = (newest.customer + draws.whole(1, shop.customers - 1)) % shop.customers
        return (shop.orders_of(other)[0],)
    return (newest, older) if matter is Matter.REFUND_TWICE else (newest,)


def _written(matter: Matter, *, orders: tuple[Order, ...], given: str | None, known: Known | None, item: str | None, draws: Draws) -> str:
    """The first message, as this customer writes it."""
    thing = item or (orders[0].item if orders else "")
    question = draws.pick(known.questions) if known else ""
    parts = [draws.pick(GREETINGS), draws.pick(OPENINGS[matter]).format(item=thing, question=question)]
    if matter is Matter.REFUND_TWICE:
        parts.append(f"The orders are {_as_typed(orders[0].number, draws)} and {_as_typed(orders[1].number, draws)}.")
    elif given:
        parts.append(draws.pick(NUMBER_FORMS).format(number=_as_typed(given, draws)))
    if orders and question:
        parts.append(f"And one more thing: {question}")
    if draws.happens(0.08):
        parts.append(draws.pick(CONTACTS).format(n=draws.whole(1_000_000, 9_999_999), mail=f"{draws.pick(NAMES)}{draws.whole(10, 99)}"))
    text = " ".join(part for part in parts if part)
    return _mistyped(text, draws) if draws.happens(0.3) else text


def _as_typed(number: str, draws: Draws) -> str:
    return draws.pick((number, number, number.lower(), number.replace("-", " "), number.removeprefix("KC-")))


_LONG_WORD = re.compile(r"\b[a-z]{5,}\b")


def _mistyped(text: str, draws: Draws) -> str:
    """The text with typing errors in some of its longer words: letters swapped, dropped or doubled."""

    def slip(match: re.Match[str]) -> str:
        word = match[0]
        if not draws.happens(0.22):
            return word
        place = draws.whole(1, len(word) - 3)
        kind = draws.whole(0, 2)
        if kind == 0:
            return word[:place] + word[place + 1] + word[place] + word[place + 2 :]
        return word[:place] + word[place + 1 :] if kind == 1 else word[:place] + word[place] + word[place:]

    return _LONG_WORD.sub(slip, text)
