"""What the log knows that it lacks."""

from __future__ import annotations

from datetime import timedelta

import pytest

from tests.observability.lakes import NOON, open_lake, open_logs, request
from workbench.observability.gaps import Gap

LATER = NOON + timedelta(seconds=90)


def test_a_gap_comes_back_from_the_lake_as_it_was_counted(tmp_path):
    logs = open_logs(tmp_path)
    assert logs.gaps() == ()
    gaps = (Gap(app="desk", n=1, since=NOON, until=NOON), Gap(app="shop", n=41, since=NOON + timedelta(microseconds=1), until=LATER))
    logs.record({"spans": [gap.row() for gap in gaps]})
    logs.record({"spans": [{"span_id": "s", "app": "shop", "ts_start": NOON, "kind": "other", "name": "audit_gap", "status": "ok"}]})
    logs.flush()
    assert logs.gaps() == gaps, "a span that only has the name is none"
    assert str(gaps[1]) == "shop: 41 audit records from 2026-03-01 12:00:00 to 2026-03-01 12:01:30 UTC were not stored"
    logs.close()


def test_each_record_that_is_lost_counts_by_its_own_time():
    lost = Gap.of({"requests": [request(), request(ts_end=LATER)], "spans": [{"span_id": "s"}]})
    assert lost == (Gap(app="shop", n=1, since=NOON, until=NOON), Gap(app="shop", n=1, since=LATER, until=LATER))
    assert lost[1].with_(lost[0]) == Gap(app="shop", n=2, since=NOON, until=LATER)


def test_a_start_is_unfinished_once_its_process_is_gone_and_unless_its_end_is_there(tmp_path):
    lake = open_lake(tmp_path)
    died, lives = open_logs(tmp_path, lake=lake), open_logs(tmp_path, lake=lake)
    start = {"is_final": False, "revision": 0, "status": "unknown"}
    died.record({"requests": [request(request_id="ended", **start), request(request_id="died", bundle="shop@1", **start)]})
    died.record({"requests": [request(request_id="ended", is_final=True, revision=1)]})
    lives.record({"requests": [request(request_id="under way", **start)]})
    died.flush()
    lives.flush()
    assert lives.unfinished() == (), "two processes live, whose requests may end yet"
    died.close()
    assert [(one.request_id, one.app, one.bundle, one.ts_start) for one in lives.unfinished()] == [("died", "shop", "shop@1", NOON)]
    lives.record({"requests": [request(request_id="under way", is_final=True, revision=1)]})
    lives.close()
    assert [one.request_id for one in open_logs(tmp_path, lake=lake).unfinished()] == ["died"]


@pytest.mark.parametrize("app", ["it's", 'a"b'])
def test_an_app_that_cannot_be_named_makes_no_gap_row(tmp_path, app):
    from workbench.errors import UsageError

    with pytest.raises(UsageError, match="app"):
        open_logs(tmp_path).record({"spans": [Gap(app=app, n=1, since=NOON, until=NOON).row()]})
