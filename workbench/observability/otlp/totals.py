"""What the spans of a request add up to, nothing twice: tokens, cost, calls of tools. Pure.

Agents and wrappers repeat what the model calls below them used. So a span's own number counts only where nothing below it tells one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from workbench.observability.otlp.facts import tool_call_of
from workbench.observability.otlp.model import Facts
from workbench.observability.otlp.tree import Tree


def lowest(tree: Tree, told: Callable[[Facts], float | None]) -> Mapping[str, float]:
    """The numbers that count, by span: of those that tell one, the lowest in the tree, wherever a request begins.

    Two spans that name the same response of a provider are one model call, seen twice.

    Args:
        tree: the trace.
        told: a span's own number.
    """
    below: set[str] = set()
    responses: set[str] = set()
    found: dict[str, float] = {}
    for facts in reversed(tree.order):
        number = told(facts)
        is_below = facts.span_id in below
        if not is_below and number is not None:
            response = facts.texts.get("response_id")
            if response is None or response not in responses:
                found[facts.span_id] = number
            if response is not None:
                responses.add(response)
        parent = tree.parent(facts) if is_below or number is not None else None
        if parent is not None:
            below.add(parent.span_id)
    return found


def total(numbers: Mapping[str, float], spans: Sequence[Facts]) -> float | None:
    """The sum over a request's spans; None when none of them tells."""
    counted = [numbers[facts.span_id] for facts in spans if facts.span_id in numbers]
    return sum(counted) if counted else None


def tool_counts(tree: Tree, spans: Sequence[Facts]) -> tuple[int | None, int | None]:
    """(calls of tools, those that failed); None where nothing tells.

    A call is known by its id, wherever it is seen: asked for by a model, repeated in its next question, carried out by a span. A span
    without an id carries out a call that is seen nowhere else, if there is one; else it is a call of its own.
    """
    carried_out = [facts for facts in spans if facts.kind == "tool" and not _is_wrapped(tree, facts)]
    is_told = bool(carried_out) or any(
        facts.kind == "model" and (facts.output is not None or "finish_reason" in facts.texts) for facts in spans
    )
    if not is_told:
        return None, None
    n = _calls(spans, carried_out)
    failed = {facts.texts.get("tool_call_id") or facts.span_id: facts.status for facts in carried_out}
    n_failed = sum(status != "ok" for status in failed.values())
    return n, min(n, n_failed) if carried_out or not n else None


def _is_wrapped(tree: Tree, facts: Facts) -> bool:
    """Whether the span above it is the same call, seen by another instrumentation."""
    parent = tree.parent(facts)
    if parent is None or parent.kind != "tool":
        return False
    own, above = tool_call_of(facts), tool_call_of(parent)
    return own.name == above.name and (own.call_id is None or above.call_id is None or own.call_id == above.call_id)


def _calls(spans: Sequence[Facts], carried_out: Sequence[Facts]) -> int:
    """How many different calls these are."""
    asked = {call.call_id for facts in spans for call in (*facts.calls, *facts.earlier_calls) if call.call_id is not None}
    by_id = {call_id for facts in carried_out if (call_id := tool_call_of(facts).call_id) is not None}
    nameless = _nameless(spans)
    n_anonymous = sum(tool_call_of(facts).call_id is None for facts in carried_out)
    return len(asked | by_id) + nameless + max(0, n_anonymous - nameless - len(asked - by_id))


def _nameless(spans: Sequence[Facts]) -> int:
    """Calls without an id that models asked for. A later question repeats the earlier ones of its turn."""
    asked = [sum(call.call_id is None for call in facts.calls) for facts in spans]
    repeated = [sum(call.call_id is None for call in facts.earlier_calls) for facts in spans]
    return max(sum(asked), max((before + now for before, now in zip(repeated, asked, strict=True)), default=0))
