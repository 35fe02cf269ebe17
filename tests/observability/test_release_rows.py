"""The judge's rows out of a real lake: every batch once, in order, and the same whoever reads how often."""

from __future__ import annotations

from datetime import timedelta

import numpy as np
import pytest

from tests.observability.lakes import NOON, open_lake, open_logs
from workbench.errors import UsageError
from workbench.observability.lake import Lake
from workbench.observability.release_rows import ReleaseRows, read_release

METRICS = ("failure_rate", "violation_rate", "tool_error_rate", "latency_p95", "quality_mean")


def request(number: int, *, is_final: bool = True, **columns):
    """A request's record; the hash of its unit is its number as hex."""
    return {
        "request_id": f"r{number}",
        "revision": int(is_final),
        "is_final": is_final,
        "app": "shop",
        "ts_start": NOON + timedelta(seconds=number),
        "arm": "candidate" if number % 4 == 0 else "stable",
        "traffic_share": 0.25,
        "route_version": 3,
        "release_id": "shop.1",
        "unit_hash": f"{number:016x}{'0' * 48}",
        "status": "ok" if is_final else None,
        "latency_ms": 100.0 + number if is_final else None,
        **columns,
    }


def score(number: int, value: float = 0.9):
    return {
        "score_id": f"s{number}",
        "request_id": f"r{number}",
        "app": "shop",
        "name": "quality",
        "value": value,
        "scorer_id": "rules",
        "source": "rule",
        "ts": NOON,
    }


@pytest.fixture
def logged(tmp_path):
    """What stores one batch, and the lake."""
    lake = open_lake(tmp_path)
    logs = open_logs(tmp_path, lake=lake)

    def batch(*requests, scores=()):
        logs.record({"requests": requests, "scores": scores})
        logs.flush()

    yield batch, lake
    logs.close()


def read(lake: Lake, **more) -> ReleaseRows:
    return lake.read(lambda connection: read_release(connection, "shop", "shop.1", METRICS, **more))


def listed(rows: ReleaseRows) -> list[tuple]:
    """Each row with the values that it has."""
    columns = [rows.values[name] for name in METRICS]
    return [
        (
            *(int(one[at]) for one in (rows.batch_id, rows.place, rows.arm, rows.unit)),
            *(float(values[at]) if present[at] else None for values, present in columns),
        )
        for at in range(rows.n)
    ]


def test_rows_come_by_batch_with_what_they_say(logged):
    batch, lake = logged
    batch(request(4, is_final=False), request(5))
    batch(
        request(4, status="timeout"),
        request(6, violation_rules=["secret"], n_tool_calls=2, n_tool_errors=1),
        request(7, status="unknown", unit_hash=None),
        request(8, release_id="shop.2"),
        scores=[score(5)],
    )
    assert listed(read(lake)) == [
        (1, 0, 1, 4, None, None, None, None, None),
        (1, 1, 0, 5, 0.0, None, None, 105.0, None),
        (2, 0, 1, 4, 1.0, None, None, 104.0, None),
        (2, 1, 0, 6, 0.0, 1.0, 1.0, 106.0, None),
        (2, 2, -1, read(lake).unit[4], None, None, None, 107.0, None),
        (2, 3, 0, 5, None, None, None, None, 0.9),
    ]
    assert read(lake).newest_batch == 2
    assert read(lake).data_at == NOON


def test_reading_bit_by_bit_gives_the_rows_of_reading_at_once(logged):
    """Also of scores that come with another batch than their request, before it or after it."""
    batch, lake = logged
    pieces, mark = [], 0
    for first in (0, 5, 10):
        batch(*(request(n) for n in range(first, first + 5)), scores=[score(n) for n in range(max(first - 2, 0), first + 7)])
        rows = read(lake, after=mark)
        mark = rows.newest_batch
        pieces += listed(rows)
    assert pieces == listed(read(lake))
    assert read(lake, after=mark).n == 0
    assert [row[:2] for row in pieces] == sorted({row[:2] for row in pieces})


def test_a_score_that_comes_before_its_request_stands_with_it(logged):
    batch, lake = logged
    batch(scores=[score(4, 0.25)])
    assert read(lake).n == 0
    batch(request(4))
    assert [row[:2] + row[-1:] for row in listed(read(lake))] == [(2, 0, None), (2, 1, 0.25)]
    assert listed(read(lake, after=1)) == listed(read(lake))


def test_an_empty_log_has_no_rows_and_no_time(tmp_path):
    rows = read(open_lake(tmp_path))
    assert (rows.n, rows.newest_batch, rows.data_at) == (0, 0, None)
    assert rows.values["latency_p95"][0].dtype == np.float64


def test_a_metric_that_no_row_has_is_refused(tmp_path):
    lake = open_lake(tmp_path)
    with pytest.raises(UsageError, match="metric volume: it is not a value of one request"):
        lake.read(lambda connection: read_release(connection, "shop", "shop.1", ["volume"]))
