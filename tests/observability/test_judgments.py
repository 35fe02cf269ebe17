"""Judgments brought in from files: what is stored, by whom, and what a second time does."""

from __future__ import annotations

import pytest

from tests.observability.lakes import NOON, Clock, open_lake, open_logs
from tests.observability.metric_logs import request
from workbench.errors import NotPermitted, UnknownSubject, UsageError
from workbench.ledger.audit import entries_of
from workbench.workspace import Workspace


@pytest.fixture
def ws(tmp_path):
    with Workspace.open(tmp_path / "ws") as opened:
        yield opened


@pytest.fixture
def qrels(tmp_path):
    path = tmp_path / "qrels.txt"
    path.write_text("t1 0 d1 1\nt1 0 d2 0\nt2 0 d3 0\n")
    return path


@pytest.fixture
def topics(tmp_path):
    path = tmp_path / "topics.tsv"
    path.write_text("t1\tWhere is the parcel of ann@example.com?\n")
    return path


def test_the_same_file_again_stores_nothing_and_a_changed_grade_only_itself(ws, qrels):
    first = ws.judgments.store(qrels, app="shop")
    assert (first.topics, first.judgments, first.stored, first.unchanged) == (2, 3, 3, 0)
    assert (first.without_relevant, first.without_query) == (("t2",), 2)
    again = ws.judgments.store(qrels, app="shop")
    assert (again.stored, again.unchanged) == (0, 3)
    qrels.write_text("t1 0 d2 2\n")
    assert ws.judgments.store(qrels, app="shop").stored == 1
    assert [(each.topic, each.doc_id, each.grade) for each in ws.judgments.of("shop")] == [
        ("t1", "d1", 1),
        ("t1", "d2", 2),
        ("t2", "d3", 0),
    ]


def test_queries_are_stored_without_personal_data_and_kept_when_a_later_file_has_none(ws, qrels, topics):
    ws.judgments.store(qrels, app="shop", topics=topics)
    words = {each.topic: each.query for each in ws.judgments.of("shop")}
    assert words["t1"].startswith("Where is the parcel of <")
    assert "ann" not in words["t1"]
    assert words["t2"] is None
    assert ws.judgments.store(qrels, app="shop").stored == 0


def test_the_audit_tells_who_judged_what_and_a_dry_run_leaves_nothing(ws, qrels):
    assert ws.judgments.store(qrels, app="shop", is_dry_run=True).stored == 3
    assert ws.judgments.of("shop") == []
    ws.judgments.store(qrels, app="shop", source="judge", judge="model-a")
    ws.judgments.store(qrels, app="shop")
    with ws.ledger.read() as connection:
        (entry,) = entries_of(connection, "retrieval.judge", app="shop")
    assert (entry.subject, entry.detail["judgments"]) == ("qrels.txt", 3)
    found = ws.lake.read(lambda c: c.execute("SELECT DISTINCT source, judge_id FROM lake.judgments").fetchall())
    assert found == [("judge", "model-a")]


def test_who_may_not_import_may_not_judge(ws, qrels):
    class Nobody:
        def require(self, _author, act, app):
            raise NotPermitted(act, seen=app)

    ws.judgments._authority = Nobody()
    with pytest.raises(NotPermitted, match=r"log\.import: shop"):
        ws.judgments.store(qrels, app="shop")
    assert ws.judgments.of("shop") == []


def test_an_impossible_app_is_refused_before_the_file_is_read(ws, tmp_path):
    with pytest.raises(UsageError, match="--app 'Shop!'"):
        ws.judgments.store(tmp_path / "none", app="Shop!")


def test_a_run_is_measured_against_what_is_stored(ws, qrels, tmp_path):
    run = tmp_path / "run.txt"
    run.write_text("t1 Q0 d2 1 9 me\nt1 Q0 d1 2 8 me\n")
    with pytest.raises(UnknownSubject, match="judgments of shop: there are none; workbench retrieval judge"):
        ws.judgments.evaluate(run, app="shop")
    ws.judgments.store(qrels, app="shop")
    assert ws.judgments.evaluate(run, app="shop", measures=["recip_rank"]).means == {"recip_rank": 0.5}
    with pytest.raises(UsageError, match="not exactly one source"):
        ws.judgments.evaluate(run)
    (held,) = ws.judgments.apps()
    assert (held.app, held.topics, held.judgments, held.relevant) == ("shop", 2, 3, 1)


def test_judgments_can_be_recorded_like_any_row(tmp_path):
    lake = open_lake(tmp_path)
    logs = open_logs(tmp_path, lake=lake, clock=Clock())
    logs.record({"requests": [request(unit_hash="u")], "judgments": [{"app": "shop", "topic": "t", "doc_id": "d", "grade": 1, "ts": NOON}]})
    logs.flush()
    assert lake.read(lambda c: c.execute("SELECT topic, doc_id, grade, day IS NOT NULL FROM lake.judgments").fetchall()) == [
        ("t", "d", 1, True)
    ]
    logs.close()
    lake.close()
