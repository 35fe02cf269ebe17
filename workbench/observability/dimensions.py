"""By what the log can be cut: dimensions, time grains, windows and filters, from the words that people write."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from types import MappingProxyType

import ibis
import ibis.expr.types as ir
import polars as pl

from workbench.errors import UnknownSubject, UsageError
from workbench.observability.model import Window
from workbench.spec.base import parse_duration

DIMENSIONS = ("app", "workflow", "bundle", "arm", "release_id", "model_served", "provider", "status", "error_type")
"""Columns of a request that a metric can be grouped or filtered by; a missing value stays null."""

SHADOW = "shadow"
"""The arm of copies that a candidate answered for nobody."""
FAILURE_REASON = "failure_reason"
"""Why a request failed, by the success rule of its workflow; null for one that did not. To group by, not to filter by."""
GROUPINGS = (*DIMENSIONS, FAILURE_REASON)
"""What a metric can be grouped by."""

GRAINS: Mapping[str, timedelta] = MappingProxyType(
    {
        "1m": timedelta(minutes=1),
        "5m": timedelta(minutes=5),
        "15m": timedelta(minutes=15),
        "1h": timedelta(hours=1),
        "1d": timedelta(days=1),
        "1w": timedelta(weeks=1),
    }
)
"""Widths of a time bucket, in UTC; weeks start on Monday."""

TIME = "ts"
"""Name of the bucket's column: the start of the bucket."""
_FIRST_MONDAY_S = 4 * 86400
Filters = tuple[tuple[str, tuple[str, ...]], ...]


def unknown(what: str, name: str, known: Collection[str], *, listed_by: str = "") -> UnknownSubject:
    """The error for a name that does not exist, with the nearest ones, and the list or what prints it.

    Args:
        what: is named.
        name: that does not exist.
        known: the names that do.
        listed_by: the next step that lists them, where they are too many for a sentence.
    """
    near = _near(name, known)
    seen = f"there is no such {what}" + (f"; did you mean {' or '.join(map(repr, near))}?" if near else "")
    return UnknownSubject(f"{what} {name!r}", seen=seen, needed="" if listed_by else f"one of {', '.join(known)}", next_step=listed_by)


def _near(name: str, known: Collection[str]) -> Sequence[str]:
    """What a slip of the finger meant, else up to three names that are much alike, or hold the word, or the one nearest."""
    word = name.casefold()
    for cutoff in (0.9, 0.75):
        if near := difflib.get_close_matches(word, known, n=3, cutoff=cutoff):
            return near
    holding = [candidate for candidate in known if word and word in candidate.casefold()]
    return holding[:3] or difflib.get_close_matches(word, known, n=1)


def parse_dimensions(by: Sequence[str]) -> tuple[str, ...]:
    """The dimensions to group by, each once.

    Raises:
        UnknownSubject: for a name that is none.
    """
    for name in by:
        if name not in GROUPINGS:
            raise unknown("dimension", name, GROUPINGS)
    return tuple(dict.fromkeys(by))


def parse_grain(grain: str | None) -> str | None:
    """The grain, when it is one.

    Raises:
        UnknownSubject: for anything else.
    """
    if grain is not None and grain not in GRAINS:
        raise unknown("grain", grain, tuple(GRAINS))
    return grain


def parse_window(window: str | Window | None, *, now: datetime) -> Window:
    """The stretch of time that is meant. Text such as `7d` is the stretch that ends now.

    Raises:
        UsageError: for text that is no duration, naive times, or an end before the start.
    """
    if window is None:
        return Window()
    if isinstance(window, str):
        try:
            return Window(start=now - parse_duration(window), until=now)
        except ValueError as error:
            raise UsageError("window", seen=str(error)) from error
        except OverflowError as error:
            raise UsageError("window", seen=f"{window} reaches back before the calendar begins", needed="for example 7d") from error
    for end in (window.start, window.until):
        if end is not None and end.tzinfo is None:
            raise UsageError("window", seen=f"{end.isoformat()} has no time zone", needed="times with an offset, for example in UTC")
    if window.start and window.until and window.until <= window.start:
        raise UsageError("window", seen=f"it ends at {window.until.isoformat()}, before it starts", needed="until after start")
    return window


def parse_where(where: Mapping[str, str | Sequence[str]] | None) -> Filters:
    """The filters, sorted: each dimension with the values that it may have. A comma or a list means any of them.

    Raises:
        UnknownSubject: for a name that is no dimension.
        UsageError: for a dimension without a value.
    """
    filters: dict[str, tuple[str, ...]] = {}
    for name, given in (where or {}).items():
        if name == FAILURE_REASON:
            seen = "it follows from the rules of success, so no request carries it"
            raise UsageError(f"filter {name}", seen=seen, next_step=f"group by it: --by {name}")
        if name not in DIMENSIONS:
            raise unknown("dimension", name, DIMENSIONS)
        values = given.split(",") if isinstance(given, str) else given
        filters[name] = tuple(sorted({value.strip() for value in values} - {""}))
        if not filters[name]:
            raise UsageError(f"filter {name}", seen="no value", needed=f"{name}=VALUE, or several values with commas")
    return tuple(sorted(filters.items()))


def apps_of(filters: Filters) -> tuple[str, ...]:
    """The apps that the filters name; none for all."""
    return dict(filters).get("app", ())


def counts_shadows(filters: Filters) -> bool:
    """Whether what a shadow answered is asked for: it never reached anybody, and counts only where a filter names its arm."""
    return SHADOW in dict(filters).get("arm", ())


def chosen(t: ir.Table, filters: Filters) -> list[ir.Value]:
    """What a row must satisfy by the filters, as predicates on a table with the dimensions."""
    predicates: list[ir.Value] = [t[name].isin(values) for name, values in filters]
    if "arm" not in dict(filters):
        predicates.append(t.arm.fill_null("none") != SHADOW)
    return predicates


def condition(t: ir.Table, filters: Filters, start: datetime | None, until: datetime | None) -> list[ir.Value]:
    """What a row must satisfy, as Ibis predicates on a table with the dimensions and `ts_start`."""
    predicates = chosen(t, filters)
    if start is not None:
        predicates.append(t.ts_start >= moment(start))
    if until is not None:
        predicates.append(t.ts_start < moment(until))
    return predicates


def moment(at: datetime) -> ir.Value:
    """An instant as a literal of the engine."""
    return ibis.literal(at.astimezone(UTC), type="timestamp('UTC')")


def bucket(t: ir.Table, grain: str) -> ir.Value:
    """Number of the bucket of `ts_start`; whole numbers, so that no engine's calendar matters."""
    return bucket_number(t.ts_start.epoch_seconds(), grain)


def bucket_number(seconds: ir.Value, grain: str) -> ir.Value:
    """Number of the bucket of a time in whole seconds since 1970."""
    width_s = int(GRAINS[grain].total_seconds())
    offset_s = _FIRST_MONDAY_S if grain == "1w" else 0
    return ((seconds - offset_s) // width_s).cast("int64")


def bucket_start(column: str, grain: str) -> pl.Expr:
    """Start of the bucket as an aware timestamp, from its number."""
    width_s = int(GRAINS[grain].total_seconds())
    offset_s = _FIRST_MONDAY_S if grain == "1w" else 0
    seconds = pl.col(column) * width_s + offset_s
    return pl.from_epoch(seconds, time_unit="s").cast(pl.Datetime("us", "UTC")).alias(column)
