"""What a shadow's copies came to, beside the requests that they are copies of.

A copy and its request share a trace. Pairs are compared, so that both sides had the same units and the same questions; a unit is bad where
any of its requests was. A copy in which a tool was withheld says nothing of what it would have been, and is left out with its request.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import duckdb

from workbench.observability.evidence import instant
from workbench.observability.flusher import literal
from workbench.observability.model import FAILED
from workbench.observability.tables import at_snapshot, latest_sql

WITHHELD = "withheld"
"""Error type of a tool that was not called in a copy."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ShadowCounts:
    """Units of a release whose requests were copied."""

    units: int
    """Different ones with a copy that ended."""
    compared: int
    """Of them, those with a pair that says something."""
    failed: tuple[int, int]
    """Units of the compared with a failure: of stable, of the shadow."""
    violating: tuple[int, int]
    """The same with a violation of a rule."""
    n_withheld: int
    """Copies that are left out."""
    data_at: datetime | None
    """When the newest batch of the log was stored."""
    copied_at: datetime | None = None
    """When the newest of its copies was."""


def count_shadow(connection: duckdb.DuckDBPyConnection, app: str, release_id: str) -> ShadowCounts:
    """The counts of a release, as the log shows them now.

    Args:
        connection: in a read transaction.
        app: whose release it is.
        release_id: its id.
    """
    failed = f"status IN ({', '.join(map(literal, FAILED))}) OR coalesce(is_fallback, false)"
    its = f"(FROM {at_snapshot('requests', None)} WHERE app = {literal(app)} AND release_id = {literal(release_id)}) AS its"
    rows = (
        f"SELECT request_id, trace_id, arm, unit_hash, coalesce({failed}, false) AS is_failed, "
        f"coalesce(len(violation_rules) > 0, false) AS is_violating, batch_id FROM ({latest_sql(its)}) AS latest "
        "WHERE is_final AND status <> 'unknown' AND unit_hash IS NOT NULL"
    )
    withheld = (
        f"SELECT DISTINCT request_id FROM {at_snapshot('spans', None)} "
        f"WHERE app = {literal(app)} AND kind = 'tool' AND error_type = {literal(WITHHELD)} "
        "AND request_id IN (SELECT request_id FROM copies)"
    )
    found = connection.execute(
        f"""WITH ended AS ({rows}), copies AS (FROM ended WHERE arm = 'shadow'),
            told AS (FROM copies ANTI JOIN ({withheld}) AS withheld USING (request_id)),
            pairs AS (SELECT told.*, own.is_failed AS own_failed, own.is_violating AS own_violating
                FROM told JOIN (FROM ended WHERE arm = 'stable') AS own USING (trace_id)),
            units AS (SELECT bool_or(own_failed) AS a, bool_or(is_failed) AS b, bool_or(own_violating) AS c, bool_or(is_violating) AS d
                FROM pairs GROUP BY unit_hash)
        SELECT (SELECT count(DISTINCT unit_hash) FROM copies), count(*), count(*) FILTER (a), count(*) FILTER (b), count(*) FILTER (c),
            count(*) FILTER (d), (SELECT count(*) FROM copies) - (SELECT count(*) FROM told),
            (SELECT epoch_us(arg_max(flushed_at, batch_id)) FROM lake.flushed),
            (SELECT epoch_us(max(flushed_at)) FROM lake.flushed WHERE batch_id = (SELECT max(batch_id) FROM copies))
        FROM units"""
    ).fetchall()[0]
    units, compared, a, b, c, d, n_withheld, flushed, copied = found
    return ShadowCounts(
        units=int(units),
        compared=int(compared),
        failed=(int(a), int(b)),
        violating=(int(c), int(d)),
        n_withheld=int(n_withheld),
        data_at=instant(flushed),
        copied_at=instant(copied),
    )
