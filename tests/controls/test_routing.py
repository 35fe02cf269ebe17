"""Routes in memory: as fresh as the ledger allows, and honest about it when it does not."""

from __future__ import annotations

import threading

import pytest

from tests.controls.test_assignment import ROUTE
from workbench.controls.routing import Reading, RouteTable
from workbench.errors import StoreError

READING = Reading(routes={"support": ROUTE}, specs={"support": None}, apps=frozenset({"support"}))
GONE = StoreError("ledger", seen="out of reach")


class Source:
    """A ledger whose answers are set, on a clock that is set."""

    def __init__(self) -> None:
        self.answer: Reading | Exception = READING
        self.now = 1000.0
        self.told: list[Reading] = []

    def read(self) -> Reading:
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    def table(self, **about) -> RouteTable:
        return RouteTable(self.read, on_reading=self.told.append, monotonic=lambda: self.now, **about)


@pytest.fixture
def source():
    return Source()


def test_before_the_first_reading_nothing_counts(source):
    table = source.table()
    assert (table.reading.routes, table.age_s, table.is_stale) == ({}, None, True)
    assert "were never read" in table.alarm


def test_a_reading_counts_and_is_told(source):
    table = source.table()
    table.poll()
    assert (table.reading, source.told, table.is_stale, table.alarm) == (READING, [READING], False, None)


def test_a_reading_is_told_before_it_counts(source):
    seen = []
    table = RouteTable(source.read, on_reading=lambda told: seen.append((told, table.reading.routes)), monotonic=lambda: source.now)
    table.poll()
    assert seen == [(READING, {})]


def test_out_of_reach_the_route_counts_for_thirty_seconds_and_not_longer(source):
    table = source.table()
    table.poll()
    source.answer = GONE
    for seconds, is_stale in ((29.9, False), (30.0, False), (30.1, True), (10_000, True)):
        source.now = 1000 + seconds
        with pytest.raises(StoreError):
            table.poll()
        assert (table.is_stale, table.reading) == (is_stale, READING)
    source.answer = READING
    table.poll()
    assert (table.is_stale, table.alarm) == (False, None)


def test_a_ledger_that_hangs_grows_stale_without_an_error(source):
    """The age counts from the asking: an answer that took a minute is a minute old."""
    table = source.table()
    table.poll()
    source.now += 31
    assert table.is_stale
    assert "the ledger does not answer" in table.alarm

    def slow():
        source.now += 60
        return READING

    source.read = slow
    slow_table = source.table()
    slow_table.poll()
    assert slow_table.age_s == 60
    assert slow_table.is_stale


def wait_for(condition) -> None:
    """Return once the condition holds."""
    tick = threading.Event()
    for _ in range(500):
        if condition():
            return
        tick.wait(0.01)
    raise AssertionError("it did not come to be")


@pytest.mark.parametrize("fault", [GONE, RuntimeError("a driver's own"), MemoryError()])
def test_the_thread_outlives_every_failure_and_says_so_meanwhile(source, fault, caplog):
    table = source.table(interval_s=0.005)
    table.poll()
    table.start()
    source.answer = fault
    wait_for(lambda: table.alarm is not None)
    assert "after 30 s candidates serve nobody" in table.alarm
    source.answer = READING
    wait_for(lambda: table.alarm is None)
    table.stop()
    assert [record.levelname for record in caplog.records] == ["ERROR", "WARNING"]
