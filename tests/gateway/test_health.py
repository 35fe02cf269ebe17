"""When the gateway says that it should get no traffic, and how it keeps its keys."""

from __future__ import annotations

import threading
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from workbench.controls.model import ControlsStatus
from workbench.errors import StoreError
from workbench.gateway.health import hindrances
from workbench.gateway.keyring import KeyRing
from workbench.ledger.keys import StoredKey
from workbench.observability.logs import FlushStatus
from workbench.ownership.keys import KeySnapshot

NOW = datetime(2026, 3, 1, 9, tzinfo=UTC)
CONTROLS = ControlsStatus(
    is_ready=True,
    reasons=(),
    routes=(),
    route_age_s=0.1,
    bundles=(),
    in_flight=0,
    served={},
    no_unit=0,
    refused={},
    alarms=(),
)
FLUSH = FlushStatus(is_running=True, rows=0, last_success=NOW, failures_in_a_row=0, last_fault=None, spool_faults=())


def reasons(controls: ControlsStatus = CONTROLS, flush: FlushStatus = FLUSH, *, keys_age_s: float = 0.5, after_s: float = 0) -> str:
    now = NOW + timedelta(seconds=after_s)
    return "; ".join(hindrances(controls, flush, keys_age_s=keys_age_s, started_at=NOW, now=now))


def test_all_well_is_no_hindrance():
    assert reasons() == ""


def test_what_the_controls_say_is_passed_on():
    assert reasons(replace(CONTROLS, is_ready=False, reasons=("the ledger is out of reach",))) == "the ledger is out of reach"
    assert reasons(replace(CONTROLS, is_ready=False)) == "the controls are not ready"


def test_a_log_that_does_not_reach_the_lake_counts_after_its_grace():
    failing = replace(FLUSH, failures_in_a_row=7, last_fault="the disk is full")
    assert reasons(flush=failing, after_s=29) == ""
    told = "the log has not reached the lake for 30 s; it waits in the spool (the disk is full)"
    assert reasons(flush=failing, after_s=30) == told
    assert reasons(flush=replace(failing, last_success=None), after_s=30) == told
    assert "for 45 s" in reasons(flush=FLUSH, after_s=45), "a flush that hangs fails by taking long"
    assert "does not run" in reasons(flush=replace(FLUSH, is_running=False))


def test_old_keys_are_told():
    assert reasons(keys_age_s=29.9) == ""
    assert "the API keys were last read 31 s ago" in reasons(keys_age_s=31)


TEXT = f"wb_{'0a' * 6}_{'1b' * 32}"
STORED = StoredKey(
    key_id="0a" * 6,
    digest="sha256:30a21f491f68a2b6602a22eebe3a227bd74bcf112b1548bbfb69f6f5ca2be08a",
    app="support",
    person="primary",
    label="",
    created_at=NOW,
    created_by="admin",
    revoked_at=None,
    revoked_by=None,
    version=1,
)


class Ledger:
    """Readings of keys, one after the other; None is one that fails."""

    def __init__(self, *snapshots: KeySnapshot | None) -> None:
        self.snapshots = list(snapshots)
        self.is_empty = threading.Event()

    def __call__(self) -> KeySnapshot:
        snapshot = self.snapshots.pop(0)
        if not self.snapshots:
            self.snapshots.append(snapshot)
            self.is_empty.set()
        if snapshot is None:
            raise StoreError("ledger", seen="it is out of reach")
        return snapshot


def test_keys_are_renewed_on_a_thread():
    ledger = Ledger(KeySnapshot([STORED]), KeySnapshot(), KeySnapshot())
    with KeyRing(ledger, interval_s=0.001) as ring:
        assert ledger.is_empty.wait(20)
    assert ring.holder(TEXT) is None


def test_while_the_ledger_is_out_of_reach_the_last_keys_count_and_age():
    moment = [0.0]
    ledger = Ledger(KeySnapshot([STORED]), None, None)
    with KeyRing(ledger, interval_s=0.001, monotonic=lambda: moment[0]) as ring:
        moment[0] = 3600.0
        assert ledger.is_empty.wait(20)
        assert ring.holder(TEXT) is not None
        assert ring.age_s == 3600.0


def test_a_gateway_that_cannot_read_any_keys_does_not_start():
    with pytest.raises(StoreError), KeyRing(Ledger(None)):
        pytest.fail("the block was entered")
