"""Ranked lists against judgments: the published numbers of trec_eval, plain loops, and what must always hold."""

from __future__ import annotations

import math
import random
from collections import defaultdict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.observability.real_data import real
from workbench.observability.importers.trec import read_qrels, read_run
from workbench.stats.ranking import MEASURES, evaluate, is_measure, mean, ranking

ALL = [*MEASURES, *(f"{cut}_{k}" for cut in ("P", "recall", "success", "ndcg_cut", "judged") for k in (1, 3, 10))]
GRADES = st.dictionaries(st.sampled_from("abcdefghij"), st.integers(-1, 3), max_size=8)
LISTS = st.lists(st.sampled_from("abcdefghijklmnop"), unique=True, max_size=12)


def published() -> dict[str, dict[str, str]]:
    """Topic, or `all`, to measure to what trec_eval printed."""
    found: dict[str, dict[str, str]] = defaultdict(dict)
    for line in real("trec_eval", "out.test.aq").read_text().splitlines():
        measure, topic, value = line.split(None, 2)
        found[topic][measure] = value.strip()
    return found


def test_every_topic_and_the_mean_are_those_of_trec_eval():
    expected = published()
    grades, run = read_qrels(real("trec_eval", "qrels.test")), read_run(real("trec_eval", "results.test"))
    names = [name for name in expected["all"] if is_measure(name)]
    assert len(names) == 35
    topics = {topic: evaluate(ranking(run[topic]), grades[topic], names) for topic in run}
    for topic, values in topics.items():
        assert {name: f"{value:.4f}" for name, value in values.items()} == {name: expected[topic][name] for name in names}
    assert {name: f"{mean(list(topics.values()), name):.4f}" for name in names} == {name: expected["all"][name] for name in names}


def loops(ranked: list[str], grades: dict[str, int]) -> dict[str, float]:
    """The same by the definitions, written out; `@3` measures only."""
    relevant = [doc for doc, grade in grades.items() if grade >= 1]
    judged_wrong = [doc for doc, grade in grades.items() if grade == 0]
    if not relevant:
        return dict.fromkeys(("map", "Rprec", "bpref", "recip_rank", "ndcg", "P_3", "recall_3", "success_3", "ndcg_cut_3"), 0.0)
    precisions = [sum(d in relevant for d in ranked[: i + 1]) / (i + 1) for i, doc in enumerate(ranked) if doc in relevant]
    best = sorted((grades[doc] for doc in relevant), reverse=True)
    bpref = 0.0
    for i, doc in enumerate(ranked):
        if doc in relevant:
            above = sum(d in judged_wrong for d in ranked[:i])
            bpref += 1 - (min(above, len(relevant)) / min(len(judged_wrong), len(relevant)) if above else 0)

    def gain(values: list[int]) -> float:
        return sum(max(value, 0) / math.log2(i + 2) for i, value in enumerate(values))

    got = [grades.get(doc, 0) for doc in ranked]
    first = next((i for i, doc in enumerate(ranked) if doc in relevant), None)
    return {
        "map": sum(precisions) / len(relevant),
        "Rprec": sum(doc in relevant for doc in ranked[: len(relevant)]) / len(relevant),
        "bpref": bpref / len(relevant),
        "recip_rank": 0.0 if first is None else 1 / (first + 1),
        "ndcg": gain(got) / gain(best),
        "P_3": sum(doc in relevant for doc in ranked[:3]) / 3,
        "recall_3": sum(doc in relevant for doc in ranked[:3]) / len(relevant),
        "success_3": float(any(doc in relevant for doc in ranked[:3])),
        "ndcg_cut_3": gain(got[:3]) / gain(best[:3]),
    }


@given(LISTS, GRADES)
def test_every_measure_equals_the_loops(ranked, grades):
    expected = loops(ranked, grades)
    assert evaluate(ranked, grades, expected) == pytest.approx(expected)


@given(LISTS, GRADES)
def test_every_measure_is_a_share(ranked, grades):
    assert all(0 <= value <= 1 + 1e-12 for value in evaluate(ranked, grades, ALL).values())


@given(LISTS, GRADES, st.integers(0, 10))
def test_moving_a_relevant_document_up_never_lowers_a_measure(ranked, grades, place):
    at = place + 1
    if at >= len(ranked) or grades.get(ranked[at], 0) < 1 or grades.get(ranked[at - 1], 0) >= grades[ranked[at]]:
        return
    better = [*ranked]
    better[at - 1], better[at] = better[at], better[at - 1]
    names = [name for name in ALL if not name.startswith("judged")]
    before, after = evaluate(ranked, grades, names), evaluate(better, grades, names)
    assert all(after[name] >= before[name] - 1e-12 for name in names)


def test_the_best_list_is_perfect():
    grades = {"a": 3, "b": 1, "c": 2, "d": 0}
    assert evaluate(["a", "c", "b", "d"], grades, ["map", "Rprec", "bpref", "recip_rank", "ndcg", "recall_3"]) == dict.fromkeys(
        ("map", "Rprec", "bpref", "recip_rank", "ndcg", "recall_3"), 1.0
    )


def test_equal_scores_stand_by_document_the_greatest_first():
    assert ranking({"a": 1, "c": 1, "b": 1, "d": 0.5, "e": 2}) == ("e", "c", "b", "a", "d")


def test_scores_that_single_precision_cannot_tell_apart_are_equal():
    assert ranking({"a": 100.0000001, "b": 100.0}) == ("b", "a")
    assert ranking({"a": 1e300, "b": 1e308, "c": -1e300}) == ("b", "a", "c")


def test_the_order_of_the_input_is_no_matter():
    scores = {f"d{i}": float(i % 7) for i in range(50)}
    shuffled = list(scores.items())
    random.Random(3).shuffle(shuffled)
    assert ranking(dict(shuffled)) == ranking(scores)


def test_what_nobody_judged_counts_as_not_relevant_and_judged_says_so():
    found = evaluate(["x", "a", "y"], {"a": 1}, ["P_3", "judged_3", "judged_10", "bpref"])
    assert found == {"P_3": 1 / 3, "judged_3": 1 / 3, "judged_10": 1 / 3, "bpref": 1.0}


@pytest.mark.parametrize("name", ["hit", "P_0", "P_", "P_-1", "ndcg_cut", "recall_1.5", "", "map_5"])
def test_an_unknown_measure_is_named_with_those_there_are(name):
    assert not is_measure(name)
    with pytest.raises(ValueError, match=r"no measure is called .*map, Rprec.*P_k"):
        evaluate(["a"], {"a": 1}, [name])


def test_a_document_twice_in_a_list_is_refused():
    with pytest.raises(ValueError, match="names each document once"):
        evaluate(["a", "a"], {"a": 1}, ["map"])


def test_no_topics_have_no_mean():
    with pytest.raises(ValueError, match="no topics"):
        mean([], "map")
