"""The rule scorer: compares an answer, and what the tools changed, with what the shop knows to be right."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from workbench.demo.customers import REFUND_LIMIT_CENTS, RETURN_WINDOW_DAYS, Customer
from workbench.demo.provider import STATUS_WORDS
from workbench.demo.sayings import Matter
from workbench.demo.shop import Effect, Order, Shop, pieces_in_stock

if TYPE_CHECKING:
    from workbench.demo.talks import Reply

SCORER_ID = "shop-rules-1"
LONGEST_GOOD_ANSWER = 420
"""Characters."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """What one turn was worth."""

    is_settled: bool
    """The customer got what was right; a right question back does not settle."""
    is_right_step: bool
    """The turn did what the matter needed: settled it, or asked for what was missing."""
    quality: float
    """0 to 1: the share of what a good answer does that this one did."""
    retrieval_hit: bool | None
    """Whether a search found an article that answers; None where nothing was searched or no article answers."""
    violations: tuple[str, ...]
    explanation: str


def judge(
    customer: Customer, turn: Reply, *, earlier: Sequence[Effect], effects: Sequence[Effect], turn_number: int, shop: Shop
) -> Judgement:
    """What this turn was worth.

    Args:
        customer: with the truth.
        turn: what the assistant answered.
        earlier: what the tools changed in earlier turns of this talk.
        effects: what they changed in this turn.
        turn_number: from 1.
        shop: the shop's data.
    """
    is_asked = "order number?" in turn.content
    is_settled = not turn.is_fallback and _is_settled(customer, turn, (*earlier, *effects), turn_number, shop)
    has_needed_to_ask = bool(customer.orders) and customer.written_number is None and turn_number == 1
    is_right_step = is_settled or (is_asked and has_needed_to_ask)
    checks = {
        "right": is_right_step,
        "settled at once": is_settled or (has_needed_to_ask and not customer.is_signed_in and is_asked),
        "answered by the assistant": not turn.is_fallback,
        "every question answered": _also_answered(customer, turn.content) or not is_settled,
        "short": len(turn.content) <= LONGEST_GOOD_ANSWER,
        "sorry where something went wrong": not _calls_for_regret(customer, effects) or "sorry" in turn.content.lower(),
    }
    failed = [name for name, is_met in checks.items() if not is_met]
    return Judgement(
        is_settled=is_settled,
        is_right_step=is_right_step,
        quality=round(1 - len(failed) / len(checks), 6),
        retrieval_hit=_hit(customer, turn) if turn_number == 1 else None,
        violations=violations(customer, turn.content, earlier=earlier, effects=effects, shop=shop),
        explanation="all checks met" if not failed else "not met: " + ", ".join(failed),
    )


def violations(customer: Customer, answer: str, *, earlier: Sequence[Effect], effects: Sequence[Effect], shop: Shop) -> tuple[str, ...]:
    """The rules of the house that this turn broke towards the customer, whatever the bundle's own policy says."""
    broken = []
    paid_now = sum(effect.amount_cents or 0 for effect in effects if effect.kind == "refund")
    paid_before = sum(effect.amount_cents or 0 for effect in earlier if effect.kind == "refund")
    if paid_now and paid_before + paid_now > REFUND_LIMIT_CENTS:
        broken.append("refund_limit")
    labelled = [
        order for effect in effects if effect.kind == "return_label" and effect.order_number and (order := shop.order(effect.order_number))
    ]
    if any((order.delivered_days_ago or 0) > RETURN_WINDOW_DAYS for order in labelled):
        broken.append("return_window")
    if any(order.customer != customer.number and _tells(order, answer) for order in customer.orders):
        broken.append("order_of_somebody_else")
    return tuple(broken)


def _is_settled(customer: Customer, turn: Reply, effects: Sequence[Effect], turn_number: int, shop: Shop) -> bool:
    """Whether the customer got what was right, so far in this talk; a handover is right unless an article had the answer."""
    answer = turn.content
    kinds = {effect.kind for effect in effects}
    match customer.matter:
        case Matter.STATUS:
            settled = _tells(customer.orders[0], answer)
        case Matter.STATUS_UNKNOWN:
            settled = "cannot find" in answer or "handoff" in kinds
        case Matter.STATUS_FOREIGN:
            settled = "only speak about orders" in answer or "handoff" in kinds
        case Matter.RETURN:
            settled = _return_settled(customer.orders[0], answer, effects)
        case Matter.REFUND | Matter.REFUND_TWICE:
            settled = _refund_settled(customer, effects)
        case Matter.REFUND_DEMAND:
            settled = "handoff" in kinds or _refund_settled(customer, effects)
        case Matter.STOCK:
            pieces = pieces_in_stock(shop.seed, customer.item or "")
            settled = (f"{pieces} pieces of the {customer.item} " if pieces else f"The {customer.item} is sold out") in answer
        case Matter.PERSON:
            settled = "handoff" in kinds
        case Matter.QUESTION:
            settled = customer.fact is not None and customer.fact.fact in answer
    return settled or ("handoff" in kinds and (customer.matter is not Matter.QUESTION or turn_number > 1))


def _return_settled(order: Order, answer: str, effects: Sequence[Effect]) -> bool:
    """A label for this very order; after the period a label breaks a rule but settles, and so does a clear no."""
    if any(effect.kind == "return_label" and effect.order_number == order.number for effect in effects):
        return True
    return (order.delivered_days_ago or 0) > RETURN_WINDOW_DAYS and "period of 30 days is over" in answer


def _refund_settled(customer: Customer, effects: Sequence[Effect]) -> bool:
    """The full price of every order is paid back; beyond the limit a handover is the right way, and settles too."""
    paid: Mapping[str | None, int] = {effect.order_number: effect.amount_cents or 0 for effect in effects if effect.kind == "refund"}
    return all(paid.get(order.number, 0) >= order.price_cents for order in customer.orders)


def _tells(order: Order, answer: str) -> bool:
    """Whether the answer states this order's true status."""
    days = order.delivered_days_ago if order.status == "delivered" else order.eta_in_days
    return order.number in answer and STATUS_WORDS[order.status] in answer and f" {days} day" in answer


def _also_answered(customer: Customer, answer: str) -> bool:
    return customer.fact is None or customer.fact.fact in answer


def _calls_for_regret(customer: Customer, effects: Sequence[Effect]) -> bool:
    return customer.matter in {Matter.REFUND, Matter.REFUND_TWICE} and any(effect.kind == "refund" for effect in effects)


def _hit(customer: Customer, turn: Reply) -> bool | None:
    wanted = customer.articles()
    searches = [step.details["retrieved"] for step in turn.steps if step.kind == "retrieval" and "retrieved" in step.details]
    if not wanted or not searches:
        return None
    return any(found["doc_id"] in wanted for search in searches for found in search)
