"""Retention, done: what is older than was declared leaves the log by whole days of an app, and the audit says so first.

It goes in two steps. Rows leave the present log in one transaction for each app; snapshots from before, and the files under them, go with
the next runs of upkeep. A snapshot that evidence holds goes when that evidence's own time is over.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from functools import partial

import duckdb
import orjson

from workbench.errors import UsageError
from workbench.ledger.authority import Author, Authority
from workbench.ledger.canonical import JSON
from workbench.ledger.settings import get, put
from workbench.ledger.store import Ledger
from workbench.observability.flusher import literal
from workbench.observability.lake import Lake
from workbench.observability.retention_policy import RetentionPolicy, Term, parse_app, parse_term
from workbench.observability.summing import retain
from workbench.observability.tables import JUDGMENTS, WRITABLE
from workbench.observability.tables import SUMS as SUM_TABLES
from workbench.observability.tablewise import flush_inlined

DECLARE, APPLY = "retention.declare", "retention.apply"
_POLICY = "lake.retention"
SUMS = tuple(table.name for table in SUM_TABLES)
"""Tables of sums."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outdated:
    """What of an app is older than it is to be."""

    app: str
    rows_before: date
    """The first day whose rows are kept."""
    rollups_before: date
    first: date
    """The oldest day that goes."""
    last: date
    rows: Mapping[str, int]
    """Table to rows; tables of which nothing goes are left out."""

    @property
    def n(self) -> int:
        return sum(self.rows.values())


class Retention:
    """The verbs: declare how long, see what would go, have it go.

    Args:
        ledger: where the policy and the audit are.
        lake: the log lake.
        authority: says who may.
        author: who acts when nobody is named.
        clock: the present time.
        clean: takes personal data out of a reason.
    """

    def __init__(
        self,
        ledger: Ledger,
        lake: Lake,
        *,
        authority: Authority,
        author: Author,
        clock: Callable[[], datetime],
        clean: Callable[[str], str],
    ) -> None:
        self._ledger = ledger
        self._lake = lake
        self._authority = authority
        self._author = author
        self._clock = clock
        self._clean = clean

    def policy(self) -> RetentionPolicy:
        """What was declared until now."""
        text = get(self._ledger, _POLICY)
        return RetentionPolicy() if text is None else RetentionPolicy.from_json(orjson.loads(text))

    def declare(
        self,
        rows: str | None,
        *,
        app: str | None = None,
        rollups: str | None = None,
        evidence: str | None = None,
        reason: str,
        actor: Author | None = None,
    ) -> RetentionPolicy:
        """The policy with this in it. Nothing goes before the next run of upkeep.

        Args:
            rows: how long rows are kept, for example `90d`; None for good.
            app: of which app; None for every app of which nothing is declared by itself.
            rollups: how long sums are kept.
            evidence: how long evidence holds its snapshot.
            reason: why, for the audit.
            actor: who decides it.

        Raises:
            NotPermitted: the actor may not.
            UsageError: a term makes no sense, or there is no reason.
        """
        author, name = actor or self._author, parse_app(app)
        self._authority.require(author, DECLARE, app)
        why = " ".join(self._clean(reason).split())
        if not why:
            raise UsageError("retention: reason", seen="it is empty", needed="a reason")
        if rows is None and (rollups is not None or evidence is not None):
            raise UsageError("retention", seen="everything is kept for good", needed="no term for roll-ups or evidence")
        term = None if rows is None else parse_term(rows, rollups=rollups, evidence=evidence)
        with self._ledger.write() as act:
            policy = self.policy().declared(name, term)
            put(act, _POLICY, orjson.dumps(policy.to_json()).decode())
            detail: dict[str, JSON] = {"term": policy.to_json()[name], "reason": why}
            act.audit(author, DECLARE, app=app, subject=name, detail=detail)
        return policy

    def outdated(self) -> tuple[Outdated, ...]:
        """What would go now, by app; it changes nothing."""
        policy, now = self.policy(), self._clock()
        latest = policy.latest(now)
        if latest is None:
            return ()
        found = self._lake.read(lambda connection: _days(connection, latest))
        return tuple(
            _outdated(app, days, term, now) for app, days in found.items() if (term := policy.term(app)) and _goes(days, term, now)
        )

    def apply(self, author: Author) -> tuple[Outdated, ...]:
        """Take out of the present log what is outdated; what that was. Each app is noted in the audit before its rows go.

        Raises:
            StoreError: a store failed. What was not taken out goes with the next call.
        """
        outdated = self.outdated()
        for found in outdated:
            with self._ledger.write() as act:
                detail: dict[str, JSON] = {
                    "rows_before": found.rows_before.isoformat(),
                    "rollups_before": found.rollups_before.isoformat(),
                    "rows": dict(found.rows),
                }
                act.audit(author, APPLY, app=found.app, subject=found.app, detail=detail)
            # inlined rows would be written to files as deleted ones, and stay; as files of a day they go with it
            self._lake.reshape((flush_inlined, partial(_take_out, found=found)), what="take out outdated rows")
        return outdated


Days = Mapping[tuple[str, date], int]
"""Table and day to rows."""


def _days(connection: duckdb.DuckDBPyConnection, before: date) -> dict[str, dict[tuple[str, date], int]]:
    """The rows of days before that one, by app, table and day; judgments are no traffic and do not grow old."""
    parts = " UNION ALL ".join(
        f"SELECT app, {literal(name)} AS log_table, day, count(*) AS n FROM lake.{name} "
        f"WHERE day < DATE '{before}' AND app IS NOT NULL GROUP BY app, day"
        for name in (*(name for name in WRITABLE if name != JUDGMENTS.name), *SUMS)
    )
    found: dict[str, dict[tuple[str, date], int]] = {}
    for app, table, day, n in connection.execute(f"{parts} ORDER BY 1, 2, 3").fetchall():
        found.setdefault(app, {})[table, day] = n
    return found


def _before(table: str, term: Term, now: datetime) -> date:
    return term.rollups_before(now) if table in SUMS else term.rows_before(now)


def _goes(days: Days, term: Term, now: datetime) -> bool:
    return any(day < _before(table, term, now) for table, day in days)


def _outdated(app: str, days: Days, term: Term, now: datetime) -> Outdated:
    going = {(table, day): n for (table, day), n in days.items() if day < _before(table, term, now)}
    rows: dict[str, int] = {}
    for (table, _), n in going.items():
        rows[table] = rows.get(table, 0) + n
    gone: Sequence[date] = [day for _, day in going]
    return Outdated(
        app=app,
        rows_before=term.rows_before(now),
        rollups_before=term.rollups_before(now),
        first=min(gone),
        last=max(gone),
        rows=rows,
    )


def _take_out(connection: duckdb.DuckDBPyConnection, found: Outdated) -> int:
    """Delete the rows; how many they were. A file of which all rows go, goes whole, also a small one.

    Otherwise DuckLake would keep it, and list its deleted rows in the catalogue; nobody else writes in this process meanwhile.
    """
    connection.execute("SET ducklake_default_data_inlining_row_limit = 0")
    try:
        retain(connection, found.app, since=found.rows_before, sums_since=found.rollups_before)
        return sum(_delete(connection, table, found) for table in found.rows)
    finally:
        with contextlib.suppress(duckdb.Error):
            connection.execute("RESET ducklake_default_data_inlining_row_limit")


def _delete(connection: duckdb.DuckDBPyConnection, table: str, found: Outdated) -> int:
    before = found.rollups_before if table in SUMS else found.rows_before
    row = connection.execute(f"DELETE FROM lake.{table} WHERE app = {literal(found.app)} AND day < DATE '{before}'").fetchone()
    return 0 if row is None else int(row[0])
