"""Live answers of an app that nobody has scored, as the log holds them: redacted bodies and what the assistant did.

Read by whole batches behind a mark, like everything that has to be done once: a final record that comes late stands in a later batch. An
answer's place is the batch of its first final record behind the mark, so that whoever reads the same stretch numbers it alike.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

import duckdb
import pyarrow as pa

from workbench.observability.flusher import literal, read_marks, timestamp
from workbench.observability.tables import at_snapshot, latest_requests_sql

SERVED = ("stable", "candidate")
"""Arms whose answers reached somebody."""
ANSWERED = ("ok", "truncated", "blocked", "handed_off")
"""Statuses of requests that have an answer to look at, were it a refusal."""
BROKEN = ("error", "timeout")
"""Statuses of requests without an answer of the assistant's own."""
_ABOUT = ("request_id", "workflow", "bundle", "arm", "release_id", "status", "model_served", "input", "output")
_STEP = ("request_id", "kind", "name", "status", "tool_name", "tool_arguments", "tool_result", "retrieval_query")


class Fresh(NamedTuple):
    """The answers of a stretch of batches."""

    after: int
    """The mark: all up to this batch was looked at before."""
    to: int
    """The last batch of the stretch; as great as `after` where nothing is new."""
    batch_of: Mapping[str, int]
    """Request to the batch of its first final record in the stretch."""
    n_behind: int
    """Final records of the app behind the stretch."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """One answer in its newest revision, and what was done for it."""

    request: Mapping[str, Any]
    """`request_id workflow bundle arm release_id status model_served is_fallback`, and `input` and `output` as JSON text."""
    steps: Sequence[Mapping[str, Any]]
    """Of kind `tool` and `retrieval`, as they began: `kind name status tool_name tool_arguments tool_result retrieval_query`."""


def fresh_answers(connection: duckdb.DuckDBPyConnection, app: str, *, source_id: str, since: datetime, most: int) -> Fresh:
    """The answers behind the mark, in as many whole batches as hold no more than `most` final records, and one batch at least.

    Args:
        connection: in a read transaction.
        app: whose answers.
        source_id: whose mark; before it is set, the newest batch from before `since` stands for it.
        since: when the app asked for scores.
        most: final records.
    """
    after = read_marks(connection, source_id).to_seq
    if not after:
        before = f"SELECT coalesce(max(batch_id), 0) FROM lake.flushed WHERE flushed_at < {timestamp(since)}"
        after = int(connection.execute(before).fetchall()[0][0])
    served = ", ".join(map(literal, SERVED))
    final = f"FROM lake.requests WHERE app = {literal(app)} AND batch_id > {after} AND is_final AND arm IN ({served})"
    sizes = connection.execute(f"SELECT batch_id, count(*) {final} GROUP BY batch_id ORDER BY batch_id").fetchall()
    to, n_taken = after, 0
    for batch_id, n in sizes:
        if n_taken and n_taken + n > most:
            break
        to, n_taken = int(batch_id), n_taken + int(n)
    found = connection.execute(f"SELECT request_id, min(batch_id) {final} AND batch_id <= {to} GROUP BY request_id").fetchall()
    return Fresh(after, to, dict(found), sum(int(n) for _, n in sizes) - n_taken)


def read_answers(connection: duckdb.DuckDBPyConnection, app: str, request_ids: Sequence[str]) -> Iterator[Answered]:
    """Those of the requests that came to an end of their own, by id; those whose caller left are not among them.

    Args:
        connection: in the read transaction that named them.
        app: whose they are.
        request_ids: which.
    """
    wanted = pa.table({"request_id": pa.array(sorted(request_ids), pa.string())})
    is_its = f"app = {literal(app)} AND request_id BETWEEN {literal(min(request_ids))} AND {literal(max(request_ids))}"
    answered, broken = (f"status IN ({', '.join(map(literal, some))})" for some in (ANSWERED, BROKEN))
    ended = f"is_final AND ({broken} OR (output IS NOT NULL AND {answered}))"
    connection.register("wanted_answers", wanted)
    try:
        requests = _rows(
            connection,
            f"SELECT {', '.join(_ABOUT)}, coalesce(is_fallback, false) AS is_fallback FROM ({latest_requests_sql()}) AS latest "
            f"SEMI JOIN wanted_answers USING (request_id) WHERE {is_its} AND {ended} ORDER BY request_id",
        )
        steps = _rows(
            connection,
            f"SELECT {', '.join(_STEP)} FROM {at_snapshot('spans', None)} AS spans SEMI JOIN wanted_answers USING (request_id) "
            f"WHERE {is_its} AND kind IN ('tool', 'retrieval') AND alias_version IS NULL ORDER BY request_id, ts_start, seq",
        )
    finally:
        connection.unregister("wanted_answers")
    of_request: dict[str, list[dict[str, Any]]] = {}
    for step in steps:
        of_request.setdefault(step.pop("request_id"), []).append(step)
    for request in requests:
        yield Answered(request=request, steps=of_request.get(request["request_id"], ()))


def stored_scores(connection: duckdb.DuckDBPyConnection, app: str, score_ids: Sequence[str]) -> frozenset[str]:
    """Those of the scores that the log holds."""
    connection.register("wanted_scores", pa.table({"score_id": pa.array(sorted(score_ids), pa.string())}))
    try:
        found = connection.execute(
            f"SELECT DISTINCT score_id FROM lake.scores SEMI JOIN wanted_scores USING (score_id) WHERE app = {literal(app)}"
        ).fetchall()
    finally:
        connection.unregister("wanted_scores")
    return frozenset(score_id for (score_id,) in found)


def _rows(connection: duckdb.DuckDBPyConnection, sql: str) -> list[dict[str, Any]]:
    cursor = connection.execute(sql)
    names = [column[0] for column in cursor.description or ()]
    return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]
