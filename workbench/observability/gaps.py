"""What the log knows that it lacks: records that could not be stored, and requests that began and never ended.

A gap is a span of its own, `audit_gap`, so that it takes the same way to the lake as everything else: its time is that of the records it
stands for, and its attributes count them. A request that never ended is a START whose process is gone; its status stays `unknown`.
"""

from __future__ import annotations

import secrets
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Self

import duckdb
import orjson

from workbench.observability.flusher import literal
from workbench.observability.tables import latest_requests_sql

AUDIT_GAP = "audit_gap"
OTLP = "otlp"
"""The source of requests that are put together from traces (`otlp/assembly.py`)."""
Rows = Mapping[str, Sequence[Mapping[str, Any]]]
"""Log table to rows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Gap:
    """Records of one app that are not in the log."""

    app: str
    n: int
    """Records of requests: a START and an END count as two."""
    since: datetime
    """The earliest time of one of them."""
    until: datetime
    """The latest."""

    @classmethod
    def of(cls, rows: Rows) -> tuple[Self, ...]:
        """What the log lacks when these rows are not stored: one gap for each row of `requests`."""
        return tuple(
            cls(app=row["app"], n=1, since=at, until=at)
            for row in rows.get("requests", ())
            for at in (row.get("ts_end") or row["ts_start"],)
        )

    def with_(self, other: Self) -> Self:
        """Both as one gap of this app."""
        return replace(self, n=self.n + other.n, since=min(self.since, other.since), until=max(self.until, other.until))

    def row(self) -> dict[str, Any]:
        """The span that tells of it."""
        return {
            "span_id": secrets.token_hex(8),
            "app": self.app,
            "kind": "other",
            "name": AUDIT_GAP,
            "status": "error",
            "error_type": AUDIT_GAP,
            "ts_start": self.since,
            "duration_ms": (self.until - self.since) / timedelta(milliseconds=1),
            "attributes": orjson.dumps({"records": self.n}).decode(),
        }

    def __str__(self) -> str:
        return (
            f"{self.app}: {self.n} audit records from {self.since:%Y-%m-%d %H:%M:%S} to {self.until:%Y-%m-%d %H:%M:%S} UTC were not stored"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Unfinished:
    """A request that began and never ended."""

    request_id: str
    app: str
    bundle: str | None
    ts_start: datetime


def stored_gaps(connection: duckdb.DuckDBPyConnection) -> tuple[Gap, ...]:
    """The gaps that the lake knows of, oldest first."""
    found = connection.execute(
        "SELECT app, CAST(json_extract(attributes, '$.records') AS BIGINT), epoch_us(ts_start), epoch_us(ts_start) + duration_ms * 1000 "
        f"FROM lake.spans WHERE name = {literal(AUDIT_GAP)} AND error_type = {literal(AUDIT_GAP)} ORDER BY ts_start, app, seq"
    ).fetchall()
    return tuple(Gap(app=app, n=n, since=_time(since), until=_time(until)) for app, n, since, until in found)


def unfinished_requests(connection: duckdb.DuckDBPyConnection, living: Collection[str]) -> tuple[Unfinished, ...]:
    """The requests without an END whose process is gone, oldest first. Those that are put together from traces have none.

    Args:
        connection: to the lake.
        living: spools that are still there, whose requests may end yet, or have and are not brought to the lake.
    """
    there = f"AND spool_id NOT IN ({', '.join(map(literal, sorted(living)))})" if living else ""
    found = connection.execute(
        f"SELECT request_id, app, bundle, epoch_us(ts_start) FROM ({latest_requests_sql()}) "
        f"WHERE NOT is_final AND source IS DISTINCT FROM {literal(OTLP)} {there} "
        "ORDER BY ts_start, app, request_id"
    ).fetchall()
    return tuple(Unfinished(request_id=request_id, app=app, bundle=bundle, ts_start=_time(at)) for request_id, app, bundle, at in found)


def _time(us: float) -> datetime:
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=us)
