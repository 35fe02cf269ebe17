"""What one span says, in our names: the table of `aliases.py` applied to its attributes and events. Pure.

It reads raw spans and sealed ones alike, so that what is put together from the log is what would be from the wire.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from operator import itemgetter
from typing import Any, TypeGuard

from workbench.observability.otlp import aliases
from workbench.observability.otlp.messages import calls_in, finish_reason, rebuilt, since_last_user, structured, talk
from workbench.observability.otlp.model import Facts, Hit, Score, SpanEvent, ToolCall, TraceSpan
from workbench.observability.tables import ARMS, SCORE_SOURCES

_MOST = 10**12
_MOST_USD = 1e9
_LONGEST = 512
_LONGEST_WHY = 4000
_MOST_HITS = 1000
HIDDEN = "<UNIT>"
"""Stands where a unit stood that was stored elsewhere."""


def facts_of(span: TraceSpan) -> Facts:
    """What the span says."""
    found = _all_attributes(span)
    kind, is_ai = _kind(found)
    texts = _texts(found, span, kind)
    sealed = span.sealed or {}
    given, answered = _input(found, span.events), _output(found, span.events)
    is_model = kind == "model"
    if is_model:
        texts.setdefault("finish_reason", _finished(found, span.events))
        texts.setdefault("model_requested", _invoked_model(found))
    error_type = _error_type(texts, span)
    session = texts.get("session")
    return Facts(
        span=span,
        kind=kind,
        is_ai=is_ai,
        is_request=found.get(aliases.REQUEST) in (True, "true"),
        status=_status(span, error_type, texts.get("finish_reason")),
        error_type=error_type,
        texts={name: text for name, text in texts.items() if text},
        counts=_counts(found),
        serving=_serving(found),
        unit=_unit(found),
        session_unit=sealed.get("session_unit") if span.sealed is not None else session or None,
        audited=sealed.get("audited"),
        cost_usd=_amount(found, aliases.COSTS, _MOST_USD),
        first_token_ms=_first_token_ms(found, span),
        input=given,
        output=answered,
        calls=tuple(calls_in(answered)) if is_model else (),
        earlier_calls=tuple(calls_in(since_last_user(given))) if is_model else (),
        tool_arguments=structured(_first(found, aliases.TOOL_ARGUMENTS)) if kind == "tool" else None,
        tool_result=structured(_first(found, aliases.TOOL_RESULTS)) if kind == "tool" else None,
        hits=_hits(found, span.events) if kind == "retrieval" else None,
        scores=(*_scores(span.events), *_flat_scores(found, span)),
        proofs={name: sealed[name] for name in ("input_hmac", "output_hmac") if name in sealed},
    )


def is_ai(span: TraceSpan) -> bool:
    """Whether the span has to do with a model."""
    return _kind(_all_attributes(span))[1]


def _all_attributes(span: TraceSpan) -> Mapping[str, Any]:
    """The span's attributes, with those of its detail events; what the whole process says of itself comes last."""
    details = [event.attributes for event in span.events if event.name in aliases.DETAIL_EVENTS]
    ours = {name: value for name, value in span.resource.items() if name.startswith("workbench.") or name in aliases.UNITS}
    if not details and not ours:
        return span.attributes
    found = dict(ours)
    for more in (*details, span.attributes):
        found.update(more)
    return found


def _kind(found: Mapping[str, Any]) -> tuple[str, bool]:
    for name, kinds in aliases.KINDS.items():
        value = found.get(name)
        if isinstance(value, str):
            kind = kinds.get(value) or kinds.get(value.upper()) or kinds.get(value.lower())
            if kind is not None:
                return kind, True
    kind = next((kind for name, kind in aliases.KIND_BY_PRESENCE if found.get(name) is not None), None)
    if kind is not None:
        return kind, True
    return "other", any(name.startswith(aliases.AI_PREFIXES) and name not in aliases.NO_AI_NAMES for name in found)


def _texts(found: Mapping[str, Any], span: TraceSpan, kind: str) -> dict[str, str | None]:
    texts: dict[str, str | None] = {}
    for name, values in _by_column(found, _TEXT_OF):
        text = next((text for value in values if (text := _text(value)) is not None), None)
        if text is not None:
            texts[name] = text
    if "operation" not in texts:
        of_kind = (found.get(name) for name in aliases.KINDS)
        texts["operation"] = next(
            (aliases.OPERATIONS[value] for value in of_kind if isinstance(value, str) and value in aliases.OPERATIONS), None
        )
    if kind == "tool" and "tool_name" not in texts:
        texts["tool_name"] = _text(found.get("traceloop.entity.name")) or span.name.removeprefix("execute_tool ") or None
    return texts


def _places(table: Mapping[str, Sequence[str]]) -> Mapping[str, tuple[tuple[str, int], ...]]:
    """Attribute to the columns that it may fill, each with its rank among their attributes."""
    found: dict[str, tuple[tuple[str, int], ...]] = {}
    for column, attributes in table.items():
        for rank, attribute in enumerate(attributes):
            found[attribute] = (*found.get(attribute, ()), (column, rank))
    return found


_TEXT_OF, _COUNT_OF = _places(aliases.TEXTS), _places(aliases.COUNTS)
_FLAT_SCORES = tuple(prefix for prefix, _ in aliases.FLAT_SCORES)
_FLAT = (*aliases.FLAT_INPUTS, *aliases.FLAT_OUTPUTS)


def _by_column(found: Mapping[str, Any], places: Mapping[str, tuple[tuple[str, int], ...]]) -> Iterator[tuple[str, list[Any]]]:
    """Each column of which something is told, with the values that may fill it, best first.

    A span has fewer attributes than the table has names, so it is the span that is gone through.
    """
    told: dict[str, list[tuple[int, Any]]] = {}
    for attribute, value in found.items():
        for column, rank in places.get(attribute, ()):
            told.setdefault(column, []).append((rank, value))
    for column, ranked in told.items():
        yield column, [value for _, value in sorted(ranked, key=itemgetter(0))]


def _text(value: Any) -> str | None:
    """One short text: of a list, in JSON or not, its first item."""
    if isinstance(value, str) and value[:1] == "[":
        value = structured(value)
    if isinstance(value, list):
        value = value[0] if value else None
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return None
    return str(value)[:_LONGEST] or None


def _first(found: Mapping[str, Any], names: Iterable[str]) -> Any:
    return next((found[name] for name in names if found.get(name) not in (None, "")), None)


def _counts(found: Mapping[str, Any]) -> dict[str, int]:
    counts = {}
    for name, values in _by_column(found, _COUNT_OF):
        count = next((count for value in values if (count := _count(value)) is not None), None)
        if count is not None:
            counts[name] = count
    return counts


def _count(value: Any) -> int | None:
    """A count; what is none, such as a negative number, says nothing."""
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= 13:  # noqa: PLR2004 - digits of the most
        value = int(value)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= _MOST else None


def _amount(found: Mapping[str, Any], names: Iterable[str], most: float) -> float | None:
    for name in names:
        value = found.get(name)
        if _is_number(value) and 0 <= value < most:
            return float(value)
    return None


def _serving(found: Mapping[str, Any]) -> dict[str, Any]:
    """What is said of the version that served, as far as it can be true."""
    said = {column: found.get(name) for column, name in aliases.SERVING.items()}
    share, version = said["traffic_share"], said["route_version"]
    serving = {
        "bundle": _text(said["bundle"]),
        "arm": said["arm"] if said["arm"] in ARMS else None,
        "traffic_share": float(share) if _is_number(share) and 0 <= share <= 1 else None,
        "route_version": _count(version),
        "release_id": _text(said["release_id"]),
    }
    return {name: value for name, value in serving.items() if value is not None}


def _is_number(value: Any) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _unit(found: Mapping[str, Any]) -> str | None:
    unit = next((unit for name in aliases.UNITS if (unit := _text(found.get(name))) is not None), None)
    return None if unit == HIDDEN else unit


def _error_type(texts: Mapping[str, str | None], span: TraceSpan) -> str | None:
    raised = [_text(event.attributes.get("exception.type")) for event in span.events if event.name == aliases.EXCEPTION_EVENT]
    told = texts.get("error_type") or (next((name for name in reversed(raised) if name), None) if span.is_error else None)
    return told or ("error" if span.is_error else None)


def _status(span: TraceSpan, error_type: str | None, finished: str | None) -> str:
    if span.is_error or error_type:
        named = (error_type or "").lower()
        if any(part in named for part in aliases.CANCELLATIONS):
            return "cancelled"
        return "timeout" if any(part in named for part in aliases.TIMEOUTS) else "error"
    return aliases.FINISHED.get(finished or "", "ok")


def _first_token_ms(found: Mapping[str, Any], span: TraceSpan) -> float | None:
    seconds = _amount(found, aliases.FIRST_TOKEN_S, 86_400)
    if seconds is not None:
        return round(seconds * 1000, 3)
    at_us = min((event.at_us for event in span.events if event.name in aliases.FIRST_TOKEN_EVENTS), default=None)
    return None if at_us is None or at_us < span.start_us else (at_us - span.start_us) / 1000


def _input(found: Mapping[str, Any], events: Sequence[SpanEvent]) -> Any:
    """What was asked: messages, or the value that stood there."""
    flat = _rebuilt(found, aliases.FLAT_INPUTS)
    told = [{"role": aliases.MESSAGE_EVENTS[event.name], **event.attributes} for event in events if event.name in aliases.MESSAGE_EVENTS]
    chosen = found.get(aliases.INPUTS[0]) or flat or _first(found, aliases.INPUTS) or told
    messages = talk(chosen, "user") if chosen else None
    system = found.get(aliases.SYSTEM)
    if system and (messages is None or isinstance(messages, list)):
        return [*(talk([{"role": "system", "parts": structured(system)}], "system") or ()), *(messages or ())]
    return messages


def _output(found: Mapping[str, Any], events: Sequence[SpanEvent]) -> Any:
    flat = _rebuilt(found, aliases.FLAT_OUTPUTS)
    told = [_choice(event.attributes) for event in events if event.name == aliases.CHOICE_EVENT]
    chosen = found.get(aliases.OUTPUTS[0]) or flat or _first(found, aliases.OUTPUTS) or told
    return talk(chosen, "assistant") if chosen else None


def _rebuilt(found: Mapping[str, Any], prefixes: Iterable[str]) -> list[Any]:
    if not any(name.startswith(_FLAT) for name in found):  # as usual
        return []
    return next((messages for prefix in prefixes if (messages := rebuilt(found, prefix))), [])


def _choice(attributes: Mapping[str, Any]) -> Mapping[str, Any]:
    message = structured(attributes.get("message"))
    return {"role": "assistant", "content": None, **(message if isinstance(message, dict) else attributes)}


def _finished(found: Mapping[str, Any], events: Sequence[SpanEvent]) -> str | None:
    told = (finish_reason(found.get(name)) for name in aliases.OUTPUTS)
    by_event = (_text(event.attributes.get("finish_reason")) for event in events if event.name == aliases.CHOICE_EVENT)
    return next((reason for reason in (*told, *by_event) if reason), None)


def _invoked_model(found: Mapping[str, Any]) -> str | None:
    parameters = structured(_first(found, aliases.INVOCATION))
    model = parameters.get("model") if isinstance(parameters, dict) else None
    return model[:_LONGEST] if isinstance(model, str) else None


def _hits(found: Mapping[str, Any], events: Sequence[SpanEvent]) -> tuple[Hit, ...] | None:
    """What a retrieval found, best first as it was told."""
    listed = structured(found.get(aliases.DOCUMENTS))
    if not isinstance(listed, list):
        listed = [item.get("document") for item in rebuilt(found, aliases.FLAT_DOCUMENTS) if isinstance(item, dict)] or [
            {"id": event.attributes.get(aliases.DOCUMENT_ID), "score": event.attributes.get(aliases.DOCUMENT_SCORE)}
            for event in events
            if event.name == aliases.DOCUMENT_EVENT
        ]
    hits = []
    for rank, item in enumerate((item for item in listed[:_MOST_HITS] if isinstance(item, dict)), start=1):
        score = item.get("score")
        doc_id = _text(item.get("id", item.get("doc_id")))
        hits.append(Hit(doc_id.replace("\0", "") if doc_id else None, float(score) if _is_number(score) else None, rank))
    return tuple(hits) if hits or aliases.DOCUMENTS in found else None


def _flat_scores(found: Mapping[str, Any], span: TraceSpan) -> Iterator[Score]:
    """OpenInference's judgements of the span; they are numbered behind the events."""
    if not any(name.startswith(_FLAT_SCORES) for name in found):  # as usual
        return
    items = [item.get(inner) for prefix, inner in aliases.FLAT_SCORES for item in rebuilt(found, prefix) if isinstance(item, dict)]
    for number, told in enumerate(items, start=len(span.events)):
        if isinstance(told, dict):
            source = aliases.ANNOTATORS.get(str(told.get("annotator_kind")).upper(), "judge")
            said = {name: told.get(name) for name in ("name", "label", "explanation")}
            yield from _score(said, value=told.get("score"), source=source, at_us=span.end_us or span.start_us, number=number)


def _scores(events: Sequence[SpanEvent]) -> Iterator[Score]:
    for number, event in enumerate(events):
        if event.name == aliases.SCORE_EVENT:
            told = event.attributes
            source = _text(told.get(aliases.SCORE_SOURCE))
            said = {
                "name": told.get(aliases.SCORE_NAME),
                "label": told.get(aliases.SCORE_LABEL),
                "explanation": told.get(aliases.SCORE_WHY),
            }
            known = source if source in SCORE_SOURCES else "judge"
            yield from _score(said, value=told.get(aliases.SCORE_VALUE), source=known, at_us=event.at_us, number=number)


def _score(said: Mapping[str, Any], *, value: Any, source: str, at_us: int, number: int) -> Iterator[Score]:
    """The judgement, when it has a name and says something."""
    name, label, why = _text(said["name"]), _text(said["label"]), said["explanation"]
    told = float(value) if _is_number(value) else None
    if name and (told is not None or label is not None):
        explanation = why[:_LONGEST_WHY] if isinstance(why, str) else None
        yield Score(name=name, value=told, label=label, explanation=explanation, source=source, at_us=at_us, number=number)


def tool_call_of(facts: Facts) -> ToolCall:
    """The call that a tool's span carried out."""
    return ToolCall(facts.texts.get("tool_call_id"), facts.texts.get("tool_name", ""))
