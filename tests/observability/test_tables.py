from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter

from tests.observability.lakes import NOON, request
from workbench.errors import StoreError, UsageError
from workbench.observability.rows import arrow_of, conformed, decoded, encoded
from workbench.observability.tables import REQUESTS, TIMESTAMP, WRITABLE, arrow_table
from workbench.spec.base import Name


def test_every_table_ends_with_what_the_storage_fills():
    for table in WRITABLE.values():
        assert {"spool_id", "seq", "batch_id", "day"} <= set(table.by_name)
        assert {column.name for column in table.given}.isdisjoint({"spool_id", "seq", "batch_id", "day", "ingested_at"})


def test_a_table_that_is_written_is_partitioned_by_the_app_that_it_has_and_the_day():
    for table in WRITABLE.values():
        if "day" in table.by_name:
            assert table.partition_by == (("app", "day") if "app" in table.by_name else ("day",))


def test_a_missing_key_is_null_and_zero_stays_zero():
    arrow = arrow_table("requests", [request(input_tokens=0), request()])
    assert arrow.column("input_tokens").to_pylist() == [0, None]


def test_an_unknown_key_is_refused_by_name():
    with pytest.raises(UsageError, match="latency_seconds"):
        arrow_table("requests", [request(latency_seconds=1)])
    with pytest.raises(UsageError, match="latency_seconds"):
        encoded("requests", request(latency_seconds=1))


def test_an_unknown_table_is_refused_with_the_ones_there_are():
    with pytest.raises(UsageError, match="requests, spans, scores, outcomes"):
        arrow_table("flushed", [])


def test_a_time_keeps_its_instant_whatever_its_zone():
    at = datetime(2026, 3, 1, 13, 30, 0, 123456, tzinfo=timezone(timedelta(hours=1, minutes=30)))
    arrow = arrow_table("requests", [request(ts_start=at)])
    assert arrow.column("ts_start").type == TIMESTAMP
    assert arrow.column("ts_start").to_pylist() == [datetime(2026, 3, 1, 12, 0, 0, 123456, tzinfo=UTC)]


@pytest.mark.parametrize("door", [encoded, lambda table, row: arrow_table(table, [row])], ids=["row", "arrow"])
def test_a_time_without_zone_is_refused(door):
    with pytest.raises(UsageError, match="zone"):
        door("requests", request(ts_start=datetime(2026, 3, 1)))


BAD = {
    "app": ["", "a\0b", "Shop", "../etc", "x" * 64, "é"],
    "latency_ms": [-1, float("nan"), float("inf"), "12", True, 2**53 + 1, 10**400, Decimal("NaN"), Decimal("sNaN"), Decimal("1e400")],
    "status": ["OK", 1],
    "arm": ["blue"],
    "input_tokens": [-1, 1.5, 10**12 + 1, True],
    "cost_usd": [-0.01, 1e9, "1"],
    "violation_rules": ["pii", [1], ["a\0b"]],
    "is_fallback": [1, "yes"],
    "workflow": [7, "\ud800"],
    "batch_id": [1],
    "day": [NOON.date()],
}


@pytest.mark.parametrize(("column", "value"), [(column, value) for column, values in BAD.items() for value in values])
def test_a_value_that_its_column_cannot_hold_is_refused_at_the_door(column, value):
    with pytest.raises(UsageError):
        encoded("requests", request(**{column: value}))


@pytest.mark.parametrize("column", ["request_id", "app", "ts_start"])
def test_a_row_without_a_required_value_is_refused(column):
    with pytest.raises(UsageError, match=column):
        encoded("requests", request(**{column: None}))


@pytest.mark.parametrize(
    ("column", "values"),
    [
        ("latency_ms", [1.0, -1.0]),
        ("latency_ms", [float("nan"), None]),
        ("cost_usd", [1e9, 0.0]),
        ("status", ["ok", "fine"]),
        ("app", ["shop", None]),
        ("app", ["shop", "Shop"]),
        ("ts_start", pa.array([NOON.replace(tzinfo=None)] * 2, pa.timestamp("us"))),
        ("input_tokens", ["a", "b"]),
        ("violation_rules", [["a\0"], None]),
        ("colour", ["red", "red"]),
    ],
)
def test_the_bulk_door_refuses_what_the_row_door_refuses(column, values):
    good = arrow_table("requests", [request(), request()])
    kept = good.drop_columns([column]) if column in good.column_names else good
    with pytest.raises(UsageError):
        conformed("requests", kept.append_column(column, values if isinstance(values, pa.Array) else pa.array(values)))


def test_the_bulk_door_takes_what_polars_and_parquet_hold():
    arrow = pa.table(
        {
            "request_id": pa.array(["a"], pa.large_string()),
            "app": pa.array(["shop"]).dictionary_encode(),
            "ts_start": pa.array([NOON], pa.timestamp("ns", "Europe/Berlin")),
            "input_tokens": pa.array([3], pa.int32()),
            "violation_rules": pa.array([["x"]], pa.large_list(pa.large_string())),
            "workflow": pa.array([None], pa.null()),
        }
    )
    assert conformed("requests", arrow).schema.field("violation_rules").type == pa.list_(pa.string())


def test_an_app_in_the_log_is_called_as_an_app_may_be_declared():
    declared = TypeAdapter(Name).json_schema()["pattern"]
    for table in WRITABLE.values():
        assert f"^{table.by_name['app'].pattern}$" == declared


texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
rows = st.fixed_dictionaries(
    {
        "request_id": texts.filter(bool),
        "app": st.from_regex(REQUESTS.by_name["app"].pattern, fullmatch=True),
        "ts_start": st.datetimes(
            datetime(1970, 1, 1), datetime(2100, 1, 1), timezones=st.sampled_from([UTC, timezone(timedelta(hours=-7))])
        ),
    },
    optional={
        "latency_ms": st.floats(0, 1e12),
        "input_tokens": st.integers(0, 10**12),
        "output": texts,
        "is_fallback": st.booleans(),
        "violation_rules": st.lists(texts.filter(lambda text: "\0" not in text), max_size=3),
        "status": st.sampled_from(REQUESTS.by_name["status"].allowed),
    },
)


@given(rows)
def test_a_row_comes_out_of_a_spool_as_it_went_in(row):
    arrow = arrow_of("requests", [(7, encoded("requests", row))], "test")
    assert {name: arrow.column(name).to_pylist()[0] for name in ("seq", *row)} == {"seq": 7, **row}
    assert set(arrow.column_names) == {column.name for column in REQUESTS.given} | {"seq"}


VALUES = {
    "VARCHAR": texts,
    "BIGINT": st.integers(),
    "INTEGER": st.integers(-(2**33), 2**33),
    "DOUBLE": st.one_of(st.floats(), st.integers(), st.decimals()),
    "DECIMAL(18,9)": st.one_of(st.floats(), st.integers(), st.decimals()),
    "BOOLEAN": st.booleans(),
    "TIMESTAMP WITH TIME ZONE": st.datetimes(
        timezones=st.sampled_from([UTC, timezone(timedelta(hours=14)), timezone(timedelta(hours=-12))])
    ),
    "VARCHAR[]": st.lists(texts, max_size=3),
    "STRUCT(doc_id VARCHAR, score DOUBLE, rank INTEGER)[]": st.lists(
        st.fixed_dictionaries({}, optional={"doc_id": texts, "score": st.one_of(st.floats(), st.integers()), "rank": st.integers()}),
        max_size=3,
    ),
}
GOOD = {
    "requests": {"request_id": "r", "app": "shop", "ts_start": NOON, "n_tool_calls": 10**12},
    "spans": {"span_id": "s", "app": "shop", "ts_start": NOON},
    "scores": {"score_id": "s", "request_id": "r", "app": "shop", "name": "n", "ts": NOON},
    "outcomes": {"outcome_id": "o", "app": "shop", "kpi": "k", "ts": NOON},
    "judgments": {"app": "shop", "topic": "t", "doc_id": "d", "grade": 1, "ts": NOON},
}


@pytest.mark.parametrize(("table", "column"), [(table.name, column) for table in WRITABLE.values() for column in table.given])
@settings(max_examples=25)
@given(st.data())
def test_what_the_door_takes_the_flusher_can_store(table, column, data):
    """One row that cannot be made Arrow would keep all that comes after it in the spool."""
    row = GOOD[table] | {column.name: data.draw(VALUES[column.duckdb_type])}
    try:
        payload = encoded(table, row)
    except UsageError:
        return
    stored = arrow_of(table, [(1, payload), (2, payload)], "test")
    expected = arrow_table(table, [{**decoded(payload, "test"), "seq": seq} for seq in (1, 2)])
    assert stored.select(expected.column_names) == expected


@pytest.mark.parametrize("payload", [b"", b"{", b"[1]", b"\xff\x00", b'{"request_id":"a"}\n{"request_id":"b"}'])
def test_bytes_that_are_no_row_are_a_store_error_that_names_them(payload):
    good = encoded("requests", request())
    with pytest.raises(StoreError, match="spool x, row 2"):
        arrow_of("requests", [(1, good), (2, payload), (3, good)], "spool x")


@pytest.mark.parametrize("n_tool_calls", [None, 0, 2])
def test_more_tool_errors_than_calls_are_refused_at_both_doors(n_tool_calls):
    row = {"request_id": "a", "app": "shop", "ts_start": NOON, "status": "ok", "n_tool_calls": n_tool_calls, "n_tool_errors": 3}
    with pytest.raises(UsageError, match="n_tool_errors"):
        encoded("requests", row)
    with pytest.raises(UsageError, match="n_tool_errors"):
        conformed("requests", arrow_table("requests", [row]))
