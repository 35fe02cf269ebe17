from __future__ import annotations

import pytest

from tests.observability.erasing import MARK, NOWHERE, Stores, places_of_mark, record_of
from tests.postgres import new_database, running_postgres

OTHERS = (
    "SELECT * EXCLUDE (seq, batch_id, ingested_at, spool_id) FROM lake.{} WHERE NOT contains(to_json({})::VARCHAR, '"
    + MARK
    + "') ORDER BY ALL"
)


@pytest.fixture(scope="module")
def postgres(tmp_path_factory):
    with running_postgres(tmp_path_factory.mktemp("postgres")) as url:
        yield url


@pytest.fixture(params=["sqlite", "postgres"])
def stores(request, tmp_path):
    catalog = f"postgres:{new_database(request.getfixturevalue('postgres'))}" if request.param == "postgres" else None
    made = Stores(tmp_path, catalog=catalog)
    yield made
    made.close()


def fill(stores: Stores, *, flushes: int = 4) -> None:
    """Small flushes, which DuckLake inlines, and large ones; the marked unit among others and alone in a file."""
    for i in range(flushes):
        for unit in ("marked", "anna", "bert") if i % 2 else ("marked",):
            for n in range(12 if i == 3 else 2):
                stores.logs.record(record_of(unit, 100 * i + n))
        stores.logs.flush()


def test_a_unit_is_in_no_store_after_it_was_erased(stores):
    fill(stores)
    stores.logs.record(record_of("marked", 999))
    before = places_of_mark(stores)
    assert (before["lake"], before["spools"], bool(before["bytes"])) == (True, True, True)
    report = stores.erasure.erase("marked", reason="asked by marked itself")
    assert not report.is_done
    (report,) = stores.erasure.finish()
    assert report.is_done, report
    assert places_of_mark(stores) == NOWHERE
