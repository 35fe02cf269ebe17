"""Judgments, runs and topics as files: read whole, or refused with the lines that are wrong."""

from __future__ import annotations

import pytest

from tests.observability.real_data import real
from workbench.errors import UsageError
from workbench.observability.importers.trec import read_qrels, read_run, read_topics
from workbench.observability.retrieval import evaluated


@pytest.fixture
def file(tmp_path):
    def write(content: str | bytes):
        path = tmp_path / "file.txt"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write


def test_judgments_are_read_by_topic(file):
    assert read_qrels(file("1 0 a 1\n1\t0\tb\t0\n\n2 Q0 a -1\r\n2 0 ü 3")) == {"1": {"a": 1, "b": 0}, "2": {"a": -1, "ü": 3}}


def test_three_columns_under_a_heading_are_judgments_too(file):
    assert read_qrels(file("query-id\tcorpus-id\tscore\nq1\td1\t2\n")) == {"q1": {"d1": 2}}


def test_a_run_is_read_by_its_scores_whatever_its_ranks_and_order(file):
    assert read_run(file("1 Q0 a 9 0.5 me\n1 Q0 b 1 -2e3 me\n")) == {"1": {"a": 0.5, "b": -2000.0}}


def test_topics_have_a_tab_or_are_json(file):
    assert read_topics(file('1\twhere is it\n{"_id": "2", "text": " how "}\n{"id": 3, "query": "why"}')) == {
        "1": "where is it",
        "2": "how",
        "3": "why",
    }


@pytest.mark.parametrize(
    ("read", "content", "said"),
    [
        (read_qrels, "1 0 a\n", "line 1: the grade is no whole number"),
        (read_qrels, "1 0 a 1\n1 0 b x\n", "line 2: the grade is no whole number"),
        (read_qrels, "1 0 a 1.5\n", "line 1: the grade is no whole number"),
        (read_qrels, "1 0 a 1\n1 0 a 2\n", "line 2: the document was judged before, with another grade"),
        (read_qrels, "1 0 a b 1\n", "line 1: 5 fields; needed: topic 0 document grade"),
        (read_qrels, b"1 0 a 1\n1 0 \xff 1\n", "line 2: is not UTF-8"),
        (read_qrels, "1 0 " + "d" * 600 + " 1\n", "line 1: the document's name has 600 characters"),
        (read_run, "1 Q0 a 1 0.5\n", "line 1: 5 fields; needed: topic Q0 document rank score name"),
        (read_run, "1 Q0 a 1 nan me\n", "line 1: the score is no finite number"),
        (read_run, "1 Q0 a 1 1e999 me\n", "line 1: the score is no finite number"),
        (read_run, "1 Q0 a 1 2 me\n1 Q0 a 2 1 me\n", "line 2: the document stands in the list of this topic twice"),
        (read_topics, "1 where\n", "line 1: no tab"),
        (read_topics, "1\t  \n", "line 1"),
        (read_topics, '{"_id": "1"}\n', "line 1: needed: one of _id"),
        (read_topics, '{"_id"\n', "line 1: is not JSON"),
        (read_topics, "1\ta\n1\tb\n", "line 2: the topic stands above with another query"),
        (read_run, "", "holds no records"),
        (read_run, "\n \n", "holds no records"),
        (read_run, b"PK\x03\x04....", "is a zip archive"),
    ],
)
def test_a_wrong_line_refuses_the_file_and_is_named(file, read, content, said):
    with pytest.raises(UsageError) as error:
        read(file(content))
    assert said in str(error.value)


def test_many_wrong_lines_are_counted(file):
    with pytest.raises(UsageError, match=r"line 1: .*; line 2: .*; line 3: .*; and 7 more; nothing was read"):
        read_qrels(file("x\n" * 10))


def test_topics_that_only_one_side_knows_are_told_and_count_only_when_asked():
    run, grades = {"1": {"a": 1.0}, "9": {"a": 1.0}}, {"1": {"a": 1}, "2": {"b": 1}}
    report = evaluated(run, grades, measures=["map"])
    assert (report.means, report.unanswered, report.unjudged) == ({"map": 1.0}, ("2",), ("9",))
    assert evaluated(run, grades, measures=["map"], is_complete=True).means == {"map": 0.5}


def test_a_run_on_other_topics_has_no_number():
    with pytest.raises(UsageError, match="none of its 1 topics is among the 1 that were judged"):
        evaluated({"1": {"a": 1.0}}, {"2": {"b": 1}})


def test_an_unknown_measure_is_refused():
    with pytest.raises(UsageError, match="measure hits: there is none of this name; needed: map"):
        evaluated({"1": {"a": 1.0}}, {"1": {"b": 1}}, measures=["hits"])


def test_a_bank_s_search_is_measured_by_task():
    grades, run = read_qrels(real("banking-retrieval", "qrels.txt")), read_run(real("banking-retrieval", "bm25_run.txt"))
    report = evaluated(run, grades, measures=["recip_rank", "recall_10", "success_5", "judged_10"])
    assert (len(report.topics), report.unanswered, report.unjudged) == (48, (), ())
    for task, values in report.topics.items():
        best = sorted(run[task], key=lambda doc: (run[task][doc], doc), reverse=True)
        hits = [rank for rank, doc in enumerate(best, 1) if doc in grades[task]]
        assert values["recip_rank"] == (1 / hits[0] if hits else 0)
        assert values["recall_10"] == pytest.approx(sum(rank <= 10 for rank in hits) / len(grades[task]))
        assert values["success_5"] == (bool(hits) and hits[0] <= 5)
