"""The hourly roll-up: partial sums of one flush, so that a query over months reads thousands of rows, not millions.

A latency falls into bucket `b = ceil(32 * log2(ms))`, which holds `(2^((b-1)/32), 2^(b/32)]`. Read back as
`2^((b-0.5)/32)`, any value in it is at most `2^(1/64) - 1` = 1.1 % off, and so is a percentile's order statistic.
Histograms of two flushes add bucket by bucket.
"""

from __future__ import annotations

from workbench.observability.tables import REQUESTS_HOURLY, ROLLUP_KEY, SUMMED

BUCKETS_PER_DOUBLING = 32
SMALLEST_MS = 2.0**-10
"""Shorter times, zero among them, count as this: about a microsecond."""

_VIOLATED = "coalesce(len(violation_rules) > 0, false)"
_BLOCKED = "(coalesce(status = 'blocked', false) OR coalesce(len(blocked_rules) > 0, false))"


def utc_sql(column: str) -> str:
    """SQL of a time as one without a zone, in UTC: hours and days of it cost a tenth, because no calendar of zones is asked."""
    return f"make_timestamp(epoch_us({column}))"


def bucket_sql(column: str) -> str:
    """SQL of the bucket number of a time in milliseconds; null stays null."""
    return f"CAST(ceil({BUCKETS_PER_DOUBLING} * log2(greatest({column}, {SMALLEST_MS!r}))) AS INTEGER)"


def bucket_ms(bucket: int) -> float:
    """The time in ms that a bucket stands for: its middle on the logarithmic scale."""
    return float(2.0 ** ((bucket - 0.5) / BUCKETS_PER_DOUBLING))


def rollup_sql(source: str, *, spool_id: str, batch_id: str) -> str:
    """The INSERT that adds the roll-up of the final requests in `source`, whose columns are those of `requests`.

    Args:
        source: name of a relation with `revision`, `is_final` and `day` filled.
        spool_id: SQL of the spool that brought the rows: a literal, or a column of `source`.
        batch_id: SQL of their batch, likewise.
    """
    values = {
        "hour": f"date_trunc('hour', {utc_sql('ts_start')})",
        **{name: name for name in ROLLUP_KEY if name != "hour"},
        "n": "count(*)",
        "n_fallback": "count_if(coalesce(is_fallback, false))",
        "n_fallback_known": "count(is_fallback)",
        "n_violation": f"count_if({_VIOLATED})",
        "n_violation_known": f"count_if(violation_rules IS NOT NULL AND ({_VIOLATED} OR NOT {_BLOCKED}))",
        "n_blocked": f"count_if({_BLOCKED})",
        "n_blocked_known": f"count_if(blocked_rules IS NOT NULL OR {_BLOCKED})",
        "n_handoff": "count_if(handoff_id IS NOT NULL OR coalesce(status = 'handed_off', false))",
        "n_priced": "count(cost_usd)",
        "n_revised": "count_if(revision > 0)",
        **{f"{name}_sum": f"sum({name})" for name in SUMMED},
        **{f"{name}_n": f"count({name})" for name in SUMMED},
        "cost_usd_sum": "sum(CAST(cost_usd AS DECIMAL(18,9)))",
        "latency_histogram": _histogram_sql("latency_ms"),
        "ttft_histogram": _histogram_sql("ttft_ms"),
        "spool_id": spool_id,
        "batch_id": batch_id,
    }
    names = [column.name for column in REQUESTS_HOURLY.columns]
    group = ", ".join(str(i + 1) for i, name in enumerate(names) if name in (*ROLLUP_KEY, "spool_id", "batch_id"))
    return (
        f"INSERT INTO lake.requests_hourly ({', '.join(names)}) "
        f"SELECT {', '.join(values[name] for name in names)} FROM {source} WHERE is_final GROUP BY {group}"
    )


def _histogram_sql(column: str) -> str:
    return f"CAST(histogram({bucket_sql(column)}) FILTER (WHERE {column} IS NOT NULL) AS MAP(INTEGER, BIGINT))"
