"""Lookups of live traffic against judgments: the same numbers as the pure measures, and what can be said without judgments."""

from __future__ import annotations

import itertools
import random
from collections.abc import Mapping

import pytest

from tests.observability.lakes import NOON
from tests.observability.metric_logs import Fixture, request
from tests.observability.real_data import real
from workbench.observability.importers.trec import read_qrels, read_run
from workbench.observability.metrics import SAME
from workbench.observability.retrieval import evaluated
from workbench.stats.ranking import ranking

_ids = itertools.count()
PURE = {
    "retrieval_hit@1": "success_1",
    "retrieval_hit@5": "success_5",
    "retrieval_hit@7": "success_7",
    "retrieval_recall@5": "recall_5",
    "retrieval_recall@10": "recall_10",
    "retrieval_recall": "recall_1000",
    "retrieval_precision@5": "P_5",
    "retrieval_mrr": "recip_rank",
    "retrieval_map": "map",
    "retrieval_ndcg": "ndcg",
    "retrieval_ndcg@10": "ndcg_cut_10",
    "retrieval_ndcg@3": "ndcg_cut_3",
}
FREE = ["retrieval_judged_rate", "retrieval_empty_rate", "retrieval_repeat_rate", "retrieval_top_score", "retrieval_score_gap"]


def lookup(of: Mapping, query: str | None, hits: list[dict] | None, **more) -> dict:
    number = next(_ids)
    found = {"query": query, "retrieved": hits}
    return {
        "span_id": f"l{number}",
        "trace_id": of.get("trace_id", of["request_id"]),
        "request_id": of["request_id"],
        "app": of["app"],
        "kind": "retrieval",
        "name": "search",
        "ts_start": NOON,
        "retrieval_query": found["query"],
        "retrieved": found["retrieved"],
        **more,
    }


def judged(app: str, topic: str, grades: Mapping[str, int], *, query: str | None = None, at=NOON) -> list[dict]:
    return [{"app": app, "topic": topic, "query": query, "doc_id": doc, "grade": grade, "ts": at} for doc, grade in grades.items()]


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    made = Fixture(tmp_path_factory.mktemp("retrieval"))
    yield made
    made.close()


@pytest.fixture
def app(shop) -> str:
    return f"app{next(_ids)}"


def tell(shop, rows: Mapping[str, list[dict]]) -> None:
    shop.logs.record(rows)
    shop.logs.flush()


def played(app: str, run: Mapping[str, Mapping[str, float]], *, is_ranked: bool) -> dict[str, list[dict]]:
    """A request and a lookup per topic; the request's workflow is the topic."""
    rows: dict[str, list[dict]] = {"requests": [], "spans": []}
    for topic, scores in run.items():
        asked = request(app=app, workflow=topic, unit_hash=topic)
        best = {doc: rank for rank, doc in enumerate(ranking(scores), 1)}
        hits = [{"doc_id": doc, "score": score, "rank": best[doc] if is_ranked else None} for doc, score in scores.items()]
        random.Random(1).shuffle(hits)
        rows["requests"].append(asked)
        rows["spans"].append(lookup(asked, topic, hits))
    return rows


def check_run(shop, app: str, run, grades, *, is_ranked: bool) -> None:
    tell(shop, played(app, run, is_ranked=is_ranked))
    tell(shop, {"judgments": [row for topic, own in grades.items() for row in judged(app, topic, own)]})
    report = evaluated(run, {topic: own for topic, own in grades.items() if max(own.values()) > 0}, measures=[*PURE.values(), "judged_10"])
    whole = shop.metrics.query([*PURE, "retrieval_judged@10"], app=app).row(0, named=True)
    for name, pure in PURE.items():
        assert whole[name] == pytest.approx(report.means[pure], rel=1e-12, abs=1e-15), name
        assert whole[f"{name}_n"] == len(report.topics), name
    by_topic = {row["workflow"]: row for row in shop.metrics.query(list(PURE), app=app, by="workflow").iter_rows(named=True)}
    assert by_topic.keys() == run.keys()
    for topic, row in by_topic.items():
        values = report.topics.get(topic)
        for name, pure in PURE.items():
            assert row[name] == (None if values is None else pytest.approx(values[pure], rel=1e-12, abs=1e-15)), (topic, name)


def test_a_bank_s_search_in_the_log_has_the_numbers_of_its_run_by_task_too(shop, app):
    run = read_run(real("banking-retrieval", "bm25_run.txt"))
    check_run(shop, app, run, read_qrels(real("banking-retrieval", "qrels.txt")), is_ranked=True)


@pytest.mark.parametrize("is_ranked", [True, False])
def test_random_searches_have_the_numbers_of_the_pure_measures(shop, app, is_ranked):
    rng = random.Random(app)
    docs = [f"d{i}" for i in range(30)]
    run = {f"t{t}": {doc: float(rng.randrange(6)) for doc in rng.sample(docs, rng.randrange(1, 25))} for t in range(25)}
    grades = {f"t{t}": {doc: rng.choice((-1, 0, 0, 1, 2, 3)) for doc in rng.sample(docs, 12)} for t in range(20)}
    check_run(shop, app, run, grades, is_ranked=is_ranked)


def test_the_logged_rank_decides_and_only_without_one_the_score(shop, app):
    asked = request(app=app)
    hits = [{"doc_id": "a", "score": 0.1, "rank": 1}, {"doc_id": "b", "score": 0.9, "rank": 2}]  # distances: the nearest first
    tell(shop, {"requests": [asked], "spans": [lookup(asked, "q", hits)], "judgments": judged(app, "q", {"a": 1})})
    assert shop.one("retrieval_mrr", app=app) == (1.0, 1)


def test_a_list_without_ranks_and_scores_stands_as_it_was_logged(shop, app):
    asked = request(app=app)
    hits = [{"doc_id": doc, "score": None, "rank": None} for doc in ("c", "a", "z", "b")]
    tell(shop, {"requests": [asked], "spans": [lookup(asked, "q", hits)], "judgments": judged(app, "q", {"a": 1})})
    assert shop.one("retrieval_mrr", app=app) == (0.5, 1)


def test_queries_are_the_same_whatever_their_capitals_and_blanks(shop, app):
    asked = request(app=app)
    spans = [lookup(asked, query, [{"doc_id": "a", "score": 1.0, "rank": 1}]) for query in (" Where  IS\tmy order ", "where is it", None)]
    tell(shop, {"requests": [asked], "spans": spans, "judgments": judged(app, "t1", {"a": 1}, query="where is my\norder")})
    assert shop.one("retrieval_hit@1", app=app) == (1.0, 1)
    assert shop.one("retrieval_judged_rate", app=app) == (1 / 3, 3)


def test_the_measured_share_says_how_many_lookups_were_judged(shop, app):
    asked = request(app=app, bundle="one", unit_hash="u")
    spans = [lookup(asked, query, [{"doc_id": "a", "score": 1.0, "rank": 1}]) for query in ("q", "w", "e", "r")]
    tell(shop, {"requests": [asked, request(app=app, bundle="one")], "spans": spans, "judgments": judged(app, "q", {"a": 1})})
    evidence = shop.metrics.measure("retrieval_recall@5", app=app, bundle="one")
    assert (evidence.statistics["n"], evidence.statistics["n_eligible"], evidence.statistics["measured_share"]) == (1, 4, 0.25)
    assert shop.metrics.verify(evidence) == SAME


def test_a_topic_without_anything_relevant_measures_no_lookup(shop, app):
    asked = request(app=app)
    tell(shop, {"requests": [asked], "spans": [lookup(asked, "q", [])], "judgments": judged(app, "q", {"a": 0, "b": -1})})
    assert shop.one("retrieval_recall", app=app) == (None, 0)
    assert shop.one("retrieval_judged_rate", app=app) == (0.0, 1)


def test_a_judged_lookup_that_found_nothing_counts_as_nothing_found(shop, app):
    asked = request(app=app)
    tell(shop, {"requests": [asked], "spans": [lookup(asked, "q", [])], "judgments": judged(app, "q", {"a": 1})})
    row = shop.metrics.query(list(PURE), app=app).row(0, named=True)
    assert {(row[name], row[f"{name}_n"]) for name in PURE} == {(0.0, 1)}


def test_the_last_judgment_counts_and_one_app_s_say_nothing_of_another_s(shop, app):
    mine, theirs = request(app=app), request(app=f"{app}x")
    spans = [lookup(of, "q", [{"doc_id": "a", "score": 1.0, "rank": 1}]) for of in (mine, theirs)]
    tell(shop, {"requests": [mine, theirs], "spans": spans, "judgments": judged(app, "q", {"a": 1, "b": 1})})
    assert shop.one("retrieval_hit@1", app=app) == (1.0, 1)
    assert shop.one("retrieval_hit@1", app=f"{app}x") == (None, 0)
    tell(shop, {"judgments": judged(app, "q", {"a": 0}, at=NOON.replace(hour=13))})
    assert shop.one("retrieval_hit@1", app=app) == (0.0, 1)


def test_a_lookup_that_was_logged_twice_counts_once_as_it_was_logged_last(shop, app):
    asked = request(app=app)
    first = lookup(asked, "q", [{"doc_id": "b", "score": 1.0, "rank": 1}])
    again = {**first, "retrieved": [{"doc_id": "a", "score": 1.0, "rank": 1}]}
    tell(shop, {"requests": [asked], "spans": [first], "judgments": judged(app, "q", {"a": 1})})
    tell(shop, {"spans": [again]})
    assert shop.one("retrieval_hit@1", app=app) == (1.0, 1)


def test_what_lookups_say_without_judgments(shop, app):
    asked, other = request(app=app), request(app=app)
    hits = [("a", 0.9, 1), ("b", 0.4, 2), ("a", 0.3, 3), ("c", 0.2, 4)]
    listed = [{"doc_id": doc, "score": score, "rank": rank} for doc, score, rank in hits]
    spans = [lookup(asked, "q", listed), lookup(asked, "w", []), lookup(other, "e", None), lookup(other, "r", listed[:1])]
    tell(shop, {"requests": [asked, other], "spans": spans})
    row = shop.metrics.query(FREE, app=app).row(0, named=True)
    assert {name: (row[name], row[f"{name}_n"]) for name in FREE} == {
        "retrieval_judged_rate": (0.0, 4),
        "retrieval_empty_rate": (1 / 3, 3),
        "retrieval_repeat_rate": (0.2, 5),
        "retrieval_top_score": (pytest.approx(0.9), 2),
        "retrieval_score_gap": (pytest.approx(0.5), 1),
    }


def test_unjudged_documents_are_counted_where_they_count_as_not_relevant(shop, app):
    asked = request(app=app)
    listed = [{"doc_id": doc, "score": None, "rank": rank} for rank, doc in enumerate("abcd", 1)]
    tell(shop, {"requests": [asked], "spans": [lookup(asked, "q", listed)], "judgments": judged(app, "q", {"b": 1, "c": 0, "z": 1})})
    assert shop.one("retrieval_judged@10", app=app) == (0.5, 4)
    assert shop.one("retrieval_judged@2", app=app) == (0.5, 2)


def test_requests_without_lookups_have_no_retrieval_metric(shop, app):
    tell(shop, {"requests": [request(app=app, n_retrievals=0)]})
    row = shop.metrics.query([*PURE, *FREE], app=app).row(0, named=True)
    assert all(row[name] is None and row[f"{name}_n"] == 0 for name in (*PURE, *FREE))


def test_lookups_of_one_unit_are_taken_as_alike(shop, app):
    rows: dict[str, list[dict]] = {"requests": [], "spans": [], "judgments": judged(app, "q", {"a": 1})}
    for number in range(40):
        asked = request(app=app, unit_hash=f"u{number % 4}", bundle="one")
        rows["requests"].append(asked)
        rows["spans"].append(lookup(asked, "q", [{"doc_id": "a" if number % 2 else "b", "score": 1.0, "rank": 1}]))
    tell(shop, rows)
    for metric in ("retrieval_hit@1", "retrieval_mrr"):
        statistics = shop.metrics.measure(metric, app=app, bundle="one").statistics
        assert (statistics["n"], statistics["n_clusters"], statistics["estimate"]) == (40, 4, 0.5)
        assert statistics["n_effective"] == pytest.approx(4)
        assert statistics["low"] < 0.15
        assert statistics["high"] > 0.85
