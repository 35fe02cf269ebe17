"""The review's page: exact words, the same in text and HTML, everything escaped, nothing fetched."""

from __future__ import annotations

import re
from dataclasses import replace
from html import unescape
from html.parser import HTMLParser

import pytest

from tests.readiness.goodapp import NOW, good, record, retail, side, telecom
from workbench.errors import IntegrityError
from workbench.ledger.audit import Head
from workbench.readiness.antipatterns import findings
from workbench.readiness.declared import Declarations, declared_gates
from workbench.readiness.gates import DEFAULT_GATES, assess_default, coverage
from workbench.readiness.model import Review, ReviewVerdict, Verdict
from workbench.readiness.records import from_json, review_digest, to_json
from workbench.readiness.summary import comparison_sentence, review_sentence
from workbench.readiness.verdicts import decide
from workbench.views.review import BANNERS, CHIPS, MIME, PARTS, page_of, part_of, review_bundle, review_html, review_page, review_text

RARE = record(side(0.0, 2000, direction="lower_is_better"))


def review_of(declared: Declarations, pair, *, violations=RARE) -> Review:
    evidence = {"success": pair[0], "latency": pair[1], "violations": violations}
    measured = [assess_default(g, evidence[g.id], now=NOW, has_baseline=True, is_first=False) for g in DEFAULT_GATES.gates]
    results = (*measured, coverage(measured, quality={"success", "latency"}), *declared_gates(declared, now=NOW))
    decision = decide(results)
    review = Review(
        review_id="",
        app=declared.app,
        bundle_id=f"{declared.app}@111111111111",
        bundle_name="v2",
        baseline_id=f"{declared.app}@000000000000",
        verdict=decision.verdict,
        deciding=decision.deciding,
        sentence=review_sentence(decision, results),
        comparison=comparison_sentence(*pair, results, latency_gates={"latency"}),
        gates=results,
        findings=findings(declared, results, score_sources={}),
        unpinned=("model: tiny has no version",),
        not_enforced=("retrieval: run by the client",),
        spec_digests=(("app", "sha256:abcdef0123456789"),),
        snapshot=3,
        reviewed_at=NOW,
        reviewed_by="primary",
    )
    return replace(review, review_id=review_digest(review))


SLOWER = review_of(good(), retail())
BETTER = review_of(good(), telecom())
BARE = review_of(Declarations(app="retail"), retail())


def test_the_top_of_the_page_names_verdict_deciding_gate_and_comparison():
    title, sentence, comparison = review_text(SLOWER, width=400).splitlines()[:3]
    assert title == "✕ NO GO   support v2 (support@111111111111), against support@000000000000"
    assert sentence == (
        "NO GO: decided by “p95 latency close to the baseline” (FAIL): p95 latency is 62.7 s against the baseline's 35.0 s: 1.79 times "
        "(95 % interval 1.20 to 2.60 times, n = 40); the limit is at most 1.25 times the baseline "
        "(a default bar; gates.yaml sets your own)."
    )
    assert comparison == (
        "Slower without being better: success 85.0 % against 85.0 % (±0.0 points, 95 % interval -17.0 to +17.0 points; 40 pairs, "
        "6 won and 6 lost; McNemar p = 1.00); p95 latency 62.7 s against 35.0 s (1.79 times, 95 % interval 1.20 to 2.60 times)."
    )


def test_a_better_but_much_slower_candidate_is_said_to_be_stopped_by_latency():
    assert BETTER.comparison.startswith("Better, but stopped by latency: success 75.0 % against 45.0 % (+30.0 points")
    assert BETTER.deciding == ("latency",)


def test_a_measured_fail_leads_and_the_missing_declarations_are_counted():
    assert BARE.deciding[0] == "latency"
    assert BARE.sentence.endswith("; also 14 declarations missing or wrong.")


def test_the_gate_table_is_exact():
    assert (
        part_text("measured")
        == """\
Measured gates
  verdict          measured gate                            observed           95 % interval         limit       n
  ────────────────────────────────────────────────────────────────────────────────────────────────────────────────
  ✕ FAIL           p95 latency close to the baseline      1.79 times      1.20 to 2.60 times    1.25 times      40
  ◔ INSUFFICIENT   Success not worse than the baseline   ±0.0 points   -17.0 to +17.0 points   -5.0 points      40
  ● PASS           Policy violations are rare                  0.0 %            0.0 to 0.2 %         1.0 %   2,000
  95 % intervals: Wilson's for shares, order statistics for percentiles, Student's t for means, both sides' intervals for comparisons. All
  answers to one unit count as alike, so an interval is safe, and wider than it need be where they are not."""
    )


def test_in_a_narrow_terminal_every_gate_keeps_its_numbers():
    lines = review_text(SLOWER, width=80).splitlines()
    assert max(map(len, lines)) <= 80
    start = lines.index("Measured gates")
    assert lines[start + 1 : start + 4] == [
        "  ✕ FAIL  p95 latency close to the baseline",
        "      observed 1.79 times · 95 % interval 1.20 to 2.60 times · limit 1.25 times",
        "      · n 40",
    ]


def test_without_an_interval_there_is_no_note_about_intervals():
    bare = replace(SLOWER, gates=tuple(replace(gate, low=None, high=None) for gate in SLOWER.gates))
    assert "95 % intervals:" in review_text(SLOWER)
    assert "95 % intervals:" not in review_text(bare)


def part_text(name: str) -> str:
    from workbench.views.page import page_text

    return page_text(part_of(SLOWER, name))


def test_what_would_change_the_verdict_is_exact():
    heading, line, rest = part_text("change").splitlines()
    assert heading == "What would change the verdict"
    assert line == (
        "  - p95 latency close to the baseline: 1.79 times must come to 1.25 times or better; "
        "improve the bundle, or argue for another limit in"
    )
    assert rest == "    gates.yaml."


def test_the_footer_says_where_it_comes_from():
    assert part_text("provenance").splitlines()[-2:] == [
        f"Review {SLOWER.review_id[7:19]}, 2026-03-02 12:00 UTC, by primary; log snapshot 3.",
        "Declarations: app abcdef012345.",
    ]


def test_the_footer_prints_the_audit_head_that_audit_verify_takes():
    head = f"12:sha256:{'ab' * 32}"
    stored = replace(SLOWER, audit_head=head)
    assert review_text(stored).splitlines()[-1] == f"Audit head {head}"
    assert f"Audit head {head}" in review_html(stored)
    assert review_bundle(stored)[MIME]["audit_head"] == head
    assert str(Head.parse(head)) == head
    assert review_digest(stored) == SLOWER.review_id
    assert "Audit head" not in review_text(SLOWER)


def test_the_parts_together_are_the_whole_page():
    titles = [section.title for name in PARTS for section in part_of(SLOWER, name).sections]
    assert titles == [section.title for section in page_of(SLOWER).sections]


class Words(HTMLParser):
    """The text of a page, without its style."""

    def __init__(self) -> None:
        super().__init__()
        self.words: list[str] = []
        self.is_style = False

    def handle_starttag(self, tag, attrs):  # noqa: ARG002  # the parser's own signature
        self.is_style = tag == "style"

    def handle_endtag(self, tag):  # noqa: ARG002
        self.is_style = False

    def handle_data(self, data):
        if not self.is_style:
            self.words += data.split()


@pytest.mark.parametrize("review", [SLOWER, BETTER, BARE])
def test_text_and_html_have_the_same_words(review):
    reader = Words()
    reader.feed(review_html(review))
    text = re.sub(r"(?m)^  - ", "  ", review_text(review, width=4000)).replace("─", "").split()
    assert sorted(reader.words) == sorted(text)


def test_the_file_fetches_nothing():
    page = review_page(SLOWER)
    assert page.startswith("<!doctype html>")
    assert not re.search(r"(?i)<script|<link|<img|url\(|@import|https?:|src=", page)


def test_what_people_wrote_is_escaped():
    nasty = replace(SLOWER, app="<script>alert(1)</script>", comparison="a & b <b>", unpinned=("<img src=x>",))
    page = review_page(nasty)
    assert "<script>" not in page
    assert "<img" not in page
    assert "a & b <b>" in unescape(page)


def test_markup_in_what_people_wrote_stays_as_it_is_in_text():
    assert "[bold]x[/bold]" in review_text(replace(SLOWER, unpinned=("[bold]x[/bold]",)))


def test_characters_that_steer_a_terminal_are_shown_as_unreadable():
    assert "\x1b" not in review_text(replace(SLOWER, unpinned=("\x1b[2Jgone",)))


def test_each_verdict_has_its_own_word_and_shape():
    assert len({chip.shape for chip in CHIPS.values()}) == len(Verdict) == len({chip.word for chip in CHIPS.values()})
    assert len({chip.shape for chip in BANNERS.values()}) == len(ReviewVerdict)


def test_a_notebook_gets_text_html_and_json():
    forms = review_bundle(SLOWER)
    assert set(forms) == {"text/plain", "text/html", MIME}
    assert forms[MIME]["verdict"] == "NO_GO"


def test_a_go_names_the_gate_closest_to_its_limit():
    fast = (telecom()[0], replace(retail()[1], statistics={**retail()[1].statistics, "ratio": {"estimate": 1.0, "low": 0.9, "high": 1.2}}))
    review = review_of(good(), fast)
    assert review.verdict is ReviewVerdict.GO
    lines = part_of(review, "change").sections[0].lines
    assert lines[1].startswith("Closest to its limit is “p95 latency close to the baseline”")


def test_a_review_survives_its_json():
    assert from_json(to_json(SLOWER)) == SLOWER


@pytest.mark.parametrize(
    "change", [{"verdict": "GO"}, {"gates": []}, {"bundle_id": "support@222222222222"}, {"app": None}, {"gates": [{}]}]
)
def test_altered_json_is_not_a_review(change):
    with pytest.raises(IntegrityError):
        from_json({**to_json(SLOWER), **change})


def test_time_reviewer_and_wording_do_not_change_the_digest():
    same = replace(SLOWER, reviewed_at=NOW.replace(year=2027), reviewed_by="secondary", sentence="other words", snapshot=9)
    assert review_digest(same) == SLOWER.review_id
