"""One field of a record, read with its exact fault. Nothing is guessed: a wrong type is refused, a missing value is None.

No message quotes a value that could hold personal data; numbers and types are named.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Mapping
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, NoReturn
from zoneinfo import ZoneInfo

from workbench.errors import RecordRefused
from workbench.observability.tables import MOST_COUNTED, MOST_USD, REQUESTS

MOST = 2**53
"""Whole numbers up to here are held exactly by every reader of JSON."""
_FIRST_YEAR, _LAST_YEAR = 2000, 2100
_EARLIEST_S, _LATEST_S = (datetime(year, 1, 1, tzinfo=UTC).timestamp() for year in (_FIRST_YEAR, _LAST_YEAR))
_LONGEST_NAME = 512
_MOST_MAPPED = 12
"""Cells of a mapping that a sentence names."""
_COUNT = "a whole number, at least 0"
_APP_NAME = re.compile(REQUESTS.by_name["app"].pattern)


def refuse(reason: str, field: str, seen: str, needed: str = "", next_step: str = "") -> NoReturn:
    """Raise `RecordRefused` for a field of the record at hand."""
    raise RecordRefused(field, reason=reason, seen=seen, needed=needed, next_step=next_step)


def of_column(refusal: RecordRefused, column: str | None, mapped: Collection[str] = ()) -> RecordRefused:
    """The same refusal, which also names the column that its field is read from; no cell of it.

    Args:
        refusal: of a field.
        column: of the file; None where the field is read from none.
        mapped: cells that the mapping gives a meaning, said where a value has none.
    """
    if column is None:
        return refusal
    subject = refusal.subject if column == refusal.subject else f"{refusal.subject} (column {column!r})"
    named = f", and none that the mapping names: {', '.join(list(mapped)[:_MOST_MAPPED])}"
    seen = refusal.seen + (named if mapped and refusal.reason == "unknown_value" else "")
    return RecordRefused(subject, reason=refusal.reason, seen=seen, needed=refusal.needed, next_step=refusal.next_step)


def text(record: Mapping[str, Any], key: str) -> str | None:
    """A name or id; whole numbers are taken as written, empty is missing."""
    value = record.get(key)
    if isinstance(value, str):
        if len(value) > _LONGEST_NAME:
            refuse("too_long", key, f"{len(value)} characters", f"at most {_LONGEST_NAME}")
        return value or None
    if value is None:
        return None
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return refuse("wrong_type", key, type_name(value), "text")


def app_name(name: str) -> str:
    """The same name, when an app may be called so."""
    if not _is_app_name(name):
        refuse("bad_app", "app", "no name of an app", "lower-case letters, digits, _ and -, at most 63, a letter first")
    return name


@lru_cache(maxsize=1024)
def _is_app_name(name: str) -> bool:
    return _APP_NAME.fullmatch(name) is not None


def count(record: Mapping[str, Any], key: str) -> int | None:
    """A whole number from 0 on."""
    value = record.get(key)
    if value is None:
        return None
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool):
        refuse("wrong_type", key, "a fraction" if isinstance(value, float) else type_name(value), _COUNT)
    if value < 0:
        refuse("negative_count", key, str(value), _COUNT)
    if value > MOST_COUNTED:
        refuse("out_of_range", key, "a number above 10^12", "a count")
    return value


def number(record: Mapping[str, Any], key: str) -> float | None:
    """A finite number."""
    value = record.get(key)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        refuse("wrong_type", key, type_name(value), "a number")
    if not math.isfinite(value):
        refuse("out_of_range", key, "not a finite number", "a number")
    return float(value)


def milliseconds(record: Mapping[str, Any], key: str) -> float | None:
    """A duration in ms, never negative."""
    value = number(record, key)
    if value is not None and value < 0:
        refuse("negative_latency", key, f"{value:g} ms is negative", "0 or more")
    return value


def cost(record: Mapping[str, Any], key: str) -> float | None:
    """US dollars from 0 on."""
    value = number(record, key)
    if value is not None and not 0 <= value <= MOST_USD:
        refuse("out_of_range", key, f"{value:g} USD", "between 0 and 1e9")
    return value


def share(record: Mapping[str, Any], key: str) -> float | None:
    """A fraction from 0 to 1."""
    value = number(record, key)
    if value is not None and not 0 <= value <= 1:
        refuse("out_of_range", key, f"{value:g}", "a fraction from 0 to 1")
    return value


def flag(record: Mapping[str, Any], key: str) -> bool | None:
    """True or false."""
    value = record.get(key)
    if value is not None and not isinstance(value, bool):
        refuse("wrong_type", key, type_name(value), "true or false")
    return value


def mapping(record: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    """An object; missing is empty."""
    value = record.get(key)
    if value is None:
        return {}
    if not isinstance(value, dict):
        refuse("wrong_type", key, type_name(value), "an object")
    return value


def items(record: Mapping[str, Any], key: str) -> list[Any]:
    """A list; missing is empty."""
    value = record.get(key)
    if value is None:
        return []
    if not isinstance(value, list):
        refuse("wrong_type", key, type_name(value), "a list")
    return value


def moment(value: object, field: str, zone: ZoneInfo | None) -> datetime:
    """An instant, UTC, from ISO 8601 text or unix seconds.

    Args:
        zone: where text without a zone was written; without it such a time is refused.
    """
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        refuse("wrong_type", field, type_name(value), "an ISO 8601 time or unix seconds")
    if not isinstance(value, str):
        return unix(value, field)
    try:
        instant = datetime.fromisoformat(value)
    except ValueError:
        refuse("bad_time", field, "not an ISO 8601 time", "for example 2026-11-01T09:30:00Z")
    return aware(instant, field, zone)


def aware(instant: datetime, field: str, zone: ZoneInfo | None) -> datetime:
    """The same instant in UTC; a time without a zone is read in `zone`, where its clock showed that time once."""
    if instant.tzinfo is None:
        if zone is None:
            refuse(
                "no_zone",
                field,
                "a time without a zone",
                "an offset such as Z or +02:00",
                "or say where it was written: --zone Europe/Berlin",
            )
        instant = _in_zone(instant, field, zone)
    if instant.tzinfo is not UTC:
        try:
            instant = instant.astimezone(UTC)
        except OverflowError:
            refuse("out_of_range", field, "a time at the end of the calendar", "between 2000 and 2100")
    if not _FIRST_YEAR <= instant.year < _LAST_YEAR:
        refuse("out_of_range", field, f"the year {instant.year}", "between 2000 and 2100")
    return instant


def _in_zone(local: datetime, field: str, zone: ZoneInfo) -> datetime:
    """The time of the zone's clock; one that it skipped, or showed twice, is refused (PEP 495: `fold` tells the two offsets apart)."""
    first, second = local.replace(tzinfo=zone, fold=0), local.replace(tzinfo=zone, fold=1)
    before, after = first.utcoffset(), second.utcoffset()
    if before is not None and after is not None and before != after:
        needed = "a time with its offset, such as +01:00"
        if before < after:
            refuse("skipped_time", field, f"a time that {zone.key} skipped when its clocks went forward", needed, "or another zone")
        refuse("ambiguous_time", field, f"a time that {zone.key} had twice when its clocks went back", needed)
    return first


def unix(seconds: float, field: str) -> datetime:
    """The instant of unix seconds; milliseconds are recognised by their size and refused."""
    if not _EARLIEST_S <= seconds < _LATEST_S:
        what = "looks like milliseconds" if _EARLIEST_S * 1000 <= seconds < _LATEST_S * 1000 else f"{seconds:g} seconds"
        refuse("out_of_range", field, what, "unix seconds between 2000 and 2100")
    return datetime.fromtimestamp(seconds, UTC)


def type_name(value: object) -> str:
    """How JSON calls the type of a value."""
    names = {dict: "an object", list: "a list", str: "text", bool: "true or false", int: "a number", float: "a number", type(None): "null"}
    return names.get(type(value), type(value).__name__)
