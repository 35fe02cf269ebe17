"""What the assistant may not do, whatever the model says: checked on every tool call before it runs.

The limits are the bundle's policy thresholds. A limit that the bundle does not declare is not enforced here, so a policy
that lost a line loses its guard with it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """A refused tool call: the rule, and the sentence that the model is told."""

    rule_id: str
    sentence: str


def check(
    name: str, arguments: Mapping[str, Any], *, limits: Mapping[str, float], seen_orders: Sequence[Mapping[str, Any]]
) -> Block | None:
    """The rule that forbids this call, or None.

    Args:
        name: the tool.
        arguments: as the model wrote them.
        limits: policy thresholds, `refund_limit_eur` and `return_window_days` among them.
        seen_orders: what the order tools answered in this conversation.
    """
    if name == "refund":
        limit = limits.get("refund_limit_eur")
        if limit is not None and float(arguments["amount_eur"]) > limit:
            return Block(rule_id="refund_limit", sentence=f"Refunds above {limit:g} EUR are decided by a person.")
    if name == "return_label":
        window = limits.get("return_window_days")
        order = next((seen for seen in seen_orders if seen.get("order_number") == arguments["order_number"]), {})
        days = order.get("delivered_days_ago")
        if window is not None and days is not None and days > window:
            return Block(rule_id="return_window", sentence=f"The return period of {window:g} days is over.")
    return None
