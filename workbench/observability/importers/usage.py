"""Token counts whose details stand beside the totals or within them, which differs between tools and their versions. Pure."""

from __future__ import annotations

from workbench.observability.importers import fields


def whole(given: int, made: int, total: int | None, given_parts: int, made_parts: int) -> tuple[int, int]:
    """(input tokens, output tokens), their details within.

    `total` tells where the details stand: beside, if it is larger than input and output by as much as they are. Where nothing tells,
    they are taken to stand beside, as in the tools that name no total.

    Args:
        given: input tokens as they were counted.
        made: output tokens as they were counted.
        total: all tokens; None or 0 where nobody said.
        given_parts: details of the input: cached, audio, …
        made_parts: details of the output: reasoning, …

    Raises:
        RecordRefused: when a sum is no count.

    >>> whole(40, 30, 130, 60, 12), whole(100, 30, 130, 60, 12), whole(10, 5, 22, 0, 7)
    ((100, 30), (100, 30), (10, 12))
    """
    given, made = _whole(given, made, total, given_parts, made_parts)
    counted = {"input_tokens": given, "output_tokens": made}
    return fields.count(counted, "input_tokens") or 0, fields.count(counted, "output_tokens") or 0


def _whole(given: int, made: int, total: int | None, given_parts: int, made_parts: int) -> tuple[int, int]:
    beside = total - given - made if total else given_parts + made_parts
    if beside >= given_parts + made_parts:
        return given + given_parts, made + made_parts
    if given_parts and beside >= given_parts:
        return given + given_parts, made
    return given, made + made_parts if made_parts and beside == made_parts else made
