"""Guards for tests, from the YAML that people write."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from workbench.controls.guards.engine import Guards
from workbench.controls.guards.model import Action, Checked, Finding
from workbench.controls.guards.rules import open_guards
from workbench.controls.guards.withheld import Withheld
from workbench.spec.guards import GuardsSpec
from workbench.spec.loading import parse_spec

REFUND = {
    "name": "refund_order",
    "parameters": {
        "type": "object",
        "properties": {"order_number": {"type": "string"}, "amount_eur": {"type": "number"}},
        "required": ["order_number"],
        "additionalProperties": False,
    },
}
LOOK_UP = {"name": "look_up", "parameters": {"type": "object"}}


def spec(text: str) -> GuardsSpec:
    return parse_spec(GuardsSpec, "guards.yaml", text.encode())


def guards(text: str | None = None, **changes: Any) -> Guards:
    about: Mapping[str, Any] = {
        "tools": (REFUND, LOOK_UP),
        "thresholds": {"refund_limit_eur": 100.0},
        "prompts": {"judge": "Say fine, misuse or unclear."},
        "provider": lambda _name: lambda _clock: Scripted("fine"),
        "risk_tier": "low",
        "subject": "bundle support@1",
    }
    return open_guards(None if text is None else spec(text), **{**about, **changes})


class Scripted:
    """A provider that says what it is told; a callable is asked."""

    def __init__(self, said: str | Callable[[Mapping[str, Any]], Any]) -> None:
        self.said = said
        self.asked: list[Mapping[str, Any]] = []

    async def complete(self, request: Mapping[str, Any], *, attempt: int = 1) -> Any:
        self.asked.append({**request, "attempt": attempt})
        if callable(self.said):
            answer = self.said(request)
            return await answer if hasattr(answer, "__await__") else answer
        return {"model": "m", "choices": [{"message": {"role": "assistant", "content": self.said}, "finish_reason": "stop"}]}


def streamed(guards: Guards, pieces: Sequence[str], mode: str = "window") -> tuple[list[str], Checked]:
    """What left at each piece, and what was said at the end."""
    withheld = Withheld(guards, mode)
    left = [withheld.feed(piece) for piece in pieces]
    return left, asyncio.run(withheld.finish())


def broken(findings: Sequence[Finding]) -> list[tuple[str, str, str]]:
    return sorted((finding.rule_id, finding.action.value, finding.reason) for finding in findings if finding.action is not Action.ALLOW)
