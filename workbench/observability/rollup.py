"""The roll-up: the sums of each hour and day, so that a question over months reads thousands of rows, not millions.

A flush notes which hours its rows are in, in its own transaction (`unsummed_hours`); summing such an hour reads its requests, each in its
latest revision, and puts their sums in the place of those that are there. So the roll-up is right whatever came in, late, twice or
corrected: an hour is noted, and read from the requests, or its sums are those of its requests.

A latency falls into bucket `b = ceil(32 * log2(ms))`, which holds `(2^((b-1)/32), 2^(b/32)]`. Read back as
`2^((b-0.5)/32)`, any value in it is at most `2^(1/64) - 1` = 1.1 % off, and so is a percentile's order statistic.
Histograms add bucket by bucket.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

from workbench.observability.tables import (
    HOW_IT_ENDED,
    IMPLAUSIBLE,
    REQUESTS_DAILY,
    REQUESTS_HOURLY,
    ROLLUP_KEY,
    SUMMED,
    UNSUMMED_HOURS,
    WHO_ANSWERED,
    LogTable,
)

BUCKETS_PER_DOUBLING = 32
ERROR_BOUND = 2.0 ** (0.5 / BUCKETS_PER_DOUBLING) - 1
"""Largest relative distance of a percentile from its order statistic: 1.1 %."""
SMALLEST_MS = 2.0**-10
"""Shorter times, zero among them, count as this: about a microsecond."""
HISTOGRAMS: Mapping[str, str] = {"latency_ms": "latency_histogram", "ttft_ms": "ttft_histogram"}
"""Column of a request to that of its histogram."""
TOTALS: Mapping[str, str] = {"latency_histogram": "latency_all", "ttft_histogram": "ttft_all"}
"""Column of a histogram to the one that holds it for all requests of a day, however they ended."""

_VIOLATED = "coalesce(len(violation_rules) > 0, false)"
_REACHED = "NOT (coalesce(status = 'blocked', false) OR coalesce(status = 'handed_off' AND len(blocked_rules) > 0, false))"
"""That something of the answer reached somebody; a redacted answer did."""
_BLOCKED = "(coalesce(status = 'blocked', false) OR coalesce(len(blocked_rules) > 0, false))"
_BOTH_KNOWN = "n_tool_calls IS NOT NULL AND n_tool_errors IS NOT NULL"


def utc_sql(column: str) -> str:
    """SQL of a time as one without a zone, in UTC: hours and days of it cost a tenth, because no calendar of zones is asked."""
    return f"make_timestamp(epoch_us({column}))"


def hour_sql(column: str) -> str:
    """SQL of the hour that a time is in, without a zone, in UTC."""
    return f"date_trunc('hour', {utc_sql(column)})"


def hour_start(at: datetime) -> datetime:
    """The start of the hour that a time is in, UTC."""
    return at.astimezone(UTC).replace(minute=0, second=0, microsecond=0)


def naive_sql(at: datetime) -> str:
    """A time as SQL without a zone, in UTC."""
    return f"TIMESTAMP '{at.astimezone(UTC).replace(tzinfo=None).isoformat(sep=' ')}'"


def bucket_sql(column: str) -> str:
    """SQL of the bucket number of a time in milliseconds; null stays null."""
    return f"CAST(ceil({BUCKETS_PER_DOUBLING} * log2(greatest({column}, {SMALLEST_MS!r}))) AS INTEGER)"


def bucket_ms(bucket: int) -> float:
    """The time in ms that a bucket stands for: its middle on the logarithmic scale."""
    return float(2.0 ** ((bucket - 0.5) / BUCKETS_PER_DOUBLING))


def note_sql(source: str, *, batch_id: str) -> str:
    """The INSERT that notes the hours of the rows in `source`, a relation with the columns of `requests`."""
    names = ", ".join(column.name for column in UNSUMMED_HOURS.columns)
    hour = hour_sql("ts_start")
    kept = f"{source} AS noted WHERE {is_retained_sql('noted.app', 'noted.day')}"
    return f"INSERT INTO lake.unsummed_hours ({names}) SELECT app, {hour}, count(*), {batch_id} FROM {kept} GROUP BY app, {hour}"


def is_retained_sql(app: str, day: str) -> str:
    """The condition that the requests of an app and day are kept, so that their sums can be made."""
    return f"NOT EXISTS (SELECT 1 FROM lake.retained AS kept WHERE kept.app = {app} AND kept.since > {day})"


def note_all_sql() -> str:
    """The INSERT that notes every hour that has requests."""
    return note_sql("lake.requests", batch_id="max(batch_id)")


def hourly_sql(source: str) -> str:
    """The SELECT of the hourly rows of `source`: requests, each in its latest revision, in the order of the table's columns."""
    values = {
        **{name: name for name in ROLLUP_KEY},
        "hour": hour_sql("ts_start"),
        "day": f"CAST({utc_sql('ts_start')} AS DATE)",
        "n": "count(*)",
        "n_violation": f"count_if({_VIOLATED})",
        "n_violation_known": f"count_if(violation_rules IS NOT NULL AND ({_VIOLATED} OR {_REACHED}))",
        "n_blocked": f"count_if({_BLOCKED})",
        "n_blocked_known": f"count_if(blocked_rules IS NOT NULL OR {_BLOCKED})",
        "n_handoff": "count_if(handoff_id IS NOT NULL OR coalesce(status = 'handed_off', false))",
        "n_priced": "count(cost_usd)",
        "n_bad_tools": f"count_if({_BOTH_KNOWN} AND (n_tool_errors > n_tool_calls OR n_tool_errors < 0))",
        "n_bad_latency": f"count_if(NOT {_plausible('latency_ms')})",
        "n_bad_ttft": f"count_if(NOT {_plausible('ttft_ms')})",
        "tool_calls_known": f"sum(n_tool_calls) FILTER (WHERE {_BOTH_KNOWN})",
        "tool_errors_known": f"sum(n_tool_errors) FILTER (WHERE {_BOTH_KNOWN})",
        **{f"{name}_sum": f"sum({name})" for name in SUMMED},
        **{f"{name}_n": f"count({name})" for name in SUMMED},
        "cost_usd_sum": "sum(CAST(cost_usd AS DECIMAL(18,9)))",
        **{histogram: _histogram_sql(column) for column, histogram in HISTOGRAMS.items()},
    }
    return _grouped(REQUESTS_HOURLY, values, source, by=("hour", "day", *ROLLUP_KEY))


def _grouped(table: LogTable, values: Mapping[str, str], source: str, *, by: tuple[str, ...]) -> str:
    names = [column.name for column in table.columns]
    places = ", ".join(str(names.index(name) + 1) for name in by)
    return f"SELECT {', '.join(f'{values[name]} AS {name}' for name in names)} FROM {source} GROUP BY {places}"


def _plausible(column: str) -> str:
    """Null stays null."""
    return f"(NOT isnan({column}) AND abs({column}) <= {IMPLAUSIBLE!r})"


def _histogram_sql(column: str) -> str:
    return f"CAST(histogram({bucket_sql(column)}) FILTER (WHERE {_plausible(column)}) AS MAP(INTEGER, BIGINT))"


def daily_sql(source: str) -> str:
    """The SELECT of the daily rows of `source`, a relation of hourly rows, in the order of the table's columns."""
    names = [column.name for column in REQUESTS_DAILY.columns]
    key = ("day", *ROLLUP_KEY)
    histograms = {name: (source, name) for name in HISTOGRAMS.values()} | {
        total: (f"({_at_the_first(source, name)})", name) for name, total in TOTALS.items()
    }
    sums = [name for name in names if name not in {*key, *histograms}]
    nothing = ", ".join(f"NULL AS {name}" for name in sums)
    entries = (
        f"SELECT {', '.join(key)}, {nothing}, '{name}' AS histogram, bucket, sum(observations) AS observations "
        f"FROM ({entries_sql(relation, column, key)}) AS {name}_entries GROUP BY {', '.join(key)}, bucket"
        for name, (relation, column) in histograms.items()
    )
    rows = f"SELECT {', '.join((*key, *sums))}, NULL AS histogram, NULL AS bucket, NULL AS observations FROM {source} AS hours"
    values = {
        **{name: name for name in key},
        **{name: f"sum({name})" for name in sums},
        **{
            name: f"map_from_entries(list((bucket, CAST(observations AS BIGINT)) ORDER BY bucket) FILTER (WHERE histogram = '{name}'))"
            for name in histograms
        },
    }
    return _grouped(REQUESTS_DAILY, values, f"({' UNION ALL '.join((rows, *entries))}) AS parts", by=key)


def _at_the_first(source: str, histogram: str) -> str:
    """The SELECT of a histogram of `source` with the key of the first of the rows that differ only in how their requests ended."""
    alike = ", ".join(("day", *WHO_ANSWERED))
    first = ", ".join(f"first_value({name}) OVER first_of_them AS {name}" for name in HOW_IT_ENDED)
    return (
        f"SELECT {alike}, {first}, {histogram} FROM {source} AS hours "
        f"WINDOW first_of_them AS (PARTITION BY {alike} ORDER BY {', '.join(HOW_IT_ENDED)})"
    )


def entries_sql(source: str, histogram: str, columns: Sequence[str]) -> str:
    """The SELECT of one row per bucket of each histogram in `source`: these columns, `bucket` and `observations`."""
    entries = f"unnest(map_keys({histogram})) AS bucket, unnest(map_values({histogram})) AS observations"
    return f"SELECT {', '.join((*columns, entries))} FROM {source} AS histograms WHERE {histogram} IS NOT NULL"
