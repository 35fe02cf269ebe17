"""Tokens and cost of one observation of Langfuse. Pure.

Tokens are those of `usage_details`; else of `usage`, when its unit is tokens; else of the row itself. Names are those of Langfuse (`input`,
`output`, `total`), of OpenAI (`prompt_tokens`, …) or of the API (`input_usage`, …). Langfuse takes details (`input_cached_tokens`,
`output_reasoning_tokens`, …) out of `input` and `output` when it stores them, what is reported by hand often does not; `total` tells.

The cost is `total_cost`, else `cost_details.total` or the sum of `cost_details`, else `calculated_total_cost`; 0 although tokens were used
means that the model has no price.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from workbench.observability.importers import fields, usage
from workbench.observability.importers.source import Row

COLUMNS = ("input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens", "reasoning_tokens", "cost_usd")
_INPUT = ("input", "prompt_tokens", "input_tokens", "input_usage", "promptTokens")
_OUTPUT = ("output", "completion_tokens", "output_tokens", "output_usage", "completionTokens")
_TOTAL = ("total", "total_tokens", "total_usage", "totalTokens")
_NOT_TOKENS = frozenset(("input_cost", "output_cost", "total_cost", "inputCost", "outputCost", "totalCost", "unit"))


def usage_of(values: Mapping[str, Any]) -> Row:
    """The columns of an observation or trace that are known.

    Raises:
        RecordRefused: when a count or a cost has a wrong type.
    """
    row = _tokens(values)
    cost = _cost(values)
    if cost is not None and not (cost == 0 and any(row.values())):
        row["cost_usd"] = cost
    return row


def _tokens(values: Mapping[str, Any]) -> Row:
    counted = fields.mapping(values, "usage_details")
    if not counted and isinstance(values.get("usage"), dict) and values["usage"].get("unit") in (None, "TOKENS", ""):
        counted = values["usage"]
    if not counted:
        counted = {name: values[name] for name in (*_INPUT[1:], *_OUTPUT[1:], *_TOTAL[1:]) if values.get(name) is not None}
    given, made, total = _first(counted, _INPUT), _first(counted, _OUTPUT), _first(counted, _TOTAL)
    read = written = reasoned = other_given = other_made = None
    for name, value in counted.items():
        if name in (*_INPUT, *_OUTPUT, *_TOTAL) or name in _NOT_TOKENS or value is None or isinstance(value, dict):
            continue
        count = fields.count(counted, name)
        if "cache" in name and ("creation" in name or "write" in name):
            written = (written or 0) + (count or 0)
        elif "cache" in name:
            read = (read or 0) + (count or 0)
        elif "reasoning" in name:
            reasoned = (reasoned or 0) + (count or 0)
        elif name.startswith(("input_", "prompt_")):
            other_given = (other_given or 0) + (count or 0)
        elif name.startswith(("output_", "completion_")):
            other_made = (other_made or 0) + (count or 0)
    row: Row = {"cache_read_tokens": read, "cache_write_tokens": written, "reasoning_tokens": reasoned}
    parts = sum(filter(None, (read, written, other_given))), sum(filter(None, (reasoned, other_made)))
    whole_given, whole_made = usage.whole(given or 0, made or 0, total, *parts)
    row["input_tokens"] = None if given is None and not parts[0] else whole_given
    row["output_tokens"] = None if made is None and not parts[1] else whole_made
    return {name: fields.count(row, name) for name, value in row.items() if value is not None}


def _first(record: Mapping[str, Any], names: tuple[str, ...]) -> int | None:
    return next((fields.count(record, name) for name in names if record.get(name) is not None), None)


def _cost(values: Mapping[str, Any]) -> float | None:
    if values.get("total_cost") is not None:
        return fields.cost(values, "total_cost")
    details = fields.mapping(values, "cost_details")
    if details.get("total") is not None:
        return fields.cost(details, "total")
    costs = [cost for name in details if (cost := fields.cost(details, name)) is not None]
    return fields.cost({"cost_details": sum(costs)}, "cost_details") if costs else fields.cost(values, "calculated_total_cost")
