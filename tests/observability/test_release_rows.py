"""The judge's rows out of a real lake: every batch once, in order, and the same whoever reads how often."""

from __future__ import annotations

from datetime import timedelta

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.observability.lakes import NOON, open_lake, open_logs
from workbench.errors import StoreError, UsageError
from workbench.observability.lake import Lake
from workbench.observability.release_rows import EARLIEST, ReleaseReader, ReleaseRows
from workbench.observability.release_units import Requests, Whose

pytestmark = pytest.mark.usefixtures("two_threads")  # the same rows, in whatever order the log's engine reads them

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


def reader(lake: Lake) -> ReleaseReader:
    return ReleaseReader(lambda: lake, "shop", "shop.1", METRICS)


def read(lake: Lake) -> ReleaseRows:
    """All of it at once."""
    return reader(lake).read()


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
    pieces, bit_by_bit = [], reader(lake)
    for first in (0, 5, 10):
        batch(*(request(n) for n in range(first, first + 5)), scores=[score(n) for n in range(max(first - 2, 0), first + 7)])
        pieces += listed(bit_by_bit.read())
    assert pieces == listed(read(lake))
    assert bit_by_bit.read().n == 0
    steps = reader(lake)
    assert [row for last in range(1, 4) for row in listed(steps.read(until=last))] == pieces
    assert [row[:2] for row in pieces] == sorted({row[:2] for row in pieces})


def test_a_score_that_comes_before_its_request_stands_with_it(logged):
    batch, lake = logged
    waits = reader(lake)
    batch(request(3))
    assert waits.read().n == 1
    batch(scores=[score(4, 0.25)])
    assert (waits.read().n, read(lake).n) == (0, 1)
    batch(request(4))
    assert [row[:2] + row[-1:] for row in listed(waits.read())] == [(3, 0, None), (3, 1, 0.25)]
    assert [row[:2] for row in listed(read(lake))] == [(1, 0), (3, 0), (3, 1)]


def test_a_score_from_long_before_the_release_is_none_of_it(logged, monkeypatch):
    batch, lake = logged
    monkeypatch.setattr("workbench.observability.release_rows.EARLIEST", 1)
    batch(scores=[score(4, 0.25)])
    batch(scores=[score(5, 0.75)])
    batch(request(4), request(5))
    assert [row[-1] for row in listed(read(lake))] == [None, None, 0.75]
    assert EARLIEST > 1


def test_a_lake_that_is_as_it_was_is_not_searched(logged, monkeypatch):
    batch, lake = logged
    reading = reader(lake)
    batch(request(1), scores=[score(1), score(2)])
    first = reading.read()
    monkeypatch.setattr(reading, "_new_requests", lambda *_: pytest.fail("it was searched"))
    again = reading.read()
    assert (again.n, again.newest_batch, again.data_at) == (0, first.newest_batch, first.data_at)
    monkeypatch.undo()
    batch(request(2))
    assert reading.read().n == 2, "the score that waited for it came with it"


def test_what_could_not_be_read_counts_as_unread(logged, monkeypatch):
    batch, lake = logged
    batch(request(4), request(5), scores=[score(4)])
    again = reader(lake)
    with monkeypatch.context() as broken:
        broken.setattr(lake, "look", lambda _work: (_ for _ in ()).throw(StoreError("log lake", seen="it is gone")))
        with pytest.raises(StoreError, match="it is gone"):
            again.read()
    assert listed(again.read()) == listed(read(lake))


@given(st.lists(st.lists(st.integers(0, 60), max_size=12), max_size=25), st.lists(st.integers(0, 80)))
def test_whose_a_request_is_says_its_first_record(batches, asked):
    whose, first = Whose(), {}
    for number, keys in enumerate(batches, start=1):
        n = len(keys)
        whose.learn(
            Requests(
                batch_id=np.full(n, number),
                seq=np.arange(n),
                key=np.array(keys, np.uint64),
                arm=np.arange(n, dtype=np.int8),
                share=np.full(n, number / 100),
                unit=np.array(keys, np.uint64) * np.uint64(3),
                values=[],
            )
        )
        for place, key in enumerate(keys):
            first.setdefault(key, (number, place))
    for key, at in zip(asked, whose.find(np.array(asked, np.uint64)), strict=True):
        if key not in first:
            assert at == -1
        else:
            assert (int(whose.batch_id[at]), int(whose.arm[at]), float(whose.share[at])) == (*first[key], first[key][0] / 100)
            assert int(whose.unit[at]) == 3 * key


def test_an_empty_log_has_no_rows_and_no_time(tmp_path):
    rows = read(open_lake(tmp_path))
    assert (rows.n, rows.newest_batch, rows.data_at) == (0, 0, None)
    assert rows.values["latency_p95"][0].dtype == np.float64


def test_a_metric_that_no_row_has_is_refused(tmp_path):
    lake = open_lake(tmp_path)
    with pytest.raises(UsageError, match="metric volume: it is not a value of one request"):
        ReleaseReader(lambda: lake, "shop", "shop.1", ["volume"])
