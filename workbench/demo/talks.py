"""One customer's talk with the assistant, whoever carries the messages: a bundle in this process, or the gateway over HTTP."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Generic, Protocol, TypeVar

from workbench.controls.turn import Step
from workbench.demo.customers import MAX_TURNS, Customer
from workbench.demo.scoring import Judgement, judge
from workbench.demo.shop import Desk, Shop

Message = dict[str, str]


class Reply(Protocol):
    """An answer, as far as the customer and the scorer look at it."""

    @property
    def content(self) -> str: ...
    @property
    def status(self) -> str: ...
    @property
    def is_fallback(self) -> bool: ...
    @property
    def steps(self) -> Sequence[Step]:
        """What happened inside; empty where only the answer can be seen."""


R = TypeVar("R", bound=Reply)
R_co = TypeVar("R_co", bound=Reply, covariant=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Exchange(Generic[R_co]):
    """One turn of a talk: what was said, what it was worth."""

    number: int
    """From 1."""
    messages: tuple[Message, ...]
    """The talk up to the customer's last message."""
    turn: R_co
    judgement: Judgement
    is_abandoned: bool
    """Whether the customer left without answering a question back."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Talk(Generic[R_co]):
    """One customer's whole talk."""

    customer: Customer
    start: datetime
    exchanges: tuple[Exchange[R_co], ...]


async def hold(
    customer: Customer,
    *,
    shop: Shop,
    desk: Desk,
    start: datetime,
    ask: Callable[[Sequence[Message]], Awaitable[R]],
    after_turn: Callable[[int], Awaitable[None]] | None = None,
) -> Talk[R]:
    """The talk from the first message to the last answer.

    Args:
        customer: who writes.
        shop: where the truth is.
        desk: what the assistant's tools changed for this customer.
        start: when the talk begins.
        ask: carries the messages so far to the assistant, and its answer back.
        after_turn: what passes between an answer and the next message, by the number of the turn.
    """
    messages: list[Message] = []
    exchanges: list[Exchange[R]] = []
    says: str | None = customer.message
    while says is not None and len(exchanges) < MAX_TURNS:
        messages.append({"role": "user", "content": says})
        seen, n_effects, number = tuple(messages), len(desk.effects), len(exchanges) + 1
        turn = await ask(messages)
        earlier, effects = desk.effects[:n_effects], desk.effects[n_effects:]
        judgement = judge(customer, turn, earlier=earlier, effects=effects, turn_number=number, shop=shop)
        says = customer.reply(turn.content, is_settled=judgement.is_settled, turn=number, seed=shop.seed)
        is_abandoned = says is None and judgement.is_right_step and not judgement.is_settled
        exchanges.append(Exchange(number=number, messages=seen, turn=turn, judgement=judgement, is_abandoned=is_abandoned))
        messages.append({"role": "assistant", "content": turn.content})
        if after_turn is not None:
            await after_turn(number)
    return Talk(customer=customer, start=start, exchanges=tuple(exchanges))
