"""Requests put together from the log, once their trace has been quiet: each as a new, final revision.

The log itself says what there is to do: spans of traces behind the batch up to which all is settled. So it does not matter which
process received which span, in what order, or who died in between; a span that comes after all makes another revision. Two that settle at
once do no harm: a revision is stored only if no other row of its request came in since the log was read.
"""

from __future__ import annotations

import logging
import secrets
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, NamedTuple, Protocol, Self

import duckdb
import pyarrow as pa

from workbench.errors import ConflictError, UsageError
from workbench.observability.flusher import literal, newest_batch, read_marks
from workbench.observability.lake import Lake
from workbench.observability.otlp.assembly import SOURCE, Assembled, Row, assemble, moment, score_row
from workbench.observability.otlp.facts import facts_of
from workbench.observability.otlp.rows import in_hour_of, request_row
from workbench.observability.otlp.sealing import COLUMNS, row_of, span_of
from workbench.observability.rows import encoded
from workbench.observability.tables import REQUESTS, arrow_table

_LOG = logging.getLogger(__name__)
MARK = "otlp:settled"
"""The source whose mark is the newest batch before which all traces are settled."""
_TRACES_AT_ONCE = 200
_REACH = timedelta(days=2)
"""How far apart the spans of a trace may lie; what lies farther is not looked for."""
_WATCH_S = 30.0
"""How soon what a process left that is gone is found."""
_FOLLOWED_S = 10.0
_MARKED_EACH = 50
"""Batches from one mark to the next: a mark is a transaction too, and without one a new process looks again, and finds nothing to do."""
_TIMES = ("ts_start", "ts_end", "first_start")
_OWN = ("revision", "is_final", "redaction_version")
_COLUMNS = tuple(column.name for column in REQUESTS.given)
Key = tuple[str, str]


class Appending(Protocol):
    """The writing side of the log; `logs.Logs` is one."""

    def append(self, batch: Mapping[str, pa.Table], *, source_id: str, from_seq: int, to_seq: int, as_of: int | None = None) -> bool: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Settled:
    """What a pass did."""

    final: int
    """Requests that have a new final revision."""
    waiting: frozenset[Key]
    """Traces, by app and id, that have not been quiet for long enough, or that others wrote to meanwhile."""


class _Fresh(NamedTuple):
    """A trace with spans that nobody settled."""

    key: Key
    first: int
    """The first batch that brought one."""
    last: int
    stored_at: datetime
    """When the last batch was stored."""
    since: datetime
    until: datetime
    is_live: bool
    """Whether some of it came in at a gateway; what files bring is there at once."""


class _Found(NamedTuple):
    """What the log holds of some traces."""

    spans: dict[Key, list[Row]]
    requests: dict[Key, Row]
    """The newest revision of each request by app and id."""
    scores: frozenset[tuple[str, str, str]]
    as_of: int


class Settler:
    """Settles traces.

    Args:
        lake: where they are read.
        logs: where revisions go.
        quiet_s: how long nothing of a trace may have come in.
    """

    def __init__(self, lake: Lake, logs: Appending, *, quiet_s: float) -> None:
        self._lake = lake
        self._logs = logs
        self._quiet = timedelta(seconds=quiet_s)
        self._done: dict[Key, int] = {}
        """Traces that were settled up to this batch, behind the mark."""

    def settle(self, now: datetime) -> Settled:
        """Settle what has been quiet until now.

        Raises:
            StoreError: the lake cannot be read or written.
        """
        mark, as_of, fresh = self._lake.read(_fresh)
        due = [
            trace
            for trace in fresh
            if self._done.get(trace.key) != trace.last and (not trace.is_live or now - trace.stored_at >= self._quiet)
        ]
        n = 0
        for start in range(0, len(due), _TRACES_AT_ONCE):
            some = due[start : start + _TRACES_AT_ONCE]
            try:
                n += self._settle(some)
            except ConflictError:
                continue  # something of them came in meanwhile
            self._done.update({trace.key: trace.last for trace in some})
        left = [trace for trace in fresh if self._done.get(trace.key) != trace.last]
        to = min((trace.first - 1 for trace in left), default=as_of)
        if fresh and to >= mark + _MARKED_EACH:
            self._logs.append({}, source_id=MARK, from_seq=mark + 1, to_seq=to)
            self._done = {key: last for key, last in self._done.items() if last > to}
        return Settled(final=n, waiting=frozenset(trace.key for trace in left))

    def _settle(self, traces: Sequence[_Fresh]) -> int:
        found = self._lake.read(lambda connection: _find(connection, traces))
        requests: list[Row] = []
        spans: list[Row] = []
        scores: list[Row] = []
        for key, rows in found.spans.items():
            for request in assemble((facts_of(span_of(row)) for row in rows), app=key[0]):
                stored = found.requests.get((key[0], request.request_id))
                is_ours = stored is not None and stored["source"] == SOURCE
                if (stored is not None and not is_ours) or (request.audited is not None and not is_ours):
                    spans += _moved(request, rows, request.audited)
                    continue  # it is on record, in other words than the client's
                row = _revision(request, stored)
                if row is not None and _is_fit(row):
                    requests.append(row)
                spans += _moved(request, rows, request.request_id)
                scores += [one for one in _scores(request) if (one["app"], one["request_id"], one["score_id"]) not in found.scores]
        batch = {name: arrow_table(name, some) for name, some in (("requests", requests), ("spans", spans), ("scores", scores)) if some}
        if batch:
            most = max(table.num_rows for table in batch.values())
            self._logs.append(batch, source_id=f"otlp:{secrets.token_hex(8)}", from_seq=1, to_seq=most, as_of=found.as_of)
        return len(requests)


def _revision(request: Assembled, stored: Row | None) -> Row | None:
    """The request as its next revision; None where the stored one is final and says the same."""
    row = request_row(request, revision=1 if stored is None else max(1, stored["revision"] + 1), is_final=True)
    if stored is None:
        return row
    row["ts_start"] = in_hour_of(stored["first_start"], row["ts_start"])
    row["unit_hash"] = row["unit_hash"] or stored["unit_hash"]
    row["bundle"] = row.get("bundle") or stored["bundle"]
    for name in ("input", "output"):
        if row[name] == stored[name]:
            row[f"{name}_hmac"] = stored[f"{name}_hmac"] or row[f"{name}_hmac"]
    is_same = all(row.get(name) == stored[name] for name in _COLUMNS if name not in _OWN)
    return None if stored["is_final"] and is_same else row


def _moved(request: Assembled, rows: Iterable[Row], request_id: str | None) -> list[Row]:
    """The spans of a request whose rows name another one, as rows that name it."""
    named = {row["span_id"]: row["request_id"] for row in rows}
    wrong = [facts for facts in request.spans if request_id is not None and named.get(facts.span_id) != request_id]
    return [row_of(facts, app=request.row["app"], request_id=request_id) for facts in wrong]


def _scores(request: Assembled) -> list[Row]:
    return [score_row(score, facts, request) for facts in request.spans for score in facts.scores]


def _is_fit(row: Row) -> bool:
    """Whether the log takes it; what it does not take would keep all others out."""
    try:
        encoded("requests", row)
    except UsageError as fault:
        _LOG.error("a request could not be settled: %s", fault)  # the message names the column
        return False
    return True


def _fresh(connection: duckdb.DuckDBPyConnection) -> tuple[int, int, list[_Fresh]]:
    """(mark, newest batch, traces with spans behind the mark).

    A file brings its requests with their spans, in one batch; only what it adds to requests that were there is to be settled.
    """
    mark, as_of = read_marks(connection, MARK)
    found = connection.execute(
        f"""WITH batches AS (SELECT batch_id, flushed_at, starts_with(spool_id, 'import:') AS is_file FROM lake.flushed
                WHERE batch_id > {mark} AND NOT starts_with(spool_id, 'otlp:')),
            told AS (SELECT app, trace_id, batch_id, ts_start FROM lake.spans WHERE batch_id > {mark} AND alias_version IS NOT NULL),
            whole AS (SELECT DISTINCT app, left(request_id, 32) AS trace_id, batch_id FROM lake.requests
                SEMI JOIN (FROM batches WHERE is_file) USING (batch_id) WHERE batch_id > {mark})
        SELECT app, trace_id, min(batch_id), max(batch_id), epoch_us(max(flushed_at)), epoch_us(min(ts_start)), epoch_us(max(ts_start)),
            bool_or(NOT is_file)
        FROM told JOIN batches USING (batch_id) ANTI JOIN whole USING (app, trace_id, batch_id)
        GROUP BY app, trace_id ORDER BY max(batch_id), app, trace_id"""
    ).fetchall()
    traces = [
        _Fresh((app, trace_id), first, last, moment(stored), moment(since), moment(until), is_live)
        for app, trace_id, first, last, stored, since, until, is_live in found
    ]
    return mark, as_of, traces


def _find(connection: duckdb.DuckDBPyConnection, traces: Sequence[_Fresh]) -> _Found:
    wanted = pa.table(
        {name: pa.array([trace.key[place] for trace in traces], pa.string()) for place, name in enumerate(("app", "trace_id"))}
    )
    since, until = min(trace.since for trace in traces) - _REACH, max(trace.until for trace in traces) + _REACH
    days = f"day BETWEEN DATE {literal(since.date().isoformat())} AND DATE {literal(until.date().isoformat())}"
    connection.register("wanted_traces", wanted)
    try:
        spans = _rows(
            connection,
            f"SELECT {', '.join(COLUMNS)}, batch_id, seq FROM lake.spans SEMI JOIN wanted_traces USING (app, trace_id) "
            f"WHERE {days} AND alias_version IS NOT NULL ORDER BY batch_id, seq",
        )
        first = "first_value(ts_start) OVER (PARTITION BY app, request_id ORDER BY batch_id, seq)"
        times = (
            f"epoch_us(ts_start) AS ts_start, epoch_us(ts_end) AS ts_end, epoch_us({first}) AS first_start, "
            "CAST(cost_usd AS DOUBLE) AS cost_usd"
        )
        plain = ", ".join(name for name in _COLUMNS if name not in ("ts_start", "ts_end", "cost_usd"))
        requests = _rows(
            connection,
            f"SELECT {plain}, {times} FROM lake.requests "
            "SEMI JOIN wanted_traces ON requests.app = wanted_traces.app AND left(requests.request_id, 32) = wanted_traces.trace_id "
            f"WHERE {days} "
            "QUALIFY row_number() OVER (PARTITION BY app, request_id ORDER BY revision DESC, batch_id DESC, seq DESC) = 1",
        )
        scores = connection.execute(
            "SELECT app, request_id, score_id FROM lake.scores "
            "SEMI JOIN wanted_traces ON scores.app = wanted_traces.app AND left(scores.request_id, 32) = wanted_traces.trace_id "
            "WHERE starts_with(score_id, 'otlp-')"
        ).fetchall()
    finally:
        connection.unregister("wanted_traces")
    by_trace: dict[Key, list[Row]] = {}
    for row in spans:
        by_trace.setdefault((row["app"], row["trace_id"]), []).append(row)
    return _Found(by_trace, {(row["app"], row["request_id"]): _timed(row) for row in requests}, frozenset(scores), newest_batch(connection))


def _timed(row: Row) -> Row:
    return {**row, **{name: None if row[name] is None else moment(row[name]) for name in _TIMES}}


def _rows(connection: duckdb.DuckDBPyConnection, sql: str) -> list[dict[str, Any]]:
    cursor = connection.execute(sql)
    names = [column[0] for column in cursor.description or ()]
    return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]


class SettleLoop:
    """A thread that settles while spans come in, and now and then what others left. Used as a context manager.

    Args:
        settler: makes a pass.
        clock: the time of a pass.
        on_waiting: told which traces are not settled yet, after a pass in which there are some.
        interval_s: between two passes while something waits.
    """

    def __init__(
        self,
        settler: Settler,
        *,
        clock: Callable[[], datetime],
        on_waiting: Callable[[frozenset[Key]], object] = lambda _traces: None,
        interval_s: float = 1.0,
    ) -> None:
        self._settler = settler
        self._on_waiting = on_waiting
        self._clock = clock
        self._interval_s = interval_s
        self._ended = threading.Event()
        self._watch_s = 0.0
        """For so long passes go on although there was nothing to do: what came in may take a moment to the lake."""
        self._thread = threading.Thread(target=self._run, name="settling", daemon=True)

    def wake(self) -> None:
        """Something came in."""
        self._watch_s = _FOLLOWED_S

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _run(self) -> None:
        idle_s = _WATCH_S
        while not self._ended.wait(self._interval_s):
            idle_s += self._interval_s
            self._watch_s -= self._interval_s
            if self._watch_s <= 0 and idle_s < _WATCH_S:
                continue
            idle_s = 0.0
            try:
                waiting = bool(traces := self._settler.settle(self._clock()).waiting)
                if waiting:
                    self._on_waiting(traces)
            except Exception as fault:  # noqa: BLE001 - a job loop: nothing may end it unseen
                waiting = True
                _LOG.error("traces could not be settled: %s", str(fault) or type(fault).__name__)
            if waiting:
                self._watch_s = max(self._watch_s, 2 * self._interval_s)
