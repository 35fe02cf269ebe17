"""What a process tells the ledger of the routes it serves by: soon, seldom, and never at the cost of serving."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta

import pytest

from tests.controls.test_assignment import ROUTE
from tests.controls.test_routing import wait_for
from tests.controls.tiny import ASK, NOW, put_route, register, serving
from workbench.controls import acknowledging
from workbench.controls.acknowledging import Acknowledger, process_name
from workbench.controls.routing import Reading
from workbench.errors import StoreBusy
from workbench.ledger.acknowledgements import acknowledge, acknowledgements_of
from workbench.ledger.store import Ledger

APP = ROUTE.app


def reading(version: int) -> Reading:
    return Reading(routes={APP: replace(ROUTE, route_version=version)})


class Writes:
    """A ledger that counts the writings, lets them wait, and breaks when it is told to."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger
        self.n = 0
        self.fault: Exception | None = None
        self.may_go = threading.Event()
        self.may_go.set()

    @contextmanager
    def write(self):
        self.n += 1
        self.may_go.wait(10)
        if self.fault is not None:
            raise self.fault
        with self.ledger.write() as act:
            yield act


@pytest.fixture
def ledger(tmp_path):
    opened = Ledger.open(f"sqlite:///{tmp_path}/ledger.sqlite", clock=lambda: NOW)
    yield opened
    opened.close()


@pytest.fixture
def teller(ledger):
    told = Acknowledger(Writes(ledger), name="here", clock=lambda: NOW, refresh_s=60)
    told.start()
    yield told
    told.stop()


def heard(ledger) -> dict[str, int]:
    with ledger.read() as connection:
        return {each.gateway: each.route_version for each in acknowledgements_of(connection, APP)}


def test_a_version_is_told_once_it_changed_and_not_again(ledger, teller):
    writes = teller._ledger
    for version in (4, 4, 4, 5):
        teller.take(reading(version))
        wait_for(lambda version=version: heard(ledger) == {"here": version})
    assert writes.n == 2


def test_it_is_told_again_now_and_then_so_that_it_is_known_who_lives(ledger):
    told = Acknowledger(Writes(ledger), name="here", clock=lambda: NOW, refresh_s=0.01)
    told.start()
    told.take(reading(4))
    wait_for(lambda: told._ledger.n >= 5)
    told.stop()
    assert heard(ledger) == {}


def test_a_ledger_that_cannot_be_written_delays_nobody_and_is_told_later(ledger, teller, caplog, monkeypatch):
    monkeypatch.setattr(acknowledging, "_RETRY_S", 0.01)
    writes = teller._ledger
    writes.fault = StoreBusy("ledger", seen="a lock is held")
    teller.take(reading(4))
    wait_for(lambda: writes.n >= 3)
    assert caplog.text.count("cannot be told which route serves here") == 1
    writes.fault = RuntimeError("a driver's own")
    n = writes.n
    wait_for(lambda: writes.n >= n + 2)
    writes.fault = None
    wait_for(lambda: heard(ledger) == {"here": 4})


def test_what_changes_while_a_writing_waits_is_told_after_it(ledger, teller):
    writes = teller._ledger
    writes.may_go.clear()
    teller.take(reading(4))
    wait_for(lambda: writes.n == 1)
    teller.take(reading(5))  # it returns at once, while the other one waits
    teller.take(reading(6))
    writes.may_go.set()
    wait_for(lambda: heard(ledger) == {"here": 6})
    assert writes.n <= 3


def test_who_ends_takes_its_word_back_and_who_died_is_forgotten_after_an_hour(ledger):
    with ledger.write() as act:
        for name, age in (("dead", timedelta(minutes=61)), ("quiet", timedelta(minutes=59))):
            acknowledge(act, name, {APP: 3}, at=NOW - age, silent_since=NOW - timedelta(days=1))
    told = Acknowledger(ledger, name="here", clock=lambda: NOW)
    told.start()
    told.take(reading(4))
    wait_for(lambda: heard(ledger) == {"quiet": 3, "here": 4})
    told.stop()
    assert heard(ledger) == {"quiet": 3}


def test_two_processes_never_have_one_name():
    assert len({process_name() for _ in range(100)}) == 100


def test_the_controls_tell_what_they_serve_by_and_call_for_no_writing(ws, model):
    put_route(ws, stable=register(ws, "v1").bundle_id)
    with serving(ws, model) as controls:
        wait_for(lambda: len(heard(ws.ledger)) == 1)
        ((name, version),) = heard(ws.ledger).items()
        with ws.ledger.read() as connection:
            before = acknowledgements_of(connection, APP)
        for _ in range(20):
            controls.handle_blocking(APP, ASK)
        with ws.ledger.read() as connection:
            assert acknowledgements_of(connection, APP) == before
        put_route(ws, stable=None)
        wait_for(lambda: heard(ws.ledger) == {name: version + 1})
    assert heard(ws.ledger) == {}


def test_another_version_that_serves_the_same_brings_no_newer_declaration_into_service(ws, model):
    """A drill writes such a version: what an app declared since its last release goes live with its next one."""
    put_route(ws, stable=register(ws, "v1").bundle_id)
    asked = []

    def app_spec(app):
        asked.append(app)
        return ws.app_spec(app)

    with serving(ws, model, app_spec=app_spec) as controls:
        n = len(asked)
        with ws.ledger.write() as act:
            act.connection.exec_driver_sql("UPDATE routes SET version = version + 1")
        version = controls.status().routes[0].route_version
        wait_for(lambda: controls.status().routes[0].route_version == version + 1)
        assert len(asked) == n
