"""What happened after an answer: a judgement of it (a score), or a business event that followed (an outcome). Pure.

Both are told when they are known, minutes or weeks after the request, and joined to it by name: a score by the request's id, an outcome
by a request, a session or a unit. Whoever names the event itself may tell it twice: the newest telling counts.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

from workbench.observability.importers import fields
from workbench.observability.importers.source import Row
from workbench.observability.tables import OUTCOMES, SCORE_SOURCES, SCORES

_LATEST_AHEAD = timedelta(days=1)
_LONGEST_COMMENT = 10_000
_CURRENCY_LETTERS = 3
_LARGEST = 1e15
"""Beyond it a float no longer tells cents apart."""
SCORE_FIELDS = ("request_id", "name", "value", "label", "comment", "source", "scorer", "sample_probability", "id", "at")
OUTCOME_FIELDS = ("kpi", "value", "currency", "request_id", "session_id", "unit", "source", "id", "at")


class Told(NamedTuple):
    """One event as the log takes it."""

    event_id: str
    row: Row
    """Of the event's table, not yet sealed; an outcome may have `unit` instead of `unit_hash`."""


Reader = Callable[..., Told]


def score_told(
    event: Mapping[str, Any], *, app: str, own_id: str, now: datetime, zone: ZoneInfo | None = None, source: str = "user"
) -> Told:
    """The judgement of one request.

    Args:
        event: `SCORE_FIELDS`; `request_id`, `name`, and a `value` or a `label` are needed.
        app: whose request it is.
        own_id: names the event where it does not do so itself.
        now: when it is told; `at` is that moment where the event does not say.
        zone: of a time that names none; without it such a time is refused.
        source: who judged, where the event does not say.

    Raises:
        RecordRefused: with the field that is wrong; no content is quoted.
    """
    _known_fields(event, SCORE_FIELDS)
    value, label = _value(event), fields.text(event, "label")
    if value is None and label is None:
        fields.refuse("missing_field", "value", "neither a value nor a label", "one of the two")
    event_id = fields.text(event, "id") or own_id
    row: Row = {
        "score_id": event_id,
        "app": fields.app_name(app),
        "request_id": _needed(event, "request_id"),
        "name": _needed(event, "name"),
        "value": value,
        "label": label,
        "scorer_id": fields.text(event, "scorer"),
        "source": _choice(event, "source", SCORE_SOURCES, source),
        "explanation": _comment(event),
        "sample_probability": _probability(event),
        "ts": _moment(event, now, zone),
    }
    return Told(event_id, row)


def outcome_told(
    event: Mapping[str, Any], *, app: str, own_id: str, now: datetime, zone: ZoneInfo | None = None, source: str = "api"
) -> Told:
    """The business event, with what it followed.

    Args:
        event: `OUTCOME_FIELDS`; `kpi`, and one of `request_id`, `session_id` and `unit` are needed.
        app: whose KPI it is.
        own_id: as of `score_told`.
        now: as of `score_told`.
        zone: as of `score_told`.
        source: which system tells it, where the event does not say.

    Raises:
        RecordRefused: with the field that is wrong; no content is quoted.
    """
    _known_fields(event, OUTCOME_FIELDS)
    request_id, session_id, unit = (fields.text(event, name) for name in ("request_id", "session_id", "unit"))
    if request_id is None and session_id is None and unit is None:
        fields.refuse("missing_field", "request_id", "nothing that the event followed", "a request_id, a session_id or a unit")
    event_id = fields.text(event, "id") or own_id
    row: Row = {
        "outcome_id": event_id,
        "app": fields.app_name(app),
        "kpi": _needed(event, "kpi"),
        "value": _value(event),
        "currency": _currency(event),
        "request_id": request_id,
        "session_id": session_id,
        "unit": unit,
        "ts": _moment(event, now, zone),
        "source": fields.text(event, "source") or source,
    }
    return Told(event_id, row)


class Kind(NamedTuple):
    """One kind of event."""

    table: str
    """The log table, and the word for its rows."""
    fields: tuple[str, ...]
    told: Reader


KINDS: Mapping[str, Kind] = MappingProxyType({
    SCORES.name: Kind(SCORES.name, SCORE_FIELDS, score_told),
    OUTCOMES.name: Kind(OUTCOMES.name, OUTCOME_FIELDS, outcome_told),
})  # fmt: skip
"""By the word for it, which is also the name of its import format."""


def _known_fields(event: Mapping[str, Any], known: tuple[str, ...]) -> None:
    for name in event:
        if name not in known:
            near = difflib.get_close_matches(str(name), known, n=1)
            fields.refuse("unknown_field", near[0] if near else "event", "a field that is not known beside it", ", ".join(known))


def _needed(event: Mapping[str, Any], name: str) -> str:
    return fields.text(event, name) or fields.refuse("missing_field", name, "nothing", "text")


def _value(event: Mapping[str, Any]) -> float | None:
    value = fields.number(event, "value")
    if value is not None and abs(value) > _LARGEST:
        fields.refuse("out_of_range", "value", f"{value:g}", f"at most {_LARGEST:g}")
    return value


def _choice(event: Mapping[str, Any], name: str, known: tuple[str, ...], default: str) -> str:
    chosen = fields.text(event, name) or default
    if chosen not in known:
        fields.refuse("unknown_value", name, "another word", ", ".join(known))
    return chosen


def _comment(event: Mapping[str, Any]) -> str | None:
    comment = event.get("comment")
    if comment is None or comment == "":
        return None
    if not isinstance(comment, str):
        fields.refuse("wrong_type", "comment", fields.type_name(comment), "text")
    if len(comment) > _LONGEST_COMMENT:
        fields.refuse("too_long", "comment", f"{len(comment)} characters", f"at most {_LONGEST_COMMENT}")
    return comment


def _probability(event: Mapping[str, Any]) -> float | None:
    share = fields.share(event, "sample_probability")
    if share == 0:
        fields.refuse("out_of_range", "sample_probability", "0", "above 0: what is never sampled is not scored")
    return share


def _currency(event: Mapping[str, Any]) -> str | None:
    currency = fields.text(event, "currency")
    if currency is not None and not (
        len(currency) == _CURRENCY_LETTERS and currency.isascii() and currency.isalpha() and currency.isupper()
    ):
        fields.refuse("bad_currency", "currency", "no currency code", "three capital letters of ISO 4217, such as EUR")
    return currency


def _moment(event: Mapping[str, Any], now: datetime, zone: ZoneInfo | None) -> datetime:
    at = event.get("at")
    moment = now if at is None or at == "" else fields.moment(at, "at", zone)
    if moment > now + _LATEST_AHEAD:
        fields.refuse("future_time", "at", "more than a day in the future", "a time that has been")
    return moment
