"""Retention on real stores: exactly the outdated days go, the audit says so first, and evidence says why it cannot be asked again."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import pytest

from tests.observability.erasing import ADMIN, Anybody, Stores, record_of
from tests.observability.lakes import Clock, stored_files
from workbench.errors import NotPermitted, UsageError
from workbench.ledger.audit import tail
from workbench.observability.keeping import BY_ITSELF, Keeper
from workbench.observability.metrics import EXPIRED, SAME
from workbench.observability.model import Window
from workbench.observability.retention import APPLY, DECLARE, Retention
from workbench.observability.upkeep import Upkeep

TODAY = datetime(2026, 6, 30, 12, tzinfo=UTC)
TABLES = ("requests", "spans", "scores", "outcomes")


class Nobody(Anybody):
    def require(self, *asked) -> None:
        raise NotPermitted(str(asked), seen="refused")


def retention_of(stores: Stores, clock: Clock, authority=None) -> Retention:
    return Retention(stores.ledger, stores.lake, authority=authority or Anybody(), author=ADMIN, clock=clock, clean=str)


def fill(stores: Stores, *, apps: tuple[str, ...] = ("shop", "bank")) -> None:
    """Two requests of each app on each of several days; the older ones in files, the newest inlined."""
    for age in (100, 40, 31, 30, 29, 0):
        for app in apps:
            rows = record_of(f"{app} {age}", 1, at=TODAY - timedelta(days=age))
            for n in range(12 if age > 30 else 1):
                stores.logs.record(
                    {table: [{**row, "app": app} for row in listed] for table, listed in rows.items()} if n == 0 else _again(rows, app, n)
                )
        stores.logs.flush()


def _again(rows, app, n):
    keys = ("request_id", "span_id", "score_id", "outcome_id")
    return {
        table: [{**row, "app": app, **{key: f"{row[key]} {n}" for key in keys if key in row}} for row in listed]
        for table, listed in rows.items()
    }


def ages(stores: Stores, table: str, app: str) -> set[int]:
    sql = f"SELECT DISTINCT day FROM lake.{table} WHERE app = '{app}'"
    return {(TODAY.date() - day).days for (day,) in stores.rows(sql)}


@pytest.fixture
def stores(tmp_path):
    made = Stores(tmp_path)
    yield made
    made.close()


def test_exactly_the_outdated_days_of_the_app_go_and_a_dry_run_says_so_before(stores):
    fill(stores)
    clock = Clock(TODAY)
    retention = retention_of(stores, clock)
    assert retention.outdated() == ()
    retention.declare("30d", app="shop", rollups="60d", reason="our privacy notice")
    before = {table: stores.rows(f"SELECT count(*) FROM lake.{table} WHERE app = 'shop' AND day < '2026-05-31'")[0][0] for table in TABLES}
    (dry,) = retention.outdated()
    assert (dry.app, dry.first, dry.last, dry.rows_before) == ("shop", date(2026, 3, 22), date(2026, 5, 30), date(2026, 5, 31))
    assert {table: dry.rows[table] for table in TABLES} == before
    assert ages(stores, "requests", "shop") == {100, 40, 31, 30, 29, 0}, "a dry run changes nothing"
    assert retention.apply(ADMIN) == (dry,)
    for table in TABLES:
        assert ages(stores, table, "shop") == {30, 29, 0}
        assert ages(stores, table, "bank") == {100, 40, 31, 30, 29, 0}
    stores.upkeep.sum_hours(again=Window())
    for table in ("requests_hourly", "requests_daily"):
        assert ages(stores, table, "shop") == {40, 31, 30, 29, 0}, "sums are kept for longer"
    summed, logged = (stores.metrics.query("volume", app="shop", exact=exact) for exact in (None, True))
    assert (summed.answered.path, logged.answered.path) == ("roll-up", "requests")
    assert (summed["volume"].item(), logged["volume"].item()) == (27, 3), "sums go further back"
    assert (retention.outdated(), retention.apply(ADMIN)) == ((), ())
    with stores.ledger.read() as connection:
        declared, applied = tail(connection, 9)
    assert (declared.act, declared.app, declared.detail["reason"]) == (DECLARE, "shop", "our privacy notice")
    assert (applied.act, applied.app, applied.detail["rows"]) == (APPLY, "shop", dict(dry.rows))


def test_a_day_later_one_more_day_goes_and_of_every_app_without_a_term_of_its_own(stores):
    fill(stores)
    clock = Clock(TODAY)
    retention = retention_of(stores, clock)
    retention.declare("30d", reason="r")
    retention.declare(None, app="bank", reason="the law wants it")
    retention.apply(ADMIN)
    clock.move(86_400)
    (found,) = retention.apply(ADMIN)
    assert (found.app, found.first, found.last) == ("shop", date(2026, 5, 31), date(2026, 5, 31))
    assert ages(stores, "requests", "shop") == {29, 0}
    assert ages(stores, "requests", "bank") == {100, 40, 31, 30, 29, 0}
    retention.declare(None, reason="kept from now on")
    clock.move(86_400 * 400)
    assert retention.outdated() == ()


def test_whole_files_go_and_no_byte_of_them_is_left_when_their_snapshots_are_gone(stores, tmp_path):
    fill(stores, apps=("shop",))
    retention = retention_of(stores, Clock(TODAY))
    retention.declare("30d", reason="r")
    assert any("day=2026-05-30" in name for name in stored_files(tmp_path))
    upkeep = Upkeep(stores.lake, cited=frozenset, grace=timedelta(0), retention=timedelta(0))
    keeper = Keeper(stores.ledger, stores.lake, retention, upkeep, stores.erasure, clock=stores.now)
    report = keeper.run(BY_ITSELF)
    assert report.retention[0].rows["requests"] == 36
    keeper.run(BY_ITSELF)
    left = [name for name in stored_files(tmp_path) if "day=2026-05-30" in name]
    assert left == []
    lists = [name for name in stored_files(tmp_path) if "delete" in name and any(f"/{table}/" in name for table in TABLES)]
    assert lists == [], "files that go whole need no list of deleted rows"
    assert ages(stores, "requests", "shop") == {30, 29, 0}


def test_evidence_holds_its_snapshot_for_its_time_and_then_says_why_it_is_gone(stores):
    fill(stores, apps=("shop",))
    clock = Clock(TODAY)
    retention = retention_of(stores, clock)
    retention.declare("30d", evidence="10d", reason="r")
    evidence = stores.metrics.measure("volume", app="shop", bundle="shop@1")
    collected = clock()

    def cited() -> frozenset[int]:
        since = retention.policy().evidence_since("shop", clock())
        return frozenset({evidence.snapshot}) if collected >= since else frozenset()

    upkeep = Upkeep(stores.lake, cited=cited, grace=timedelta(0), retention=timedelta(0))
    keeper = Keeper(stores.ledger, stores.lake, retention, upkeep, stores.erasure, clock=clock)
    keeper.run(BY_ITSELF)
    keeper.run(BY_ITSELF)
    assert ages(stores, "requests", "shop") == {30, 29, 0}
    assert stores.metrics.verify(evidence) == SAME
    clock.move(86_400 * 11)
    keeper.run(BY_ITSELF)
    keeper.run(BY_ITSELF)
    assert stores.metrics.verify(evidence) == EXPIRED


def test_what_nobody_may_declare_or_makes_no_sense_changes_nothing(stores):
    refusing = retention_of(stores, Clock(TODAY), Nobody())
    with pytest.raises(NotPermitted):
        refusing.declare("30d", reason="r")
    retention = retention_of(stores, Clock(TODAY))
    for rows, more in (("30d", {"reason": " "}), ("30d", {"reason": "r", "app": "Shop"}), (None, {"reason": "r", "rollups": "9d"})):
        with pytest.raises(UsageError):
            retention.declare(rows, **more)
    assert retention.policy().terms == {}
    with stores.ledger.read() as connection:
        assert tail(connection, 9) == ()
