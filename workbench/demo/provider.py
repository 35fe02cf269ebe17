"""The local model, behind the interface of an OpenAI-compatible provider: a chat-completions request in, a response out.

It knows nothing of the shop. What it says comes from the messages it is sent: the rules in the system text, the passages, the
results of tools. Its answer is a function of the request and the attempt alone (`seed`, `user`, messages, tools, parameters);
its time and its price follow from the tokens it reads and writes.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import log
from typing import Any

from workbench.controls.clock import Clock
from workbench.controls.providers import ProviderError
from workbench.demo.chance import Draws, identity
from workbench.demo.language import INTENT_WORDS, Rules, Wish, plain_words, read_rules, understand

_PASSAGE = re.compile(r"^\[([a-z0-9-]+)\] ([^:\n]+): (.+)$", re.MULTILINE)
_SENTENCE = re.compile(r"[^.?!]*(?:\d\.\d[^.?!]*)*[.?!]")
_ITEM = re.compile(r"\bthe ([a-z' -]+?) (?:is |are )?(?:in stock|available|left)", re.IGNORECASE)
_ORDER_TOOLS = ("order_lookup", "order_service", "order_archive", "order_replica", "order_copy")
"""Tools that find an order by its number; the model takes the first that it is given."""
_LEAD_S, _READ_S, _WRITE_S = 0.14, 0.00012, 0.011
_READ_USD, _WRITE_USD = 0.15, 0.60
"""For a million tokens."""
_OVERLOAD_SHARE = 0.004
_COMMON = frozenset(
    plain_words("the a an is it in on to of for and or my i do does how what can you your with at be are me when which if that this")
)
STATUS_WORDS = {
    "processing": "is being packed",
    "shipped": "is on its way",
    "delayed": "is delayed",
    "delivered": "was delivered",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Say:
    """The model's decision to answer."""

    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """The model's decision to use a tool."""

    name: str
    arguments: dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """The request, read."""

    rules: Rules
    wish: Wish
    passages: str
    tools: frozenset[str]
    results: tuple[tuple[str, Mapping[str, Any]], ...]
    """Name and content of each tool result since the customer's last message."""
    was_asked: bool
    """Whether the order number was asked for before."""

    def result(self, *names: str) -> Mapping[str, Any] | None:
        """The newest result of one of these tools."""
        return next((content for name, content in reversed(self.results) if name in names), None)


class LocalProvider:
    """The provider in this process.

    Args:
        clock: thinking takes time on it.
    """

    def __init__(self, clock: Clock) -> None:
        self.clock = clock

    async def complete(self, request: Mapping[str, Any], *, attempt: int = 1) -> dict[str, Any]:
        """The chat completion for this request, with `usage` (its `cost` in USD) and `timings` in ms."""
        messages = request["messages"]
        labels = (request.get("seed", 0), request.get("user", ""), len(messages), attempt)
        draws = Draws("model", *labels)
        if draws.happens(_OVERLOAD_SHARE):
            await self.clock.sleep(0.2)
            raise ProviderError("overloaded", code="overloaded")
        reading = read(request, draws)
        decision = decide(reading)
        message, written = _message(decision, draws)
        read_tokens = tokens(sum(len(m.get("content") or "") for m in messages) + 240 * len(reading.tools))
        written_tokens, finish = _cut(message, tokens(written), int(request.get("max_tokens", 512)))
        prompt_s = (_LEAD_S + read_tokens * _READ_S) * draws.spread(0.25)
        await self.clock.sleep(prompt_s)
        predicted_s = written_tokens * _WRITE_S * draws.spread(0.2)
        await self.clock.sleep(predicted_s)
        return {
            "id": identity("chatcmpl-", *labels),
            "object": "chat.completion",
            "model": request["model"],
            "choices": [{"index": 0, "message": message, "finish_reason": finish}],
            "usage": {
                "prompt_tokens": read_tokens,
                "completion_tokens": written_tokens,
                "total_tokens": read_tokens + written_tokens,
                "cost": round((read_tokens * _READ_USD + written_tokens * _WRITE_USD) / 1e6, 9),
            },
            "timings": {"prompt_ms": prompt_s * 1000, "predicted_ms": predicted_s * 1000},
        }


def tokens(n_characters: int) -> int:
    """Tokens of a text of that length; four characters each, as a rule of thumb."""
    return max(1, n_characters // 4)


def read(request: Mapping[str, Any], draws: Draws) -> Reading:
    """The request as the model takes it in; `temperature` blurs what it understands."""
    system, passages, *talk = request["messages"]
    temperature = float(request.get("temperature", 0.0))
    turns = [place for place, message in enumerate(talk) if message["role"] == "user"]
    rules = read_rules(system["content"])
    noise = {intent: -temperature * log(-log(draws.uniform(1e-12))) for intent in (*INTENT_WORDS, "question")} if temperature else {}
    return Reading(
        rules=rules,
        wish=understand([talk[place]["content"] for place in turns], rules=rules, noise=noise),
        passages=passages["content"],
        tools=frozenset(tool["function"]["name"] for tool in request.get("tools", ())),
        results=tuple((m["name"], json.loads(m["content"])) for m in talk[turns[-1] :] if m["role"] == "tool"),
        was_asked=any(m["role"] == "assistant" and "order number" in (m.get("content") or "") for m in talk[: turns[-1]]),
    )


def decide(reading: Reading) -> Say | Call:
    """The model's next step."""
    after_tools = _after_tools(reading)
    if after_tools is not None:
        return after_tools
    wish, stated = reading.wish, reading.rules.stated
    if wish.intent == "person" or (wish.is_angry and "offers_person" in stated) or (wish.was_not_helped and "offers_second_try" in stated):
        return _to_person(reading, "Please call us from Monday to Friday between 9:00 and 17:00.")
    if wish.intent == "question":
        return Say(text=from_passages(reading.passages, wish.question))
    return _stock(reading) if wish.intent == "stock" else _about_order(reading)


def _after_tools(reading: Reading) -> Say | Call | None:
    """What follows at once from a handover, a refused call or a failed tool; None where nothing does."""
    handed = reading.result("handoff")
    if handed is not None and "error" in handed:
        return Say(text="I cannot reach a colleague right now. Please write again in a few minutes.")
    if handed is not None:
        return Say(text=f"I have handed this over to a colleague who will write to you today. Your case number is {handed['case_number']}.")
    if any("blocked" in content for _, content in reading.results):
        return _to_person(reading, "This has to be decided by a person.")
    if any("error" in content for _, content in reading.results):
        return Say(text="I am sorry, our system does not answer at the moment. Please try again later.")
    return None


def _to_person(reading: Reading, otherwise: str) -> Say | Call:
    return Call(name="handoff", arguments={"reason": reading.wish.intent}) if "handoff" in reading.tools else Say(text=otherwise)


def _stock(reading: Reading) -> Say | Call:
    seen = reading.result("stock")
    item = _item_in(reading.wish.question)
    if seen is None and item and "stock" in reading.tools:
        return Call(name="stock", arguments={"item": item})
    if seen is None:
        return Say(text=from_passages(reading.passages, reading.wish.question))
    if seen["pieces"]:
        return Say(text=f"Yes, we have {seen['pieces']} pieces of the {seen['item']} in stock.")
    return Say(text=f"The {seen['item']} is sold out at the moment.")


def _item_in(question: str) -> str | None:
    match = _ITEM.search(question)
    return match[1] if match else None


def _about_order(reading: Reading) -> Say | Call:
    seen = reading.result(*_ORDER_TOOLS, "recent_orders")
    wish, rules = reading.wish, reading.rules
    if seen is None:
        return _find_order(reading)
    if not seen["orders"]:
        return _not_found(reading)
    order = _meant(seen["orders"], wish.intent)
    if not order["is_own"] and "own_orders_only" in rules.stated:
        return Say(text="I can only speak about orders of the person who writes. Please sign in with the account of that order.")
    act = {"order_status": _status, "returns": _return, "refund": _refund}[wish.intent]
    step = act(reading, order)
    if isinstance(step, Say) and wish.also and "answers_everything" in rules.stated:
        return Say(text=f"{step.text} {from_passages(reading.passages, wish.also)}")
    return step


def _not_found(reading: Reading) -> Say | Call:
    """No such order: say so where the rules demand it; a model that is not told to tends to please."""
    numbers = reading.wish.order_numbers
    if not numbers:
        return _ask(reading)
    if "admits_unknown_order" in reading.rules.stated:
        return Say(text=f"I cannot find an order with the number {numbers[0]}. Please check the number in your order mail.")
    return Say(text=f"Your order {numbers[0]} is on its way and arrives in the next days.")


def _find_order(reading: Reading) -> Say | Call:
    if reading.wish.order_numbers and not reading.tools.isdisjoint(_ORDER_TOOLS):
        return Call(name=_lookup(reading), arguments={"order_number": reading.wish.order_numbers[0]})
    if "recent_orders" in reading.tools and "uses_account" in reading.rules.stated:
        return Call(name="recent_orders", arguments={})
    return _ask(reading)


def _ask(reading: Reading) -> Say | Call:
    if reading.was_asked and reading.wish.has_no_number and "offers_person" in reading.rules.stated:
        return _to_person(reading, "Without the order number I cannot help.")
    if "asks_for_number" in reading.rules.stated:
        return Say(text="Could you please tell me your order number? It stands in the order mail and begins with KC.")
    return Say(text="Please have a look at your account, all orders are listed there.")


def _meant(orders: Sequence[Mapping[str, Any]], intent: str) -> Mapping[str, Any]:
    """The order that the customer most likely means: the newest open one for a status, the newest delivered one else."""
    wanted = [order for order in orders if (order["status"] == "delivered") == (intent != "order_status")]
    return (wanted or list(orders))[0]


def _status(reading: Reading, order: Mapping[str, Any]) -> Say | Call:
    head = f"Your order {order['order_number']} ({order['item']}) {STATUS_WORDS[order['status']]}"
    if order["status"] == "delivered":
        return Say(text=f"{head} {_days(order['delivered_days_ago'])} ago.")
    regret = " We are sorry for the wait." if order["status"] == "delayed" and "is_gentle" in reading.rules.stated else ""
    return Say(text=f"{head} and should arrive in {_days(order['eta_in_days'])}.{regret}")


def _return(reading: Reading, order: Mapping[str, Any]) -> Say | Call:
    made = reading.result("return_label")
    if made is not None:
        return Say(
            text=f"Here is your return label {made['label']} for order {order['order_number']}. "
            "Hand the parcel in at any shop of the carrier."
        )
    if order["status"] != "delivered":
        return Say(text=f"Your order {order['order_number']} has not arrived yet. Please ask again once it is there.")
    window = reading.rules.return_window_days
    if window is not None and order["delivered_days_ago"] > window:
        return Say(
            text=f"Order {order['order_number']} was delivered {_days(order['delivered_days_ago'])} ago, "
            f"and the return period of {window} days is over."
        )
    return Call(name="return_label", arguments={"order_number": order["order_number"]})


def _refund(reading: Reading, order: Mapping[str, Any]) -> Say | Call:
    wish, rules = reading.wish, reading.rules
    paid = [content for name, content in reading.results if name == "refund"]
    wanted = wish.order_numbers[len(paid)] if len(paid) < len(wish.order_numbers) else None
    if paid and wanted is None:
        total = sum(content["amount_eur"] for content in paid)
        regret = "We are sorry. " if "is_gentle" in rules.stated else ""
        return Say(text=f"{regret}I have refunded {total:.2f} EUR for order {order['order_number']}. It goes back the way you paid.")
    if paid and wanted != order["order_number"]:
        return Call(name=_lookup(reading), arguments={"order_number": wanted})
    if order["status"] != "delivered":
        return Say(
            text=f"Your order {order['order_number']} has not arrived yet, so there is nothing to refund. "
            f"It should arrive in {_days(order['eta_in_days'])}."
        )
    amount = float(order["price_eur"])
    if wish.demanded_eur is not None and "ignores_orders_in_messages" not in rules.stated:
        amount = wish.demanded_eur
    if rules.refund_limit_eur is not None and amount > rules.refund_limit_eur:
        return _to_person(reading, "Refunds of this size are decided by a person.")
    return Call(name="refund", arguments={"order_number": order["order_number"], "amount_eur": amount})


def _lookup(reading: Reading) -> str:
    return next(name for name in _ORDER_TOOLS if name in reading.tools)


def _days(count: int) -> str:
    return "1 day" if count == 1 else f"{count} days"


def from_passages(passages: str, question: str) -> str:
    """Two sentences of the passage that fits the question best; the search engine's order breaks near ties."""
    asked = {_root(word) for word in plain_words(question)} - _COMMON
    best, best_score = "", 0.0
    for rank, (_, title, text) in enumerate(_PASSAGE.findall(passages)):
        shared = asked & {_root(word) for word in plain_words(f"{title} {text}")}
        score = len(shared) + 2.5 / (rank + 1)
        if score > best_score:
            best, best_score = text, score
    if not best:
        return "I do not know that, I am afraid."
    sentences = _SENTENCE.findall(best)
    ranked = sorted(
        range(len(sentences)), key=lambda place: (-len(asked & {_root(w) for w in plain_words(sentences[place])}) - (place == 0), place)
    )
    return "".join(sentences[place] for place in sorted(ranked[:2])).strip()


def _root(word: str) -> str:
    return word[:5]


def _message(decision: Say | Call, draws: Draws) -> tuple[dict[str, Any], int]:
    """The assistant message and its length in characters."""
    if isinstance(decision, Say):
        return {"role": "assistant", "content": decision.text}, len(decision.text)
    arguments = json.dumps(decision.arguments)
    call = {"id": f"call_{draws.whole(0, 2**40):011x}", "type": "function", "function": {"name": decision.name, "arguments": arguments}}
    return {"role": "assistant", "content": None, "tool_calls": [call]}, len(decision.name) + len(arguments) + 20


def _cut(message: dict[str, Any], written: int, most: int) -> tuple[int, str]:
    """Tokens written and the finish reason; an answer longer than allowed ends in the middle."""
    if message.get("tool_calls"):
        return written, "tool_calls"
    if written <= most:
        return written, "stop"
    message["content"] = message["content"][: most * 4]
    return most, "length"
