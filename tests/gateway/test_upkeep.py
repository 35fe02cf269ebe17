"""A gateway has the log kept by another process: when it is due, never twice, and not beyond the gateway's end."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from workbench import Workspace
from workbench.gateway.metrics import Meter, exposition
from workbench.gateway.upkeep import BUSY, UpkeepLoop, UpkeepStatus
from workbench.observability.keeping import last_run
from workbench.observability.kept import Kept, begun

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
EVERY = timedelta(minutes=5)


def until(is_so: Callable[[], bool]) -> None:
    ends = time.monotonic() + 120
    while not is_so():
        assert time.monotonic() < ends
        time.sleep(0.005)


def loop(home: Path, code: str, *, every: timedelta | None = EVERY, last: Callable[[], Kept | None] = lambda: None) -> UpkeepLoop:
    return UpkeepLoop(
        {"WORKBENCH_HOME": str(home)}, every=every, last=last, clock=lambda: NOW, look_s=0.005, command=(sys.executable, "-S", "-c", code)
    )


def test_what_is_due_is_done_on_this_workspace_and_what_went_wrong_is_told(tmp_path):
    code = "import os, sys; open(os.environ['WORKBENCH_HOME'] + '/ran', 'a').close(); sys.exit('the disk is full')"
    with loop(tmp_path, code) as upkeep:
        until(lambda: upkeep.status.fault == "the disk is full")
    assert (tmp_path / "ran").exists()


def test_what_is_not_due_or_not_wanted_is_not_done(tmp_path):
    code = "import os; open(os.environ['WORKBENCH_HOME'] + '/ran', 'a').close()"
    recent = Kept(began_at=NOW, by="process 1")
    with loop(tmp_path, code, last=lambda: recent) as upkeep:
        until(lambda: upkeep.status.last is recent)
    with loop(tmp_path, code, every=None, last=lambda: pytest.fail("it looked")) as off:
        assert off.status == UpkeepStatus(is_on=False)
    assert not (tmp_path / "ran").exists()


def test_somebody_elses_run_is_no_fault_and_a_ledger_out_of_reach_is_told(tmp_path):
    runs = []
    with loop(tmp_path, f"raise SystemExit({BUSY})", last=lambda: runs.append(1)) as upkeep:
        until(lambda: len(runs) > 3)
        assert upkeep.status.fault is None

    def fails() -> None:
        raise OSError("the ledger is out of reach")

    with loop(tmp_path, "", last=fails) as upkeep:
        until(lambda: upkeep.status.fault == "the ledger is out of reach")


def test_a_run_ends_with_its_gateway(tmp_path):
    code = "import os, time; open(os.environ['WORKBENCH_HOME'] + '/pid', 'w').write(str(os.getpid())); time.sleep(60)"
    before = threading.active_count()
    with loop(tmp_path, code) as upkeep:
        until(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text() != "")
    assert upkeep.status.fault is None
    assert not Path(f"/proc/{(tmp_path / 'pid').read_text()}").exists()
    assert threading.active_count() == before


def test_the_process_that_does_it_keeps_a_real_workspace(tmp_path):
    with Workspace.open(tmp_path) as ws:
        ws.logs.record({"requests": [{"request_id": "r", "app": "shop", "ts_start": NOW}]})
        ws.logs.flush()
        with UpkeepLoop(
            ws.settings.stores(), every=EVERY, last=lambda: last_run(ws.ledger), clock=lambda: datetime.now(UTC), look_s=0.05
        ) as upkeep:
            until(lambda: upkeep.status.fault is not None or (upkeep.status.last is not None and upkeep.status.last.ended_at is not None))
        assert upkeep.status.fault is None
        assert upkeep.status.last.failures_in_a_row == 0


def test_metrics_tell_of_it_and_leave_out_what_is_not_known():
    from tests.gateway.test_metrics import FLUSH, STATUS, read

    def told(last: Kept | None) -> dict[str, float]:
        upkeep = UpkeepStatus(is_on=True, last=last)
        text = exposition(Meter(), STATUS, FLUSH, spool_pressure=0, keys_age_s=0, is_ready=True, now=NOW, upkeep=upkeep)
        return {name.removeprefix("upkeep_"): value for name, value in read(text).items() if name.startswith("upkeep_")}

    done = Kept(began_at=NOW - EVERY, by="p", ended_at=NOW - timedelta(minutes=4), succeeded_at=NOW - timedelta(minutes=4))
    assert told(None) == {}
    assert told(done) == {"age_seconds": 240, "duration_seconds": 60, "failures_in_a_row": 0}
    assert told(begun(done, NOW)) == {"age_seconds": 240, "failures_in_a_row": 0}, "a run that goes on has not failed"
