"""What happened after an answer is in the log as it was told: by name, once, without personal data, or not at all."""

from __future__ import annotations

import json
import threading
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.observability.importing import KEY, PRIMARY, Allow, imports_over
from tests.observability.lakes import NOON, Clock, open_lake, open_logs, request
from workbench.errors import NotPermitted, RecordRefused, SpecError, UsageError
from workbench.observability.feedback import KINDS, outcome_told, score_told
from workbench.observability.feedback_log import MOST_AT_ONCE, Feedback
from workbench.observability.metrics import Metrics
from workbench.observability.redaction import Redactor
from workbench.observability.sealing import Sealer
from workbench.spec.app import AppSpec, Kpi

SEALER = Sealer(Redactor(KEY), KEY)
ORDERS = Kpi(name="orders", outcome="order_placed", aggregate="rate")
REVENUE = Kpi(name="revenue", outcome="order_placed", aggregate="sum", unit="EUR")
SHOP = AppSpec(app="shop", title="Shop", risk_tier="low", kpis=(ORDERS, REVENUE))


class Place:
    """A log, and what tells it things."""

    def __init__(self, home):
        self.clock = Clock()
        self.lake = open_lake(home)
        self.logs = open_logs(home, lake=self.lake, clock=self.clock)
        self.authority = Allow()
        self.feedback = Feedback(self.logs, sealer=SEALER, authority=self.authority, author=PRIMARY, clock=self.clock)
        self.imports = imports_over(self.logs, authority=self.authority)
        self.recorded = self.imports.recorded
        self.metrics = Metrics(self.lake, app_spec=lambda _: SHOP, clock=self.clock)

    def rows(self, sql):
        self.logs.flush()
        return self.lake.read(lambda connection: connection.execute(sql).fetchall())


@pytest.fixture
def place(tmp_path):
    made = Place(tmp_path)
    yield made
    made.logs.close()
    made.lake.close()


def test_a_judgement_that_is_told_late_is_joined_to_its_request(place):
    place.logs.record({"requests": [request(request_id="r-late", status="ok")]})
    place.logs.flush()
    told = place.feedback.score("shop", "r-late", "success", value=1.0, comment="ann.lee@example.org says thanks")
    rows = place.rows("SELECT score_id, value, source, explanation FROM lake.scores")
    assert rows[0][:3] == (told, 1.0, "user")
    assert rows[0][3].startswith("<EMAIL:")
    assert place.metrics.query("success_rate", app="shop")["success_rate"].item() == 1.0


def test_an_event_that_is_told_again_under_its_name_counts_once_as_told_last(place):
    place.logs.record({"requests": [request(request_id="r1", session_id="s1"), request(request_id="r2", session_id="s2")]})
    for value in (10.0, 10.0, 25.0):
        assert (
            place.feedback.outcome("shop", "order_placed", value=value, currency="EUR", session_id="s1", id="order-7", at=NOON.isoformat())
            == "order-7"
        )
    place.logs.flush()
    frame = place.metrics.query(["orders", "revenue"], app="shop")
    assert (frame["orders"].item(), frame["revenue"].item()) == (0.5, 25.0)


def test_a_unit_is_stored_by_its_hash_alone(place):
    place.feedback.outcome("shop", "order_placed", unit="customer-17")
    (row,) = place.rows("SELECT unit_hash, session_id, value FROM lake.outcomes")
    assert row == (SEALER.unit_hash("customer-17"), None, None)


@pytest.mark.parametrize(
    ("event", "reason", "field"),
    [
        ({}, "missing_field", "value"),
        ({"value": 1}, "missing_field", "request_id"),
        ({"request_id": "r", "value": 1}, "missing_field", "name"),
        ({"request_id": "r", "name": "n"}, "missing_field", "value"),
        ({"request_id": "r", "name": "n", "value": "1"}, "wrong_type", "value"),
        ({"request_id": "r", "name": "n", "value": True}, "wrong_type", "value"),
        ({"request_id": "r", "name": "n", "value": 1e300}, "out_of_range", "value"),
        ({"request_id": "r", "name": "n", "value": 1, "source": "boss"}, "unknown_value", "source"),
        ({"request_id": "r", "name": "n", "value": 1, "at": "2026-02-01T09:00:00"}, "no_zone", "at"),
        ({"request_id": "r", "name": "n", "value": 1, "at": "2031-01-01T00:00:00Z"}, "future_time", "at"),
        ({"request_id": "r", "name": "n", "value": 1, "sample_probability": 0}, "out_of_range", "sample_probability"),
        ({"request_id": "r", "name": "n", "value": 1, "comment": 7}, "wrong_type", "comment"),
        ({"request_id": "r", "name": "n", "value": 1, "coment": "?"}, "unknown_field", "comment"),
        ({"request_id": "r" * 600, "name": "n", "value": 1}, "too_long", "request_id"),
    ],
)
def test_a_malformed_judgement_is_refused_by_its_field(event, reason, field):
    with pytest.raises(RecordRefused) as refused:
        score_told(event, app="shop", own_id="own", now=NOON)
    assert (refused.value.reason, refused.value.subject) == (reason, field)


@pytest.mark.parametrize(
    ("event", "reason", "field"),
    [
        ({"request_id": "r"}, "missing_field", "kpi"),
        ({"kpi": "order_placed"}, "missing_field", "request_id"),
        ({"kpi": "order_placed", "unit": "u", "currency": "euro"}, "bad_currency", "currency"),
        ({"kpi": "order_placed", "unit": "u", "value": []}, "wrong_type", "value"),
        ({"kpi": "order_placed", "customer": "u"}, "unknown_field", "event"),
    ],
)
def test_a_malformed_outcome_is_refused_by_its_field(event, reason, field):
    with pytest.raises(RecordRefused) as refused:
        outcome_told(event, app="shop", own_id="own", now=NOON)
    assert (refused.value.reason, refused.value.subject) == (reason, field)


SECRET = "hunter2-words"
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.just(SECRET), lambda inner: st.lists(inner, max_size=2), max_leaves=3
)


@given(kind=st.sampled_from(sorted(KINDS)), data=st.data())
def test_whatever_is_told_fits_the_log_or_is_refused_without_a_word_of_it(kind, data):
    names = st.sampled_from((*KINDS[kind].fields, "else"))
    event = data.draw(st.dictionaries(names, JSON, max_size=6))
    try:
        told = KINDS[kind].told(event, app="shop", own_id="own", now=NOON)
    except RecordRefused as refusal:
        said = str(refusal)
    else:
        said = ""
        assert told.row["app"] == "shop"
        assert told.row["ts"].tzinfo is not None
    assert SECRET not in said


def test_of_many_events_all_are_stored_or_none(place):
    good = {"request_id": "r1", "name": "helpful", "value": 1}
    with pytest.raises(RecordRefused, match=r"events\[1\].name"):
        place.feedback.accept("scores", "shop", [good, {**good, "name": None}])
    with pytest.raises(RecordRefused, match=r"events\[0\]: no object"):
        place.feedback.accept("scores", "shop", ["r1"])
    for events in ([], [good] * (MOST_AT_ONCE + 1)):
        with pytest.raises(RecordRefused, match="events: "):
            place.feedback.accept("scores", "shop", events)
    assert place.logs.waiting() == {}
    place.feedback.accept("scores", "shop", [good, {**good, "request_id": "r2"}]).committed.result(10)
    assert place.rows("SELECT count(*) FROM lake.scores") == [(2,)]


def test_who_may_not_record_for_the_app_tells_it_nothing(place):
    place.authority.apps = ("bank",)
    with pytest.raises(NotPermitted):
        place.feedback.score("shop", "r1", "helpful", value=1)
    with pytest.raises(UsageError, match="score of bank: name"):
        place.feedback.score("bank", "r1", "", value=1)
    assert place.logs.waiting() == {}


# Files


def write(path, text):
    path.write_text(text)
    return path


CSV = "kpi,value,currency,session_id,at\norder_placed,10,EUR,s1,2026-02-01T09:00:00Z\norder_placed,,,s2,2026-02-01T10:00:00Z\n"


def test_a_file_of_outcomes_is_stored_once_and_its_bad_rows_are_counted(place, tmp_path):
    place.logs.record(
        {"requests": [request(request_id=f"r{i}", session_id=f"s{i}", ts_start=NOON - timedelta(days=400)) for i in (1, 2, 3)]}
    )
    bad = "order_placed,ten,EUR,s3,2026-02-01T10:00:00Z\norder_placed,1,EUR,,2026-02-01T10:00:00Z\norder_placed,1\n"
    path = write(tmp_path / "orders.csv", CSV + bad)
    report = place.imports.run("outcomes", [path], app="shop")
    assert (report.read, report.stored, report.refused) == (5, 2, 3)
    assert {reason: refusals.count for reason, refusals in report.files[0].refused.items()} == {
        "wrong_type": 1,
        "missing_field": 1,
        "wrong_width": 1,
    }
    assert report.files[0].refused["wrong_type"].example == "orders.csv:4: value: text; needed: a number with a decimal point"
    again = place.imports.run("outcomes", [path], app="shop")
    assert (again.read, again.stored, again.earlier) == (0, 0, 5)
    assert place.rows("SELECT count(*), count(DISTINCT outcome_id), min(source) FROM lake.outcomes") == [(2, 2, "file")]
    assert place.metrics.query(["orders", "revenue"], app="shop")["revenue"].item() == 10.0
    assert [entry.stored for _, entry in place.recorded.ended] == [2], "the second run changed nothing, and says nothing"


def test_columns_of_other_names_are_read_by_a_mapping(place, tmp_path):
    path = write(
        tmp_path / "o.csv",
        "event;amount;when;visit\norder_placed;12,5;01.02.2026;s1\norder_placed;12.5;2026-02-01 10:00;s1\nNULL;1;2026-02-01;s1\n",
    )
    mapping = write(
        tmp_path / "m.yaml",
        "columns: {kpi: event, value: amount, at: when, session_id: visit}\nconstants: {currency: EUR}\n"
        'zone: Europe/Berlin\nseparator: ";"\nnull_markers: ["NULL"]\n',
    )
    report = place.imports.run("outcomes", [path], app="shop", mapping=mapping)
    assert (report.stored, report.refused) == (1, 2)
    assert place.rows("SELECT value, currency, epoch(ts)::BIGINT FROM lake.outcomes") == [
        (12.5, "EUR", int(datetime(2026, 2, 1, 9, tzinfo=UTC).timestamp()))
    ]


def test_json_lines_are_read_as_they_are_told_over_http(place, tmp_path):
    lines = [json.dumps({"request_id": "r1", "name": "helpful", "value": 1, "at": "2026-02-01T09:00:00Z"}), "", "nonsense", "[1]"]
    report = place.imports.run("scores", [write(tmp_path / "s.jsonl", "\n".join(lines))], app="shop")
    assert (report.read, report.stored, report.refused) == (3, 1, 2)
    assert place.rows("SELECT name, source FROM lake.scores") == [("helpful", "rule")]


def test_a_dry_run_counts_and_stores_nothing(place, tmp_path):
    report = place.imports.run("outcomes", [write(tmp_path / "o.csv", CSV)], app="shop", is_dry_run=True)
    assert (report.stored, report.is_dry_run) == (2, True)
    assert place.lake.snapshot() is None or place.rows("SELECT count(*) FROM lake.outcomes") == [(0,)]
    assert place.recorded.begun == []


UNUSABLE = {
    "no column of that kind": ("a,b\n1,2\n", None),
    "holds no records": ("", None),
    "kpy is no field": (CSV, "columns: {kpy: kpi}"),
    "has no column 'event'": (CSV, "columns: {kpi: event}"),
    "under columns and under constants": (CSV, "columns: {kpi: kpi}\nconstants: {kpi: a}"),
    "is no time zone": (CSV, "zone: Atlantis"),
}


@pytest.mark.parametrize("said", UNUSABLE)
def test_a_file_that_cannot_be_used_is_refused_as_a_whole(place, tmp_path, said):
    text, mapping = UNUSABLE[said]
    named = write(tmp_path / "m.yaml", mapping) if mapping else None
    with pytest.raises((UsageError, SpecError), match=said):
        place.imports.run("outcomes", [write(tmp_path / "o.csv", text)], app="shop", mapping=named)
    with pytest.raises(UsageError, match="name it with --app"):
        place.imports.run("outcomes", [tmp_path / "o.csv"])
    assert place.recorded.begun == []


def test_a_run_that_broke_off_goes_on_behind_its_last_chunk(place, tmp_path, monkeypatch):
    monkeypatch.setattr("workbench.observability.event_import._CHUNK", 10)
    path = write(tmp_path / "o.csv", "kpi,unit\n" + "".join(f"order_placed,u{i}\n" for i in range(35)))
    real, calls = place.logs.append, []

    def breaks(batch, **about):
        calls.append(about["to_seq"])
        if len(calls) == 3:
            raise KeyboardInterrupt
        return real(batch, **about)

    monkeypatch.setattr(place.logs, "append", breaks)
    with pytest.raises(KeyboardInterrupt):
        place.imports.run("outcomes", [path], app="shop")
    monkeypatch.setattr(place.logs, "append", real)
    report = place.imports.run("outcomes", [path], app="shop")
    assert (report.earlier, report.stored) == (20, 15)
    assert place.rows("SELECT count(*), count(DISTINCT outcome_id) FROM lake.outcomes") == [(35, 35)]


def test_two_processes_that_import_one_file_store_it_once(place, tmp_path):
    path = write(tmp_path / "o.csv", "kpi,unit\n" + "".join(f"order_placed,u{i}\n" for i in range(500)))
    threads = [threading.Thread(target=place.imports.run, args=("outcomes", [path]), kwargs={"app": "shop"}) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert place.rows("SELECT count(*) FROM lake.outcomes") == [(500,)]
