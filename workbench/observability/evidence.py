"""The sealed record of a measurement: its content, rounded, and the digest that names it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from workbench.errors import IntegrityError
from workbench.observability.model import Evidence, RowSet, Window
from workbench.versions.canonical import canonical_json, digest

if TYPE_CHECKING:  # a rollback drill is a record, too, and is no reason to load what asks the log
    from workbench.observability.metric import Metric
    from workbench.observability.readings import Reading
    from workbench.observability.recency import Seen

DIGITS = 12
"""Significant digits of a number in a record."""


def rounded(value: Any) -> Any:
    """The value with every float in it at 12 significant digits; negative zero is zero."""
    if isinstance(value, float):
        return float(f"{value:.{DIGITS}g}") + 0.0
    if isinstance(value, Mapping):
        return {key: rounded(item) for key, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [rounded(item) for item in value]
    return value


def content_of(evidence: Evidence) -> dict[str, Any]:
    """What the record's id is the digest of: everything that it says, but when and at which snapshot it was collected.

    A snapshot numbers the writes to the whole lake, so other rows change it; it says where the query can be asked again.
    """
    rows = evidence.row_set
    return {
        "kind": evidence.kind,
        "app": evidence.app,
        "subject": evidence.subject,
        "baseline": evidence.baseline,
        "query": rounded(evidence.query),
        "statistics": rounded(evidence.statistics),
        "row_set": {"n": rows.n, "digest": rows.digest, "first": iso(rows.first), "last": iso(rows.last)},
    }


def evidence_id(evidence: Evidence) -> str:
    """`sha256:` of the record's canonical JSON."""
    return digest(canonical_json(content_of(evidence)))


def sealed(evidence: Evidence) -> Evidence:
    """The record with rounded numbers and its id."""
    whole = replace(evidence, query=rounded(evidence.query), statistics=rounded(evidence.statistics))
    return replace(whole, evidence_id=evidence_id(whole))


def as_row(record: Evidence) -> dict[str, Any]:
    """The record as the ledger keeps it."""
    return {
        "evidence_id": record.evidence_id,
        "kind": record.kind,
        "app": record.app,
        "subject": record.subject,
        "baseline": record.baseline,
        "query": dict(record.query),
        "statistics": dict(record.statistics),
        "row_n": record.row_set.n,
        "row_digest": record.row_set.digest,
        "row_first": record.row_set.first,
        "row_last": record.row_set.last,
        "snapshot": record.snapshot,
        "collected_at": record.collected_at,
    }


def from_row(row: Mapping[Any, Any]) -> Evidence:
    """The record that `as_row` wrote.

    Raises:
        IntegrityError: its content is no longer what its id is the digest of.
    """
    rows = RowSet(n=row["row_n"], digest=row["row_digest"], first=row["row_first"], last=row["row_last"])
    plain = ("evidence_id", "kind", "app", "subject", "baseline", "query", "statistics", "snapshot", "collected_at")
    record = Evidence(row_set=rows, **{name: row[name] for name in plain})
    if (seen := evidence_id(record)) != record.evidence_id:
        step = "keep this ledger as it is, and compare it with a backup"
        raise IntegrityError(
            f"evidence {record.evidence_id}",
            seen=f"its content has the digest {seen}",
            needed="the digest that is its id",
            next_step=step,
        )
    return record


def metric_statistics(metric: Metric, reading: Reading, seen: Seen, *, is_age_asked: bool) -> dict[str, Any]:
    """The statistics of one side: the number, what it rests on, its interval, and the first and last time of its rows.

    What is missing is None. Where the question asks for the age of the newest units, `newest` has it by rank.
    """
    times = {str(rank): iso(at) for rank, at in seen.newest.items()}
    newest = {"newest": {"units": seen.units, "times": times}} if is_age_asked else {}
    return {
        "estimate": reading.value,
        "n": reading.n,
        "n_clusters": reading.n_clusters,
        "n_effective": reading.n_effective,
        "n_eligible": reading.n_eligible,
        "measured_share": reading.measured_share,
        "count": reading.count,
        "low": reading.low,
        "high": reading.high,
        "level": reading.level,
        "method": reading.method,
        "unit": metric.unit,
        "direction": metric.direction.value,
        "first": iso(seen.first),
        "last": iso(seen.last),
        **newest,
    }


def row_set(parts: Sequence[Mapping[str, Any]]) -> RowSet:
    """The rows from what the engine summed of their parts: `n low_half high_half first_us last_us` of each."""
    n, low, high = (sum(int(part[name]) for part in parts) for name in ("n", "low_half", "high_half"))
    text = f"{n}:{low % 2**128:032x}:{high % 2**128:032x}"
    whole = f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"
    first, last = min((part["first_us"] for part in parts), default=None), max((part["last_us"] for part in parts), default=None)
    return RowSet(n=n, digest=whole, first=instant(first), last=instant(last))


def instant(microseconds: int | None) -> datetime | None:
    """The time that many microseconds after 1970, UTC."""
    if microseconds is None:
        return None
    seconds, rest = divmod(microseconds, 1_000_000)
    return datetime.fromtimestamp(seconds, UTC).replace(microsecond=rest)


def iso(at: datetime | None) -> str | None:
    """An instant as text, in UTC."""
    return None if at is None else at.astimezone(UTC).isoformat()


def window_json(window: Window) -> dict[str, str | None]:
    """A window as text."""
    return {"start": iso(window.start), "until": iso(window.until)}


def window_from_json(content: Mapping[str, str | None]) -> Window:
    """The window that `window_json` wrote."""
    start, until = (datetime.fromisoformat(text) if (text := content.get(end)) else None for end in ("start", "until"))
    return Window(start=start, until=until)
